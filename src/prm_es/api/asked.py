"""What somebody asks of a list: read from the parameters of a request, or from the command line."""

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import orjson

from prm_es.api.lists import Filter, List
from prm_es.api.periods import period_of
from prm_es.errors import Usage

LIMIT: Final = 50
MAX_LIMIT: Final = 500
MAX_GROUPS: Final = 5000
MAX_VALUES: Final = 50
MAX_LENGTH: Final = 200
LEAST_TEXT: Final = 2
_MICROSECOND: Final = timedelta(microseconds=1)
_NUMBER: Final = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,12})?")
_WHOLE: Final = re.compile(r"-?[0-9]{1,19}")
_INTERVAL: Final = re.compile(r"-?[0-9]{1,18} microseconds")


class Wrong(Usage):
    """A parameter that cannot be; `field` names it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field, self.message = field, message


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ends: the value that its last row is sorted by, None if it has none, and the row's key."""

    value: Any
    key: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """One question. `limit` None gives every row; `groups` are names of dimensions, the outermost first."""

    filters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sort: str = ""
    limit: int | None = LIMIT
    after: Place | None = None
    groups: tuple[str, ...] = ()

    @property
    def column(self) -> str:
        """The column that is sorted by."""
        return self.sort.removeprefix("-")

    @property
    def descending(self) -> bool:
        """Tell whether the highest comes first."""
        return self.sort.startswith("-")


def read(one: List, given: Sequence[tuple[str, str]], today: date) -> Asked:
    """Read the parameters of a request that are a list's; raises Wrong for a name or a value that cannot be."""
    values: dict[str, list[str]] = {}
    for name, value in given:
        if value:
            values.setdefault(name, []).append(value)
    own = {name: _split(one.filters[name], values.pop(name)) for name in list(values) if name in one.filters}
    sort, limit, cursor, groups = (values.pop(name, [""])[-1] for name in ("sort", "limit", "cursor", "group_by"))
    if values:
        raise Wrong(next(iter(values)), f"{one.name} have no such parameter; filters are: {', '.join(one.filters)}")
    asked = Asked(own, sort, groups=tuple(filter(None, groups.split(","))))
    return _with_place(one, replace(checked(one, asked, today), limit=_limit(limit, asked)), cursor)


def _split(wanted: Filter, values: list[str]) -> tuple[str, ...]:
    """Give the values of a filter; codes may be given apart or with commas between them."""
    if wanted.kind in ("one_of", "among"):
        return tuple(part for value in values for part in value.split(",") if part)
    return tuple(values)


def checked(one: List, asked: Asked, today: date) -> Asked:
    """Give the question with its sort made plain; raises Wrong for what cannot be."""
    for name, values in asked.filters.items():
        if name not in one.filters:
            raise Wrong(name, f"{one.name} have none to filter by; there are: {', '.join(one.filters)}")
        _check(name, one.filters[name], values, today)
    for group in asked.groups:
        if group not in one.groups:
            raise Wrong("group_by", f"{one.name} can be grouped by: {', '.join(one.groups) or 'nothing'}")
    if len(set(asked.groups)) < len(asked.groups):
        raise Wrong("group_by", "names one twice")
    if asked.groups:
        return _grouped(one, asked)
    sorted_by = replace(asked, sort=asked.sort or one.sort)
    if sorted_by.column not in one.columns or one.columns[sorted_by.column] == "jsonb":
        raise Wrong("sort", f"sort by one of {', '.join(one.columns)}")
    return sorted_by


def _grouped(one: List, asked: Asked) -> Asked:
    known = (*asked.groups, "count", *one.measures)
    if asked.sort and asked.column not in known:
        raise Wrong("sort", f"groups are sorted by one of {', '.join(known)}")
    return asked


def _limit(text: str, asked: Asked) -> int:
    highest = MAX_GROUPS if asked.groups else MAX_LIMIT
    if not text:
        return MAX_GROUPS if asked.groups else LIMIT
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= highest and len(text) < 9):  # noqa: PLR2004
        raise Wrong("limit", f"a number from 1 to {highest}")
    return int(text)


def _check(name: str, wanted: Filter, values: Sequence[str], today: date) -> None:
    if len(values) > MAX_VALUES:
        raise Wrong(name, f"at most {MAX_VALUES} values")
    if any(len(value) > MAX_LENGTH or "\x00" in value for value in values):
        raise Wrong(name, f"at most {MAX_LENGTH} characters")
    match wanted.kind:
        case "flag" if values[-1] not in ("true", "false"):
            raise Wrong(name, "true or false")
        case "lowest" | "highest":
            number_of(name, values[-1])
        case "period" | "during":
            try:
                period_of(values[-1], today)
            except Usage as error:
                raise Wrong(name, str(error)) from None
        case "text" if len(values[-1].strip()) < LEAST_TEXT:
            raise Wrong(name, f"at least {LEAST_TEXT} characters")
        case _:
            pass


def number_of(name: str, text: str) -> Decimal:
    """Read a number; raises Wrong."""
    if not _NUMBER.fullmatch(text):
        raise Wrong(name, "a number")
    return Decimal(text)


# Cursors


def cursor_of(asked: Asked, place: Place) -> str:
    """Give the cursor of the page that follows a place: opaque, and of use with the same sort alone."""
    packed = orjson.dumps([asked.sort, _plain(place.value), *map(_plain, place.key)])
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def _with_place(one: List, asked: Asked, cursor: str) -> Asked:
    if not cursor:
        return asked
    if asked.groups:
        raise Wrong("cursor", "groups have no pages")
    try:
        unpacked = orjson.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        raise Wrong("cursor", "not one of ours") from None
    if not isinstance(unpacked, list) or len(unpacked) != 2 + len(one.key) or unpacked[0] != asked.sort:
        raise Wrong("cursor", "not of this list and sort")
    value, *key = unpacked[1:]
    kinds = [one.columns[name] for name in (one.compared(asked.sort), *one.key)]
    if not all(part is None or _fits(kind, part) for kind, part in zip(kinds, (value, *key), strict=True)):
        raise Wrong("cursor", "not one of ours")
    return replace(asked, after=Place(value, tuple(key)))


def _plain(value: Any) -> Any:  # noqa: ANN401
    match value:
        case None | bool() | str():
            return value
        case list():
            return [_plain(one) for one in value]
        case timedelta():
            return f"{value // _MICROSECOND} microseconds"
        case datetime():
            return value.astimezone(UTC).isoformat()
        case Decimal():
            return f"{value:f}"
        case _:
            return str(value)


def _fits(kind: str, value: Any) -> bool:  # noqa: ANN401
    """Tell whether a cursor's value is one of a type, so that the database never meets what it cannot read."""
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "text[]":
        return isinstance(value, list) and all(_fits("text", one) for one in value)
    if not isinstance(value, str) or "\x00" in value:
        return False
    try:
        return _READABLE[kind](value)
    except ValueError:
        return False


_READABLE: Final[Mapping[str, Callable[[str], bool]]] = {
    "text": lambda _text: True,
    "numeric": lambda text: bool(_NUMBER.fullmatch(text)),
    "integer": lambda text: bool(_WHOLE.fullmatch(text)) and abs(int(text)) < 2**31,
    "bigint": lambda text: bool(_WHOLE.fullmatch(text)) and abs(int(text)) < 2**63,
    "date": lambda text: date.fromisoformat(text).isoformat() == text,
    "timestamptz": lambda text: datetime.fromisoformat(text).isoformat() == text and text.endswith("+00:00"),
    "uuid": lambda text: str(UUID(text)) == text,
    "interval": lambda text: bool(_INTERVAL.fullmatch(text)),
}
