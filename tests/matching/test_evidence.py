"""What slips of the pen in a place say, and what they do not."""

from collections.abc import Mapping
from typing import Any

import pytest

from prm_es.matching.evidence import evidence_of, same_city
from prm_es.matching.frequencies import General
from prm_es.matching.identity import Record, identity_of


def evidence(one: str, other: str) -> Mapping[str, float]:
    """Compare two records of one name in one city at two addresses."""
    left, right = (
        identity_of(Record(name="Zanqueta", country="BR", city="Joinville", address=address))
        for address in (one, other)
    )
    return evidence_of(left, right, General()).values


@pytest.mark.parametrize(
    ("one", "other", "persons"),
    [
        ({"name": "Mariana Tomazoni"}, {"name": "Silva"}, True),
        ({"name": "João da Silva Filho"}, {"name": "J. Silva"}, True),
        ({"name": "Mariana Tomazoni"}, {"name": "Mariana Tomazoni ME"}, False),
        ({"name": "Mariana Tomazoni"}, {"name": "Padaria Tomazoni"}, False),
        ({"name": "Smith and Jones"}, {"name": "John Smith"}, False),
        ({"name": "Mariana Tomazoni", "domains": ("tomazoni.com.br",)}, {"name": "Mariana Tomazoni"}, False),
        ({"name": "Mariana Tomazoni", "trade_name": "Tomazoni"}, {"name": "Mariana Tomazoni"}, False),
        ({"name": "Zanqueta"}, {"name": "Zanqueta"}, False),
        ({"name": "Mariana Tomazoni"}, {"name": "Mariana Tomazoni", "postcode": None}, False),
    ],
)
def test_persons_are_told_by_two_names_a_home_and_no_sign_of_a_company(
    one: dict[str, Any], other: dict[str, Any], persons: bool
) -> None:
    left, right = (identity_of(Record(**{"postcode": "89204-250", **given})) for given in (one, other))
    assert evidence_of(left, right, General()).persons is persons
    assert evidence_of(right, left, General()).persons is persons


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("joinville", "joinvile"),
        ("ribeirao preto", "riberao prteo"),
        ("porto alegre", "portoalegre"),
        ("florianopolis", "florianopolsi"),
    ],
)
def test_a_city_is_known_by_its_name_with_a_slip(one: str, other: str) -> None:
    assert same_city(one, other)
    assert same_city(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("belem", "betim"),
        ("manaus", "santos"),
        ("sao paulo", "sao luis"),
        ("campo grande", "campo largo"),
        ("rio", "rie"),
    ],
)
def test_two_cities_with_like_names_are_two(one: str, other: str) -> None:
    assert same_city(one, other) is False


@pytest.mark.parametrize(("one", "other"), [("hollywood", "west hollywood"), ("santo jose", "santo jose campos")])
def test_a_city_named_like_a_part_of_the_other_is_neither_the_same_nor_another(one: str, other: str) -> None:
    assert same_city(one, other) is same_city(other, one) is None
    left, right = (identity_of(Record(name="Zanqueta", city=city)) for city in (one, other))
    found = evidence_of(left, right, General()).values
    assert found["city_same"] == found["city_differs"] == 0


@pytest.mark.parametrize(
    ("one", "other", "same", "differs"),
    [
        ("Rua Blumenau, 120", "R. Blumenau 120", True, False),
        ("Rua Marechal Deodoro, 120", "Rua MarechalDeodoro, 120", True, False),
        ("Rua Blumenau, 117", "Rua Blumenau, 171", False, False),
        ("Rua Blumenau, 117", "Rua Blumenau, 1170", False, False),
        ("Rua Blumenau, 117", "Rua Blumenau, 250", False, True),
        ("Rua Blumenau, 8", "Rua Blumenau, 9", False, True),
        ("Rua Blumenau, 120", "Rua XV de Novembro, 120", False, True),
    ],
)
def test_what_may_be_a_slip_in_an_address_speaks_for_neither(one: str, other: str, same: bool, differs: bool) -> None:
    found = evidence(one, other)
    assert ("reached_same" in found, bool(found["address_differs"])) == (same, differs)
