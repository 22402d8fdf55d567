"""Rows as answers: a page, groups, one row. Numbers with decimals are text, so that no digit is lost on the way."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import orjson

from prm_es.api import selecting
from prm_es.api.asked import Asked, Place, cursor_of
from prm_es.api.lists import SEARCHED, List
from prm_es.api.selecting import Surroundings

Item = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, and the cursor of those that follow, None if these are the last."""

    items: list[Item]
    following: str | None


def page(cursor: Any, one: List, asked: Asked, here: Surroundings) -> Page:  # noqa: ANN401
    """Read a page."""
    rows: list[tuple[Any, ...]] = []
    room = asked.limit
    for statement in selecting.pages(one, asked, here):
        cursor.execute(statement)
        rows += cursor.fetchall()
        if room is not None and len(rows) > room:
            break
    shown = rows if room is None else rows[:room]
    names = tuple(one.columns)
    width = len(names)
    following = None
    if len(rows) > len(shown):
        value, *key = shown[-1][width:]
        following = cursor_of(asked, Place(value, tuple(key)))
    return Page([dict(zip(names, row[:width], strict=True)) for row in shown], following)


def groups(cursor: Any, one: List, asked: Asked, here: Surroundings) -> tuple[list[Item], bool]:  # noqa: ANN401
    """Count and sum by group, with subtotals; tells whether there are more groups than were asked for."""
    cursor.execute(selecting.grouped(one, asked, here))
    items = _items(cursor)
    return items[: asked.limit], asked.limit is not None and len(items) > asked.limit


def sums(cursor: Any, one: List, asked: Asked, here: Surroundings) -> list[Item]:  # noqa: ANN401
    """Count and sum by group, without subtotals."""
    return rows(cursor, selecting.grouped(one, asked, here, subtotals=False))


def row(cursor: Any, one: List, key: Sequence[Any], here: Surroundings) -> Item | None:  # noqa: ANN401
    """Read the row with this key, with every column of the view; None if there is none for who asks."""
    cursor.execute(selecting.row(one, key, here))
    found = next(iter(_items(cursor)), None)
    if found:
        found.pop(SEARCHED, None)
    return found


def rows(cursor: Any, statement: Any) -> list[Item]:  # noqa: ANN401
    """Read all rows of a statement."""
    cursor.execute(statement)
    return _items(cursor)


def _items(cursor: Any) -> list[Item]:  # noqa: ANN401
    names = [column.name for column in cursor.description]
    return [dict(zip(names, one, strict=True)) for one in cursor]


def encoded(content: Any) -> bytes:  # noqa: ANN401
    """Give the JSON of an answer: times with a Z, lengths of time in seconds."""
    return orjson.dumps(content, default=_plain, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS)


def _plain(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, timedelta):
        return int(value.total_seconds())
    raise TypeError(type(value).__name__)
