"""The views, read as the database role that fits who asks. What a partner's people may not see does not reach us.

The vendor's people read as `reader`. A partner's read as `portal`: row-level security then shows it the rows of the
organisations named in the transaction, whatever a query asks for, and no table at all that speaks of rivals.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import BoundedSemaphore, Lock
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID

import psycopg2
import psycopg2.extensions
from psycopg2 import sql
from psycopg2.extras import register_uuid

from prm_es.errors import Unavailable
from prm_es.settings import DbRole, Settings

if TYPE_CHECKING:
    from prm_es.api.principal import Principal

PATIENCE_S: Final = 5.0
SEEING: Final = "prm.orgs"
# Rows and position of one moment; begun with what it is to see, which saves a question and its answer.
_SEE: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT set_config(%s, %s, true)"
_ALONE: Final = ", set_config('max_parallel_workers_per_gather', '0', true)"
_Connection = psycopg2.extensions.connection

register_uuid()  # type: ignore[no-untyped-call]


class Pool:
    """Connections of one database role, made when they are needed, at most `size`; who comes later waits."""

    def __init__(self, settings: Settings, role: DbRole, size: int) -> None:
        self._settings, self._role = settings, role
        self._free: list[_Connection] = []
        self._lock = Lock()
        self._places = BoundedSemaphore(size)

    @contextmanager
    def transaction(self, orgs: Sequence[UUID], *, parallel: bool = True) -> Iterator[Any]:
        """Give a cursor in a read-only transaction that sees these organisations' rows; raises Unavailable."""
        if not self._places.acquire(timeout=PATIENCE_S):
            raise Unavailable(f"every connection of {self._role} is busy")
        try:
            connection, cursor = self._begun("{" + ",".join(map(str, orgs)) + "}", parallel=parallel)
            try:
                yield cursor
            except BaseException:
                self._give_back(connection)
                raise
            self._give_back(connection)
        finally:
            self._places.release()

    def close(self) -> None:
        """Close the connections that nobody uses."""
        with self._lock:
            free, self._free = self._free, []
        for connection in free:
            connection.close()

    def _begun(self, seen: str, *, parallel: bool) -> tuple[_Connection, Any]:
        """Begin a transaction on a connection that works: a pooled one may have lost its server since."""
        while True:
            with self._lock:
                pooled = self._free.pop() if self._free else None
            connection = pooled or self._connected()
            try:
                cursor = connection.cursor()
                cursor.execute(_SEE if parallel else _SEE + _ALONE, (SEEING, seen))
            except psycopg2.Error:
                with suppress(psycopg2.Error):
                    connection.close()
                if pooled is None:
                    raise
            else:
                return connection, cursor

    def _connected(self) -> _Connection:
        connection = psycopg2.connect(self._settings.dsn(self._role), connect_timeout=int(PATIENCE_S))
        connection.autocommit = True  # transactions are begun and ended below
        with connection.cursor() as cursor:
            path = sql.SQL("SET search_path = {}").format(sql.Identifier(self._settings.read_schema))
            cursor.execute(path)
            cursor.execute("SELECT set_config('statement_timeout', %s, false)", (f"{self._settings.api_timeout}s",))
            cursor.execute("SET jit = off")  # to compile a question takes longer than to answer it
        return connection

    def _give_back(self, connection: _Connection) -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("ROLLBACK")
        except psycopg2.Error:
            connection.close()
        if not connection.closed:
            with self._lock:
                self._free.append(connection)


class Database:
    """The read models for whoever asks."""

    def __init__(self, settings: Settings) -> None:
        self._pools = {role: Pool(settings, role, settings.api_connections) for role in ("reader", "portal")}

    @contextmanager
    def reading(self, who: "Principal", *, parallel: bool = True) -> Iterator[Any]:
        """Give a cursor on the views as `who` may see them, in one read-only transaction; raises Unavailable.

        What an index answers is not to be shared out among processes, though the planner likes to: many ask at once.
        """
        role: Literal["reader", "portal"] = "portal" if who.partner_side else "reader"
        with self._pools[role].transaction(who.orgs if who.partner_side else (), parallel=parallel) as cursor:
            yield cursor

    def orgs(self, partner_id: UUID) -> tuple[UUID, ...]:
        """Give the organisations for which a partner's people act: itself and its children."""
        with self._pools["reader"].transaction(()) as cursor:
            cursor.execute("SELECT partner_id FROM partners WHERE parent_id = %s ORDER BY 1", (partner_id,))
            return (partner_id, *(child for (child,) in cursor))

    def close(self) -> None:
        """Close the connections that nobody uses."""
        for pool in self._pools.values():
            pool.close()
