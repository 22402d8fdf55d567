"""The SQL of a question, as pure functions of it. Everything is read through the views in schema `read`.

A page goes on after the last row of the one before by comparing (sort column, key), which an index on both answers
without counting what was shown. Rows without a value come last, whatever the direction; they are asked for by a
statement of their own, so that the same index serves both directions.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final
from uuid import UUID

from psycopg2 import sql

from prm_es.api.asked import Asked, number_of
from prm_es.api.lists import List
from prm_es.api.periods import period_of

ORDER_OF_STAGES: Final = (
    "prospect", "qualified", "technical_validation", "business_validation", "committed", "won", "lost",
)  # fmt: skip
_NOTHING: Final = sql.SQL("")
_AND: Final = sql.SQL(" AND ")
_COMMA: Final = sql.SQL(", ")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a question is asked: the schema of the views, the report time zone, and its day."""

    schema: str
    tz: str
    today: date

    def view(self, name: str) -> sql.Composable:
        """Name a view."""
        return sql.Identifier(self.schema, name)


def pages(one: List, asked: Asked, here: Surroundings) -> Iterator[sql.Composed]:
    """Give the statements that a page is read with, one row more than asked for: the next if one gives too few.

    The last columns of each row are the value it is sorted by, and its key.
    """
    column = one.compared(asked.sort)
    if asked.after is None or asked.after.value is not None:
        yield _page(one, asked, here, _with_value(one, asked, column))
    if column not in one.key or column == "currency":
        yield _page(one, asked, here, _without_value(one, asked, column))


@dataclass(frozen=True, slots=True)
class _Part:
    condition: sql.Composable
    order: sql.Composable


def _with_value(one: List, asked: Asked, column: str) -> _Part:
    direction, sign = (" DESC", " < ") if asked.descending else ("", " > ")
    compared = [column, *(name for name in one.key if name != column)]
    conditions: list[sql.Composable] = [sql.SQL("{} IS NOT NULL").format(sql.Identifier(column))]
    if asked.after is not None:
        values = {**dict(zip(one.key, asked.after.key, strict=True)), column: asked.after.value}
        conditions.append(
            sql.SQL("({}){}({})").format(
                _COMMA.join(_comparable(one, name) for name in compared),
                sql.SQL(sign),
                _COMMA.join(_value(one, name, values[name]) for name in compared),
            )
        )
    return _Part(_AND.join(conditions), _COMMA.join(_comparable(one, name) + sql.SQL(direction) for name in compared))


def _without_value(one: List, asked: Asked, column: str) -> _Part:
    conditions: list[sql.Composable] = [sql.SQL("{} IS NULL").format(sql.Identifier(column))]
    if asked.after is not None and asked.after.value is None:
        conditions.append(
            sql.SQL("({}) > ({})").format(
                _COMMA.join(_comparable(one, name) for name in one.key),
                _COMMA.join(_value(one, name, value) for name, value in zip(one.key, asked.after.key, strict=True)),
            )
        )
    return _Part(_AND.join(conditions), _COMMA.join(_comparable(one, name) for name in one.key))


def _comparable(one: List, name: str) -> sql.Composable:
    """Give a column as rows are compared by it; a part of a key may have no value where it is a currency."""
    if name in one.key and name == "currency":
        return sql.SQL("coalesce({}, '')").format(sql.Identifier(name))
    return sql.Identifier(name)


def _value(one: List, name: str, value: Any) -> sql.Composable:  # noqa: ANN401
    if name in one.key and name == "currency":
        value = value or ""
    return sql.SQL("{}::{}").format(sql.Literal(value), sql.SQL(one.columns[name]))


def _page(one: List, asked: Asked, here: Surroundings, part: _Part) -> sql.Composed:
    limit = sql.SQL(" LIMIT {}").format(sql.Literal(asked.limit + 1)) if asked.limit is not None else _NOTHING
    return sql.SQL("SELECT {} FROM {} WHERE {} ORDER BY {}{}").format(
        _COMMA.join(map(sql.Identifier, (*one.columns, one.compared(asked.sort), *one.key))),
        here.view(one.view),
        _AND.join([*conditions(one, asked, here), part.condition]),
        part.order,
        limit,
    )


def row(one: List, key: Sequence[Any], here: Surroundings) -> sql.Composed:
    """Give the statement for the row with this key."""
    wanted = [
        sql.SQL("{} = {}").format(sql.Identifier(name), _value(one, name, value))
        for name, value in zip(one.key, key, strict=True)
    ]
    return sql.SQL("SELECT * FROM {} WHERE {}").format(here.view(one.view), _AND.join(wanted))


def every_row(one: List, asked: Asked, here: Surroundings, columns: Mapping[str, str]) -> sql.Composed:
    """Give the statement for all rows, each column as the SQL that `columns` has for it; sorted only if asked for."""
    chosen = [
        sql.SQL(text).format(sql.Identifier(name)) + sql.SQL(" AS ") + sql.Identifier(name)
        for name, text in columns.items()
    ]
    order: sql.Composable = _NOTHING
    if asked.sort:
        direction = sql.SQL(" DESC NULLS LAST" if asked.descending else "")
        keys = [sql.Identifier(one.view, name) for name in one.key]
        order = sql.SQL(" ORDER BY ") + _COMMA.join(
            [sql.Identifier(one.view, one.compared(asked.sort)) + direction, *keys]
        )
    return sql.SQL("SELECT {} FROM {}{}{}").format(
        _COMMA.join(chosen), here.view(one.view), where(one, asked, here), order
    )


def grouped(one: List, asked: Asked, here: Surroundings, *, subtotals: bool = True) -> sql.Composed:
    """Give the statement that counts and sums by group; amounts are never summed across currencies.

    With subtotals, `level` is how many of the dimensions a row is of: 0 for the sums of all.
    """
    dimensions = [sql.SQL(one.groups[name]).format(tz=sql.Literal(here.tz)) for name in asked.groups]
    money = next((currency for currency in one.measures.values() if currency), None)
    chosen: list[sql.Composable] = [
        dimension + sql.SQL(" AS ") + sql.Identifier(name)
        for name, dimension in zip(asked.groups, dimensions, strict=True)
    ]
    inner = _COMMA.join(dimensions)
    keys: list[sql.Composable] = [sql.SQL("ROLLUP ({})").format(inner) if subtotals else inner]
    level = _level(dimensions) if subtotals else sql.Literal(len(dimensions))
    if money:
        chosen.append(sql.Identifier(money))
        keys.append(sql.Identifier(money))
    sums = [sql.SQL("sum({0}) AS {0}").format(sql.Identifier(name)) for name in one.measures]
    limit = sql.SQL(" LIMIT {}").format(sql.Literal(asked.limit + 1)) if asked.limit is not None else _NOTHING
    return sql.SQL("SELECT {}, {} AS level, count(*) AS count{} FROM {}{} GROUP BY {} ORDER BY {}{}").format(
        _COMMA.join(chosen),
        level,
        _COMMA.join([_NOTHING, *sums]),
        here.view(one.view),
        where(one, asked, here),
        _COMMA.join(keys),
        _order_of_groups(one, asked, dimensions, money, subtotals=subtotals),
        limit,
    )


def _level(dimensions: list[sql.Composed]) -> sql.Composable:
    parts = [sql.SQL("(1 - grouping({}))").format(one) for one in dimensions]
    return sql.SQL(" + ").join(parts)


def _order_of_groups(
    one: List, asked: Asked, dimensions: list[sql.Composed], money: str | None, *, subtotals: bool
) -> sql.Composable:
    order: list[sql.Composable] = []
    if asked.sort:
        direction = sql.SQL(" DESC NULLS LAST" if asked.descending else "")
        order.append(sql.SQL(str(_position_of(one, asked, money))) + direction)
    for name, dimension in zip(asked.groups, dimensions, strict=True):
        if subtotals:
            order.append(sql.SQL("grouping({})").format(dimension))
        if name == "stage":
            order.append(sql.SQL("array_position({}, {})").format(sql.Literal(list(ORDER_OF_STAGES)), dimension))
        order.append(dimension)
    return _COMMA.join([*order, *([sql.Identifier(money)] if money else [])])


def _position_of(one: List, asked: Asked, money: str | None) -> int:
    """Give the number of the column that groups are sorted by: a name alone would mean the view's column."""
    names = [*asked.groups, *([money] if money else []), "level", "count", *one.measures]
    return names.index(asked.column) + 1


# Filters


def where(one: List, asked: Asked, here: Surroundings) -> sql.Composable:
    """Give the WHERE of a question, nothing if it has none."""
    wanted = conditions(one, asked, here)
    return sql.SQL(" WHERE ") + _AND.join(wanted) if wanted else _NOTHING


def conditions(one: List, asked: Asked, here: Surroundings) -> list[sql.Composable]:
    """Give the conditions of a question's filters."""
    return [_CONDITIONS[one.filters[name].kind](one, name, asked.filters[name], here) for name in asked.filters]


_Values = tuple[str, ...]


def _one_of(one: List, name: str, values: _Values, _here: Surroundings) -> sql.Composable:
    (column,) = one.filters[name].columns
    return _equals(sql.Identifier(column), values)


def _equals(column: sql.Composable, values: _Values) -> sql.Composable:
    if len(values) == 1:
        return sql.SQL("{} = {}").format(column, sql.Literal(values[0]))
    return sql.SQL("{} = ANY ({})").format(column, sql.Literal(list(values)))


def _partner(one: List, _name: str, values: _Values, _here: Surroundings) -> sql.Composable:
    ids = [str(UUID(value)) for value in values if _is_id(value)]
    names = [_like(value) for value in values if not _is_id(value)]
    found: list[sql.Composable] = []
    for column in one.partners:
        if ids:
            found.append(sql.SQL("{} = ANY ({}::uuid[])").format(sql.Identifier(column), sql.Literal(ids)))
        if names:
            named = sql.Identifier(column.removesuffix("_id"))
            found.append(sql.SQL("{} ILIKE ANY ({})").format(named, sql.Literal(names)))
    return sql.SQL("({})").format(sql.SQL(" OR ").join(found))


def _of_partner(one: List, name: str, values: _Values, here: Surroundings) -> sql.Composable:
    (column,) = one.filters[name].columns
    wanted: sql.Composable
    if column == "territories":
        wanted = sql.SQL("territories && {}").format(sql.Literal(list(values)))
    else:
        wanted = _equals(sql.Identifier(column), values)
    found = [_among_partners(one, sql.Identifier(partner), wanted, here) for partner in one.partners]
    return sql.SQL("({})").format(sql.SQL(" OR ").join(found))


def _among_partners(one: List, column: sql.Composable, wanted: sql.Composable, here: Surroundings) -> sql.Composable:
    if one.view == "partners":
        return wanted
    return sql.SQL("{} IN (SELECT partner_id FROM {} WHERE {})").format(column, here.view("partners"), wanted)


def _is_id(text: str) -> bool:
    try:
        return bool(UUID(text).hex)
    except ValueError:
        return False


def _among(one: List, name: str, values: _Values, _here: Surroundings) -> sql.Composable:
    (column,) = one.filters[name].columns
    return sql.SQL("{} && {}").format(sql.Identifier(column), sql.Literal(list(values)))


def _flag(one: List, name: str, values: _Values, _here: Surroundings) -> sql.Composable:
    (column,) = one.filters[name].columns
    return sql.SQL("{}" if values[-1] == "true" else "NOT {}").format(sql.Identifier(column))


def _lowest(one: List, name: str, values: _Values, _here: Surroundings) -> sql.Composable:
    (column,) = one.filters[name].columns
    return sql.SQL("{} >= {}").format(sql.Identifier(column), sql.Literal(number_of(name, values[-1])))


def _highest(one: List, name: str, values: _Values, _here: Surroundings) -> sql.Composable:
    (column,) = one.filters[name].columns
    return sql.SQL("{} <= {}").format(sql.Identifier(column), sql.Literal(number_of(name, values[-1])))


def _period(one: List, name: str, values: _Values, here: Surroundings) -> sql.Composable:
    first, last = period_of(values[-1], here.today)
    columns = one.filters[name].columns
    column: sql.Composable = sql.Identifier(columns[0])
    if len(columns) > 1:
        column = sql.SQL("coalesce({})").format(_COMMA.join(map(sql.Identifier, columns)))
    if one.columns[columns[0]] == "date":
        return sql.SQL("{} BETWEEN {} AND {}").format(column, sql.Literal(first), sql.Literal(last))
    end = sql.SQL("'infinity'") if last == date.max else _midnight(last + timedelta(days=1), here)
    return sql.SQL("({0} >= {1} AND {0} < {2})").format(column, _midnight(first, here), end)


def _midnight(day: date, here: Surroundings) -> sql.Composable:
    return sql.SQL("({}::timestamp AT TIME ZONE {})").format(sql.Literal(day), sql.Literal(here.tz))


def _during(one: List, name: str, values: _Values, here: Surroundings) -> sql.Composable:
    first, last = period_of(values[-1], here.today)
    begins, ends = map(sql.Identifier, one.filters[name].columns)
    return sql.SQL("({} <= {} AND {} >= {})").format(begins, sql.Literal(last), ends, sql.Literal(first))


def _text(one: List, name: str, values: _Values, _here: Surroundings) -> sql.Composable:
    wanted = sql.Literal(_like(values[-1].strip()))
    found = [sql.SQL("{} ILIKE {}").format(sql.Identifier(column), wanted) for column in one.filters[name].columns]
    return sql.SQL("({})").format(sql.SQL(" OR ").join(found))


def _like(text: str) -> str:
    return "%" + re.sub(r"([\\%_])", r"\\\1", text) + "%"


_CONDITIONS: Final[Mapping[str, Callable[[List, str, _Values, Surroundings], sql.Composable]]] = {
    "one_of": _one_of,
    "partner": _partner,
    "of_partner": _of_partner,
    "among": _among,
    "flag": _flag,
    "lowest": _lowest,
    "highest": _highest,
    "period": _period,
    "during": _during,
    "text": _text,
}
