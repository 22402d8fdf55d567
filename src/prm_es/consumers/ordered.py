"""The workers of ordered read models: conflicts, reactions, deadlines. One is active, the others stand by.

They read the log itself, not its topics, so a notification of PostgreSQL wakes them and no consumer group is needed;
they look every half second anyway. What they ask for goes to the command topics before their commit.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Event
from time import monotonic, perf_counter
from typing import Any, Final

import psycopg
import structlog
from kafka import KafkaProducer

from prm_es import metrics
from prm_es.consumers.single import take_lock
from prm_es.liveness import LIVE
from prm_es.messages import Envelope, binary_command
from prm_es.partitions import partition_of
from prm_es.projections import conflicts, deadlines, reactions
from prm_es.projections.due import Due
from prm_es.projections.ordered import CHUNK, OrderedModel, OrderedProjector
from prm_es.settings import Settings
from prm_es.store.locks import Lock
from prm_es.store.migrate import check
from prm_es.store.store import CHANNEL

log = structlog.get_logger()

IDLE_S: Final = 0.5
PARKED_S: Final = 5.0
LOCKS: Final[Mapping[str, Lock]] = {
    conflicts.MODEL.name: Lock.CONFLICTS,
    deadlines.MODEL.name: Lock.DEADLINES,
    reactions.MODEL.name: Lock.REACTIONS,
}
Send = Callable[[Sequence[Envelope]], None]


def follow(settings: Settings, model: OrderedModel, stop: Event) -> None:
    """Fold the log and send what follows from it, until stopped; raises Unavailable, KafkaError, psycopg2 errors.

    Deadlines are sent when their time has come. Those that were over when they were set wait until imports of the past
    have fallen quiet: the rest of a history may be on its way still.
    """
    with _alone(settings, model, stop) as session:
        if session is None:
            return
        with _sender(settings) as send, _projector(settings, model, send) as projector:
            due = Due(settings, projector) if model is deadlines.MODEL else None
            imported_at = monotonic()
            while not stop.is_set():
                LIVE.progressed("folding the log")
                began = perf_counter()
                step = projector.advance()
                if step.events:
                    metrics.work(model.name).observe(step.events, began)
                    metrics.applied(model.name, applied=step.events)
                if step.imported:
                    imported_at = monotonic()
                if step.parked:
                    LIVE.doing("waiting behind an event that could not be folded")
                    stop.wait(PARKED_S)
                elif step.events < CHUNK:
                    quiet = monotonic() - imported_at > settings.import_quiet
                    LIVE.doing("sending what is due")
                    sent = due.send(send, late_too=quiet) if due else 0
                    if not (step.events or sent):
                        LIVE.doing("waiting for events")
                        _wait(session)


@contextmanager
def _alone(settings: Settings, model: OrderedModel, stop: Event) -> Iterator[psycopg.Connection[Any] | None]:
    """Give the session that holds the worker's lock and hears of commits, or None if it was stopped before."""
    with psycopg.connect(settings.dsn("projector"), autocommit=True) as session:
        check(session, settings)
        if not take_lock(session, settings, LOCKS[model.name], stop):
            yield None
            return
        session.execute(f"LISTEN {CHANNEL}")
        yield session


@contextmanager
def _projector(settings: Settings, model: OrderedModel, send: Send) -> Iterator[OrderedProjector]:
    projector = OrderedProjector(settings, model, send)
    try:
        projector.refuse_ahead()
        projector.release()
        log.info("worker.active", model=model.name)
        yield projector
    finally:
        projector.close()


@contextmanager
def _sender(settings: Settings) -> Iterator[Send]:
    producer: Any = KafkaProducer(**settings.kafka_client, linger_ms=0, delivery_timeout_ms=30_000)

    def send(commands: Sequence[Envelope]) -> None:
        futures = []
        for command in commands:
            key, headers, value = binary_command(command)
            topic, partition = settings.command_topic(command.type.split(".")[1]), partition_of(command.subject)
            futures.append(producer.send(topic, value, key=key, headers=list(headers), partition=partition))
        producer.flush()
        for future in futures:
            future.get(timeout=0)
        metrics.asked(len(futures))
        log.debug("worker.asked", commands=len(futures))

    try:
        yield send
    finally:
        producer.close(timeout=5)


def _wait(session: psycopg.Connection[Any]) -> None:
    for _notification in session.notifies(timeout=IDLE_S, stop_after=1):
        return
