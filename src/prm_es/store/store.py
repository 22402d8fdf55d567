"""The store: one door to write (`batch`), and the questions that readers ask of the log."""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from itertools import chain
from typing import Any, Final, Self
from uuid import UUID

import psycopg
from psycopg import sql

from prm_es.messages import Recorded, recorded
from prm_es.settings import DbRole, Settings
from prm_es.store.guards import Guards, Held
from prm_es.store.locks import Lock, keys
from prm_es.store.migrate import check
from prm_es.store.recorder import EVENTS_TABLE, LogApplication, from_notification
from prm_es.store.sole import sole_row
from prm_es.store.vault import Vault, keyed_digest, new_key

_LENGTH: Final = struct.Struct(">q").pack
CHANNEL: Final = EVENTS_TABLE  # what the library's subscriptions listen to


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event about to be written; its position follows from its place in the batch."""

    subject: UUID
    version: int
    type: str
    state: bytes


@dataclass(frozen=True, slots=True)
class CommandRow:
    """One answered command: a row of `commands` but for commit and recorded time."""

    source: str
    id: str
    digest: bytes
    type: str
    subject: UUID
    actor: str
    actor_role: str
    actor_org: str
    on_behalf_of: str | None
    sent_time: datetime | None
    outcome: str
    code: str | None
    response: bytes
    first_position: int | None
    last_position: int | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands on the broker, and a digest of its bytes."""

    topic: str
    partition: int
    offset: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class ReusedRow:
    """A record that reused a command id with other content."""

    place: Place
    source: str
    id: str
    actor: str
    response: bytes


@dataclass(frozen=True, slots=True)
class DeadRow:
    """A record that no command could be read from; `sealed` is its headers and value, encrypted."""

    place: Place
    code: str
    sentence: str
    source: str | None
    id: str | None
    sealed: bytes
    key_id: UUID


@dataclass(slots=True)
class Writes:
    """Everything that one batch will write."""

    events: list[NewEvent] = field(default_factory=list)
    commands: list[CommandRow] = field(default_factory=list)
    reused: list[ReusedRow] = field(default_factory=list)
    dead: list[DeadRow] = field(default_factory=list)
    tax_keys: dict[str, UUID | None] = field(default_factory=dict)
    held: dict[UUID, Held] = field(default_factory=dict)

    @property
    def anything(self) -> bool:
        """Tell whether there is anything to write."""
        return bool(self.events or self.commands or self.reused or self.dead)


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the log under the lock; `at` is the recorded time of this batch and never goes back."""

    number: int
    position: int
    digest: bytes
    at: datetime

    def same_commit(self, other: "Head") -> bool:
        """Tell whether the log has not moved from one to the other."""
        return (self.number, self.digest) == (other.number, other.digest)


class Batch:
    """One transaction that holds the append lock: ask, decide, write."""

    def __init__(self, connection: psycopg.Connection[Any], head: Head, digest_key: bytes) -> None:
        self._connection = connection
        self.head = head
        self.vault = Vault(digest_key, self._key)
        self.guards = Guards(connection)
        self._keys: dict[UUID, bytes] = {}
        self._new_keys: list[tuple[UUID, str, bytes]] = []
        self._keys_asked: set[UUID] = set()

    def outcomes(self, ids: Sequence[tuple[str, str]]) -> dict[tuple[str, str], tuple[bytes, bytes]]:
        """Give digest and response of those commands, by (source, id), that have an outcome."""
        return _outcomes(self._connection, ids)

    def placed(self, places: Sequence[Place]) -> dict[Place, bytes]:
        """Give those places that were dead letters or reused ids before, the latter with their response."""
        rows = self._connection.execute(
            "SELECT asked.topic, asked.partition, asked.record_offset, asked.digest,"
            " coalesce(r.response, ''::bytea) AS response"
            " FROM unnest(%s::text[], %s::int[], %s::bigint[], %s::bytea[])"
            " AS asked (topic, partition, record_offset, digest)"
            " LEFT JOIN reused_ids r USING (topic, partition, record_offset, digest)"
            " LEFT JOIN dead_letters d USING (topic, partition, record_offset, digest)"
            " WHERE r.topic IS NOT NULL OR d.topic IS NOT NULL",
            (
                [place.topic for place in places],
                [place.partition for place in places],
                [place.offset for place in places],
                [place.digest for place in places],
            ),
        )
        return {
            Place(row["topic"], row["partition"], row["record_offset"], row["digest"]): row["response"] for row in rows
        }

    def failed(self, ids: Sequence[tuple[str, str]]) -> dict[Place, bytes]:
        """Give the places of those commands, by (source, id), whose decision failed before."""
        rows = self._connection.execute(
            "SELECT d.topic, d.partition, d.record_offset, d.digest"
            " FROM unnest(%s::text[], %s::text[]) AS asked (source, id)"
            " JOIN dead_letters d USING (source, id) WHERE d.code = 'command.failed'",
            ([source for source, _id in ids], [command_id for _source, command_id in ids]),
        )
        return {Place(row["topic"], row["partition"], row["record_offset"], row["digest"]): b"" for row in rows}

    def streams(self, after: Mapping[UUID, int]) -> dict[UUID, list[Recorded]]:
        """Give the events of these aggregates behind a version of each, 0 for all of them, in order."""
        rows = self._connection.execute(
            "SELECT originator_id, originator_version, topic, state, notification_id"
            " FROM unnest(%s::uuid[], %s::bigint[]) AS asked (id, after)"
            " JOIN events ON originator_id = asked.id AND originator_version > asked.after"
            " ORDER BY originator_id, originator_version",
            (list(after), list(after.values())),
            binary=True,
        )
        return _by_subject(rows)

    def has_commit(self, head: Head) -> bool:
        """Tell whether the log contains this earlier end of it: it is then the same history, and a longer one."""
        row = self._connection.execute(
            "SELECT 1 FROM commits WHERE number = %s AND digest = %s", (head.number, head.digest)
        ).fetchone()
        return row is not None

    def tax_owners(self, tax_keys: Iterable[str]) -> dict[str, UUID]:
        """Give the partner that holds each of these tax keys, where one does."""
        rows = self._connection.execute(
            "SELECT tax_key, partner_id FROM partner_identifiers WHERE tax_key = ANY(%s)", (list(tax_keys),)
        )
        return {row["tax_key"]: row["partner_id"] for row in rows}

    def replace_tax_keys(self, held: Mapping[UUID, Iterable[str]]) -> None:
        """Make these partners' tax keys what they hold now."""
        self._connection.execute("DELETE FROM partner_identifiers WHERE partner_id = ANY(%s)", (list(held),))
        rows = [(tax_key, partner_id) for partner_id, taxes in held.items() for tax_key in sorted(taxes)]
        with self._connection.cursor() as cursor:
            cursor.executemany("INSERT INTO partner_identifiers (tax_key, partner_id) VALUES (%s, %s)", rows)

    def generations(self, bookkeeping: str) -> list[tuple[str, int]]:
        """Give every read model's generations: name and number."""
        query = sql.SQL("SELECT name, generation FROM {}.generations ORDER BY name, generation")
        rows = self._connection.execute(query.format(sql.Identifier(bookkeeping)))
        return [(row["name"], row["generation"]) for row in rows]

    def destroy_key(self, key_id: UUID, clear: Iterable[tuple[str, str]]) -> int | None:
        """Destroy a person's key and the rows in clear of these tables; only the owner may.

        Gives how many rows there were, None if there is no such key. Who writes such a row holds the key's row until
        its commit: it is waited for, and the row then seen.
        """
        gone = self._connection.execute("DELETE FROM keys WHERE key_id = %s AND kind = 'person'", (key_id,))
        if not gone.rowcount:
            return None
        delete = sql.SQL("DELETE FROM {} WHERE key_id = %s")
        tables = (sql.Identifier(*one) for one in clear)
        return sum(self._connection.execute(delete.format(one), (key_id,)).rowcount for one in tables)

    def load_keys(self, key_ids: Iterable[UUID]) -> None:
        """Load keys ahead, in one query, for the sealing that follows."""
        asked = set(key_ids) - self._keys_asked
        if not asked:
            return
        rows = self._connection.execute("SELECT key_id, key FROM keys WHERE key_id = ANY(%s)", (list(asked),))
        self._keys |= {row["key_id"]: row["key"] for row in rows}
        self._keys_asked |= asked

    def _key(self, key_id: UUID, kind: str) -> bytes:
        self.load_keys((key_id,))
        if key_id not in self._keys:
            self._keys[key_id] = new_key()
            self._new_keys.append((key_id, kind, self._keys[key_id]))
        return self._keys[key_id]

    def write(self, writes: Writes) -> Head:
        """Write a batch and its link of the chain, and give the end of the log behind it.

        The transaction's end commits all of it or nothing.
        """
        if not writes.anything:
            return self.head
        number, last = self.head.number + 1, self.head.position + len(writes.events)
        self._copy_events(writes.events)
        self._copy_commands(writes.commands, number)
        self._insert_places(writes, number)
        self._insert_keys()
        self._guard_tax_keys(writes.tax_keys)
        self.guards.replace(writes.held)
        first = self.head.position + 1 if writes.events else None
        digest = chain_digest(self.head, writes)
        self._connection.execute(
            "INSERT INTO commits (number, first_position, last_position, recorded_at, digest)"
            " VALUES (%s, %s, %s, %s, %s)",
            (number, first, last, self.head.at, digest),
        )
        self._connection.execute("SELECT pg_notify(%s, '')", (CHANNEL,))
        return Head(number, last, digest, self.head.at)

    def _copy_events(self, events: Sequence[NewEvent]) -> None:
        if not events:
            return
        statement = (
            "COPY events (originator_id, originator_version, topic, state, notification_id) FROM STDIN (FORMAT binary)"
        )
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(["uuid", "int8", "text", "bytea", "int8"])
            for position, event in enumerate(events, self.head.position + 1):
                copy.write_row((event.subject, event.version, event.type, event.state, position))

    def _copy_commands(self, rows: Sequence[CommandRow], number: int) -> None:
        if not rows:
            return
        statement = (
            "COPY commands (source, id, digest, type, subject, actor, actor_role, actor_org, on_behalf_of, sent_time,"
            " outcome, code, response, first_position, last_position, commit_number, recorded_at)"
            " FROM STDIN (FORMAT binary)"
        )
        texts = ["text"] * 4
        types = ["text", "text", "bytea", "text", "uuid", *texts, "timestamptz", "text", "text", "bytea", *["int8"] * 3]
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types([*types, "timestamptz"])
            for row in rows:
                copy.write_row((*_columns(row), number, self.head.at))

    def _insert_places(self, writes: Writes, number: int) -> None:
        with self._connection.cursor() as cursor:
            if writes.reused:
                cursor.executemany(
                    "INSERT INTO reused_ids VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                    [
                        (*_place(row.place), row.source, row.id, row.actor, row.response, number, self.head.at)
                        for row in writes.reused
                    ],
                )
            if writes.dead:
                cursor.executemany(
                    "INSERT INTO dead_letters VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                    [
                        (
                            *_place(row.place),
                            row.code,
                            row.sentence,
                            row.source,
                            row.id,
                            row.sealed,
                            row.key_id,
                            number,
                            self.head.at,
                        )
                        for row in writes.dead
                    ],
                )

    def _insert_keys(self) -> None:
        if not self._new_keys:
            return
        statement = "COPY keys (key_id, kind, key, created_at) FROM STDIN (FORMAT binary)"
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(["uuid", "text", "bytea", "timestamptz"])
            for key_id, kind, key in self._new_keys:
                copy.write_row((key_id, kind, key, self.head.at))

    def _guard_tax_keys(self, changes: Mapping[str, UUID | None]) -> None:
        if not changes:
            return
        self._connection.execute("DELETE FROM partner_identifiers WHERE tax_key = ANY(%s)", (list(changes),))
        held = [(tax_key, partner_id) for tax_key, partner_id in changes.items() if partner_id]
        with self._connection.cursor() as cursor:
            cursor.executemany("INSERT INTO partner_identifiers (tax_key, partner_id) VALUES (%s, %s)", held)


@dataclass(frozen=True, slots=True)
class AskedRow:
    """A question about availability with its answer: a row of `availability_questions` but for number and time."""

    actor: str
    actor_role: str
    actor_org: str
    customer_keys: Sequence[str]
    product_lines: Sequence[str]
    policy_version: int
    answer: str
    yours: bool
    until: datetime | None
    code: str | None


class Asking:
    """One transaction of a question about availability: look, answer, log. `now` is the database's."""

    def __init__(self, connection: psycopg.Connection[Any], now: datetime, digest_key: bytes) -> None:
        self._connection = connection
        self._digest_key = digest_key
        self.now = now
        self.guards = Guards(connection)

    def streams(self, subjects: Iterable[UUID]) -> dict[UUID, list[Recorded]]:
        """Give all events of these aggregates, in order."""
        return _streams(self._connection, subjects)

    def digest(self, content: bytes) -> bytes:
        """Give the keyed digest of some bytes."""
        return keyed_digest(self._digest_key, content)

    def answered(self, org: str, since: datetime) -> int:
        """Count the answers that an organisation got since a time; refusals are none."""
        row = sole_row(
            self._connection,
            "SELECT count(*) AS n FROM availability_questions"
            " WHERE actor_org = %s AND asked_at >= %s AND answer <> 'refused'",
            (org, since),
        )
        return int(row["n"])

    def log(self, row: AskedRow) -> None:
        """Keep a question and its answer for ever."""
        self._connection.execute(
            "INSERT INTO availability_questions (actor, actor_role, actor_org, customer_keys, product_lines,"
            " policy_version, answer, yours, until, code) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (
                row.actor,
                row.actor_role,
                row.actor_org,
                list(row.customer_keys),
                list(row.product_lines),
                row.policy_version,
                row.answer,
                row.yours,
                row.until,
                row.code,
            ),
        )


def _columns(row: CommandRow) -> tuple[object, ...]:
    return (
        row.source,
        row.id,
        row.digest,
        row.type,
        row.subject,
        row.actor,
        row.actor_role,
        row.actor_org,
        row.on_behalf_of,
        row.sent_time,
        row.outcome,
        row.code,
        row.response,
        row.first_position,
        row.last_position,
    )


def _place(place: Place) -> tuple[str, int, int, bytes]:
    return place.topic, place.partition, place.offset, place.digest


def _recorded(row: Mapping[str, Any]) -> Recorded:
    return recorded(row["notification_id"], row["originator_id"], row["originator_version"], row["topic"], row["state"])


def _outcomes(
    connection: psycopg.Connection[Any], ids: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], tuple[bytes, bytes]]:
    rows = connection.execute(
        "SELECT c.source, c.id, c.digest, c.response FROM unnest(%s::text[], %s::text[]) AS asked (source, id)"
        " JOIN commands c USING (source, id)",
        ([source for source, _id in ids], [command_id for _source, command_id in ids]),
    )
    return {(row["source"], row["id"]): (row["digest"], row["response"]) for row in rows}


def _streams(connection: psycopg.Connection[Any], subjects: Iterable[UUID]) -> dict[UUID, list[Recorded]]:
    rows = connection.execute(
        "SELECT originator_id, originator_version, topic, state, notification_id FROM events"
        " WHERE originator_id = ANY(%s) ORDER BY originator_id, originator_version",
        (list(subjects),),
        binary=True,
    )
    return _by_subject(rows)


def _by_subject(rows: Iterable[Mapping[str, Any]]) -> dict[UUID, list[Recorded]]:
    streams: dict[UUID, list[Recorded]] = {}
    for row in rows:
        streams.setdefault(row["originator_id"], []).append(_recorded(row))
    return streams


def chain_digest(head: Head, writes: Writes) -> bytes:
    """Give the digest of a commit: SHA-256 over the previous one, the number, the time and every framed row.

    Each part is framed by its length (8 bytes, big-endian), so no two contents give the same bytes.
    """
    parts: list[object] = [head.number + 1, head.at.isoformat()]
    for position, event in enumerate(writes.events, head.position + 1):
        parts += ("event", position, event.subject, event.version, event.type, event.state)
    for row in sorted(writes.commands, key=lambda row: (row.source, row.id)):
        parts += ("command", *_columns(row))
    for reused in sorted(writes.reused, key=lambda row: _place(row.place)):
        parts += ("reused", *_place(reused.place), reused.source, reused.id, reused.actor, reused.response)
    for dead in sorted(writes.dead, key=lambda row: _place(row.place)):
        parts += ("dead", *_place(dead.place), dead.code, dead.sentence, dead.source, dead.id, dead.sealed, dead.key_id)
    raw = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
    framed = chain.from_iterable(zip(map(_LENGTH, map(len, raw)), raw, strict=True))
    return sha256(head.digest + b"".join(framed)).digest()


class Store:
    """The log in PostgreSQL, opened for one database role; raises SchemaMismatch if it is not as this program needs."""

    def __init__(self, settings: Settings, role: DbRole = "writer", pool_size: int = 1) -> None:
        self._settings = settings
        self._append = keys(settings.prefix, Lock.APPEND)
        self.application = LogApplication(settings.dsn(role), settings.store_schema, pool_size)
        self._recorder = self.application.log_recorder
        self._digest_key = b""
        with self._recorder.transaction() as connection:
            check(connection, settings)
            self.store_id = str(sole_row(connection, "SELECT store_id FROM store_info")["store_id"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self.application.close()

    @contextmanager
    def batch(self) -> Iterator[Batch]:
        """Hold the append lock and give the one way to write; commits at the end, rolls back on any exception."""
        with self._recorder.transaction() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", self._append)
            row = sole_row(
                connection,
                "SELECT number, last_position, digest, greatest(clock_timestamp(), recorded_at) AS at"
                " FROM commits ORDER BY number DESC LIMIT 1",
            )
            head = Head(row["number"], row["last_position"], row["digest"], row["at"])
            yield Batch(connection, head, self._secret(connection))

    def _secret(self, connection: psycopg.Connection[Any]) -> bytes:
        if not self._digest_key:
            self._digest_key = sole_row(connection, "SELECT digest_key FROM store_info")["digest_key"]
        return self._digest_key

    @contextmanager
    def reading(self) -> Iterator[psycopg.Connection[Any]]:
        """Give a connection inside a transaction, for questions of one's own."""
        with self._recorder.transaction() as connection:
            yield connection

    def responses(self, contents: Mapping[tuple[str, str], bytes]) -> dict[tuple[str, str], bytes]:
        """Give the outcomes there are of commands, by (source, id), if they were of the same canonical content.

        The store must be open as the writer or the auditor.
        """
        with self.reading() as connection:
            known = _outcomes(connection, list(contents))
            secret = self._secret(connection)
        return {
            key: response for key, (digest, response) in known.items() if digest == keyed_digest(secret, contents[key])
        }

    @contextmanager
    def asking(self, *, alone: bool) -> Iterator[Asking]:
        """Give what a question about availability is answered from, in one transaction; `alone` waits for others."""
        with self.reading() as connection:
            if alone:
                connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", keys(self._settings.prefix, Lock.ASK))
            now = sole_row(connection, "SELECT clock_timestamp() AS now")["now"]
            yield Asking(connection, now, self._secret(connection))

    def head(self) -> int:
        """Give the position of the last event, 0 if there is none."""
        with self.reading() as connection:
            row = sole_row(connection, "SELECT last_position FROM commits ORDER BY number DESC LIMIT 1")
            return int(row["last_position"])

    def events(self, after: int, limit: int, stop: int | None = None) -> list[Recorded]:
        """Give up to `limit` events behind a position, up to `stop` inclusive, in order of position."""
        rows = self._recorder.select_notifications(after, limit, stop, inclusive_of_start=False)
        return [from_notification(row) for row in rows]

    def stream(self, subject: UUID) -> list[Recorded]:
        """Give all events of an aggregate, in order, with their positions."""
        with self.reading() as connection:
            rows = connection.execute(
                "SELECT originator_id, originator_version, topic, state, notification_id FROM events"
                " WHERE originator_id = %s ORDER BY originator_version",
                (subject,),
            )
            return [_recorded(row) for row in rows]

    def keys(self, key_ids: Iterable[UUID]) -> dict[UUID, bytes]:
        """Give the keys that still exist, locked against forgetting for the moment of the read."""
        with self.reading() as connection:
            rows = connection.execute("SELECT key_id, key FROM keys WHERE key_id = ANY(%s) FOR SHARE", (list(key_ids),))
            return {row["key_id"]: row["key"] for row in rows}
