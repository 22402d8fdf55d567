"""What the door accepts of each field, and how a refusal names it without repeating the value."""

import json
from decimal import Decimal
from typing import Any

import pytest

from prm_es.aggregates.base import Command, Refused
from prm_es.aggregates.catalogue import parse_command
from prm_es.aggregates.fields import GivenTaxId, TaxId, countries, currencies, minor_units
from prm_es.aggregates.opportunity import Open, Win
from prm_es.aggregates.partner import Apply
from prm_es.errors import UnknownType, Unreadable

PARTNER = "00000000-0000-0000-0000-000000000002"


def read(name: str, content: Any) -> Command | Refused:
    return parse_command(f"prm.{name}", json.dumps(content).encode())


def wrong(name: str, content: Any) -> list[tuple[str, str]]:
    refused = read(name, content)
    assert isinstance(refused, Refused), refused
    assert refused.code == "command.invalid"
    return [(error.field, error.code) for error in refused.errors]


def win(amount: Any, currency: str = "BRL") -> Any:
    return {"final_amount": {"amount": amount, "currency": currency}}


# Money


@pytest.mark.parametrize(
    ("amount", "exact"), [("10.50", "10.50"), (10, "10"), (10.5, "10.5"), (0, "0"), ("999999999999999.99", None)]
)
def test_amounts_are_exact(amount: Any, exact: str | None) -> None:
    command = read("opportunity.win", win(amount))
    assert isinstance(command, Win)
    assert command.final_amount is not None
    assert command.final_amount.amount == Decimal(exact or amount)


@pytest.mark.parametrize(
    ("amount", "problem"),
    [
        ("-1", "greater_than_equal"),
        ("NaN", "finite_number"),
        ("Infinity", "finite_number"),
        ("a lot", "decimal_parsing"),
        (True, "decimal_type"),
        (None, "decimal_type"),
        (12345678901234567.89, "number_inexact"),
        ("1234567890123456789", "decimal_max_digits"),
    ],
)
def test_an_amount_that_is_no_amount_is_refused(amount: Any, problem: str) -> None:
    assert wrong("opportunity.win", win(amount)) == [("final_amount.amount", problem)]


@pytest.mark.parametrize(
    ("amount", "currency"), [("1.234", "BRL"), ("1.5", "JPY"), ("1.0001", "BHD"), ("0.001", "EUR")]
)
def test_an_amount_has_no_more_decimals_than_its_currency(amount: str, currency: str) -> None:
    assert wrong("opportunity.win", win(amount, currency)) == [("final_amount", "money_decimals")]
    assert isinstance(read("opportunity.win", win("1", currency)), Win)


@pytest.mark.parametrize("currency", ["XXX", "DEM", "ZZZ", "EUX"])
def test_a_currency_that_is_not_in_use_is_refused(currency: str) -> None:
    assert wrong("opportunity.win", win("1", currency)) == [("final_amount.currency", "currency_unknown")]


def test_a_currency_is_three_capital_letters() -> None:
    assert wrong("opportunity.win", win("1", "brl")) == [("final_amount.currency", "string_pattern_mismatch")]


def test_code_lists_hold_what_trade_needs() -> None:
    assert {"BRL", "USD", "EUR", "JPY", "BHD"} <= currencies()
    assert {"BR", "US", "DE", "GB", "JP", "PT"} <= countries()
    assert (minor_units("BRL"), minor_units("JPY"), minor_units("BHD")) == (2, 0, 3)


# Tax ids


@pytest.mark.parametrize(
    ("country", "value", "kind", "compact"),
    [
        ("BR", "12.ABC.345/01DE-35", "cnpj", "12ABC34501DE35"),
        ("BR", "11.222.333/0001-81", "cnpj", "11222333000181"),
        ("BR", "390.533.447-05", "cpf", "39053344705"),
        ("US", "91-1144442", "ein", "911144442"),
        ("DE", "DE 136,695 976", "vat", "136695976"),
        ("BM", "ab-12 34", "other", "AB1234"),
    ],
)
def test_a_tax_id_is_checked_and_made_compact(country: str, value: str, kind: str, compact: str) -> None:
    command = read("partner.apply", {"tax_ids": [{"country": country, "value": value}]})
    assert isinstance(command, Apply)
    stored = command.tax_ids[0].stored()
    assert stored == TaxId(country=country, value=compact, kind=kind)
    assert stored.key == f"{country}:{kind}:{compact}"
    assert stored.individual == (kind == "cpf")


@pytest.mark.parametrize(
    ("country", "value"),
    [("BR", "12.ABC.345/01DE-36"), ("BR", "11.222.333/0001-82"), ("BR", "390.533.447-06"), ("US", "07-1144442"),
     ("BM", "1"), ("BR", "")],
)  # fmt: skip
def test_a_tax_id_with_wrong_digits_is_refused(country: str, value: str) -> None:
    content = {"tax_ids": [{"country": country, "value": value}]}
    assert wrong("partner.apply", content) == [("tax_ids.0", "tax_id_invalid")]


def test_the_root_of_a_cnpj_is_the_company() -> None:
    assert GivenTaxId(country="BR", value="12.ABC.345/01DE-35").root == "12ABC345"


def test_the_kind_of_a_tax_id_is_not_for_the_sender_to_say() -> None:
    content = {"tax_ids": [{"country": "BR", "value": "390.533.447-05", "kind": "cnpj"}]}
    assert wrong("partner.apply", content) == [("tax_ids.0.kind", "literal_error")]


# Other fields


@pytest.mark.parametrize("country", ["XX", "ZZ", "EU", "UK"])
def test_a_country_that_is_none_is_refused(country: str) -> None:
    assert wrong("partner.apply", {"country": country}) == [("country", "country_unknown")]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"unheard_of": 1}, ("unheard_of", "extra_forbidden")),
        ({"final_amount": {"amount": 1, "currency": "BRL", "x": 1}}, ("final_amount.x", "extra_forbidden")),
        ({"closed_on": "31/12/2026"}, ("closed_on", "date_from_datetime_parsing")),
        ({"closed_on": 20261231}, ("closed_on", "date_type")),
        ({"order_reference": " "}, ("order_reference", "string_too_short")),
        ({"order_reference": "a\x00b"}, ("order_reference", "text_nul")),
        ({"order_reference": "x" * 121}, ("order_reference", "string_too_long")),
        ({"note": 1}, ("note", "string_type")),
    ],
)
def test_a_wrong_field_is_named(content: Any, expected: tuple[str, str]) -> None:
    assert wrong("opportunity.win", content) == [expected]


def test_every_wrong_field_is_named_at_once() -> None:
    content = {"partner_id": "x", "deal_type": "old", "products": [{"line": "a", "quantity": "0"}], "contact": {}}
    assert wrong("opportunity.open", content) == [
        ("contact", "contact_empty"),
        ("deal_type", "literal_error"),
        ("products.0.quantity", "greater_than"),
        ("partner_id", "uuid_parsing"),
    ]


def test_a_business_problem_has_20_characters() -> None:
    assert wrong("opportunity.open", {"partner_id": PARTNER, "business_problem": "Too short"}) == [
        ("business_problem", "string_too_short")
    ]


SECRET = "Zwölfender"


@pytest.mark.parametrize(
    "content",
    [
        {"partner_id": SECRET},
        {"partner_id": PARTNER, "deal_type": SECRET},
        {"partner_id": PARTNER, "expected_close_on": SECRET},
        {"partner_id": PARTNER, "contact": {"email": SECRET}},
        {"partner_id": PARTNER, "contact": {"phone": SECRET}},
        {"partner_id": PARTNER, "customer": {"name": "A", "domains": [SECRET]}},
        {"partner_id": PARTNER, "customer": {"name": "A", "tax_ids": [{"country": "BR", "value": SECRET}]}},
        {"partner_id": PARTNER, "amount": {"amount": SECRET, "currency": SECRET}},
        {"partner_id": PARTNER, "products": SECRET},
        {"partner_id": PARTNER, "next_action": SECRET},
    ],
)
def test_a_refusal_never_repeats_the_value(content: Any) -> None:
    refused = read("opportunity.open", content)
    assert isinstance(refused, Refused)
    assert SECRET not in str(refused)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b'{"note": "\\ud800"}', b"[]", b"1", b"null"])
def test_data_that_is_no_json_object_is_unreadable(data: bytes) -> None:
    with pytest.raises(Unreadable):
        parse_command("prm.opportunity.win", data)


@pytest.mark.parametrize("wire", ["prm.opportunity.wins", "opportunity.win", "", "prm.opportunity.won.v1"])
def test_a_command_of_no_known_type_is_unknown(wire: str) -> None:
    with pytest.raises(UnknownType) as raised:
        parse_command(wire, b"{}")
    assert raised.value.code == "command.unknown_type"


def test_customers_are_stored_as_they_were_checked() -> None:
    customer = {
        "name": " Lojas Sul ",
        "country": "BR",
        "tax_ids": [{"country": "BR", "value": "390.533.447-05"}],
        "domains": ["Sul.Example"],
    }
    command = read("opportunity.open", {"partner_id": PARTNER, "customer": customer})
    assert isinstance(command, Open)
    assert command.customer is not None
    stored = command.customer.stored()
    assert (stored.name, stored.domains, stored.individual) == ("Lojas Sul", ("sul.example",), True)
    assert json.loads(stored.model_dump_json())["tax_ids"] == [{"country": "BR", "value": "39053344705", "kind": "cpf"}]
