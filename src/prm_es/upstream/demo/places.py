"""Countries of the made-up world: their currency, territories, forms of company, and valid tax ids that nobody has."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

from stdnum import luhn
from stdnum.br import cnpj, cpf
from stdnum.es import cif
from stdnum.iso7064 import mod_11_10


@dataclass(frozen=True, slots=True)
class Place:
    """`rate` is how many of the currency's units make up one of the price list."""

    country: str
    currency: str
    rate: int
    territories: tuple[str, ...]
    company: str
    cities: tuple[str, ...]


PLACES: Final[Mapping[str, Place]] = {
    place.country: place
    for place in (
        Place("US", "USD", 1, ("US East", "US Central", "US West"), "Inc.", ("Boston", "Chicago", "Denver", "Seattle")),
        Place("BR", "BRL", 5, ("Brazil South", "Brazil Southeast"), "Ltda.", ("Curitiba", "São Paulo", "Recife")),
        Place("DE", "EUR", 1, ("DACH",), "GmbH", ("Hamburg", "Köln", "Leipzig")),
        Place("FR", "EUR", 1, ("France",), "SAS", ("Lyon", "Nantes", "Lille")),
        Place("ES", "EUR", 1, ("Iberia",), "S.L.", ("Madrid", "Valencia", "Bilbao")),
    )
}
# How often a partner or a customer is from there.
WEIGHTS: Final = {"US": 38, "BR": 26, "DE": 16, "FR": 10, "ES": 10}

_EIN_PREFIXES: Final = ("12", "27", "36", "45", "61", "81")
_ALPHANUMERIC: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _digits(random: Random, count: int, *, characters: str = "0123456789") -> str:
    return "".join(random.choice(characters) for _ in range(count))


def _ein(random: Random) -> str:
    return f"{random.choice(_EIN_PREFIXES)}-{_digits(random, 7)}"


def _cnpj(random: Random) -> str:
    """Give a CNPJ; from July 2026 on they may have letters, as every third here."""
    alphanumeric = random.random() < 1 / 3
    base = _digits(random, 8, characters=_ALPHANUMERIC if alphanumeric else "0123456789") + "0001"
    return str(cnpj.format(base + cnpj.calc_check_digits(base)))


def _german(random: Random) -> str:
    base = random.choice("123456789") + _digits(random, 7)
    return f"DE{base}{mod_11_10.calc_check_digit(base)}"


def _french(random: Random) -> str:
    base = random.choice("345789") + _digits(random, 7)
    siren = base + luhn.calc_check_digit(base)
    return f"FR{(12 + 3 * (int(siren) % 97)) % 97:02}{siren}"


def _spanish(random: Random) -> str:
    base = "B" + _digits(random, 7)
    return f"ES{base}{cif.calc_check_digits(base)[0]}"


_TAX_IDS: Final[Mapping[str, Callable[[Random], str]]] = {
    "US": _ein,
    "BR": _cnpj,
    "DE": _german,
    "FR": _french,
    "ES": _spanish,
}


def tax_id(random: Random, country: str) -> dict[str, str]:
    """Give a tax id of a company of this country, with right check digits."""
    return {"country": country, "value": _TAX_IDS[country](random)}


def branch_tax_id(random: Random, company: str) -> dict[str, str]:
    """Give the CNPJ of another establishment of the company with this CNPJ."""
    base = f"{cnpj.compact(company)[:8]}{random.randrange(2, 40):04}"
    return {"country": "BR", "value": str(cnpj.format(base + cnpj.calc_check_digits(base)))}


def individual_tax_id(random: Random) -> dict[str, str]:
    """Give the tax id of a natural person, a CPF."""
    base = _digits(random, 9)
    return {"country": "BR", "value": next(v for n in range(100) if cpf.is_valid(v := f"{base}{n:02}"))}
