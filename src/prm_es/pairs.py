"""Labelled pairs of records in a file, a line each as JSON, for scoring and fitting the matcher.

A line holds two records and, if it is known, whether they are the same company. The records stand under left and
right, a and b, or the like, as a list of two, or flat with a mark on each field (name_left, name_right). The names of
the fields are read liberally: what is not known is left out.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

import orjson
import yaml
from babel.core import Locale, get_global
from pydantic import ValidationError

from prm_es.aggregates.fields import Customer, GivenTaxId, customer_keys
from prm_es.errors import Usage
from prm_es.matching.folding import fold_words
from prm_es.matching.identity import Record

_SIDES: Final = (
    ("left", "right"),
    ("a", "b"),
    ("l", "r"),
    ("one", "other"),
    ("first", "second"),
    ("1", "2"),
    ("x", "y"),
    ("record1", "record2"),
    ("recorda", "recordb"),
    ("leftrecord", "rightrecord"),
    ("query", "candidate"),
    ("source", "target"),
)
_LABELS: Final = (
    "label",
    "match",
    "ismatch",
    "same",
    "issame",
    "target",
    "targets",
    "isduplicate",
    "duplicate",
    "gold",
    "truth",
)
_YES: Final = frozenset(("1", "1.0", "true", "t", "yes", "y", "match", "same", "duplicate", "positive"))
_NO: Final = frozenset(("0", "0.0", "false", "f", "no", "n", "nonmatch", "distinct", "different", "negative"))


@cache
def _fields() -> Mapping[str, str]:
    """Give the kind of field by the letters of its name."""
    given: Mapping[str, str] = yaml.safe_load(files(__package__).joinpath("pairs.yaml").read_text(encoding="utf-8"))
    return {name: field for field, names in given.items() for name in names.split()}


@dataclass(frozen=True, slots=True)
class GivenPair:
    """Two records of a line; `same` is None where the line does not say."""

    left: Record
    right: Record
    same: bool | None

    def line(self) -> dict[str, Any]:
        """Give the pair as it is read."""
        return {"left": asdict(self.left), "right": asdict(self.right), "label": self.same}


def read_pairs(lines: Iterable[str | bytes], name: str) -> Iterator[GivenPair]:
    """Read pairs, a line each; empty lines are passed over. Raises Usage naming the line that cannot be read."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield pair_of(orjson.loads(line))
            except (orjson.JSONDecodeError, ValueError) as error:
                raise Usage(f"{name}: line {number}: {error}") from None


def pair_of(given: object) -> GivenPair:
    """Read one pair; raises ValueError saying what is missing."""
    if isinstance(given, list) and len(given) in {2, 3} and all(isinstance(one, dict) for one in given[:2]):
        return GivenPair(record_from(given[0]), record_from(given[1]), _label(given[2]) if len(given) > 2 else None)  # noqa: PLR2004
    if not isinstance(given, dict):
        raise ValueError("a pair is an object with two records, or a list of two")  # noqa: TRY004 - the line is wrong, not a type
    fields = {_letters(name): value for name, value in given.items()}
    left, right = _sides(given, fields)
    label = next((fields[name] for name in _LABELS if name in fields and not isinstance(fields[name], dict)), None)
    return GivenPair(record_from(left), record_from(right), _label(label))


def _sides(given: Mapping[str, Any], fields: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    for one, other in _SIDES:
        if isinstance(fields.get(one), dict) and isinstance(fields.get(other), dict):
            return fields[one], fields[other]
    for value in fields.values():
        if isinstance(value, list) and len(value) == 2 and all(isinstance(one, dict) for one in value):  # noqa: PLR2004
            return value[0], value[1]
    for one, other in _SIDES:
        left, right = _marked(given, one), _marked(given, other)
        if left and right:
            return left, right
    raise ValueError("no two records: name them left and right, or give a list of two")


def _marked(given: Mapping[str, Any], mark: str) -> Mapping[str, Any]:
    """Give the fields that carry a mark before or behind, without it."""
    found = {}
    for name, value in given.items():
        lower = name.lower()
        for bare in (lower.removesuffix(f"_{mark}"), lower.removeprefix(f"{mark}_"), _bare_digit(lower, mark)):
            if bare != lower and _letters(bare) in _fields():
                found[bare] = value
    return found


def _bare_digit(name: str, mark: str) -> str:
    return name.removesuffix(mark) if mark.isdigit() else name


def _label(value: object) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    folded = _letters(str(value)) if not isinstance(value, float | int) else str(int(value))
    if folded in _YES or folded in _NO:
        return folded in _YES
    raise ValueError("the label is neither true nor false")


def _letters(name: str) -> str:
    return "".join(one for one in name.lower() if one.isalnum())


# Records


def record_from(given: Mapping[str, Any]) -> Record:
    """Read one record; unknown fields are passed over, empty ones are as if not given."""
    found: dict[str, list[str]] = {}
    for name, value in given.items():
        field = _fields().get(_letters(name))
        if field == "address" and isinstance(value, dict):
            for part, text in _fields_of(value):
                found.setdefault(part, []).extend(_texts(text))
        elif field is not None:
            found.setdefault(field, []).extend(_texts(value))
    names = list(dict.fromkeys((*found.get("name", ()), *found.get("trade_name", ()))))
    country = country_of(_first(found, "country"))
    address = _first(found, "address")
    if address and (number := _first(found, "number")) and number not in fold_words(address):
        address = f"{address}, {number}"
    if address and (unit := _first(found, "unit")):
        address = f"{address}, {unit}"
    return Record(
        name=names[0] if names else None,
        trade_name=names[1] if len(names) > 1 else None,
        keys=_keys(found, country),
        country=country,
        state=_first(found, "state"),
        city=_first(found, "city"),
        address=address,
        postcode=_first(found, "postcode"),
        phones=tuple(found.get("phones", ())),
        emails=tuple(found.get("emails", ())),
        domains=tuple(found.get("domains", ())),
    )


def _fields_of(address: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in address.items():
        if field := _fields().get(_letters(name)):
            yield field, value


def _texts(value: object) -> Sequence[str]:
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    if isinstance(value, dict):
        return [text for one in value.values() for text in _texts(one)]
    text = "" if value is None or isinstance(value, bool) else str(value).strip()
    return [] if text.lower() in {"", "none", "null", "nan", "n/a", "-"} else [text]


def _first(found: Mapping[str, Sequence[str]], field: str) -> str | None:
    return next(iter(found.get(field, ())), None)


def _keys(found: Mapping[str, Sequence[str]], country: str | None) -> tuple[str, ...]:
    tax_ids = [one for text in found.get("tax_ids", ()) if (one := _tax_id(text, country))]
    customer = Customer(
        name="", customer_id=_first(found, "customer_id"), tax_ids=tuple(one.stored() for one in tax_ids)
    )
    return tuple(sorted(customer_keys(customer, "root")))


def _tax_id(text: str, country: str | None) -> GivenTaxId | None:
    """Read a tax id; without a country only one with valid Brazilian check digits."""
    try:
        return GivenTaxId(country=country or "BR", value=text)
    except ValidationError:
        return None


def country_of(text: str | None) -> str | None:
    """Give the ISO 3166 alpha-2 code of a code, or of a name in English, Portuguese or Spanish."""
    if text is None:
        return None
    code = text.strip().upper()
    if len(code) == 2 and code.isalpha():  # noqa: PLR2004
        return "GB" if code == "UK" else code
    aliases: Mapping[str, Sequence[str]] = get_global("territory_aliases")
    if code in aliases and len(aliases[code]) == 1 and len(aliases[code][0]) == 2:  # noqa: PLR2004
        return aliases[code][0]
    return _country_names().get(_letters(text))


@cache
def _country_names() -> Mapping[str, str]:
    return {
        _letters(name): code
        for language in ("es", "pt", "en")
        for code, name in Locale(language).territories.items()
        if len(code) == 2 and code.isalpha()  # noqa: PLR2004
    }
