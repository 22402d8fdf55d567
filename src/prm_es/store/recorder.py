"""PostgreSQL through the `eventsourcing` library: what is used of it and what is replaced, in this one place.

Used as it is: the connection pool, `select_events`, `select_notifications`, `max_notification_id`, the notification
log, `repository.get(…, projector_func=…)` and `subscribe`, all on a table that the migrations made.
Replaced, each because it was shown to be wrong for this use:
- DDL at every start fails when several processes start: cleared, and CREATE_TABLE=n.
- `insert_events` decides before it locks, locks the whole table (VACUUM and ANALYZE then stop all writes), takes
  positions from a sequence (holes) and is retried without deciding again: refused; `batch()` is the one way to write.
- the mapper would import a class by name from the topic column: the column holds the wire name, the state our JSON.
- the factory passes five connection parameters only: the pool takes the whole libpq string, with role and TLS.
- POSTGRES_ENABLE_DB_FUNCTIONS takes no lock and drops arguments: never set.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn
from uuid import UUID

import psycopg
from eventsourcing.application import Application
from eventsourcing.persistence import (
    InterfaceError,
    Mapper,
    Notification,
    OperationalError,
    StoredEvent,
)
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore, PostgresFactory
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from prm_es.errors import Unavailable
from prm_es.messages import Recorded, recorded

EVENTS_TABLE = "events"


class LogRecorder(PostgresApplicationRecorder):
    """Reads as the library does; writes only inside `transaction()`."""

    def __init__(self, datastore: PostgresDatastore, *, events_table_name: str = EVENTS_TABLE) -> None:
        super().__init__(datastore, events_table_name=events_table_name)
        self.sql_create_statements.clear()
        datastore.db_type_names.clear()

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: object) -> NoReturn:
        """Refuse: whatever was decided before the append lock is write skew."""
        raise NotImplementedError("write through Store.batch()")

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[Any]]:
        """Give a connection of the pool inside one READ COMMITTED transaction; raises Unavailable if there is none."""
        try:
            with self.datastore.get_connection() as connection, connection.transaction():
                yield connection
        except (OperationalError, InterfaceError) as error:
            raise Unavailable(f"PostgreSQL: {error}") from error


class LogFactory(PostgresFactory):
    """Makes recorders on a table of a fixed name, over a pool that connects with a whole libpq string."""

    application_recorder_class = LogRecorder

    def application_recorder(self) -> LogRecorder:
        """Give the recorder of the log."""
        return LogRecorder(self.datastore)


class WireMapper(Mapper[UUID]):
    """Turns rows of the log into `Recorded`."""

    def to_domain_event(self, stored_event: StoredEvent) -> Any:  # noqa: ANN401
        """Read a row; its position is known only when it is a notification, else 0."""
        position = stored_event.id if isinstance(stored_event, Notification) else 0
        subject = UUID(str(stored_event.originator_id))
        return recorded(position, subject, stored_event.originator_version, stored_event.topic, stored_event.state)

    def to_stored_event(self, domain_event: Any) -> NoReturn:  # noqa: ANN401
        """Refuse, as LogRecorder.insert_events does."""
        raise NotImplementedError("write through Store.batch()")


class LogApplication(Application[UUID]):
    """The library's application over the log: repository, notification log, subscriptions."""

    name = "prm"

    def __init__(self, dsn: str, schema: str, pool_size: int = 2) -> None:
        """Connect; raises Unavailable with the reason if the server is away or refuses."""
        self._dsn = dsn
        env = {
            "POSTGRES_DBNAME": "-",  # required by the factory; the pool's own string goes first
            "POSTGRES_HOST": "-",
            "POSTGRES_USER": "-",
            "POSTGRES_PASSWORD": "-",
            "POSTGRES_SCHEMA": schema,
            "POSTGRES_POOL_SIZE": str(pool_size),
            "POSTGRES_MAX_OVERFLOW": "2",
            "POSTGRES_IDLE_IN_TRANSACTION_SESSION_TIMEOUT": "60",
            "CREATE_TABLE": "n",
        }
        try:
            psycopg.connect(dsn).close()  # the pool would try for half a minute and then not say why
            super().__init__(env)
        except (psycopg.OperationalError, OperationalError, InterfaceError) as error:
            raise Unavailable(f"PostgreSQL: {str(error).strip()}") from error

    def construct_factory(self, env: Any) -> Any:  # noqa: ANN401
        """Make the factory and hand its pool the whole connection string."""
        factory = LogFactory(env)
        factory.datastore.pool.kwargs = {**conninfo_to_dict(self._dsn), "row_factory": dict_row}
        return factory

    def construct_mapper(self) -> WireMapper:
        """Make the mapper by wire names."""
        return WireMapper(self.construct_transcoder())

    @property
    def log_recorder(self) -> LogRecorder:
        """The recorder, as its own type."""
        if not isinstance(self.recorder, LogRecorder):
            raise TypeError(type(self.recorder))
        return self.recorder


def from_notification(row: Notification) -> Recorded:
    """Read a notification of the log."""
    return recorded(row.id, UUID(str(row.originator_id)), row.originator_version, row.topic, row.state)
