"""What a worker has not done yet, asked of the servers whenever somebody looks: true while the worker is stuck.

Each asks through a connection of its own. If its server is away it says so, and nothing that may be out of date.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import psycopg
import structlog
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient, OffsetSpec
from kafka.errors import KafkaError
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily as Gauge
from psycopg import sql
from psycopg.rows import namedtuple_row

from prm_es.errors import PrmError
from prm_es.partitions import partition_of
from prm_es.projections.ordered import EVERYTHING
from prm_es.projections.registry import READ_MODELS
from prm_es.settings import PARTITIONS, DbRole, Settings
from prm_es.store.sole import sole_row

log = structlog.get_logger()

SCAN: Final = 20_000  # events behind that are counted one by one; what lies beyond is reckoned from them
PATIENCE_S: Final = 2

Place = tuple[str, int]  # topic, partition


class Backlog(Protocol):
    """What is asked at each look."""

    def ask(self) -> Sequence[Metric]:
        """Give what there is; raises the server's errors."""
        ...


class Backlogs:
    """A collector for the registry: all that can be asked now, and what cannot be as unknown."""

    def __init__(self, backlogs: Mapping[str, Backlog]) -> None:
        self._backlogs = backlogs
        self._unknown: set[str] = set()

    def collect(self) -> Iterator[Metric]:
        """Ask all."""
        known = Gauge("prm_backlog_known", "Whether what waits could be asked; if not, it is left out.", labels=["of"])
        for name, backlog in self._backlogs.items():
            try:
                yield from backlog.ask()
                self._unknown.discard(name)
            except (psycopg.Error, KafkaError, PrmError) as error:
                if name not in self._unknown:  # once, not at each look
                    log.warning("watch.backlog_unknown", of=name, reason=f"{type(error).__name__}: {error}")
                self._unknown.add(name)
            known.add_metric([name], name not in self._unknown)
        yield known


def backlogs_of(worker: str, settings: Settings) -> Backlogs:
    """Give what a worker has before it, by the worker's name."""
    match worker:
        case "handle":
            return Backlogs({"commands": Commands(settings), "dead_letters": DeadLetters(settings)})
        case "publish":
            return Backlogs({"publisher": Unpublished(settings)})
        case "api" | "issuer":
            return Backlogs({})
        case _:
            return Backlogs({"read_models": ReadModels(settings, worker.split("+"))})


# Of the database


class _Database:
    """A connection for questions, made when it is needed, dropped after an error."""

    def __init__(self, settings: Settings, role: DbRole) -> None:
        self._settings, self._role = settings, role
        self._connection: psycopg.Connection[Any] | None = None

    def __enter__(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            self._connection = psycopg.connect(
                self._settings.dsn(self._role), autocommit=True, row_factory=namedtuple_row, connect_timeout=PATIENCE_S
            )
            self._connection.execute("SELECT set_config('statement_timeout', %s, false)", (f"{PATIENCE_S}s",))
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, *_exc: object) -> None:
        if kind is not None and self._connection is not None:
            self._connection.close()
            self._connection = None


@dataclass(frozen=True, slots=True)
class Missing:
    """How many events a place lacks, and the position of the first of them."""

    events: int
    first: int


def missing(floors: Mapping[Place, int], events: Iterable[tuple[int, Place | None]]) -> dict[Place, Missing]:
    """Count the events, given in order of position, that lie behind their place's floor."""
    found: dict[Place, Missing] = {}
    for position, place in events:
        if place is not None and place in floors and position > floors[place]:
            before = found.get(place, Missing(0, position))
            found[place] = Missing(before.events + 1, before.first)
    return found


@dataclass
class ReadModels:
    """Events that the rows of read models lack, by partition.

    A checkpoint alone does not say so: it stays where the partition's last event was, however long ago. So a place that
    was seen without a backlog is complete up to what was published then.
    """

    settings: Settings
    names: Sequence[str]
    _complete: dict[tuple[str, int, Place], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._database = _Database(self.settings, "projector")
        aggregates = {name for model in self.names for name in READ_MODELS[model].aggregates}
        self._topics = {name: self.settings.event_topic(name) for name in aggregates}

    def ask(self) -> Sequence[Metric]:
        """Give lag in events and in seconds of each place, and what is parked; raises psycopg.Error, PrmError."""
        labels = ["read_model", "topic", "partition"]
        events = Gauge("prm_read_model_lag_events", "Events of the log that the rows do not have.", labels=labels)
        seconds = Gauge("prm_read_model_lag_seconds", "Age of the oldest of them.", labels=labels)
        parked = Gauge("prm_read_model_parked_events", "Events that a fold could not take, and those behind them.",
                       labels=["read_model"])  # fmt: skip
        with self._database as connection, connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            lacks = self._lacks(connection)
            ages = _ages(connection, {one.first for lack in lacks.values() for one in lack.values() if one.events})
            for name, number in self._parked(connection):
                parked.add_metric([name], number)
        for name, lack in lacks.items():
            for (topic, partition), one in lack.items():
                events.add_metric([name, topic, str(partition)], one.events)
                seconds.add_metric([name, topic, str(partition)], ages[one.first] if one.events else 0)
        return [events, seconds, parked]

    def _lacks(self, connection: psycopg.Connection[Any]) -> dict[str, dict[Place, Missing]]:
        """Give what each read model lacks, of each of its places."""
        head, everything = _ends(connection)
        query = sql.SQL(
            "SELECT c.name, c.generation, c.topic, c.partition, c.position, p.position AS published"
            " FROM {0}.checkpoints c JOIN {0}.generations g USING (name, generation)"
            " LEFT JOIN published p ON (p.topic, p.partition) = (c.topic, c.partition) AND p.topic <> %s"
            " WHERE g.status = 'live' AND c.name = ANY(%s) ORDER BY c.name, c.topic, c.partition"
        ).format(sql.Identifier(self.settings.projections_schema))
        rows = connection.execute(query, (EVERYTHING, list(self.names))).fetchall()
        floors: dict[str, dict[Place, int]] = {}
        lacks: dict[str, dict[Place, Missing]] = {}
        for row in rows:
            lacks.setdefault(row.name, {})
            if row.topic == EVERYTHING:
                lacks[row.name][EVERYTHING, 0] = Missing(head - row.position, row.position + 1)
            else:
                floors.setdefault(row.name, {})[row.topic, row.partition] = self._floor(row, everything)
        low = min((floor for of_model in floors.values() for floor in of_model.values()), default=head)
        log_ = self._log(connection, low) if low < head else []
        beyond = (head - low) / (log_[-1][0] - low) if len(log_) == SCAN else 1.0
        for name, of_model in floors.items():
            found = missing(of_model, log_)
            for row in rows:
                place = (row.topic, row.partition)
                if row.name == name and place not in found and (row.published or 0) > of_model[place]:
                    found[place] = Missing(1, row.published)  # beyond what was read
            lacks[name] = {
                place: Missing(round(one.events * beyond), one.first)
                for place, one in {**dict.fromkeys(of_model, Missing(0, 0)), **found}.items()
            }
        return lacks

    def _floor(self, row: Any, everything: int) -> int:  # noqa: ANN401
        """Give the position up to which a place lacks nothing for sure."""
        key, position = (row.name, row.generation, (row.topic, row.partition)), int(row.position)
        if (row.published or 0) <= position:
            self._complete[key] = everything
        return max(position, self._complete.get(key, 0))

    def _log(self, connection: psycopg.Connection[Any], after: int) -> list[tuple[int, Place | None]]:
        rows = connection.execute(
            "SELECT notification_id, originator_id, topic FROM events WHERE notification_id > %s"
            " ORDER BY notification_id LIMIT %s",
            (after, SCAN),
        )
        log_: list[tuple[int, Place | None]] = []
        for position, subject, kind in rows:
            topic = self._topics.get(kind.split(".", 2)[1])
            log_.append((position, (topic, partition_of(subject)) if topic else None))
        return log_

    def _parked(self, connection: psycopg.Connection[Any]) -> Sequence[Any]:
        query = sql.SQL(
            "SELECT g.name, count(d.position) FROM {0}.generations g LEFT JOIN {0}.dead_letters d"
            " USING (name, generation) WHERE g.status = 'live' AND g.name = ANY(%s) GROUP BY g.name ORDER BY g.name"
        ).format(sql.Identifier(self.settings.projections_schema))
        return connection.execute(query, (list(self.names),)).fetchall()


class Unpublished:
    """Events that are not on their topics yet."""

    def __init__(self, settings: Settings) -> None:
        self._database = _Database(settings, "writer")

    def ask(self) -> Sequence[Metric]:
        """Give lag in events and in seconds; raises psycopg.Error, PrmError."""
        with self._database as connection, connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            head, everything = _ends(connection)
            ages = _ages(connection, {everything + 1} if everything < head else set())
        return [
            Gauge("prm_publisher_lag_events", "Events that are not on their topics.", value=head - everything),
            Gauge("prm_publisher_lag_seconds", "Age of the oldest of them.", value=max(ages.values(), default=0)),
        ]


class DeadLetters:
    """Dead letters of commands that wait for somebody."""

    def __init__(self, settings: Settings) -> None:
        self._database = _Database(settings, "writer")

    def ask(self) -> Sequence[Metric]:
        """Give how many; raises psycopg.Error, PrmError."""
        with self._database as connection:
            number = sole_row(
                connection, "SELECT count(*) AS n FROM dead_letter_states WHERE state IN ('open', 'retried')"
            ).n
        return [Gauge("prm_dead_letters_open", "Dead letters of commands that are open.", value=number)]


def _ends(connection: psycopg.Connection[Any]) -> tuple[int, int]:
    """Give the position of the last event, and the one up to which all are published."""
    row = sole_row(
        connection,
        "SELECT (SELECT last_position FROM commits ORDER BY number DESC LIMIT 1) AS head,"
        " coalesce((SELECT position FROM published WHERE topic = '*'), 0) AS everything",
    )
    return row.head, row.everything


def _ages(connection: psycopg.Connection[Any], positions: set[int]) -> dict[int, float]:
    """Give how many seconds ago these positions were recorded, by the database's clock."""
    rows = connection.execute(
        "SELECT position, greatest(0, extract(epoch FROM clock_timestamp() - (SELECT recorded_at FROM commits"
        " WHERE last_position >= position ORDER BY last_position LIMIT 1)))::float8 FROM unnest(%s::bigint[]) position",
        (sorted(positions),),
    )
    return dict(rows.fetchall())


# Of the broker


class Commands:
    """Records of the command topics that no handler has committed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._places = [TopicPartition(topic, n) for topic in settings.command_topics for n in range(PARTITIONS)]
        self._client: Any = None

    def ask(self) -> Sequence[Metric]:
        """Give how many there are of each partition; raises KafkaError."""
        waiting = Gauge(
            "prm_commands_waiting", "Records of command topics that are not handled.", labels=["topic", "partition"]
        )
        try:
            for place, number in self._ask().items():
                waiting.add_metric([place.topic, str(place.partition)], number)
        except Exception:
            self._close()
            raise
        return [waiting]

    def _ask(self) -> dict[Any, int]:
        from prm_es.consumers.commands import group  # noqa: PLC0415

        if self._client is None:
            patience = 1000 * PATIENCE_S
            self._client = KafkaAdminClient(
                **self._settings.kafka_client, request_timeout_ms=patience, bootstrap_timeout_ms=patience
            )
        name = group(self._settings)
        done = self._client.list_group_offsets({name: None}).get(name, {})
        ends, begins = (
            self._client.list_partition_offsets(dict.fromkeys(self._places, spec), timeout_ms=1000 * PATIENCE_S)
            for spec in (OffsetSpec.LATEST, OffsetSpec.EARLIEST)
        )
        return {
            one: ends[one].offset - max(begins[one].offset, done[one].offset if one in done else 0)
            for one in self._places
        }

    def _close(self) -> None:
        with suppress(KafkaError):
            if self._client is not None:
                self._client.close()
        self._client = None
