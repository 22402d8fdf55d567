"""Filling the events topics anew from the store: after a restore, or when another history's events lie on them.

The store gets a new id first, so that whoever reads the topics sees that another history begins. Killed at any moment,
it can be run again: until it is through, publisher and projectors refuse what lies on the topics.
"""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import psycopg
import structlog
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient
from psycopg.rows import namedtuple_row

from prm_es import rebuild
from prm_es.consumers.publisher import transactional_id
from prm_es.consumers.tails import attributes, partitions_of, tails
from prm_es.errors import AlreadyRunning
from prm_es.settings import Settings
from prm_es.store.history import begin
from prm_es.store.locks import Lock, keys
from prm_es.store.migrate import check
from prm_es.store.sole import sole_row

log = structlog.get_logger()

PATIENCE_S: Final = 5.0  # a publisher that refuses the topics is started again and again, and holds its lock meanwhile


@dataclass(frozen=True, slots=True)
class Held:
    """What the events topics hold of one store's history: how far it goes, and when its last record was sent."""

    store_id: str
    partitions: int
    position: int
    sent_at: datetime


def held(settings: Settings) -> Sequence[Held]:
    """Give what the events topics end with, by store id, the latest first; raises KafkaError."""
    last, _ends = tails(settings, partitions_of(settings.event_topics))
    by_store: dict[str, list[Any]] = {}
    for record in last.values():
        by_store.setdefault(attributes(record).get("storeid", "none"), []).append(record)
    found = [_held(store_id, records) for store_id, records in by_store.items()]
    return sorted(found, key=lambda one: one.sent_at, reverse=True)


def _held(store_id: str, records: Sequence[Any]) -> Held:
    positions = [text for one in records if (text := attributes(one).get("sequence", "")).isdigit()]
    sent = max(one.timestamp for one in records)
    return Held(store_id, len(records), max(map(int, positions), default=0), datetime.fromtimestamp(sent / 1000, UTC))


@dataclass(frozen=True, slots=True)
class Renewed:
    """The store's new id, and the read models that were made anew: they contained more than the log."""

    store_id: str
    rebuilt: Sequence[str]


def renew(settings: Settings) -> Renewed:
    """Empty the events topics for the next publisher to fill them from the beginning, under a new store id.

    Topics and their settings stay. Raises AlreadyRunning while a publisher or a rebuild is active, KafkaError, errors
    of psycopg and psycopg2.
    """
    with psycopg.connect(settings.dsn("writer"), autocommit=True, row_factory=namedtuple_row) as connection:
        check(connection, settings)
        _take(connection, settings)
        before = str(sole_row(connection, "SELECT store_id FROM store_info").store_id)
        for store_id in {before, *(one.store_id for one in held(settings) if _is_id(one.store_id))}:
            _fence(settings, store_id)
        now = begin(settings, "repaired")
        _empty(settings)
    made_anew = rebuild.ahead(settings)
    for model in made_anew:
        rebuild.rebuild(settings, model)
    rebuild.ask_again(settings)
    log.info("topics.renewed", before=before, now=now)
    return Renewed(now, [model.name for model in made_anew])


def _take(connection: psycopg.Connection[Any], settings: Settings) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not sole_row(
        connection, "SELECT pg_try_advisory_lock(%s, %s) AS taken", keys(settings.prefix, Lock.PUBLISH)
    ).taken:
        if time.monotonic() > deadline:
            raise AlreadyRunning("a publisher is active on this store, so its topics are in order: stop it first")
        time.sleep(0.05)


def _is_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _fence(settings: Settings, store_id: str) -> None:
    """Abort what a publisher of this history has begun, and let it publish no more."""
    with closing(KafkaProducer(**settings.kafka_client, transactional_id=transactional_id(settings, store_id))) as one:
        one.init_transactions()


def _empty(settings: Settings) -> None:
    _last, ends = tails(settings, partitions_of(settings.event_topics))
    with closing(KafkaAdminClient(**settings.kafka_client)) as admin:
        admin.delete_records({one: end for one, end in ends.items() if end})
