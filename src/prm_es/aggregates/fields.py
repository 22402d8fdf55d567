"""The types of the fields that messages are made of: money, codes, tax ids, customers, people, free text.

`Sealed` marks what is encrypted before it is stored: under the key of the "person" named by the `person_id` beside it,
under the key of the "aggregate" (free text), or, when the customer or tax id is an individual's, under that person's.
"""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from babel.core import get_global
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError
from stdnum.br import cnpj, cpf
from stdnum.exceptions import ValidationError as TaxIdError
from stdnum.us import ein
from stdnum.util import get_cc_module

from prm_es.matching.identity import Record


@dataclass(frozen=True, slots=True)
class Sealed:
    """How a field is encrypted in the log: under the key of a "person", the "aggregate" or an individual "customer"."""

    under: str


def _plain_text(text: str) -> str:
    if "\x00" in text:
        raise PydanticCustomError("text_nul", "text may not contain a NUL character")
    return text


Text = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255), AfterValidator(_plain_text)
]
Reference = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120), AfterValidator(_plain_text)
]
Long = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000), AfterValidator(_plain_text)
]
FreeText = Annotated[Long, Sealed("aggregate")]
SealedText = Annotated[str, Sealed("aggregate")]
SealedPerson = Annotated[str, Sealed("person")]
BusinessProblem = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=20, max_length=2000),
    AfterValidator(_plain_text),
    Sealed("aggregate"),
]
Postcode = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=20), AfterValidator(_plain_text)
]
Email = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, to_lower=True, max_length=254, pattern=r"^[^@\s\x00]+@[^@\s\x00]+\.[^@\s\x00]+$"
    ),
]
Phone = Annotated[str, StringConstraints(strip_whitespace=True, max_length=40, pattern=r"^\+?[0-9()\-./ ]{5,40}$")]
Domain = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, to_lower=True, max_length=253, pattern=r"^([A-Za-z0-9-]{1,63}\.)+[A-Za-z0-9-]{2,63}$"
    ),
]


def _exact(number: object) -> object:
    """Refuse a JSON number that a double cannot hold: it would be stored as another one."""
    if isinstance(number, float) and len(Decimal(repr(number)).as_tuple().digits) > sys.float_info.dig:
        raise PydanticCustomError("number_inexact", "more than 15 digits must be given as text")
    return number


Exact = Annotated[Decimal, Field(allow_inf_nan=False), BeforeValidator(_exact)]


def _day(value: object) -> object:
    """Refuse numbers: pydantic would read them as seconds since 1970."""
    if isinstance(value, int | float):
        raise PydanticCustomError("date_type", "must be a date as text, such as 2026-12-31")
    return value


Day = Annotated[date, BeforeValidator(_day)]


def _moment(value: object) -> object:
    """Refuse numbers, as `_day` does."""
    if isinstance(value, int | float):
        raise PydanticCustomError("date_type", "must be a time as text, such as 2026-12-31T18:00:00Z")
    return value


def _utc(at: datetime) -> datetime:
    if not 1970 <= at.year < 9000:  # noqa: PLR2004
        raise PydanticCustomError("date_type", "must lie between the years 1970 and 9000")
    return at.astimezone(UTC)


Moment = Annotated[AwareDatetime, BeforeValidator(_moment), AfterValidator(_utc)]


# Codes


@cache
def currencies() -> frozenset[str]:
    """Give the ISO 4217 codes that are legal tender somewhere today."""
    territories: Mapping[str, Iterable[tuple[str, object, object, bool]]] = get_global("territory_currencies")
    return frozenset(
        code for history in territories.values() for code, _start, end, tender in history if end is None and tender
    )


@cache
def countries() -> frozenset[str]:
    """Give the ISO 3166-1 alpha-2 codes in use."""
    return frozenset(code for code in get_global("territory_currencies") if len(code) == 2) - {"EU", "UN", "ZZ"}  # noqa: PLR2004


@cache
def minor_units(currency: str) -> int:
    """Give the number of decimals of a currency, 2 if it has no rule of its own."""
    fractions: Mapping[str, tuple[int, ...]] = get_global("currency_fractions")
    return fractions.get(currency, fractions["DEFAULT"])[0]


def _currency(code: str) -> str:
    if code not in currencies():
        raise PydanticCustomError("currency_unknown", "not an ISO 4217 currency code in use")
    return code


def _country(code: str) -> str:
    if code not in countries():
        raise PydanticCustomError("country_unknown", "not an ISO 3166 country code")
    return code


Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$"), AfterValidator(_currency)]
Country = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$"), AfterValidator(_country)]


# Values. Each stands twice: as it is stored (tolerant, plain) and as it must be given (strict, checked).


class Stored(BaseModel):
    """Part of a stored event: fields may be added with a default, never renamed, retyped or dropped."""

    model_config = ConfigDict(frozen=True, extra="ignore")


def optional(message: BaseModel, name: str) -> Any:  # noqa: ANN401
    """Give a field's value, None if messages of this kind have no such field, which pydantic takes long to say."""
    return message.__dict__.get(name)


class Money(Stored):
    """An amount and its ISO 4217 currency; sums never mix currencies."""

    amount: Decimal
    currency: str


class GivenMoney(Money):
    """Money at the door: not negative, in a currency in use, with no more decimals than that currency has."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    amount: Annotated[Exact, Field(ge=0, max_digits=18)]
    currency: Currency

    @model_validator(mode="after")
    def _decimals(self) -> Self:
        exponent = self.amount.as_tuple().exponent
        if isinstance(exponent, int) and -exponent > minor_units(self.currency):
            raise PydanticCustomError("money_decimals", "more decimals than the currency has")
        return self

    def stored(self) -> Money:
        """Give the money as events hold it."""
        return Money(amount=self.amount, currency=self.currency)


def _cpf_or_cnpj(value: str) -> tuple[str, str]:
    if len(cpf.compact(value)) == 11:  # noqa: PLR2004
        return "cpf", str(cpf.validate(value))
    return "cnpj", str(cnpj.validate(value))


def _kind_and_compact(country: str, value: str) -> tuple[str, str]:
    """Give the kind of the tax id and its compact form; raises stdnum's ValidationError."""
    if country == "BR":
        return _cpf_or_cnpj(value)
    if country == "US":
        return "ein", str(ein.validate(value))
    module = get_cc_module(country.lower(), "vat")
    if module is not None:
        return "vat", str(module.validate(value))
    compact = "".join(character for character in value.upper() if character.isalnum())
    if not 4 <= len(compact) <= 30:  # noqa: PLR2004
        raise TaxIdError
    return "other", compact


class TaxId(Stored):
    """A tax id with its country. The ids of individuals (Brazil's CPF) name a person."""

    country: str
    value: Annotated[str, Sealed("customer")]
    kind: str = ""

    @property
    def individual(self) -> bool:
        """Tell whether the id is a natural person's."""
        return self.kind == "cpf"

    @property
    def root(self) -> str:
        """Give what identifies the company whatever its establishment: the first 8 characters of a CNPJ."""
        return self.value[:8] if self.kind == "cnpj" else self.value

    @property
    def key(self) -> str:
        """Give the text under which the id is unique among companies."""
        return f"{self.country}:{self.kind}:{self.value}"


class GivenTaxId(TaxId):
    """A tax id at the door: check digits right; the kind and the compact form are worked out here."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    country: Country
    value: Annotated[str, StringConstraints(strip_whitespace=True, max_length=40)]
    kind: Literal[""] = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            kind, compact = _kind_and_compact(self.country, self.value)
        except TaxIdError:
            raise PydanticCustomError("tax_id_invalid", "not a valid tax id of this country") from None
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "value", compact)
        return self

    def stored(self) -> TaxId:
        """Give the tax id as events hold it."""
        return TaxId(country=self.country, value=self.value, kind=self.kind)


class Contact(Stored):
    """A person at the customer or the partner."""

    person_id: UUID | None = None
    name: Annotated[str, Sealed("person")] | None = None
    email: Annotated[str, Sealed("person")] | None = None
    phone: Annotated[str, Sealed("person")] | None = None
    title: str | None = None


class GivenContact(Contact):
    """A contact at the door: at least a name, an e-mail or a phone."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: Text | None = None
    email: Email | None = None
    phone: Phone | None = None
    title: Text | None = None

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if not (self.name or self.email or self.phone):
            raise PydanticCustomError("contact_empty", "a contact needs a name, an e-mail or a phone")
        return self

    def stored(self) -> Contact:
        """Give the contact as events hold it."""
        return Contact(**dict(self))


class Customer(Stored):
    """The end customer as the sender knows it; personal throughout when its tax id is an individual's."""

    name: Annotated[str, Sealed("customer")]
    customer_id: str | None = None
    trade_name: Annotated[str, Sealed("customer")] | None = None
    country: str | None = None
    tax_ids: tuple[TaxId, ...] = ()
    domains: tuple[str, ...] = ()
    address: Annotated[str, Sealed("customer")] | None = None
    postcode: str | None = None
    city: str | None = None
    phone: Annotated[str, Sealed("customer")] | None = None

    @property
    def individual(self) -> bool:
        """Tell whether the customer is a natural person."""
        return any(tax_id.individual for tax_id in self.tax_ids)


class GivenCustomer(Customer):
    """A customer at the door."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: Text
    customer_id: Reference | None = None
    trade_name: Text | None = None
    country: Country | None = None
    tax_ids: Annotated[tuple[GivenTaxId, ...], Field(max_length=10)] = ()
    domains: Annotated[tuple[Domain, ...], Field(max_length=20)] = ()
    address: Text | None = None
    postcode: Postcode | None = None
    city: Text | None = None
    phone: Phone | None = None

    def stored(self) -> Customer:
        """Give the customer as events hold it."""
        tax_ids = tuple(dict.fromkeys(tax_id.stored() for tax_id in self.tax_ids))
        return Customer(**{**dict(self), "tax_ids": tax_ids})


def contact_again(contact: Contact) -> GivenContact:
    """Give a stored contact as a command holds it: it was checked when it came, and may hold tokens since."""
    return GivenContact.model_construct(**dict(contact))


def customer_again(customer: Customer) -> GivenCustomer:
    """Give a stored customer as a command holds it: it was checked when it came, and may hold tokens since."""
    tax_ids = tuple(GivenTaxId.model_construct(**dict(tax_id)) for tax_id in customer.tax_ids)
    return GivenCustomer.model_construct(**{**dict(customer), "tax_ids": tax_ids})


# Who is the same customer


def customer_keys(customer: Customer, scope: str) -> frozenset[str]:
    """Give the keys under which the customer is the same customer: tax ids and the vendor's own id.

    `scope` says whether establishments of one company are one customer ("root") or several ("establishment").
    The tax ids of individuals are left out: their key is a keyed digest that only the edge can make.
    """
    tax_keys = (
        f"tax:{one.country}:{one.kind}:{one.root if scope == 'root' else one.value}"
        for one in customer.tax_ids
        if not one.individual
    )
    return frozenset((*tax_keys, *((f"id:{customer.customer_id}",) if customer.customer_id else ())))


def domain_keys(customer: Customer) -> frozenset[str]:
    """Give the keys under which the customer is probably the same: its web domains. Groups share domains."""
    return frozenset(f"domain:{domain.lower().removeprefix('www.')}" for domain in customer.domains)


def record_of(customer: Customer, scope: str) -> Record:
    """Give the customer as it is compared under other spellings; `scope` as in `customer_keys`."""
    return Record(
        name=customer.name,
        trade_name=customer.trade_name,
        keys=tuple(sorted(customer_keys(customer, scope))),
        country=customer.country,
        city=customer.city,
        address=customer.address,
        postcode=customer.postcode,
        phones=(customer.phone,) if customer.phone else (),
        domains=customer.domains,
    )
