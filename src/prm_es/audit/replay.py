"""The log read again: a selection of its events as lines, and an aggregate as it was at a position or a time."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TextIO
from uuid import UUID

import orjson
import psycopg
from pydantic import BaseModel

from prm_es.aggregates import catalogue
from prm_es.errors import Unavailable, Usage
from prm_es.messages import Recorded, recorded, utc_text
from prm_es.store.store import Store
from prm_es.store.vault import all_key_ids, opened
from prm_es.tabular import Format, write

PAGE: Final = 2_000
COLUMNS: Final = (
    "position", "version", "type", "subject", "time", "recorded_at", "actor", "actorrole", "actororg", "onbehalfof",
    "commandsource", "commandid", "correlationid", "data",
)  # fmt: skip
OnProgress = Callable[[int, int], None]


class LogFormat(StrEnum):
    """How events are written: an object a line, or a row each."""

    JSONL = "jsonl"
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events: all that meet every condition given.

    Positions are inclusive at both ends; times begin with the first and end before the last, so that months meet.
    `at` is business time. `type` may hold `*`; the leading `prm.` and the version may be left out.
    """

    first: int = 1
    last: int | None = None
    recorded_from: datetime | None = None
    recorded_to: datetime | None = None
    at_from: datetime | None = None
    at_to: datetime | None = None
    aggregate: str | None = None
    subject: UUID | None = None
    type: str | None = None
    actor: str | None = None
    correlation_id: str | None = None

    def takes(self, event: Recorded) -> bool:
        """Tell whether an event meets the conditions that the database was not asked for."""
        return (
            (self.at_from is None or event.at >= self.at_from)
            and (self.at_to is None or event.at < self.at_to)
            and (self.recorded_from is None or event.recorded_at >= self.recorded_from)
            and (self.recorded_to is None or event.recorded_at < self.recorded_to)
            and (self.actor is None or self.actor in (event.actor.id, event.actor.on_behalf_of))
            and (self.correlation_id is None or event.correlation_id == self.correlation_id)
        )


def select(store: Store, chosen: Selection, on_progress: OnProgress = lambda _done, _total: None) -> Iterator[Recorded]:
    """Give the events of a selection in order of position, page by page: what was there when it began.

    No transaction stays open between pages, however slowly the reader takes them.
    """
    after, stop = _range(store, chosen)
    start, total = after, max(stop - after, 0)
    pattern = re.compile(_regex(chosen.type)) if chosen.type else None
    while after < stop:
        page = _page(store, chosen, after, stop)
        for event in page:
            if (pattern is None or pattern.fullmatch(event.type)) and chosen.takes(event):
                yield event
        after = page[-1].position if len(page) == PAGE else stop
        on_progress(after - start, total)


def _range(store: Store, chosen: Selection) -> tuple[int, int]:
    """Give the position before the first and the last to read; recorded times are bounds of positions."""
    with store.reading() as connection:
        head = _number(connection, "SELECT max(last_position) FROM commits", None)
        after, stop = max(chosen.first, 1) - 1, head if chosen.last is None else min(chosen.last, head)
        if chosen.recorded_from:
            query = "SELECT max(last_position) FROM commits WHERE recorded_at < %s"
            after = max(after, _number(connection, query, chosen.recorded_from))
        if chosen.recorded_to:
            query = "SELECT max(last_position) FROM commits WHERE recorded_at < %s"
            stop = min(stop, _number(connection, query, chosen.recorded_to))
    return after, stop


def _number(connection: psycopg.Connection[Any], query: str, moment: datetime | None) -> int:
    row = connection.execute(query.encode(), (moment,) if moment else ()).fetchone()
    return int(next(iter(row.values())) or 0) if row else 0


def _page(store: Store, chosen: Selection, after: int, stop: int) -> list[Recorded]:
    conditions = ["notification_id > %(after)s", "notification_id <= %(stop)s"]
    if chosen.subject:
        conditions.append("originator_id = %(subject)s")
    if chosen.aggregate:
        conditions.append("topic LIKE %(topic)s")
    parameters = {"after": after, "stop": stop, "subject": chosen.subject, "topic": f"prm.{chosen.aggregate}.%"}
    query = (
        "SELECT notification_id, originator_id, originator_version, topic, state FROM events WHERE "  # noqa: S608
        + " AND ".join(conditions)
        + f" ORDER BY notification_id LIMIT {PAGE}"
    )
    with store.reading() as connection:
        rows = connection.execute(query.encode(), parameters, binary=True).fetchall()
    return [
        recorded(row["notification_id"], row["originator_id"], row["originator_version"], row["topic"], row["state"])
        for row in rows
    ]


def _regex(pattern: str) -> str:
    words = ".*".join(map(re.escape, pattern.removeprefix("prm.").split("*")))
    return rf"prm\.{words}(\.v\d+)?"


# Written


def write_events(
    store: Store, events: Iterable[Recorded], form: LogFormat, file: TextIO, *, reveal: bool = False
) -> int:
    """Write events and give how many. Sealed values stay tokens; with `reveal` they are read, forgotten ones null."""
    written = 0

    def lines() -> Iterator[Mapping[str, Any]]:
        nonlocal written
        for event, data in _data(store, events, reveal=reveal):
            written += 1
            yield {**_attributes(event), "data": data}

    if form is LogFormat.CSV:
        rows = ([line[name] for name in COLUMNS[:-1]] + [_text(line["data"])] for line in lines())
        write(COLUMNS, rows, Format.CSV, file)
    else:
        for line in lines():
            known = {name: value for name, value in line.items() if value is not None}
            file.write(orjson.dumps(known).decode() + "\n")
    return written


def _attributes(event: Recorded) -> dict[str, Any]:
    return {
        "position": event.position,
        "version": event.version,
        "type": event.type,
        "subject": str(event.subject),
        "time": utc_text(event.at),
        "recorded_at": utc_text(event.recorded_at),
        "actor": event.actor.id,
        "actorrole": event.actor.role.value,
        "actororg": event.actor.org,
        "onbehalfof": event.actor.on_behalf_of,
        "commandsource": event.command_source,
        "commandid": event.command_id,
        "correlationid": event.correlation_id,
    }


def _data(store: Store, events: Iterable[Recorded], *, reveal: bool) -> Iterator[tuple[Recorded, Any]]:
    """Give each event with its data: the stored bytes as they are, or opened, a page of keys at a time."""
    if not reveal:
        yield from ((event, orjson.Fragment(event.data)) for event in events)
        return
    for page in _pages(events):
        keys = store.keys(all_key_ids(event.data.decode() for event in page))
        yield from ((event, opened(orjson.loads(event.data), keys)) for event in page)


def _pages(events: Iterable[Recorded]) -> Iterator[Sequence[Recorded]]:
    page: list[Recorded] = []
    for event in events:
        page.append(event)
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page


def _text(data: Any) -> str:  # noqa: ANN401
    return orjson.dumps(data).decode()


@contextmanager
def output(path: Path) -> Iterator[TextIO]:
    """Open a file that is there whole at the end or not at all, readable by its owner only.

    Raises Usage if it cannot be made, Unavailable if it cannot be written any more.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        raise Usage(f"{path}: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            yield file
        part.replace(path)
    except OSError as error:
        raise Unavailable(f"{path}: {error}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


# An aggregate as it was


@dataclass(frozen=True, slots=True)
class Past:
    """An aggregate as it was after one of its events, as plain values."""

    aggregate: str
    id: UUID
    version: int
    position: int
    at: datetime
    recorded_at: datetime
    state: Mapping[str, Any]

    def as_json(self) -> str:
        """Write it as JSON."""
        shown = {field.name: getattr(self, field.name) for field in fields(self)}
        times = {name: utc_text(shown[name]) for name in ("at", "recorded_at")}
        return orjson.dumps(shown | times, option=orjson.OPT_INDENT_2).decode()


def state_at(
    store: Store,
    aggregate: str,
    subject: UUID,
    *,
    position: int | None = None,
    recorded_at: datetime | None = None,
    reveal: bool = False,
) -> Past:
    """Fold an aggregate's events up to a position or recorded time, inclusive; up to now if neither is given.

    Raises Usage if there is none with this id, or none yet.
    """
    kind = catalogue.AGGREGATES.get(aggregate)
    if kind is None:
        raise Usage(f"there is no aggregate {aggregate}; there are: {', '.join(catalogue.AGGREGATES)}")
    events = [event for event in store.stream(subject) if event.aggregate == aggregate]
    if not events:
        raise Usage(f"there is no {aggregate} with id {subject}")
    past = [
        event
        for event in events
        if (position is None or event.position <= position)
        and (recorded_at is None or event.recorded_at <= recorded_at)
    ]
    if not past:
        first = events[0]
        raise Usage(
            f"that {aggregate} was not there yet: its first event has position {first.position},"
            f" recorded {utc_text(first.recorded_at)}"
        )
    state = _plain(catalogue.fold(kind, past))
    if reveal:
        state = opened(state, store.keys(all_key_ids([orjson.dumps(state).decode()])))
    last = past[-1]
    return Past(aggregate, subject, last.version, last.position, last.at, last.recorded_at, state)


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Give a state's values as JSON knows them; sets sorted, so that one state is always written alike."""
    match value:
        case datetime():
            return utc_text(value)
        case UUID() | Decimal() | date():
            return str(value)
        case BaseModel():
            return _plain({name: getattr(value, name) for name in type(value).model_fields})
        case Mapping():
            return {str(name): _plain(part) for name, part in value.items()}
        case set() | frozenset():
            return sorted((_plain(part) for part in value), key=orjson.dumps)
        case list() | tuple():
            return [_plain(part) for part in value]
        case _ if is_dataclass(value):
            return _plain({field.name: getattr(value, field.name) for field in fields(value)})
        case _:
            return value
