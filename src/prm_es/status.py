"""How far everything is: commands unanswered, events unpublished, read models behind, dead letters."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final

import psycopg
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from psycopg import sql
from psycopg.rows import namedtuple_row

from prm_es.consumers.commands import group
from prm_es.consumers.tails import verify
from prm_es.errors import ForeignHistory, Unavailable
from prm_es.presence import KAFKA, POSTGRES, away
from prm_es.settings import PARTITIONS, Settings
from prm_es.store.sole import sole_row

POLL_S: Final = 0.1
ANSWER_MS: Final = 5000  # kafka-python's own patience is half a minute a question
_OPEN: Final = "SELECT count(*) AS n FROM dead_letter_states WHERE state IN ('open', 'retried')"


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One read model: `as_of` is the position up to which its rows are complete.

    `parked` counts the events that wait, `parked_streams` the aggregates that they are of, each behind one event that
    could not be folded; `parked_from` is the position of the first, None if there is none.
    """

    name: str
    generation: int
    version: int
    as_of: int
    behind_events: int
    behind_seconds: float
    parked: int
    parked_streams: int = 0
    parked_from: int | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """Positions of the whole installation. Of all `dead_letters` of commands, `open_dead_letters` wait for somebody.

    `unanswered` is None if the broker was not asked. `foreign` says what the events topics hold that is not of this
    store's history, None if nothing, or if it was not asked.
    """

    store_id: str
    head: int
    recorded_at: datetime
    published: int
    unpublished: int
    unanswered: int | None
    accepted: int
    refused: int
    dead_letters: int
    open_dead_letters: int
    read_models: Sequence[ModelStatus]
    foreign: str | None = None

    @property
    def settled(self) -> bool:
        """Tell whether every sent command is answered and every read model has caught up."""
        return self.settled_for(None)

    def settled_for(self, names: Collection[str] | None) -> bool:
        """Do as settled, with these read models alone."""
        behind = any(one.behind_events for one in self.read_models if names is None or one.name in names)
        return self.unanswered == 0 and not (self.unpublished or behind)

    def as_json(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {**asdict(self), "recorded_at": self.recorded_at.isoformat(), "settled": self.settled}


class Observer:
    """Asks the database (as auditor) and the broker; keeps its connections between questions.

    Without `broker` it asks the database alone, and cannot tell what is unanswered.
    """

    def __init__(self, settings: Settings, *, broker: bool = True) -> None:
        """Connect; raises Unavailable if a server is away."""
        self._settings = settings
        try:
            self._connection: psycopg.Connection[Any] = psycopg.connect(
                settings.dsn("auditor"), autocommit=True, row_factory=namedtuple_row
            )
            self._consumer: Any = None
            if broker:
                self._consumer = KafkaConsumer(
                    **settings.kafka_client,
                    group_id=group(settings),
                    enable_auto_commit=False,
                    request_timeout_ms=ANSWER_MS,
                    bootstrap_timeout_ms=ANSWER_MS,
                )
        except (psycopg.OperationalError, KafkaError) as error:
            raise Unavailable(f"{type(error).__name__}: {error}") from error
        self._partitions = [TopicPartition(topic, n) for topic in settings.command_topics for n in range(PARTITIONS)]

    def __enter__(self) -> "Observer":  # noqa: PYI034
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of both servers."""
        self._connection.close()
        if self._consumer:
            self._consumer.close(timeout_ms=ANSWER_MS)

    def status(self, *, counts: bool = True) -> Status:
        """Give the status now; without `counts` those of outcomes and of what is open stay 0, which is cheaper.

        Then the events topics are not looked at either. Raises Unavailable.
        """
        try:
            unanswered = (
                self._unanswered() if self._consumer else None
            )  # first: what is answered afterwards is then counted below
            foreign = self._foreign() if self._consumer and counts else None
            with self._connection.transaction():
                return replace(self._from_database(unanswered, counts=counts), foreign=foreign)
        except (psycopg.OperationalError, KafkaError) as error:
            raise Unavailable(f"{type(error).__name__}: {error}") from error

    def _foreign(self) -> str | None:
        try:
            verify(self._settings, self._settings.event_topics, "auditor")
        except ForeignHistory as foreign:
            return str(foreign)
        return None

    def _unanswered(self) -> int:
        ends = self._consumer.end_offsets(self._partitions)
        begins = self._consumer.beginning_offsets(self._partitions)
        return sum(
            ends[one] - (self._consumer.committed(one) or begins[one])
            for one in self._partitions
            if ends[one] > begins[one]
        )

    def _from_database(self, unanswered: int | None, *, counts: bool) -> Status:
        self._connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        head = sole_row(self._connection, "SELECT last_position, recorded_at FROM commits ORDER BY number DESC LIMIT 1")
        published = sole_row(
            self._connection, "SELECT coalesce(max(position), 0) AS position FROM published WHERE topic = '*'"
        ).position
        outcomes, waiting = {"accepted": 0, "refused": 0}, 0
        if counts:
            waiting = sole_row(self._connection, _OPEN).n
            outcomes |= {
                row.outcome: row.n
                for row in self._connection.execute("SELECT outcome, count(*) AS n FROM commands GROUP BY 1")
            }
        return Status(
            store_id=str(sole_row(self._connection, "SELECT store_id FROM store_info").store_id),
            head=head.last_position,
            recorded_at=head.recorded_at,
            published=published,
            unpublished=head.last_position - published,
            unanswered=unanswered,
            accepted=outcomes["accepted"],
            refused=outcomes["refused"],
            dead_letters=sole_row(self._connection, "SELECT count(*) AS n FROM dead_letters").n,
            open_dead_letters=waiting,
            read_models=[self._model(row, head.last_position) for row in self._models()],
        )

    def _models(self) -> list[Any]:
        query = sql.SQL(
            "SELECT g.name, g.generation, g.version, min(c.position) FILTER (WHERE p.position > c.position) AS lowest,"
            " (SELECT max(e.position) FROM published e WHERE e.topic = '*') AS everything,"
            " parked.* FROM {0}.generations g JOIN {0}.checkpoints c USING (name, generation)"
            " LEFT JOIN published p USING (topic, partition) CROSS JOIN LATERAL (SELECT count(*) AS parked,"
            " count(DISTINCT d.aggregate_id) AS parked_streams, min(d.position) AS parked_from FROM {0}.dead_letters d"
            " WHERE d.name = g.name AND d.generation = g.generation) parked WHERE g.status = 'live'"
            " GROUP BY g.name, g.generation, g.version, parked.parked, parked.parked_streams, parked.parked_from"
            " ORDER BY g.name"
        )
        return self._connection.execute(query.format(sql.Identifier(self._settings.projections_schema))).fetchall()

    def _model(self, row: Any, head: int) -> ModelStatus:  # noqa: ANN401
        as_of = row.lowest if row.lowest is not None else (row.everything or 0)
        since = self._connection.execute(
            "SELECT extract(epoch FROM clock_timestamp() - recorded_at)::float8 AS seconds FROM commits"
            " WHERE last_position > %s ORDER BY last_position LIMIT 1",
            (as_of,),
        ).fetchone()
        seconds = max(0.0, since.seconds) if since and as_of < head else 0.0
        waiting = (row.parked, row.parked_streams, row.parked_from)
        return ModelStatus(row.name, row.generation, row.version, as_of, head - as_of, round(seconds, 3), *waiting)


def look(settings: Settings) -> tuple[Status | None, dict[str, str]]:
    """Give the status as far as the servers answer, None without PostgreSQL, and why each that is away does not.

    One that ends may answer the first question and not the next: then both are asked once more.
    """
    gone = away(settings)
    for _ in range(2):
        if POSTGRES in gone:
            break
        try:
            with Observer(settings, broker=KAFKA not in gone) as observer:
                return observer.status(), gone
        except Unavailable as error:
            gone = away(settings) or {POSTGRES if KAFKA in gone else KAFKA: str(error)}
    return None, gone


def wait(
    settings: Settings,
    timeout: float,
    names: Collection[str] | None = None,
    on_status: Callable[[Status], None] = lambda _status: None,
) -> Status:
    """Wait until every sent command is answered and every read model, or each of those named, has caught up.

    Raises Unavailable after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    with Observer(settings) as observer:
        while True:
            status = observer.status(counts=False)
            on_status(status)
            if status.settled_for(names):
                return status
            if time.monotonic() > deadline:
                models = (one for one in status.read_models if names is None or one.name in names)
                behind = ", ".join(f"{model.name} {model.behind_events} behind" for model in models)
                raise Unavailable(
                    f"not settled after {timeout:.0f} s: {status.unanswered} commands unanswered,"
                    f" {status.unpublished} events unpublished, {behind}"
                )
            time.sleep(POLL_S)
