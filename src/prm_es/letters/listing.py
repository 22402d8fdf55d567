"""Dead letters in a list: records that no command could be read from or decided of, and events that were parked.

Everything that is done about one is recorded with who did it and why, in tables that are never changed; whether it is
still open follows from them. A letter's id is the record's `topic/partition/offset`, or the event's
`read-model/position`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from prm_es.errors import Usage
from prm_es.settings import Settings
from prm_es.store.migrate import check

COMMAND: Final = "command"
EVENT: Final = "event"
EVENT_CODE: Final = "event.not_folded"
COLUMNS: Final = (
    "letter", "kind", "code", "reason", "since", "state", "source", "command_id", "read_model", "aggregate_id",
    "waiting",
)  # fmt: skip
OPEN: Final = ("open", "retried")  # retried: sent again, or left to its worker, and nothing came of it yet
CLOSED: Final = ("answered", "dead again", "discarded", "folded")
STATES: Final = {"open": OPEN, "closed": CLOSED, "all": (*OPEN, *CLOSED)}
Row = Mapping[str, Any]
PlaceKey = tuple[str, int, int, bytes]  # topic, partition, offset, digest


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter in a list. `waiting` counts the later events of a parked one that wait behind it."""

    letter: str
    kind: str
    code: str
    reason: str
    since: datetime
    state: str
    source: str | None = None
    command_id: str | None = None
    read_model: str | None = None
    aggregate_id: UUID | None = None
    waiting: int | None = None

    @property
    def row(self) -> tuple[object, ...]:
        """Give the values of COLUMNS."""
        return tuple(getattr(self, name) for name in COLUMNS)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which letters: all that meet every condition given. `state` is open, closed or all."""

    kind: str | None = None
    read_model: str | None = None
    code: str | None = None
    state: str = "open"

    def takes(self, one: Letter) -> bool:
        """Tell whether a letter meets the conditions."""
        return (
            (self.kind is None or one.kind == self.kind)
            and (self.read_model is None or one.read_model == self.read_model)
            and (self.code is None or one.code == self.code)
            and one.state in STATES[self.state]
        )


# Listing


def listed(settings: Settings, chosen: Chosen) -> Iterator[Letter]:
    """Give the dead letters of a choice, those of commands first, each kind in the order in which they came."""
    with asking(settings) as connection:
        if chosen.kind != EVENT and chosen.read_model is None:
            yield from filter(chosen.takes, _commands(connection, chosen))
        if chosen.kind != COMMAND:
            yield from filter(chosen.takes, parked_events(connection, settings))


@contextmanager
def asking(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    """Give a transaction of the auditor; raises SchemaMismatch."""
    with psycopg.connect(settings.dsn("auditor"), row_factory=dict_row) as connection:
        check(connection, settings)
        yield connection


SELECT: Final = (
    "SELECT s.*, EXISTS (SELECT FROM dead_letters o WHERE (o.topic, o.partition, o.record_offset)"
    " = (s.topic, s.partition, s.record_offset) AND o.digest <> s.digest) AS doubtful FROM dead_letter_states s"
)
_CHOSEN: Final = (
    " WHERE (%(code)s::text IS NULL OR s.code = %(code)s)"
    " AND s.state = ANY(%(states)s)"
    " ORDER BY s.recorded_at, s.topic, s.partition, s.record_offset, s.digest"
)


def _commands(connection: psycopg.Connection[Any], chosen: Chosen) -> Iterator[Letter]:
    with connection.cursor(name="letters") as cursor:
        cursor.execute(SELECT + _CHOSEN, {"code": chosen.code, "states": list(STATES[chosen.state])})
        for row in cursor:
            yield letter_of(row)


def letter_of(row: Row) -> Letter:
    """Make the letter of a record from its row."""
    return Letter(
        letter=name_of(row),
        kind=COMMAND,
        code=row["code"],
        reason=row["sentence"],
        since=row["recorded_at"],
        state=row["state"],
        source=row["source"],
        command_id=row["id"],
    )


def name_of(row: Row) -> str:
    """Name a record by its place, and by its digest too where others lay at the same place of an earlier topic."""
    place = f"{row['topic']}/{row['partition']}/{row['record_offset']}"
    return f"{place}/{row['digest'].hex()[:8]}" if row["doubtful"] else place


_PARKED: Final = (
    "SELECT DISTINCT ON (d.name, d.aggregate_id) d.name, d.position, d.aggregate_id, d.reason, d.recorded_at,"
    " 'open' AS state, count(*) OVER (PARTITION BY d.name, d.aggregate_id) - 1 AS waiting"
    " FROM {0}.dead_letters d JOIN {0}.generations g USING (name, generation) WHERE g.status = 'live'"
    " ORDER BY d.name, d.aggregate_id, d.position"
)
# A retry of an ordered read model only lets it go: until its checkpoint is there, its worker has not taken the event.
_ACTED_ON: Final = (
    "SELECT DISTINCT ON (a.model, a.position) a.model AS name, a.position, a.aggregate_id, a.cause AS reason,"
    " a.parked_at AS recorded_at, CASE WHEN a.action = 'discard' THEN 'discarded' WHEN EXISTS (SELECT"
    " FROM {0}.checkpoints c JOIN {0}.generations g USING (name, generation) WHERE g.status = 'live'"
    " AND c.name = a.model AND c.topic = '*' AND c.position < a.position) THEN 'retried' ELSE 'folded' END AS state,"
    " NULL::bigint AS waiting FROM parked_event_actions a WHERE NOT EXISTS (SELECT FROM {0}.dead_letters d"
    " JOIN {0}.generations g USING (name, generation) WHERE g.status = 'live' AND d.name = a.model"
    " AND d.position = a.position) ORDER BY a.model, a.position, a.number DESC"
)


def parked_events(connection: psycopg.Connection[Any], settings: Settings) -> list[Letter]:
    """Give the letters of events, those that were closed too, in the order in which they were parked."""
    projections = sql.Identifier(settings.projections_schema)
    rows = [row for query in (_PARKED, _ACTED_ON) for row in connection.execute(sql.SQL(query).format(projections))]
    found = [
        Letter(
            letter=f"{row['name']}/{row['position']}",
            kind=EVENT,
            code=EVENT_CODE,
            reason=row["reason"],
            since=row["recorded_at"],
            state=row["state"],
            read_model=row["name"],
            aggregate_id=row["aggregate_id"],
            waiting=row["waiting"],
        )
        for row in rows
    ]
    return sorted(found, key=lambda one: (one.since, one.letter))


# By their ids


def event_of(letter: str) -> tuple[str, int] | None:
    """Read the id of an event's letter; None for that of a record."""
    model, _slash, position = letter.partition("/")
    return (model, int(position)) if _number(position) else None


def _number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19  # noqa: PLR2004 - a bigint


def found(connection: psycopg.Connection[Any], letter: str) -> Row:
    """Find the letter of a record by its id; raises Usage if there is none, or more than one."""
    parts = letter.split("/")
    topic, numbers, digest = parts[0], parts[1:3], "".join(parts[3:])
    if not (len(parts) in (3, 4) and all(map(_number, numbers)) and int(numbers[0]) < 2**31):
        raise Usage(f"{letter} names no dead letter: write topic/partition/offset or read-model/position, as list does")
    query = f"{SELECT} WHERE (s.topic, s.partition, s.record_offset) = (%s, %s, %s)"
    rows = connection.execute(query, (topic, int(numbers[0]), int(numbers[1]))).fetchall()
    rows = [row for row in rows if row["digest"].hex().startswith(digest)]
    if not rows:
        raise Usage(f"there is no dead letter {letter}")
    if len(rows) > 1:
        raise Usage(f"several are at {letter}: {', '.join(map(name_of, rows))}")
    one: Row = rows[0]
    return one


def places(table: str) -> str:
    """Name the places asked for as a table to join with: four lists of the same length are its parameters."""
    return (
        "unnest(%s::text[], %s::int[], %s::bigint[], %s::bytea[]) AS asked (topic, partition, record_offset, digest)"
        f" ON (asked.topic, asked.partition, asked.record_offset, asked.digest)"
        f" = ({table}.topic, {table}.partition, {table}.record_offset, {table}.digest)"
    )


def place_of(row: Row) -> PlaceKey:
    """Give the key of a row about a record."""
    return row["topic"], row["partition"], row["record_offset"], row["digest"]
