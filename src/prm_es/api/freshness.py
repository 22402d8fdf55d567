"""How fresh the read models are: one look at their checkpoints serves everybody who asks within the same moment.

A moment's position never promises too much: rows that are read after it contain at least what it says.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Any, Final

import psycopg2
from psycopg2 import sql

from prm_es.settings import Settings

MOMENT_S: Final = 0.05
_QUERY: Final = """
SELECT look.*,
    (SELECT recorded_at FROM {store}.commits WHERE last_position >= look.position ORDER BY last_position LIMIT 1)
FROM (
    SELECT g.name, g.generation, sum(c.position)::bigint AS moved,
        coalesce(min(c.position) FILTER (WHERE p.position > c.position),
            (SELECT max(position) FROM {store}.published WHERE topic = '*'), 0) AS position
    FROM {projections}.generations g
    JOIN {projections}.checkpoints c USING (name, generation)
    LEFT JOIN {store}.published p USING (topic, partition)
    WHERE g.status = 'live'
    GROUP BY g.name, g.generation
) look
"""


@dataclass(frozen=True, slots=True)
class Model:
    """One read model: its rows contain every event up to `position`, recorded `at`; `mark` changes with its rows."""

    position: int
    at: datetime | None
    mark: str


class Freshness:
    """Looks at the checkpoints, at most once a moment, however many ask."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._query = sql.SQL(_QUERY).format(
            store=sql.Identifier(settings.store_schema), projections=sql.Identifier(settings.projections_schema)
        )
        self._lock = Lock()
        self._connection: Any = None
        self._looked, self._models = 0.0, dict[str, Model]()

    def recent(self) -> Mapping[str, Model] | None:
        """Give every read model as it was a moment ago, if somebody looked then; does not wait."""
        return self._models if time.monotonic() - self._looked < MOMENT_S else None

    def models(self) -> Mapping[str, Model]:
        """Give every read model as it was a moment ago or is now; raises OperationalError."""
        with self._lock:
            if time.monotonic() - self._looked > MOMENT_S:
                self._models = self._look()
                self._looked = time.monotonic()
            return self._models

    def close(self) -> None:
        """Let go of the connection."""
        with self._lock:
            self._drop()

    def _look(self) -> dict[str, Model]:
        try:
            return self._asked()
        except psycopg2.Error:
            self._drop()
            return self._asked()  # the server may have been started anew since the last look

    def _asked(self) -> dict[str, Model]:
        if self._connection is None:
            self._connection = psycopg2.connect(self._settings.dsn("reader"))
            self._connection.set_session(readonly=True, autocommit=True)
        with self._connection.cursor() as cursor:
            cursor.execute(self._query)
            return {
                name: Model(position, at, f"{generation}.{moved}") for name, generation, moved, position, at in cursor
            }

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
