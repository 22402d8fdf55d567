"""A list as a page: what its address asks for, and the addresses that lead from there on. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

from prm_es.api.pages.frame import query_of
from prm_es.api.pages.language import EMPTY, Reader
from prm_es.api.pages.tables import Column, Filter, Table
from prm_es.api.pages.words import _n

PERIODS: Final[Mapping[str, str]] = {
    "this-month": _n("This month"),
    "last-month": _n("Last month"),
    "this-quarter": _n("This quarter"),
    "last-quarter": _n("Last quarter"),
    "this-year": _n("This year"),
    "last-year": _n("Last year"),
}
_NOT_FILTERS: Final = frozenset({"sort", "cursor", "group_by", "part", "all", "limit", "after", "format"})
_NOT_SORTABLE: Final = frozenset({"deal_flags", "lead_flags", "list", "codes", "gaps", "next"})


@dataclass(frozen=True, slots=True)
class Head:
    """A column's heading: the query that sorts by it, and how it is sorted now."""

    column: Column
    query: str | None
    sorted: str | None


@dataclass(frozen=True, slots=True)
class Tab:
    title: str
    query: str
    current: bool


@dataclass(frozen=True, slots=True)
class Chip:
    """A filter that is set, in words, and the query without it."""

    words: str
    without: str


def asked(table: Table, query: Mapping[str, str], *, vendor: bool = True) -> dict[str, str]:
    """Give what the address asks for; without any question the first of the views given."""
    given = {name: value for name, value in query.items() if value and name != "part"}
    if not given and table.tabs:
        return dict(parse_qsl(table.first if table.first and not vendor else table.tabs[0][1]))
    given.pop("all", None)
    return given


def tabs(table: Table, given: Mapping[str, str]) -> list[Tab]:
    now = {name: value for name, value in given.items() if name not in ("cursor", "limit")}
    return [Tab(title, query or "all=1", dict(parse_qsl(query)) == now) for title, query in table.tabs]


def heads(table: Table, given: Mapping[str, str], *, vendor: bool) -> list[Head]:
    return [_head(one, given) for one in table.columns if vendor or not one.vendor_only]


def _head(column: Column, given: Mapping[str, str]) -> Head:
    if column.kind in _NOT_SORTABLE:
        return Head(column, None, None)
    sort = given.get("sort", "")
    descending = sort == f"-{column.name}"
    now = "descending" if descending else "ascending" if sort == column.name else None
    first = f"-{column.name}" if column.kind in ("money", "number", "share", "relative", "day", "rank") else column.name
    turned = column.name if descending else f"-{column.name}" if now else first
    return Head(column, query_of(given, sort=turned, cursor=None), now)


def chips(table: Table, given: Mapping[str, str], reader: Reader) -> list[Chip]:
    """Say each filter that is set and not to be seen above the table."""
    return [
        Chip(words, query_of(given, cursor=None, **{name: None}) or "all=1")
        for name, value in given.items()
        if name not in _NOT_FILTERS
        for words in _words(table, name, value, reader)
    ]


def _words(table: Table, name: str, value: str, reader: Reader) -> Iterator[str]:
    if name == table.find:
        yield f"“{value}”"
        return
    plain = name.removesuffix("_from").removesuffix("_to")
    known = next((one for one in (*table.filters, *table.more) if one.name == plain), None)
    title = reader.text(known.title if known else _titles(table).get(name, name.replace("_", " ").capitalize()))
    sign = " ≥" if name.endswith("_from") else " ≤" if name.endswith("_to") else ":"
    yield f"{title}{sign} {_value(known, value, reader)}"


def _titles(table: Table) -> Mapping[str, str]:
    return {"overdue": _n("Overdue"), "stalled": _n("Stalled"), "current": _n("Running")} | {
        one.name: one.title for one in table.columns
    }


def _value(known: Filter | None, value: str, reader: Reader) -> str:
    if value in ("true", "false"):
        return reader.text(_n("yes") if value == "true" else _n("no"))
    if known and known.kind == "period":
        return reader.text(PERIODS[value]) if value in PERIODS else value
    if known and known.kind == "code":
        return ", ".join(reader.code(one, known.of) for one in value.split(","))
    return value


def kept(table: Table, given: Mapping[str, str]) -> dict[str, str]:
    """Give the filters that are set and have no field of their own, as a view given sets them."""
    fields = {table.find}
    for one in (*table.filters, *table.more):
        fields |= {f"{one.name}_from", f"{one.name}_to"} if one.kind == "range" else {one.name}
    return {name: value for name, value in given.items() if name not in fields | _NOT_FILTERS}


def link_of(table: Table, row: Mapping[str, Any]) -> str:
    return table.link.format(**row)


def grouped(table: Table, given: Mapping[str, str], items: Sequence[Mapping[str, Any]], reader: Reader) -> "Grouped":
    """Give a list counted and summed by group and currency, the sums of all last."""
    by = given["group_by"]
    title = next((reader.text(words) for name, words in table.groups if name == by), by)
    money = any("currency" in item for item in items)
    weighted = any("weighted_amount" in item for item in items)
    names = [_n("Rows"), *([_n("Currency"), _n("Amount")] if money else []), *([_n("Weighted")] if weighted else [])]
    rows = [_group(table, given, by, item, reader) for item in sorted(items, key=lambda one: one.get("level") == 0)]
    return Grouped([title, *map(reader.text, names)], rows)


@dataclass(frozen=True, slots=True)
class Named:
    """A group by name, and the query for its rows."""

    words: str
    query: str | None


@dataclass(frozen=True, slots=True)
class Grouped:
    heads: list[str]
    rows: list[list[Any]]


def _group(table: Table, given: Mapping[str, str], by: str, item: Mapping[str, Any], reader: Reader) -> list[Any]:
    if item.get("level") == 0:
        name = Named(reader.text(_n("All")), None)
    else:
        kind = next((one.of for one in (*table.filters, *table.more) if one.name == by and one.kind == "code"), None)
        value = item[by]
        words = (reader.code(value, kind) if kind else str(value)) if value is not None else EMPTY
        name = Named(words, query_of(given, group_by=None, cursor=None, **{by: str(value)}) if value else None)
    row = [name, reader.number(item["count"])]
    if "currency" in item:
        row += [item["currency"] or EMPTY, reader.money(item.get("amount"), item["currency"])]
    if "weighted_amount" in item:
        row.append(reader.money(item["weighted_amount"], item["currency"]))
    return row
