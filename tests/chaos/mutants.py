"""The ways in which the product is broken on purpose, each by a patch of what it stands on.

The chaos must catch every one of them, or it proves nothing. Patched is what is unlikely to move: the clients of Kafka
and PostgreSQL, and the store's one door to write.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from typing import Any, Final

import psycopg
import psycopg2
import psycopg2.extensions
from kafka import KafkaConsumer

from prm_es.store.locks import Lock
from prm_es.store.store import Batch

Bite = Callable[[], None]


def ack_early(bite: Bite) -> None:
    """The handler acknowledges records as soon as it has them."""
    poll = KafkaConsumer.poll

    @wraps(poll)
    def eager(self: Any, *arguments: Any, **named: Any) -> Any:
        records = poll(self, *arguments, **named)
        if records:
            self.commit()
            bite()
        return records

    KafkaConsumer.poll = eager


def blind_publisher(bite: Bite) -> None:
    """The publisher believes its own notes and sees nothing of what the topics hold."""
    poll = KafkaConsumer.poll

    @wraps(poll)
    def blind(self: Any, *arguments: Any, **named: Any) -> Any:
        if poll(self, *arguments, **named):
            bite()
        return {}

    KafkaConsumer.poll = blind


def no_checkpoint_lock(bite: Bite) -> None:
    """The projector reads its checkpoints without locking them."""

    class Unlocked(psycopg2.extensions.cursor):
        def execute(self, query: Any, vars: Any = None) -> Any:  # noqa: A002
            text = query if isinstance(query, str | bytes) else query.as_string(self)
            if isinstance(text, str) and "checkpoints" in text and " FOR UPDATE" in text:
                text = text.replace(" FOR UPDATE", "")
                bite()
            return super().execute(text, vars)

    connect = psycopg2.connect

    @wraps(connect)
    def unlocked(*arguments: Any, **named: Any) -> Any:
        return connect(*arguments, cursor_factory=Unlocked, **named)

    psycopg2.connect = unlocked


def no_dedup(bite: Bite) -> None:
    """The handler decides a command that it knows as if it were new; its outcome row stays the first."""
    outcomes, write = Batch.outcomes, Batch.write

    @wraps(outcomes)
    def forgetful(self: Any, ids: Any) -> Any:
        if outcomes(self, ids):
            bite()
        return {}

    @wraps(write)
    def lenient(self: Any, writes: Any) -> Any:
        known = outcomes(self, [(row.source, row.id) for row in writes.commands])
        writes.commands = [row for row in writes.commands if (row.source, row.id) not in known]
        return write(self, writes)

    Batch.outcomes, Batch.write = forgetful, lenient  # type: ignore[method-assign]


def decide_before_lock(bite: Bite) -> None:
    """The handler loads and decides first, and takes the append lock to number and write."""
    statement = "SELECT pg_advisory_xact_lock(%s, %s)"
    execute, write = psycopg.Connection.execute, Batch.write
    skipped: dict[str, Any] = {}

    @wraps(execute)
    def unlocked(self: Any, query: Any, params: Any = None, **named: Any) -> Any:
        if isinstance(query, str) and "pg_advisory_xact_lock" in query and params[1] == Lock.APPEND:
            skipped["keys"] = params
            return execute(self, "SELECT 1")
        return execute(self, query, params, **named)

    @wraps(write)
    def late(self: Any, writes: Any) -> Any:
        execute(self._connection, statement, skipped["keys"])
        row: Any = execute(
            self._connection,
            "SELECT number, last_position AS position, digest, greatest(clock_timestamp(), recorded_at) AS at"
            " FROM commits ORDER BY number DESC LIMIT 1",
        ).fetchone()
        if row["number"] != self.head.number:
            bite()
        self.head = replace(self.head, **row)
        return write(self, writes)

    psycopg.Connection.execute, Batch.write = unlocked, late  # type: ignore[method-assign]


MUTANTS: Final[Mapping[str, Callable[[Bite], None]]] = {
    "ack-early": ack_early,
    "no-checkpoint-lock": no_checkpoint_lock,
    "blind-publisher": blind_publisher,
    "no-dedup": no_dedup,
    "decide-before-lock": decide_before_lock,
}
