"""Events that a read model could not take, and what people do about them: fold them again, or skip one for good.

Who does it and why is recorded in the same transaction. A discarded event is skipped by every fold of that version of
the read model, live or rebuilt, so that the rows still follow from the log; the next version tries it again.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import psycopg2
from psycopg2 import sql

from prm_es.errors import AlreadyRunning, Usage
from prm_es.messages import Recorded
from prm_es.partitions import partition_of
from prm_es.projections import rows as tables
from prm_es.projections.base import ReadModel
from prm_es.projections.ordered import EVERYTHING, OrderedModel
from prm_es.projections.runner import COLUMNS, Place, event_of, fold_stream, live_generation, park, schema_of
from prm_es.settings import Settings
from prm_es.store.locks import Lock, keys

Action = Literal["retry", "discard"]


@dataclass(frozen=True, slots=True)
class Note:
    """Who does something about a dead letter, and why."""

    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class Refolded:
    """How many events were folded, and how many wait still; None where a worker of its own does it afterwards."""

    folded: int | None
    waiting: int | None


@dataclass(frozen=True, slots=True)
class _Letter:
    position: int
    aggregate_id: UUID
    cause: str
    parked_at: datetime


def act(settings: Settings, model: ReadModel, position: int, action: Action, note: Note) -> Refolded:
    """Fold a parked event and those that wait behind it again, in order; to discard is to leave it out.

    An ordered read model is let go: its worker takes the event again, or passes it by. Raises Usage for a position that
    is not parked or waits behind another, AlreadyRunning for a discard during a rebuild, SchemaMismatch, TooOld.
    """
    with closing(psycopg2.connect(settings.dsn("projector"))) as connection, connection, connection.cursor() as cursor:
        return _Refolding(cursor, settings, model).act(position, action, note)


@dataclass(frozen=True, slots=True)
class _Refolding:
    """One transaction over the live generation, its workers held off the aggregate's partition."""

    cursor: Any
    settings: Settings
    model: ReadModel

    def act(self, position: int, action: Action, note: Note) -> Refolded:
        if action == "discard":
            self._hold_rebuilds()
        generation = live_generation(self.cursor, self.settings, self.model)
        letters = self._held(generation, position)
        first = letters[0]
        if isinstance(self.model, OrderedModel):
            self._record(action, note, first, None)
            self._forget(generation, [first.position])
            return Refolded(None, None)
        folded, waiting = self._fold(generation, letters, {position} if action == "discard" else set())
        self._record(action, note, first, folded)
        return Refolded(folded, waiting)

    def _hold_rebuilds(self) -> None:
        """Keep a rebuild from beginning: it would fold without knowing what is about to be left out."""
        self.cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", keys(self.settings.prefix, Lock.REBUILD))
        if not self.cursor.fetchone()[0]:
            raise AlreadyRunning("a rebuild runs: discard when it is done")

    def _held(self, generation: int, position: int) -> list[_Letter]:
        """Give the letters of the event's aggregate in order, once no worker can add to them."""
        aggregate_id = self._aggregate(generation, position)
        self._lock_checkpoint(generation, position, aggregate_id)
        letters = self._letters(generation, aggregate_id)
        if position not in {one.position for one in letters}:
            raise _not_parked(self.model, position)
        if letters[0].position != position:
            first = f"{self.model.name}/{letters[0].position}"
            raise Usage(f"{self.model.name}/{position} only waits behind {first}: that is the one to retry or discard")
        return letters

    def _aggregate(self, generation: int, position: int) -> UUID:
        query = sql.SQL("SELECT aggregate_id FROM {} WHERE name = %s AND generation = %s AND position = %s")
        self.cursor.execute(query.format(self._table), (self.model.name, generation, position))
        row = self.cursor.fetchone()
        if row is None:
            raise _not_parked(self.model, position)
        found: UUID = row[0]
        return found

    def _lock_checkpoint(self, generation: int, position: int, aggregate_id: UUID) -> None:
        place: Place = (EVERYTHING, 0)
        if not isinstance(self.model, OrderedModel):
            (event,) = self._events([position])
            place = (self.settings.event_topic(event.aggregate), partition_of(aggregate_id))
        query = sql.SQL(
            "SELECT 1 FROM {}.checkpoints WHERE name = %s AND generation = %s AND topic = %s AND partition = %s"
            " FOR UPDATE"
        ).format(sql.Identifier(self.settings.projections_schema))
        self.cursor.execute(query, (self.model.name, generation, *place))

    def _letters(self, generation: int, aggregate_id: UUID) -> list[_Letter]:
        query = sql.SQL(
            "SELECT position, aggregate_id, reason, recorded_at FROM {} WHERE name = %s AND generation = %s"
            " AND aggregate_id = %s ORDER BY position"
        )
        self.cursor.execute(query.format(self._table), (self.model.name, generation, aggregate_id))
        return [_Letter(*row) for row in self.cursor]

    def _events(self, positions: Sequence[int]) -> list[Recorded]:
        query = f"{COLUMNS} WHERE notification_id = ANY(%s) ORDER BY notification_id"
        self.cursor.execute(query, (list(positions),))
        return [event_of(row) for row in self.cursor]

    def _fold(self, generation: int, letters: Sequence[_Letter], skipped: set[int]) -> tuple[int, int]:
        """Fold what is parked; from the first that still cannot be folded on, letters stay as they are."""
        events = [one for one in self._events([one.position for one in letters]) if one.position not in skipped]
        schema = schema_of(self.settings, self.model.name, generation)
        subject = letters[0].aggregate_id
        before = tables.load(self.cursor, self.model, schema, [subject])
        after, refused = fold_stream(self.model, before[subject], events)
        tables.save(self.cursor, self.model, schema, {subject: (before[subject], after)})
        waiting = {event.position for event, _reason in refused}
        done = [one.position for one in letters if one.position not in waiting]
        if done and refused:  # the first of them waited until now, and is what the others wait behind from here on
            self._forget(generation, [*done, refused[0][0].position])
            park(self.cursor, self.settings, self.model, generation, refused[:1])
        elif done:
            self._forget(generation, done)
        return len(events) - len(refused), len(refused)

    def _forget(self, generation: int, positions: Sequence[int]) -> None:
        query = sql.SQL("DELETE FROM {} WHERE name = %s AND generation = %s AND position = ANY(%s)")
        self.cursor.execute(query.format(self._table), (self.model.name, generation, list(positions)))

    def _record(self, action: Action, note: Note, letter: _Letter, folded: int | None) -> None:
        values = (action, note.actor, note.reason, self.model.name, self.model.version, letter.position)
        self.cursor.execute(_ACTION, (*values, letter.aggregate_id, letter.parked_at, letter.cause, folded))

    @property
    def _table(self) -> sql.Composable:
        return sql.Identifier(self.settings.projections_schema, "dead_letters")


_ACTION: Final = (
    "INSERT INTO parked_event_actions"
    " (action, actor, reason, model, version, position, aggregate_id, parked_at, cause, folded)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
)


def _not_parked(model: ReadModel, position: int) -> Usage:
    return Usage(f"{model.name} has no event parked at position {position}")
