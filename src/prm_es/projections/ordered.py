"""Ordered read models: those for which the order between aggregates matters, and all that send commands.

One worker folds the log itself, in order of position, with one checkpoint. What it sends it sends before its commit,
with ids that follow from the log: killed at any moment, it sends the same again, and that is answered as before.
"""

from collections import ChainMap
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from itertools import islice
from types import MappingProxyType
from typing import Any, Final, Self, cast
from uuid import UUID

import orjson
import psycopg2
import structlog
from psycopg2 import sql

from prm_es.aggregates.base import Event
from prm_es.aggregates.catalogue import EVENTS, parse_event
from prm_es.errors import TooOld
from prm_es.messages import RESERVED, VENDOR, Actor, Envelope, Recorded, Role
from prm_es.projections import rows as tables
from prm_es.projections.base import ReadModel, Rows, Table
from prm_es.projections.runner import discarded, event_of, live_generation, park, refuse_ahead, schema_of
from prm_es.settings import DbRole, Settings
from prm_es.store.history import Histories, histories, mark

log = structlog.get_logger()

CHUNK: Final = 1000
PART: Final = 125  # events of a chunk whose rows are written while the next are folded
EVERYTHING: Final = "*"  # the topic of the one checkpoint: the whole log


@dataclass(frozen=True, slots=True)
class Parsed:
    """An event of the log with its content."""

    recorded: Recorded
    event: Event


@dataclass(frozen=True, slots=True)
class Around:
    """The aggregates that a batch leads to, and what to find them by if that is less than all that the model says.

    Those `beside`, here by what they are found by, are looked at and nothing more: of them only the rows in the model's
    tables `looked_at` are read, and those at once that are `likely` to be asked for. Under a `crowded` key stand so
    many that they are not among them.
    """

    ids: AbstractSet[UUID] = frozenset()
    beside: Mapping[Hashable, Collection[UUID]] = field(default_factory=dict)
    likely: AbstractSet[UUID] = frozenset()
    crowded: AbstractSet[Hashable] = frozenset()
    index: "Index | None" = None


class Book:
    """The rows of every aggregate that a batch may touch or look at, found by id and by what `index` says of them.

    Of those under a `crowded` key it holds some or none. The rows of those `beside`, here by what they are found by,
    are read when they are asked for.
    """

    def __init__(
        self,
        index: "Index",
        rows: Mapping[UUID, Rows],
        crowded: AbstractSet[Hashable] = frozenset(),
        beside: Mapping[Hashable, Collection[UUID]] = MappingProxyType({}),
        look: "Look" = lambda _ids: {},
    ) -> None:
        self._index, self._look = index, look
        self.crowded = crowded
        self._pages: dict[UUID, Page] = {}
        self._found: dict[Hashable, set[Page]] = {}
        self._changed: set[UUID] = set()
        for one, own in rows.items():
            self[one] = own
        for key, ones in beside.items():
            for one in ones:
                if one not in rows:
                    self._stand(one, key)
        self._changed.clear()

    def _stand(self, one: UUID, key: Hashable) -> None:
        page = self._pages.get(one)
        if page is None:
            page = self._pages[one] = Page(one, None, set())
        page.keys |= {key}
        self._found.setdefault(key, set()).add(page)

    def __getitem__(self, one: UUID) -> Rows:
        return self.rows_of(self._pages[one])

    def rows_of(self, page: "Page", likely: Iterable["Page"] = ()) -> Rows:
        """Give the rows of an aggregate; if they are to be read, those of others that are likely next as well."""
        if page.rows is None:
            unread = [other for other in {page, *likely} if other.rows is None]
            read = self._look({other.one for other in unread})
            for other in unread:
                other.rows = read[other.one]
        return cast("Rows", page.rows)

    def __setitem__(self, one: UUID, rows: Rows) -> None:
        page = self._pages.get(one)
        if page is None:
            page = self._pages[one] = Page(one, rows, frozenset())
        page.rows = rows
        self._changed.add(one)
        before, keys = page.keys, frozenset(self._index(rows))
        if keys != before:
            page.keys = keys
            for key in before - keys:
                self._found[key].discard(page)
            for key in keys - before:
                self._found.setdefault(key, set()).add(page)

    def get(self, one: UUID) -> Rows | None:
        """Give the rows of an aggregate, or None if there are none."""
        page = self._pages.get(one)
        return self.rows_of(page) if page else None

    def read(self, ones: Iterable[UUID]) -> None:
        """Read the rows of some at once."""
        pages = [self._pages[one] for one in ones]
        if pages:
            self.rows_of(pages[0], pages)

    def find(self, *keys: Hashable) -> list[UUID]:
        """Give the aggregates that stand under any of these keys, in order."""
        return sorted({page.one for key in keys for page in self._found.get(key, ())})

    def under(self, key: Hashable) -> AbstractSet["Page"]:
        """Give the pages of the aggregates that stand under a key, in no order."""
        return self._found.get(key, _NO_PAGES)

    def count(self, key: Hashable) -> int:
        """Count the aggregates that stand under a key."""
        return len(self._found.get(key, ()))

    def items(self) -> Iterable[tuple[UUID, Rows]]:
        """Give every aggregate with its rows."""
        return ((one, self.rows_of(page)) for one, page in self._pages.items())

    def changed(self) -> Mapping[UUID, Rows]:
        """Give the rows of every aggregate whose rows were set since this was last asked."""
        changed = {one: self[one] for one in self._changed}
        self._changed.clear()
        return changed


@dataclass(slots=True, eq=False)  # told apart by identity: hashing ids is what costs when many are looked at
class Page:
    """An aggregate in a book: its rows now, None if they were not read, and the keys under which they are found."""

    one: UUID
    rows: Rows | None
    keys: AbstractSet[Hashable]


_NO_PAGES: Final[AbstractSet[Page]] = frozenset()


Index = Callable[[Rows], Iterable[Hashable]]
Look = Callable[[AbstractSet[UUID]], Mapping[UUID, Rows]]
Related = Callable[[Any, str, Sequence[Parsed]], Around]
React = Callable[[Book, Rows, Parsed], Sequence[Envelope]]
Wanted = Callable[[Book, Envelope], bool]


def _no_index(_rows: Rows) -> Iterable[Hashable]:
    return ()


def _always(_book: Book, _command: Envelope) -> bool:
    return True


def _everything(_event: Event) -> bool:
    return True


def _nothing_related(_cursor: object, _schema: str, _events: Sequence[Parsed]) -> Around:
    return Around()


def _no_reaction(_book: Book, _before: Rows, _parsed: Parsed) -> Sequence[Envelope]:
    return ()


@dataclass(frozen=True)
class OrderedModel(ReadModel):
    """A read model folded in order of position.

    `fold` gives the rows of an event's own aggregate, as everywhere. Then `react(book, before, parsed)` may change rows
    of others in the book and says what to ask; what is not `wanted` any more at the end of the batch is not sent.
    Before, `related` has named the aggregates that the batch leads to; `index` says by what else they are found.
    `reads` are the only events that say anything to it, if it names some: others are not even loaded; of those `heeds`
    tells which do.
    """

    reads: tuple[type[Event], ...] = ()
    heeds: Callable[[Event], bool] = field(default=_everything)
    looked_at: tuple[Table, ...] = ()
    related: Related = field(default=_nothing_related)
    index: Index = field(default=_no_index)
    react: React = field(default=_no_reaction)
    wanted: Wanted = field(default=_always)

    @cached_property
    def passed_over(self) -> Sequence[str]:
        """The wire types that say nothing to it. One that this program does not know is not among them."""
        return [wire for wire, event in EVENTS.items() if not issubclass(event, self.reads or Event)]


def ask(
    model: str,
    key: str,
    kind: str,
    subject: UUID,
    data: Mapping[str, Any],
    *,
    cause: Recorded | None = None,
    on_behalf_of: str | None = None,
) -> Envelope:
    """Make a command of the system; its id is the key, so the same command again is answered as before."""
    source = f"{RESERVED}{model}"
    return Envelope(
        source=source,
        id=key,
        type=f"prm.{kind}",
        subject=subject,
        actor=Actor(source, Role.SYSTEM, VENDOR, on_behalf_of),
        data=orjson.dumps(data),
        correlation_id=cause.correlation_id if cause else None,
        causation_id=f"{cause.subject}/{cause.version}" if cause else None,
    )


def of_history(command: Envelope, histories: Histories, position: int) -> Envelope:
    """Give the command, which follows from a position, an id that no other history of the store uses.

    After a restore other events get the positions that were lost: an answer that was given to what the lost history
    asked must not be taken for the answer to this one.
    """
    return replace(command, id=command.id + mark(histories, position))


@dataclass(frozen=True, slots=True)
class Advanced:
    """The position reached, and whether the model waits behind an event that it could not take.

    `imported` says that among the events are some of an import of the past.
    """

    position: int
    events: int
    imported: bool = False
    parked: bool = False


class _Poison(Exception):  # noqa: N818 - never leaves this module
    def __init__(self, poisoned: Recorded, reason: str) -> None:
        super().__init__(reason)
        self.poisoned, self.reason = poisoned, reason


class OrderedProjector:
    """One ordered read model's live generation; with a generation, as the owner, that one, and nothing is sent."""

    def __init__(
        self,
        settings: Settings,
        model: OrderedModel,
        send: Callable[[Sequence[Envelope]], None] = lambda _commands: None,
        generation: int | None = None,
    ) -> None:
        self._settings, self._model, self._send, self._pinned = settings, model, send, generation
        self._kept = _Kept()
        role: DbRole = "owner" if generation is not None else "projector"
        self.connection = psycopg2.connect(settings.dsn(role))

    def close(self) -> None:
        """Give the connection back."""
        self.connection.close()

    def advance(self, *, upto: int | None = None, limit: int = CHUNK) -> Advanced:
        """Fold the next chunk of the log in one transaction; raises TooOld, psycopg2 errors, what `send` raises."""
        kept, self._kept = self._kept, _Kept()  # whatever goes wrong, nothing is kept of it
        with self.connection, self.connection.cursor() as cursor:
            advanced = self._advance(cursor, kept, upto, limit)
        self._kept = kept
        return advanced

    def advance_in(self, cursor: Any, *, upto: int | None = None, limit: int = CHUNK) -> Advanced:  # noqa: ANN401
        """Do as advance, inside the caller's transaction."""
        return self._advance(cursor, _Kept(), upto, limit)

    def _advance(self, cursor: Any, kept: "_Kept", upto: int | None, limit: int) -> Advanced:  # noqa: ANN401
        generation = self.generation(cursor)
        after = self._lock_checkpoint(cursor, generation)
        if not kept.of(generation, after):
            kept.clear()
        if self._parked(cursor, generation):
            return Advanced(after, 0, parked=True)
        cursor.execute(_HEAD)
        ((head,),) = cursor.fetchall()
        end = min(head, after + limit, head if upto is None else upto)  # positions have no gaps
        if end <= after:
            return Advanced(after, 0)
        wanted = [f"prm.{aggregate}.%" for aggregate in self._model.aggregates]
        cursor.execute(_LOG, (after, end, wanted, self._model.passed_over))
        events = [event_of(row) for row in cursor]
        cursor.execute("SAVEPOINT unfolded")
        try:
            self._fold(cursor, kept, generation, events, end)
        except _Poison as poison:
            cursor.execute("ROLLBACK TO SAVEPOINT unfolded")
            events = [event for event in events if event.position < poison.poisoned.position]
            if not events:
                park(cursor, self._settings, self._model, generation, [(poison.poisoned, poison.reason)])
                return Advanced(after, 0, parked=True)
            end = events[-1].position
            self._fold(cursor, kept, generation, events, end)
        return Advanced(end, end - after, imported=any(map(_of_the_past, events)))

    def release(self) -> None:
        """Let the event be tried again behind which the model waits: a newer program may be able to take it."""
        with self.connection, self.connection.cursor() as cursor:
            query = sql.SQL("DELETE FROM {}.dead_letters WHERE name = %s AND generation = %s")
            cursor.execute(query.format(self._bookkeeping), (self._model.name, self.generation(cursor)))

    def refuse_ahead(self) -> None:
        """Raise ForeignHistory if the rows contain what the log does not."""
        with self.connection, self.connection.cursor() as cursor:
            refuse_ahead(cursor, self._settings, self._model, self.generation(cursor))

    def generation(self, cursor: Any) -> int:  # noqa: ANN401
        """Give the generation that is worked on, held until the transaction ends."""
        if self._pinned is not None:
            return self._pinned
        return live_generation(cursor, self._settings, self._model)

    @property
    def _bookkeeping(self) -> sql.Identifier:
        return sql.Identifier(self._settings.projections_schema)

    def _lock_checkpoint(self, cursor: Any, generation: int) -> int:  # noqa: ANN401
        query = sql.SQL("SELECT position FROM {}.checkpoints WHERE name = %s AND generation = %s FOR UPDATE")
        cursor.execute(query.format(self._bookkeeping), (self._model.name, generation))
        ((position,),) = cursor.fetchall()
        return int(position)

    def _parked(self, cursor: Any, generation: int) -> bool:  # noqa: ANN401
        query = sql.SQL("SELECT 1 FROM {}.dead_letters WHERE name = %s AND generation = %s LIMIT 1")
        cursor.execute(query.format(self._bookkeeping), (self._model.name, generation))
        return cursor.fetchone() is not None

    def _fold(
        self,
        cursor: Any,  # noqa: ANN401
        kept: "_Kept",
        generation: int,
        events: Sequence[Recorded],
        end: int,
    ) -> None:
        """Fold and write what the log holds up to `end` for this model, move the checkpoint there, and send."""
        schema = schema_of(self._settings, self._model.name, generation)
        skipped = discarded(cursor, self._model)
        read = _parse([event for event in events if event.position not in skipped])
        parsed = [one for one in read if self._model.heeds(one.event)]
        around = self._model.related(cursor, schema, parsed)
        ids = {one.recorded.subject for one in parsed} | around.ids
        before = kept.whole(ids)
        before |= tables.load(cursor, self._model, schema, ids - before.keys())
        seen: dict[UUID, Rows] = {}

        def look(asked: AbstractSet[UUID]) -> Mapping[UUID, Rows]:
            found = kept.any(asked)
            found |= tables.load(cursor, self._model, schema, asked - found.keys(), self._model.looked_at)
            seen.update(found)
            return found

        book = Book(around.index or self._model.index, before, around.crowded, around.beside, look)
        book.read(around.likely - ids)
        past = histories(cursor)
        asked: list[Envelope] = []
        changed: dict[UUID, Rows] = {}
        known, empty = ChainMap(changed, before, seen), self._model.empty()
        with _Writing(cursor, self._model, schema) as writing:
            for start in range(0, len(parsed), PART):
                asked += fold_in_order(self._model, book, parsed[start : start + PART], past)
                rows = book.changed()
                writing.begin({one: (known.get(one, empty), after) for one, after in rows.items()})
                changed.update(rows)
        commands = [command for command in asked if self._model.wanted(book, command)]
        kept.forget(changed.keys() & seen.keys())  # of these not all rows were read
        whole = before | {one: rows for one, rows in changed.items() if one not in seen}
        kept.keep(generation, end, whole, {one: rows for one, rows in seen.items() if one not in changed})
        query = sql.SQL("UPDATE {}.checkpoints SET position = %s WHERE name = %s AND generation = %s")
        cursor.execute(query.format(self._bookkeeping), (end, self._model.name, generation))
        if commands and self._pinned is None:
            self._send(commands)


class _Writing:
    """Writes the rows of one part of a batch while the next is folded: the one waits for the server, the other not.

    Both use one connection, which lets one statement at a time through.
    """

    def __init__(self, cursor: Any, model: OrderedModel, schema: str) -> None:  # noqa: ANN401
        self._cursor = cursor.connection.cursor()
        self._model, self._schema = model, schema
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rows")
        self._under_way: Future[None] | None = None

    def __enter__(self) -> Self:
        """Begin nothing yet."""
        return self

    def begin(self, changes: tables.Changes) -> None:
        """Write these once those before are written; raises what went wrong with those."""
        self._settle()
        self._under_way = self._thread.submit(tables.save, self._cursor, self._model, self._schema, changes)

    def _settle(self) -> None:
        if self._under_way is not None:
            written, self._under_way = self._under_way, None
            written.result()

    def __exit__(self, kind: type[BaseException] | None, *_exc: object) -> None:
        """Wait until all is written, whatever else has happened."""
        self._thread.shutdown()
        self._cursor.close()
        if kind is None:
            self._settle()


class _Kept:
    """Rows that were read or written last, so that they need not be read again.

    They hold as long as nobody else has moved the checkpoint of their generation, for whoever writes moves it.
    """

    def __init__(self) -> None:
        self._place: tuple[int, int] | None = None
        self._whole: dict[UUID, Rows] = {}
        self._seen: dict[UUID, Rows] = {}  # in the tables that are looked at

    def of(self, generation: int, position: int) -> bool:
        """Tell whether they are those of a generation at a position."""
        return self._place == (generation, position)

    def clear(self) -> None:
        """Keep nothing."""
        self._whole.clear()
        self._seen.clear()

    def forget(self, ids: Iterable[UUID]) -> None:
        """Keep nothing of these aggregates."""
        for one in ids:
            self._whole.pop(one, None)
            self._seen.pop(one, None)

    def whole(self, ids: AbstractSet[UUID]) -> dict[UUID, Rows]:
        """Give the rows, in all tables, of those of the aggregates that are kept."""
        return {one: rows for one in ids if (rows := self._whole.get(one)) is not None}

    def any(self, ids: AbstractSet[UUID]) -> dict[UUID, Rows]:
        """Give the rows, in the tables that are looked at at least, of those of the aggregates that are kept."""
        found = ((one, self._whole.get(one) or self._seen.get(one)) for one in ids)
        return {one: rows for one, rows in found if rows is not None}

    def keep(self, generation: int, position: int, whole: Mapping[UUID, Rows], seen: Mapping[UUID, Rows]) -> None:
        """Take what holds at a position now; what was taken longest ago makes room."""
        self._place = generation, position
        for one in whole:
            self._seen.pop(one, None)
        for held, new in ((self._whole, whole), (self._seen, seen)):
            for one, rows in new.items():
                held.pop(one, None)
                held[one] = rows
            for one in list(islice(held, max(0, len(held) - _KEPT))):
                del held[one]


_KEPT: Final = 10_000  # aggregates, of a few kilobytes each

_PAST: Final = timedelta(hours=1)


def _of_the_past(event: Recorded) -> bool:
    return event.actor.role is Role.INTEGRATION and event.at < event.recorded_at - _PAST


_HEAD: Final = "SELECT last_position FROM commits ORDER BY number DESC LIMIT 1"
_LOG: Final = (
    "SELECT notification_id, originator_id, originator_version, topic, state FROM events"
    " WHERE notification_id > %s AND notification_id <= %s AND topic LIKE ANY(%s) AND topic <> ALL(%s::text[])"
    " ORDER BY notification_id"
)


def _parse(events: Sequence[Recorded]) -> list[Parsed]:
    parsed = []
    for event in events:
        try:
            parsed.append(Parsed(event, parse_event(event.type, event.data)))
        except TooOld:
            raise
        except Exception as error:
            raise _Poison(event, f"{type(error).__name__}: the event could not be read") from error
    return parsed


def fold_in_order(
    model: OrderedModel, book: Book, events: Sequence[Parsed], histories: Histories = ()
) -> list[Envelope]:
    """Fold events in the order of their positions into the book; gives what is to be asked if it is still wanted."""
    commands: list[Envelope] = []
    for parsed in events:
        subject = parsed.recorded.subject
        try:
            own = book.get(subject) or model.empty()
            book[subject] = model.fold(own, parsed.recorded, parsed.event)
            asked = model.react(book, own, parsed)
            commands += [of_history(command, histories, parsed.recorded.position) for command in asked]
        except Exception as error:
            reason = f"{type(error).__name__}: the fold could not take it"
            raise _Poison(parsed.recorded, reason) from error
    return commands
