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
from prm_es.api.indexed import walks
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

    Where an index gives the order, each statement walks along it. Anything else is found by one pass over the rows: to
    walk along an order until enough rows fit takes as long as the values want, and the planner cannot tell.
    """
    column = one.compared(asked.sort)
    if not walks(one.name, asked.filters, asked.sort):
        yield _page(one, asked, here, _in_one_pass(one, asked, column))
        return
    if asked.after is None or asked.after.value is not None:
        yield _page(one, asked, here, _with_value(one, asked, column))
    if _may_lack(one, column):
        yield _page(one, asked, here, _without_value(one, asked, column))


def _may_lack(one: List, column: str) -> bool:
    return column not in one.key or column == "currency"


@dataclass(frozen=True, slots=True)
class _Part:
    """Some rows: their conditions, their order, and the value that they are sorted by if it is not the column's own.

    That value is named, not said again in the order: what it takes to make it is not taken twice.
    """

    conditions: tuple[sql.Composable, ...]
    order: sql.Composable
    value: sql.Composable | None = None


def _with_value(one: List, asked: Asked, column: str) -> _Part:
    conditions: list[sql.Composable] = [sql.SQL("{} IS NOT NULL").format(sql.Identifier(column))]
    if asked.after is not None:
        conditions.append(_later(one, asked, _compared(one, column)))
    return _Part(tuple(conditions), _in_order(one, asked, _compared(one, column)))


def _without_value(one: List, asked: Asked, column: str) -> _Part:
    conditions: list[sql.Composable] = [sql.SQL("{} IS NULL").format(sql.Identifier(column))]
    if asked.after is not None and asked.after.value is None:
        conditions.append(_later(one, asked, one.key))
    return _Part(tuple(conditions), _in_order(one, asked, one.key))


def _in_one_pass(one: List, asked: Asked, column: str) -> _Part:
    # GREATEST of one value is that value, and no index's: the sort stays a sort.
    value = sql.SQL("GREATEST({})").format(sql.Identifier(column))
    order = sql.Identifier(_found(0)) + _direction(asked) + sql.SQL(" NULLS LAST")
    rest = [name for name in one.key if name != column]
    order = _COMMA.join([order, _in_order(one, asked, rest)] if rest else [order])
    return _Part(tuple(_behind(one, asked, column)), order, value)


def _behind(one: List, asked: Asked, column: str) -> Iterator[sql.Composable]:
    """Give the condition for what comes after the page before, rows without a value last."""
    if asked.after is None:
        return
    lacking = sql.SQL("{} IS NULL").format(sql.Identifier(column))
    if asked.after.value is None:
        yield lacking
        yield _later(one, asked, one.key)
    elif _may_lack(one, column):
        yield sql.SQL("({} OR {})").format(_later(one, asked, _compared(one, column)), lacking)
    else:
        yield _later(one, asked, _compared(one, column))


def _compared(one: List, column: str) -> tuple[str, ...]:
    return (column, *(name for name in one.key if name != column))


def _later(one: List, asked: Asked, names: Sequence[str]) -> sql.Composable:
    """Give the condition for rows that these columns put after the page before."""
    if asked.after is None:
        raise AssertionError("there is no page before the first")
    values = {**dict(zip(one.key, asked.after.key, strict=True)), one.compared(asked.sort): asked.after.value}
    return sql.SQL("({}){}({})").format(
        _COMMA.join(_comparable(one, name) for name in names),
        sql.SQL(" < " if asked.descending else " > "),
        _COMMA.join(_value(one, name, values[name]) for name in names),
    )


def _in_order(one: List, asked: Asked, names: Sequence[str]) -> sql.Composable:
    return _COMMA.join(_comparable(one, name) + _direction(asked) for name in names)


def _direction(asked: Asked) -> sql.Composable:
    return sql.SQL(" DESC" if asked.descending else "")


def _comparable(one: List, name: str) -> sql.Composable:
    return _keyed(name, sql.Identifier(name)) if name in one.key else sql.Identifier(name)


def _keyed(name: str, column: sql.Composable) -> sql.Composable:
    """Give a column of a key as rows are compared by it: it may lack a value where it is a currency."""
    return sql.SQL("coalesce({}, '')").format(column) if name == "currency" else column


def _value(one: List, name: str, value: Any) -> sql.Composable:  # noqa: ANN401
    if name in one.key and name == "currency":
        value = value or ""
    return sql.SQL("{}::{}").format(sql.Literal(value), sql.SQL(one.columns[name]))


def _page(one: List, asked: Asked, here: Surroundings, part: _Part) -> sql.Composed:
    """Give the statement for some rows: first which they are, by what they are chosen and sorted by alone, then each.

    So what else a row shows is made for the rows of the page, not for all that are looked at.
    """
    wanted = [*conditions(one, asked, here), *part.conditions]
    found = sql.SQL("SELECT {} FROM {}{} ORDER BY {}").format(
        _COMMA.join(
            sql.SQL("{} AS {}").format(value, sql.Identifier(_found(number)))
            for number, value in enumerate(
                (part.value or sql.Identifier(one.compared(asked.sort)), *map(sql.Identifier, one.key))
            )
        ),
        here.view(one.view),
        sql.SQL(" WHERE ") + _AND.join(wanted) if wanted else _NOTHING,
        part.order,
    )
    if asked.limit is not None:
        found += sql.SQL(" LIMIT {}").format(sql.Literal(asked.limit + 1))
    found_columns: list[sql.Composable] = [sql.Identifier("found", _found(n)) for n in range(1 + len(one.key))]
    columns = dict(zip(one.key, found_columns[1:], strict=True))
    keyed = [_keyed(name, column) + _direction(asked) for name, column in columns.items()]
    statement = _BY_CURRENCY if "currency" in columns else _ROW_BY_ROW
    return statement.format(
        found=_COMMA.join(found_columns),
        chosen=found,
        columns=_COMMA.join(map(sql.Identifier, one.columns)),
        view=here.view(one.view),
        apart=_COMMA.join(column for name, column in columns.items() if name != "currency"),
        same=_AND.join(sql.SQL("{} = {}").format(sql.Identifier(name), columns[name]) for name in columns),
        same_one=_AND.join(
            sql.SQL("{} = {}").format(sql.Identifier(name), sql.Identifier("one", _found(number)))
            for number, name in enumerate(one.key, 1)
            if name != "currency"
        ),
        again=_AND.join(
            sql.SQL("{} IS NOT DISTINCT FROM {}").format(sql.Identifier("listed", name), column)
            for name, column in columns.items()
        ),
        order=_COMMA.join([found_columns[0] + _direction(asked) + sql.SQL(" NULLS LAST"), *keyed]),
    )


# OFFSET 0 keeps the two apart: each row is looked up by its key, whatever the planner thinks of the page.
_ROW_BY_ROW: Final = sql.SQL(
    "SELECT listed.*, {found} FROM ({chosen}) found"
    " CROSS JOIN LATERAL (SELECT {columns} FROM {view} WHERE {same} OFFSET 0) listed ORDER BY {order}"
)
# Rows that differ by their currency alone are sums over the same rows, and made together, and once, however few the
# planner takes them for.
_BY_CURRENCY: Final = sql.SQL(
    "WITH chosen AS MATERIALIZED ({chosen}), listed AS MATERIALIZED ("
    "SELECT made.* FROM (SELECT DISTINCT {apart} FROM chosen found) one"
    " CROSS JOIN LATERAL (SELECT {columns} FROM {view} WHERE {same_one} OFFSET 0) made"
    ") SELECT listed.*, {found} FROM listed JOIN chosen found ON {again} ORDER BY {order}"
)


def _found(number: int) -> str:
    return f"found_{number}"


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
    names = [sql.Identifier(name) for name in asked.groups]
    money = next((currency for currency in one.measures.values() if currency), None)
    keys = [*names, *([sql.Identifier(money)] if money else [])]
    rolled: list[sql.Composable] = [sql.SQL("ROLLUP ({})").format(_COMMA.join(names))] if subtotals else list(names)
    level = _level(names) if subtotals else sql.Literal(len(names))
    limit = sql.SQL(" LIMIT {}").format(sql.Literal(asked.limit + 1)) if asked.limit is not None else _NOTHING
    return sql.SQL(
        "SELECT {}, {} AS level, sum(count)::bigint AS count{} FROM ({}) parts GROUP BY {} ORDER BY {}{}"
    ).format(
        _COMMA.join(keys),
        level,
        _sums(one),
        _parts(one, asked, here, money),
        _COMMA.join([*rolled, *keys[len(names) :]]),
        _order_of_groups(one, asked, names, money, subtotals=subtotals),
        limit,
    )


def _parts(one: List, asked: Asked, here: Surroundings, money: str | None) -> sql.Composable:
    """Give the statement for the finest groups: the subtotals are sums of theirs, and no row is counted twice."""
    dimensions = [sql.SQL(one.groups[name]).format(tz=sql.Literal(here.tz)) for name in asked.groups]
    named = [part + sql.SQL(" AS ") + sql.Identifier(name) for part, name in zip(dimensions, asked.groups, strict=True)]
    own = [sql.Identifier(money)] if money else []
    return sql.SQL("SELECT {}, count(*) AS count{} FROM {}{} GROUP BY {}").format(
        _COMMA.join([*named, *own]),
        _sums(one),
        here.view(one.view),
        where(one, asked, here),
        _COMMA.join(map(sql.SQL, map(str, range(1, len(named) + len(own) + 1)))),
    )


def _sums(one: List) -> sql.Composable:
    sums = (sql.SQL(", sum({0}) AS {0}").format(sql.Identifier(name)) for name in one.measures)
    return sql.Composed(sums)


def _level(dimensions: Sequence[sql.Composable]) -> sql.Composable:
    parts = [sql.SQL("(1 - grouping({}))").format(one) for one in dimensions]
    return sql.SQL(" + ").join(parts)


def _order_of_groups(
    one: List, asked: Asked, dimensions: Sequence[sql.Composable], money: str | None, *, subtotals: bool
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
    """Give the conditions of a question's filters; what is asked of a partner is asked of one and the same."""
    of_partner = {name: values for name, values in asked.filters.items() if one.filters[name].kind == "of_partner"}
    own = [
        _CONDITIONS[one.filters[name].kind](one, name, values, here)
        for name, values in asked.filters.items()
        if name not in of_partner
    ]
    return [*own, _of_partner(one, of_partner, here)] if of_partner else own


_Values = tuple[str, ...]


def _one_of(one: List, name: str, values: _Values, _here: Surroundings) -> sql.Composable:
    (column,) = one.filters[name].columns
    return _equals(sql.Identifier(column), values)


def _equals(column: sql.Composable, values: _Values) -> sql.Composable:
    if len(values) == 1:
        return sql.SQL("{} = {}").format(column, sql.Literal(values[0]))
    return sql.SQL("{} = ANY ({})").format(column, sql.Literal(list(values)))


def _partner(one: List, _name: str, values: _Values, here: Surroundings) -> sql.Composable:
    ids = [str(UUID(value)) for value in values if _is_id(value)]
    names = [_like(value) for value in values if not _is_id(value)]
    found: list[sql.Composable] = []
    for column in one.partners:
        if len(ids) == 1:  # which the planner hands on to whatever is joined by it
            found.append(sql.SQL("{} = {}::uuid").format(sql.Identifier(column), sql.Literal(ids[0])))
        elif ids:
            found.append(sql.SQL("{} = ANY ({}::uuid[])").format(sql.Identifier(column), sql.Literal(ids)))
        if names:
            named = sql.Identifier(column.removesuffix("_id"))
            found.append(sql.SQL("{} ILIKE ANY ({})").format(named, sql.Literal(names)))
    if len(one.partners) == 1:
        return found[0] if len(found) == 1 else sql.SQL("({})").format(sql.SQL(" OR ").join(found))
    # Each side is found by itself: who is the one or the other, no index tells.
    key = _COMMA.join(map(sql.Identifier, one.key))
    sides = (sql.SQL("SELECT {} FROM {} WHERE {}").format(key, here.view(one.view), side) for side in found)
    return sql.SQL("({}) IN ({})").format(key, sql.SQL(" UNION ").join(sides))


def _of_partner(one: List, asked: Mapping[str, _Values], here: Surroundings) -> sql.Composable:
    wanted = _AND.join(_wanted_of_partner(one.filters[name].columns[0], values) for name, values in asked.items())
    if one.view == "partners":
        return wanted
    # One lookup for all conditions: of two, the planner takes their partners for a single one. An array reaches through
    # sums to what is summed, which a join does not; of a join, the planner knows the size.
    among = sql.SQL(
        "{} = ANY (ARRAY(SELECT partner_id FROM {} WHERE {}))"
        if one.summed
        else "{} IN (SELECT partner_id FROM {} WHERE {})"
    )
    found = [among.format(sql.Identifier(column), here.view("partners"), wanted) for column in one.partners]
    return sql.SQL("({})").format(sql.SQL(" OR ").join(found))


def _wanted_of_partner(column: str, values: _Values) -> sql.Composable:
    if column == "territories":
        return sql.SQL("territories && {}").format(sql.Literal(list(values)))
    return _equals(sql.Identifier(column), values)


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
    # IS TRUE keeps it apart from a lowest: of two bounds of a number whose statistics row-level security hides, the
    # planner thinks that nothing lies between them.
    return sql.SQL("({} <= {}) IS TRUE").format(sql.Identifier(column), sql.Literal(number_of(name, values[-1])))


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
    (column,) = one.filters[name].columns
    return sql.SQL("{} LIKE lower({})").format(sql.Identifier(column), sql.Literal(_like(values[-1].strip())))


def _like(text: str) -> str:
    return "%" + re.sub(r"([\\%_])", r"\\\1", text) + "%"


_CONDITIONS: Final[Mapping[str, Callable[[List, str, _Values, Surroundings], sql.Composable]]] = {
    "one_of": _one_of,
    "partner": _partner,
    "among": _among,
    "flag": _flag,
    "lowest": _lowest,
    "highest": _highest,
    "period": _period,
    "during": _during,
    "text": _text,
}
