"""Comparing what follows from the log with the log: guard tables and read models against a fresh fold.

Guard tables and log are read in one snapshot, so no lock is needed and writers go on. All are read in the order of the
aggregates' ids and merged, so that memory holds one aggregate at a time.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from itertools import groupby
from operator import itemgetter
from time import monotonic
from typing import Any, Final, LiteralString
from uuid import UUID

import psycopg
import structlog
from psycopg.rows import tuple_row

from prm_es import rebuild
from prm_es.aggregates import catalogue
from prm_es.errors import Usage
from prm_es.messages import Recorded, recorded, utc_text
from prm_es.projections.registry import READ_MODELS
from prm_es.rebuild import Difference, Progress, told
from prm_es.settings import Settings
from prm_es.store.guards import EVERY_LINE, Held, won_of
from prm_es.store.sole import sole_row
from prm_es.store.store import Store
from prm_es.workspace import held_by, tax_keys

log = structlog.get_logger()

GUARDS: Final = "guards"
_ITERSIZE: Final = 5_000
_REPAIR: Final = 500

Key = tuple[Any, ...]
Values = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What was compared, by name: events folded, rows that differ by table, and the first of them."""

    name: str
    events: int
    seconds: float
    differs: Mapping[str, int]
    shown: Sequence[Difference]
    owners: frozenset[UUID] = frozenset()  # of guard rows that differ: the aggregates that they belong to

    @property
    def total(self) -> int:
        """Count the rows that differ."""
        return sum(self.differs.values())


@dataclass(frozen=True, slots=True)
class _Guard:
    """A guard table: its key, which begins with the aggregate's id, its other columns, and both ways to its rows."""

    name: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    query: LiteralString
    rows: Callable[[UUID, Held, Iterable[str]], Iterable[tuple[Key, Values]]]


def _claim_rows(_owner: UUID, held: Held, _taxes: Iterable[str]) -> Iterator[tuple[Key, Values]]:
    for one in held.claims:
        for line in one.product_lines or {EVERY_LINE}:
            values = (line, one.claim_group, one.partner_id, one.valid_from, one.until)
            yield (one.lead_id, one.customer_key, line), values


def _registration_rows(_owner: UUID, held: Held, _taxes: Iterable[str]) -> Iterator[tuple[Key, Values]]:
    if one := held.registration:
        yield (one.lead_id,), (one.partner_id, one.origin, sorted(one.customer_keys), sorted(one.product_lines))


def _match_rows(_owner: UUID, held: Held, _taxes: Iterable[str]) -> Iterator[tuple[Key, Values]]:
    for one in held.matches:
        yield (one.lead_id, one.other_lead_id), (one.strength, one.earlier_lead_id)


def _won_rows(owner: UUID, held: Held, _taxes: Iterable[str]) -> Iterator[tuple[Key, Values]]:
    for one in won_of(owner, held.incumbency) if held.incumbency else ():
        incumbency = one.incumbency
        yield (owner, one.customer_key, one.product_line), (incumbency.partner_id, incumbency.won_at)


def _tax_rows(owner: UUID, _held: Held, taxes: Iterable[str]) -> Iterator[tuple[Key, Values]]:
    for one in taxes:
        yield (owner, one), ()


_TABLES: Final = (
    _Guard(
        "claims",
        ("lead_id", "customer_key", "product_line"),
        ("product_lines", "claim_group", "partner_id", "valid_from", "until"),
        "SELECT c.lead_id, c.customer_key, c.product_line,"
        " CASE WHEN lower_inf(c.product_lines) AND upper_inf(c.product_lines) THEN '' ELSE coalesce(p.name,"
        " 'not a line: ' || c.product_lines) END, c.claim_group, c.partner_id, lower(c.during), upper(c.during)"
        " FROM claims c LEFT JOIN product_lines p ON c.product_lines = int4range(p.number, p.number, '[]')"
        " ORDER BY c.lead_id",
        _claim_rows,
    ),
    _Guard(
        "live_registrations",
        ("lead_id",),
        ("partner_id", "origin", "customer_keys", "product_lines"),
        "SELECT lead_id, partner_id, origin, customer_keys, product_lines FROM live_registrations ORDER BY lead_id",
        _registration_rows,
    ),
    _Guard(
        "undecided_matches",
        ("lead_id", "other_lead_id"),
        ("strength", "earlier_lead_id"),
        "SELECT lead_id, other_lead_id, strength, earlier_lead_id FROM undecided_matches ORDER BY lead_id",
        _match_rows,
    ),
    _Guard(
        "incumbencies",
        ("opportunity_id", "customer_key", "product_line"),
        ("partner_id", "won_at"),
        "SELECT opportunity_id, customer_key, product_line, partner_id, won_at FROM incumbencies"
        " ORDER BY opportunity_id",
        _won_rows,
    ),
    _Guard(
        "partner_identifiers",
        ("partner_id", "tax_key"),
        (),
        "SELECT partner_id, tax_key FROM partner_identifiers ORDER BY partner_id",
        _tax_rows,
    ),
)
_LOG: Final = (
    "SELECT notification_id, originator_id, originator_version, topic, state FROM events"
    " WHERE topic LIKE ANY(%s) ORDER BY originator_id, originator_version"
)


def chosen(names: Sequence[str]) -> list[str]:
    """Give what to compare: the names given, or everything there is; raises Usage for one that there is not."""
    known = [GUARDS, *READ_MODELS]
    for name in names:
        if name not in known:
            raise Usage(f"there is nothing named {name} to compare; there are: {', '.join(known)}")
    return [name for name in known if name in names or not names]


def reconcile(settings: Settings, name: str, limit: int, progress: Progress = lambda _done, _total: None) -> Reconciled:
    """Compare the guard tables or one read model with the log; at most `limit` differences are named.

    Raises AlreadyRunning while a read model is being rebuilt, Poison for an event that cannot be read.
    """
    if name == GUARDS:
        return _guards(settings, limit, progress)
    found = rebuild.compare(settings, READ_MODELS[name], progress, limit=limit)
    return Reconciled(name, found.events, found.seconds, found.rows, found.shown)


def _guards(settings: Settings, limit: int, progress: Progress) -> Reconciled:
    started, done = monotonic(), 0
    differs = {one.name: 0 for one in _TABLES}
    shown: list[Difference] = []
    owners: set[UUID] = set()
    with psycopg.connect(settings.dsn("auditor"), row_factory=tuple_row) as connection, ExitStack() as stack:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        total = sole_row(connection, "SELECT max(last_position) FROM commits")[0]
        for owner, rows, events in _owners(connection, stack):
            held, taxes = _folded(owner, [recorded(*event) for event in events])
            for guard, stands in zip(_TABLES, rows, strict=True):
                for one in _differences(guard, stands, dict(guard.rows(owner, held, taxes))):
                    differs[guard.name] += 1
                    owners.add(owner)
                    shown += [one] if len(shown) < limit else []
            done += len(events)
            progress(done, total)
    return Reconciled(GUARDS, done, monotonic() - started, differs, shown, frozenset(owners))


def _owners(
    connection: psycopg.Connection[Any], stack: ExitStack
) -> Iterator[tuple[UUID, Sequence[Mapping[Key, Values]], Sequence[Values]]]:
    """Give each aggregate with its rows of every guard table and its events, in the order of ids."""
    wanted = [f"{catalogue.PREFIX}{name}.%" for name in catalogue.AGGREGATES]
    asked = [*((one.name, one.query, ()) for one in _TABLES), ("log", _LOG, (wanted,))]
    streams = [_stream(connection, stack, number, *one) for number, one in enumerate(asked)]
    for owner, group in groupby(merge(*streams, key=itemgetter(0)), key=itemgetter(0)):
        found: list[list[Values]] = [[] for _ in streams]
        for _owner, number, row in group:
            found[number].append(row)
        *rows, events = found
        keyed = [
            {row[: len(guard.key)]: row[len(guard.key) :] for row in stand}
            for guard, stand in zip(_TABLES, rows, strict=True)
        ]
        yield owner, keyed, events


def _stream(
    connection: psycopg.Connection[Any],
    stack: ExitStack,
    number: int,
    name: str,
    query: LiteralString,
    parameters: Sequence[object],
) -> Iterator[tuple[UUID, int, Values]]:
    cursor = stack.enter_context(connection.cursor(name=name))
    cursor.itersize = _ITERSIZE
    cursor.execute(query, parameters)
    place = 1 if query is _LOG else 0  # of the aggregate's id
    return ((row[place], number, row) for row in cursor)


def _folded(owner: UUID, events: Sequence[Recorded]) -> tuple[Held, frozenset[str]]:
    if not events:
        return Held(), frozenset()
    state = catalogue.fold(catalogue.AGGREGATES[events[0].aggregate], events)
    return held_by(owner, state) or Held(), tax_keys(state)


def _differences(guard: _Guard, stands: Mapping[Key, Values], follows: Mapping[Key, Values]) -> Iterator[Difference]:
    for key in sorted(stands.keys() | follows.keys()):
        one, other = stands.get(key), follows.get(key)
        if one != other:
            named = dict(zip(guard.key, key, strict=True))
            yield Difference(guard.name, named, *told(_columns(guard, one), _columns(guard, other)))


def _columns(guard: _Guard, values: Values | None) -> Mapping[str, object] | None:
    return None if values is None else dict(zip(guard.columns, values, strict=True))


def repair_guards(settings: Settings, owners: Iterable[UUID]) -> None:
    """Write the guard rows of these aggregates anew from the log, under the append lock; command handlers wait for it.

    All are released before any is taken: a row that is wrong may stand where another's belongs.
    """
    ids = sorted(owners)
    with Store(settings) as store, store.batch() as batch:
        batch.guards.replace(dict.fromkeys(ids, Held()))
        batch.replace_tax_keys(dict.fromkeys(ids, frozenset()))
        for start in range(0, len(ids), _REPAIR):
            chunk = ids[start : start + _REPAIR]
            streams = batch.streams(dict.fromkeys(chunk, 0))
            folded = {one: _folded(one, streams.get(one, [])) for one in chunk}
            batch.guards.replace({one: held for one, (held, _taxes) in folded.items()})
            batch.replace_tax_keys({one: taxes for one, (_held, taxes) in folded.items()})
    log.warning("guards.repaired", aggregates=len(ids))


# Saying it

COLUMNS: Final = ("of", "table", "key", "table_says", "log_says")


def as_rows(found: Reconciled) -> Iterator[tuple[object, ...]]:
    """Give the differences that are shown, a row of COLUMNS each."""
    for one in found.shown:
        yield found.name, one.table, _listed(one.key), _said(one.stands), _said(one.follows)


def _said(side: Mapping[str, object] | None) -> str:
    return "no such row" if side is None else _listed(side) or "the row"


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={_text(value)}" for name, value in values.items())


def _text(value: object) -> str:
    match value:
        case datetime():
            return utc_text(value)
        case list():
            return f"[{', '.join(map(str, value))}]"
        case _:
            return str(value)


def in_words(found: Reconciled) -> Iterator[str]:
    """Say how many rows differ, how many are not shown, and what to do."""
    if not found.total:
        yield f"{found.name}: nothing differs"
        return
    for table, rows in found.differs.items():
        if rows:
            yield f"{found.name}: {table}: {rows} row{'s' * (rows != 1)} differ{'s' * (rows == 1)} from the log"
    if hidden := found.total - len(found.shown):
        yield f"{found.name}: {hidden} more not shown"
    if found.name == GUARDS:
        yield "to write these rows anew from the log: prm-es reconcile guards --repair-guards"
    else:
        yield f"to make it anew from the log: prm-es rebuild {found.name}"
