"""Is the log as it was written: every commit's digest reckoned anew from the rows, linked to the one before."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, LiteralString

import psycopg
from psycopg.rows import namedtuple_row

from prm_es.messages import utc_text
from prm_es.settings import Settings
from prm_es.store.sole import sole_row
from prm_es.store.store import CommandRow, DeadRow, Head, NewEvent, Place, ReusedRow, Writes, chain_digest

PAGE: Final = 2_000
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Verified:
    """The end of the log, and the first thing that is not as it was written, None if all is."""

    commits: int
    position: int
    digest: bytes
    fault: str | None


def verify(settings: Settings, on_progress: OnProgress = lambda _done, _total: None) -> Verified:
    """Check the log as of one moment, as the auditor, while commands are handled on; raises psycopg.Error.

    Positions without a gap, no row outside a commit, each commit's digest over its rows and the digest before.
    """
    with psycopg.connect(settings.dsn("auditor"), row_factory=namedtuple_row) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        last = sole_row(connection, "SELECT number, last_position, digest FROM commits ORDER BY number DESC LIMIT 1")
        fault = _fault(connection, last, on_progress)
        return Verified(last.number, last.last_position, last.digest, fault)


def _fault(connection: psycopg.Connection[Any], last: Any, on_progress: OnProgress) -> str | None:  # noqa: ANN401
    commits = _rows(connection, "commits", "SELECT number, last_position, recorded_at, digest FROM commits ORDER BY 1")
    first = next(commits, None)
    if first is None or (first.number, first.last_position) != (0, 0):
        return "the chain of commits does not begin with commit 0"
    rows = {kind: _Ahead(_rows(connection, kind, query)) for kind, query in _QUERIES.items()}
    head = Head(0, 0, first.digest, first.recorded_at)
    for commit in commits:
        named = f"commit {commit.number}, recorded {utc_text(commit.recorded_at)}"
        if commit.number != head.number + 1:
            return f"commit {head.number + 1} is missing before {named}"
        found = {
            kind: ahead.upto(commit.last_position if kind == "events" else commit.number)
            for kind, ahead in rows.items()
        }
        positions = [row.notification_id for row in found["events"]]
        if positions != list(range(head.position + 1, commit.last_position + 1)):
            return f"{named}: its positions are not {head.position + 1} to {commit.last_position}"
        writes = Writes(
            events=[NewEvent(row.subject, row.version, row.type, row.state) for row in found["events"]],
            commands=[CommandRow(*row[1:]) for row in found["commands"]],
            reused=[ReusedRow(Place(*row[1:5]), *row[5:]) for row in found["reused"]],
            dead=[DeadRow(Place(*row[1:5]), *row[5:]) for row in found["dead"]],
        )
        before = Head(head.number, head.position, head.digest, commit.recorded_at)
        if chain_digest(before, writes) != commit.digest:
            at = f"positions {positions[0]} to {positions[-1]}" if positions else "no events"
            return f"{named} ({at}): its rows are not those that it was written with"
        head = Head(commit.number, commit.last_position, commit.digest, commit.recorded_at)
        on_progress(commit.number, last.number)
    left = next((kind for kind, ahead in rows.items() if ahead.any_left()), None)
    return f"there are rows of {left} that belong to no commit" if left else None


class _Ahead:
    """Rows in the order of their first column, taken commit by commit."""

    def __init__(self, rows: Iterator[Any]) -> None:
        self._groups = groupby(rows, key=lambda row: row[0])
        self._next: tuple[int, list[Any]] | None = None
        self._advance()

    def _advance(self) -> None:
        found = next(self._groups, None)
        self._next = (found[0], list(found[1])) if found else None

    def upto(self, key: int) -> list[Any]:
        taken: list[Any] = []
        while self._next is not None and self._next[0] <= key:
            taken += self._next[1]
            self._advance()
        return taken

    def any_left(self) -> bool:
        return self._next is not None


def _rows(connection: psycopg.Connection[Any], name: str, query: LiteralString) -> Iterator[Any]:
    with connection.cursor(name=f"verify_{name}") as cursor:
        cursor.itersize = PAGE
        cursor.execute(query, binary=True)
        yield from cursor


_QUERIES: Final[dict[str, LiteralString]] = {
    "events": "SELECT notification_id, originator_id AS subject, originator_version AS version, topic AS type, state"
    " FROM events ORDER BY 1",
    "commands": "SELECT commit_number, source, id, digest, type, subject, actor, actor_role, actor_org, on_behalf_of,"
    " sent_time, outcome, code, response, first_position, last_position FROM commands ORDER BY 1",
    "reused": "SELECT commit_number, topic, partition, record_offset, digest, source, id, actor, response"
    " FROM reused_ids ORDER BY 1",
    "dead": "SELECT commit_number, topic, partition, record_offset, digest, code, sentence, source, id, sealed, key_id"
    " FROM dead_letters ORDER BY 1",
}
