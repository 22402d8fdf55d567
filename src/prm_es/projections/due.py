"""What is due now: commands whose time has come by the database's clock, each attempt with an id of its own.

What was sent is noted apart from the read model, whose rows follow from the log alone. The note only saves sending
again: the same attempt has the same id, and so the same answer.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import psycopg2.extras
from psycopg2 import sql

from prm_es import metrics
from prm_es.messages import RESERVED, Envelope, utc_text
from prm_es.projections.deadlines import MODEL, RECALL
from prm_es.projections.ordered import OrderedProjector, ask, of_history
from prm_es.projections.runner import schema_of
from prm_es.settings import Settings
from prm_es.store.history import histories

AT_ONCE: Final = 500
SET_POSITION: Final = 3  # the column of _DUE


class Due:
    """Sends what is due, on the connection of the worker's projector."""

    def __init__(self, settings: Settings, projector: OrderedProjector) -> None:
        self._settings, self._projector = settings, projector

    def send(self, send: Callable[[Sequence[Envelope]], None], *, late_too: bool) -> int:
        """Send the commands that are due and not sent yet, or to be tried again; gives how many.

        One that was early by the clock of the decision is tried again after a second; one that was refused otherwise,
        though it stands, after an hour.
        """
        with self._projector.connection as connection, connection.cursor() as cursor:
            names = {
                "model": sql.Identifier(schema_of(self._settings, MODEL.name, self._projector.generation(cursor))),
                "bookkeeping": sql.Identifier(self._settings.projections_schema),
            }
            cursor.execute(sql.SQL(_DUE).format(**names), {"source": SOURCE, "late_too": late_too, "most": AT_ONCE})
            rows = cursor.fetchall()
            cursor.execute(sql.SQL(_FORGET).format(**names))
            if not rows:
                return 0
            known = histories(cursor)
            commands = [of_history(_command(row), known, row[SET_POSITION]) for row in rows]
            send(commands)
            metrics.retried("deadline", sum(attempt > 1 for *_rest, attempt in rows))
            noted = [(*row, command.id) for row, command in zip(rows, commands, strict=True)]
            psycopg2.extras.execute_values(cursor, sql.SQL(_NOTE).format(**names).as_string(cursor), noted)
            return len(rows)


SOURCE: Final = f"{RESERVED}{MODEL.name}"

_DUE: Final = """
SELECT d.aggregate_id, d.kind, d.due_at, d.set_position, coalesce(a.attempt + 1, 1)
FROM {model}.deadline d
JOIN {model}.holder h USING (aggregate_id)
LEFT JOIN {bookkeeping}.deadline_attempts a USING (aggregate_id, kind, due_at, set_position)
LEFT JOIN commands c ON c.source = %(source)s AND c.id = a.command_id
WHERE NOT d.done AND NOT h.closed AND d.due_at <= clock_timestamp() AND (%(late_too)s OR NOT d.late)
AND (
    a.attempt IS NULL
    OR c.code = 'deadline.early' AND a.sent_at < clock_timestamp() - interval '1 second'
    OR c.outcome IS NOT NULL AND a.sent_at < clock_timestamp() - interval '1 hour'
)
ORDER BY d.due_at, d.aggregate_id, d.kind LIMIT %(most)s
"""
_FORGET: Final = """
DELETE FROM {bookkeeping}.deadline_attempts a WHERE NOT EXISTS (
    SELECT FROM {model}.deadline d
    WHERE (d.aggregate_id, d.kind, d.due_at, d.set_position) = (a.aggregate_id, a.kind, a.due_at, a.set_position)
)
"""
_NOTE: Final = """
INSERT INTO {bookkeeping}.deadline_attempts (aggregate_id, kind, due_at, set_position, attempt, command_id) VALUES %s
ON CONFLICT (aggregate_id, kind, due_at, set_position)
DO UPDATE SET attempt = excluded.attempt, command_id = excluded.command_id, sent_at = clock_timestamp()
"""


def _command(row: Sequence[Any]) -> Envelope:
    aggregate_id, kind, due_at, position, attempt = row
    data = {"due": utc_text(due_at)}
    if kind == RECALL:
        data["reason"] = "the partner was idle"
    key = f"{kind}/{aggregate_id}/{utc_text(due_at)}/{position}/{attempt}"
    return ask(MODEL.name, key, kind, aggregate_id, data)
