"""Applying events to a read model: lock checkpoints, skip duplicates, fill holes, fold, write, move checkpoints.

All of it in one transaction, so that rows and checkpoints never disagree. The checkpoint is the truth; Kafka's offsets
are an optimisation.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any, Final
from uuid import UUID

import psycopg2
import structlog
from psycopg2 import sql

from prm_es import metrics
from prm_es.aggregates.base import Event
from prm_es.aggregates.catalogue import parse_event
from prm_es.errors import ForeignHistory, SchemaMismatch, TooOld
from prm_es.messages import Recorded, recorded
from prm_es.partitions import partition_of
from prm_es.projections import rows as tables
from prm_es.projections.base import ReadModel, Rows
from prm_es.settings import DbRole, Settings

log = structlog.get_logger()

Place = tuple[str, int]  # topic, partition
CHUNK: Final = 2000


@dataclass(frozen=True, slots=True)
class Item:
    """An event with its topic-partition; `previous` is a position behind which no other event of it is left out."""

    place: Place
    event: Recorded
    previous: int


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a batch."""

    applied: int
    skipped: int
    filled: int
    parked: int


class Projector:
    """One read model's live generation, written through one connection."""

    def __init__(self, settings: Settings, model: ReadModel, generation: int | None = None) -> None:
        """Connect as the projector; with a generation, as the owner, to work on that one instead of the live one."""
        self._settings, self._model = settings, model
        self._pinned = generation
        self._topics = {aggregate: settings.event_topic(aggregate) for aggregate in model.aggregates}
        role: DbRole = "owner" if generation is not None else "projector"
        self._connection = psycopg2.connect(settings.dsn(role))
        self._behind_before: dict[Place, int] = {}
        self._discarded: frozenset[int] | None = None

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()

    def apply(self, items: Sequence[Item]) -> Applied:
        """Apply a batch in one transaction; raises TooOld for a type this program does not know, psycopg2 errors."""
        with self._connection, self._connection.cursor() as cursor:
            return self._apply(cursor, items)

    def store_id(self) -> str:
        """Give the id of the store's history; raises ForeignHistory if the rows contain what the log does not."""
        with self._connection, self._connection.cursor() as cursor:
            refuse_ahead(cursor, self._settings, self._model, self._generation(cursor))
            return store_id_of(cursor)

    def behind(self, places: Iterable[Place] | None = None) -> int:
        """Tell from which position on something is missing in the rows.

        That is the lowest checkpoint behind what was published to its topic-partition, or -1 if none is.
        """
        with self._connection, self._connection.cursor() as cursor:
            cursor.execute(_behind_query(self._settings), (self._model.name, self._generation(cursor)))
            chosen = set(places) if places is not None else None
            missing = [row[2] for row in cursor if chosen is None or (row[0], row[1]) in chosen]
            return min(missing, default=-1)

    def settled_behind(self, places: Iterable[Place]) -> int:
        """Do as behind, but count only checkpoints that have not moved since the last call: the rest is under way."""
        chosen = set(places)
        with self._connection, self._connection.cursor() as cursor:
            cursor.execute(_behind_query(self._settings), (self._model.name, self._generation(cursor)))
            now = {(row[0], row[1]): row[2] for row in cursor if (row[0], row[1]) in chosen}
        stuck = [checkpoint for place, checkpoint in now.items() if self._behind_before.get(place) == checkpoint]
        self._behind_before = now
        return min(stuck, default=-1)

    def topic_ids(self) -> dict[str, str]:
        """Give the ids of the topics, as the publisher last found them; none of those it has not seen yet."""
        with self._connection, self._connection.cursor() as cursor:
            cursor.execute(
                "SELECT DISTINCT topic, topic_id FROM published WHERE topic = ANY(%s)", ([*self._topics.values()],)
            )
            return dict(cursor.fetchall())

    def head(self) -> int:
        """Give the position of the last event of the log."""
        with self._connection, self._connection.cursor() as cursor:
            cursor.execute("SELECT last_position FROM commits ORDER BY number DESC LIMIT 1")
            ((position,),) = cursor.fetchall()
            return int(position)

    def catch_up(self, after: int, *, limit: int = CHUNK) -> int:
        """Apply the next chunk of the log behind a position, straight from the store; gives the position reached.

        The position given back equals `after` when there is nothing more.
        """
        with self._connection, self._connection.cursor() as cursor:
            return self.catch_up_in(cursor, after, limit=limit)

    def catch_up_in(self, cursor: Any, after: int, *, limit: int = CHUNK) -> int:  # noqa: ANN401
        """Do as catch_up, inside the caller's transaction."""
        cursor.execute(_LOG, (after, limit))
        events = [event_of(row) for row in cursor]
        if not events:
            return after
        items = [self._item(event, after) for event in events if event.aggregate in self._topics]
        if items:
            self._apply(cursor, items)
        return events[-1].position

    def _item(self, event: Recorded, after: int) -> Item:
        return Item((self._topics[event.aggregate], partition_of(event.subject)), event, after)

    def _generation(self, cursor: Any) -> int:  # noqa: ANN401
        if self._pinned is not None:
            return self._pinned
        return live_generation(cursor, self._settings, self._model)

    @property
    def _bookkeeping(self) -> sql.Identifier:
        return sql.Identifier(self._settings.projections_schema)

    def _apply(self, cursor: Any, items: Sequence[Item]) -> Applied:  # noqa: ANN401
        generation = self._generation(cursor)
        checkpoints = self._lock_checkpoints(cursor, generation, {item.place for item in items})
        fresh, filled, skipped = self._fresh(cursor, items, checkpoints)
        if not fresh:
            metrics.applied(self._model.name, applied=0, skipped=skipped)
            return Applied(0, skipped, 0, 0)
        schema = schema_of(self._settings, self._model.name, generation)
        parked = self._fold_and_save(cursor, schema, generation, fresh)
        self._move_checkpoints(cursor, generation, checkpoints)
        metrics.applied(self._model.name, applied=len(fresh), skipped=skipped, filled=filled, parked=parked)
        return Applied(len(fresh), skipped, filled, parked)

    def _lock_checkpoints(self, cursor: Any, generation: int, places: set[Place]) -> dict[Place, int]:  # noqa: ANN401
        query = sql.SQL(
            "SELECT topic, partition, position FROM {}.checkpoints WHERE name = %s AND generation = %s"
            " AND (topic, partition) IN %s ORDER BY topic, partition FOR UPDATE"
        )
        cursor.execute(query.format(self._bookkeeping), (self._model.name, generation, tuple(sorted(places))))
        return {(topic, partition): position for topic, partition, position in cursor}

    def _fresh(
        self,
        cursor: Any,  # noqa: ANN401
        items: Sequence[Item],
        checkpoints: dict[Place, int],
    ) -> tuple[list[Recorded], int, int]:
        """Give the events to fold, holes filled, in an order that keeps each partition's; moves `checkpoints` along."""
        fresh: list[Recorded] = []
        filled = skipped = 0
        for item in items:
            checkpoint = checkpoints[item.place]
            if item.event.position <= checkpoint:
                skipped += 1
                continue
            if item.previous > checkpoint and (missing := self._missing(cursor, item.place, checkpoint, item.previous)):
                log.warning("projector.hole_filled", place=item.place, after=checkpoint, events=len(missing))
                fresh += missing
                filled += len(missing)
            fresh.append(item.event)
            checkpoints[item.place] = item.event.position
        return fresh, filled, skipped

    def _missing(self, cursor: Any, place: Place, after: int, upto: int) -> list[Recorded]:  # noqa: ANN401
        topic, number = place
        (aggregate,) = (name for name, one in self._topics.items() if one == topic)
        cursor.execute(_LOG_BETWEEN, (after, upto, f"prm.{aggregate}.%"))
        return [event_of(row) for row in cursor if partition_of(row[1]) == number]

    def _fold_and_save(self, cursor: Any, schema: str, generation: int, fresh: Sequence[Recorded]) -> int:  # noqa: ANN401
        if self._discarded is None:  # what is discarded later lies behind the checkpoint and does not come again
            self._discarded = discarded(cursor, self._model)
        by_subject: dict[UUID, list[Recorded]] = {}
        for event in fresh:
            if event.position not in self._discarded:
                by_subject.setdefault(event.subject, []).append(event)
        parked_before = self._parked(cursor, generation, list(by_subject))
        before = tables.load(cursor, self._model, schema, [one for one in by_subject if one not in parked_before])
        changes: dict[UUID, tuple[Rows, Rows]] = {}
        letters: list[tuple[Recorded, str]] = []
        for subject, events in by_subject.items():
            if subject in parked_before:
                letters += [(event, "waits behind an event that could not be folded") for event in events]
                continue
            after, refused = fold_stream(self._model, before[subject], events)
            changes[subject] = (before[subject], after)
            letters += refused
        tables.save(cursor, self._model, schema, changes)
        park(cursor, self._settings, self._model, generation, letters)
        return len(letters)

    def _parked(self, cursor: Any, generation: int, subjects: list[UUID]) -> set[UUID]:  # noqa: ANN401
        query = sql.SQL(
            "SELECT DISTINCT aggregate_id FROM {}.dead_letters"
            " WHERE name = %s AND generation = %s AND aggregate_id = ANY(%s)"
        )
        cursor.execute(query.format(self._bookkeeping), (self._model.name, generation, subjects))
        return {row[0] for row in cursor}

    def _move_checkpoints(self, cursor: Any, generation: int, checkpoints: Mapping[Place, int]) -> None:  # noqa: ANN401
        query = sql.SQL(
            "UPDATE {}.checkpoints c SET position = moved.position FROM (SELECT unnest(%s::text[]) AS topic,"
            " unnest(%s::int[]) AS partition, unnest(%s::bigint[]) AS position) moved"
            " WHERE c.name = %s AND c.generation = %s AND c.topic = moved.topic AND c.partition = moved.partition"
            " AND c.position < moved.position"
        )
        topics, partitions, positions = zip(
            *((*place, position) for place, position in checkpoints.items()), strict=True
        )
        values = (list(topics), list(partitions), list(positions), self._model.name, generation)
        cursor.execute(query.format(self._bookkeeping), values)


COLUMNS = "SELECT notification_id, originator_id, originator_version, topic, state FROM events"
_LOG = f"{COLUMNS} WHERE notification_id > %s ORDER BY notification_id LIMIT %s"
_LOG_BETWEEN = (
    f"{COLUMNS} WHERE notification_id > %s AND notification_id <= %s AND topic LIKE %s ORDER BY notification_id"
)


def store_id_of(cursor: Any) -> str:  # noqa: ANN401
    """Give the id of the store's history."""
    cursor.execute("SELECT store_id FROM store_info")
    ((store_id,),) = cursor.fetchall()
    return str(store_id)


def refuse_ahead(cursor: Any, settings: Settings, model: ReadModel, generation: int) -> None:  # noqa: ANN401
    """Raise ForeignHistory if a checkpoint lies behind the end of the log: the store was restored without the rows."""
    query = sql.SQL(
        "SELECT max(c.position), (SELECT last_position FROM commits ORDER BY number DESC LIMIT 1)"
        " FROM {}.checkpoints c WHERE name = %s AND generation = %s"
    )
    cursor.execute(query.format(sql.Identifier(settings.projections_schema)), (model.name, generation))
    ((reached, head),) = cursor.fetchall()
    if reached > head:
        raise ForeignHistory(
            f"read model {model.name} contains position {reached} of a log that ends with {head}: the store was"
            " restored without it. `prm-es repair-topics` makes it anew from the log"
        )


def _behind_query(settings: Settings) -> sql.Composed:
    return sql.SQL(
        "SELECT c.topic, c.partition, c.position FROM {}.checkpoints c JOIN published p USING (topic, partition)"
        " WHERE c.name = %s AND c.generation = %s AND p.position > c.position"
    ).format(sql.Identifier(settings.projections_schema))


def event_of(row: tuple[Any, ...]) -> Recorded:
    """Read a row of the log as psycopg2 gives it: COLUMNS in their order."""
    position, subject, version, topic, state = row
    return recorded(position, subject, version, topic, bytes(state))


def live_generation(cursor: Any, settings: Settings, model: ReadModel) -> int:  # noqa: ANN401
    """Give the live generation, held until the transaction ends; raises SchemaMismatch if it is of another version."""
    query = sql.SQL("SELECT generation, version FROM {}.generations WHERE name = %s AND status = 'live' FOR SHARE")
    row = None
    for _look in range(2):  # a swap that was waited for leaves the first look with none
        cursor.execute(query.format(sql.Identifier(settings.projections_schema)), (model.name,))
        if row := cursor.fetchone():
            break
    if row is not None and row[1] > model.version:
        raise SchemaMismatch(
            f"read model {model.name} has version {row[1]}, this older program makes {model.version}: start the version"
            " that made it"
        )
    if row is None or row[1] != model.version:
        raise SchemaMismatch(
            f"read model {model.name} has version {row and row[1]}, this program needs"
            f" {model.version}: run `prm-es migrate`, then `prm-es rebuild`"
        )
    return int(row[0])


def park(
    cursor: Any,  # noqa: ANN401
    settings: Settings,
    model: ReadModel,
    generation: int,
    letters: Iterable[tuple[Recorded, str]],
) -> None:
    """Note the events that a fold could not take, and those that wait behind them, with their reasons."""
    query = sql.SQL(
        "INSERT INTO {}.dead_letters (name, generation, position, aggregate_id, reason) VALUES (%s, %s, %s, %s, %s)"
    ).format(sql.Identifier(settings.projections_schema))
    for event, reason in letters:
        log.error("projector.parked", model=model.name, position=event.position, reason=reason)
        cursor.execute(query, (model.name, generation, event.position, event.subject, reason))


def discarded(cursor: Any, model: ReadModel) -> frozenset[int]:  # noqa: ANN401
    """Give the positions of the events that this version of a read model skips: their dead letters were discarded."""
    query = "SELECT position FROM parked_event_actions WHERE model = %s AND version = %s AND action = 'discard'"
    cursor.execute(query, (model.name, model.version))
    return frozenset(row[0] for row in cursor)


def schema_of(settings: Settings, name: str, generation: int) -> str:
    """Name the schema of one generation of a read model's tables."""
    return f"{settings.prefix}_{name}_{generation}"


def fold_stream(model: ReadModel, rows: Rows, events: Sequence[Recorded]) -> tuple[Rows, list[tuple[Recorded, str]]]:
    """Fold an aggregate's events; from the first that cannot be folded on, all wait, and are given back with reasons.

    Raises TooOld for a type that this program does not know: that is no poison but an old worker.
    """
    for number, event in enumerate(events):
        try:
            rows = model.fold(rows, event, _content(event.type, event.data))
        except TooOld:
            raise
        except Exception as error:  # noqa: BLE001
            first = (event, f"{type(error).__name__}: the fold could not take it")
            waiting = [(later, "waits behind an event that could not be folded") for later in events[number + 1 :]]
            return rows, [first, *waiting]
    return rows, []


@lru_cache(maxsize=2 * CHUNK)  # the read models of one process fold the same batch, one after the other
def _content(wire: str, data: bytes) -> Event:
    return parse_event(wire, data)


def streams(events: Iterable[Recorded]) -> Iterable[tuple[UUID, list[Recorded]]]:
    """Group events that come ordered by aggregate."""
    for subject, group in groupby(events, key=lambda event: event.subject):
        yield subject, list(group)
