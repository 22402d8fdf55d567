"""The publisher: the log in order of position to the events topics, in Kafka transactions, one active process.

Whatever goes wrong, the process ends and the next one starts from what the topics hold: a producer that met an
exception may still commit a transaction with a hole in it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Event
from time import time_ns
from typing import Any, Final, LiteralString

import psycopg
import structlog
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from psycopg.rows import namedtuple_row

from prm_es import metrics, tracing
from prm_es.consumers import topics
from prm_es.consumers.single import take_lock
from prm_es.errors import ForeignHistory
from prm_es.liveness import LIVE
from prm_es.messages import Headers, event_headers, split_state
from prm_es.partitions import partition_of
from prm_es.settings import AGGREGATES, PARTITIONS, Settings
from prm_es.store.locks import Lock
from prm_es.store.migrate import check
from prm_es.store.sole import sole_row
from prm_es.store.store import CHANNEL

log = structlog.get_logger()

BATCH: Final = 500
IDLE_S: Final = 0.5
EVERYTHING: Final = "*"  # the row of `published` that says up to where every event is on its topic

Place = tuple[str, int]
Row = Any


@dataclass(slots=True)
class Progress:
    """How far each topic-partition got, and up to where all of them did."""

    topic_ids: Mapping[str, str]
    positions: dict[Place, int]
    everything: int


def work(settings: Settings, stop: Event) -> None:
    """Publish until stopped; stands by while another process is active. Raises Unavailable, KafkaError."""
    with psycopg.connect(settings.dsn("writer"), autocommit=True, row_factory=namedtuple_row) as connection:
        check(connection, settings)
        if not take_lock(connection, settings, Lock.PUBLISH, stop):
            return
        connection.execute(f"LISTEN {CHANNEL}")
        store_id = str(sole_row(connection, "SELECT store_id FROM store_info").store_id)
        producer = _producer(settings, store_id)
        try:
            progress = resume(connection, settings, store_id)
            _note(connection, progress, progress.positions)
            log.info("publisher.active", position=progress.everything)
            _publish(connection, settings, producer, progress, store_id, stop)
        finally:
            producer.close(timeout=5)


def _producer(settings: Settings, store_id: str) -> Any:  # noqa: ANN401
    producer = KafkaProducer(
        **settings.kafka_client,
        transactional_id=f"{settings.prefix}.publisher.{store_id}",
        transaction_timeout_ms=15_000,
        retry_backoff_ms=5,  # between the steps of small transactions; lifts them from 65 to 169 a second
        linger_ms=100,  # a transaction is flushed at once: until then records gather instead of going out one by one
        batch_size=131_072,
    )
    producer.init_transactions()  # fences a predecessor that lost its lock but not its life
    return producer


def resume(connection: psycopg.Connection[Any], settings: Settings, store_id: str) -> Progress:
    """Find out what the topics hold; raises ForeignHistory if it is not what this store holds."""
    topic_ids = topics.ids(settings, settings.event_topics)
    noted = _noted(connection)
    everything = noted[EVERYTHING, 0].position if (EVERYTHING, 0) in noted else 0
    partitions = [TopicPartition(topic, number) for topic in settings.event_topics for number in range(PARTITIONS)]
    tails, ends = _tails(settings, partitions)
    positions: dict[Place, int] = {}
    for partition in partitions:
        place = (partition.topic, partition.partition)
        row = noted.get(place)
        same = row is not None and row.topic_id == topic_ids[partition.topic]
        known = row.position if row is not None and same else 0
        tail = tails.get(partition)
        expired = known if ends[partition] > 0 else 0  # an end above 0 without a record: all have expired
        actual = expired if tail is None else _verified(connection, tail, store_id)
        positions[place] = actual
        if not same or actual < known:
            everything = min(everything, actual)
            if row is not None:
                log.warning("publisher.refills", topic=place[0], partition=place[1], behind=actual, noted=row.position)
    return Progress(topic_ids, positions, everything)


def _noted(connection: psycopg.Connection[Any]) -> dict[Place, Row]:
    rows = connection.execute("SELECT topic, partition, topic_id, position FROM published")
    return {(row.topic, row.partition): row for row in rows}


def _tails(settings: Settings, partitions: Sequence[Any]) -> tuple[dict[Any, Any], dict[Any, int]]:
    """Give the last committed record of each partition and each end offset, all partitions read at once."""
    consumer: Any = KafkaConsumer(
        **settings.kafka_client, group_id=None, enable_auto_commit=False, isolation_level="read_committed"
    )
    try:
        low, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
        found: dict[Any, Any] = {}
        window = 64
        while missing := [one for one in partitions if one not in found and ends[one] > low[one]]:
            starts = {one: max(low[one], ends[one] - window) for one in missing}
            found |= _last_records(consumer, starts, ends)
            low |= {one: ends[one] for one in missing if starts[one] == low[one]}
            window *= 8
        return found, ends
    finally:
        consumer.close()


def _last_records(consumer: Any, starts: Mapping[Any, int], ends: Mapping[Any, int]) -> dict[Any, Any]:  # noqa: ANN401
    consumer.assign(list(starts))
    for partition, offset in starts.items():
        consumer.seek(partition, offset)
    found = {}
    # position() passes transaction markers and aborted records, which poll() never shows
    while any(consumer.position(partition) < ends[partition] for partition in starts):
        for partition, records in consumer.poll(50).items():
            found[partition] = records[-1]
    return found


def _verified(connection: psycopg.Connection[Any], tail: Any, store_id: str) -> int:  # noqa: ANN401
    """Give the position of a topic's last record, checked against the store."""
    head = {name: (raw or b"").decode("utf-8", "replace") for name, raw in tail.headers}
    position = int(head.get("ce_sequence", "0"))
    row = connection.execute(
        "SELECT originator_id, originator_version, topic FROM events WHERE notification_id = %s", (position,)
    ).fetchone()
    ours = (head.get("ce_subject"), head.get("ce_aggregateversion"), head.get("ce_type"))
    theirs = row and (str(row.originator_id), str(row.originator_version), row.topic)
    if head.get("ce_storeid") != store_id or ours != theirs:
        raise ForeignHistory(
            f"topic {tail.topic} partition {tail.partition} ends with position {position} of store"
            f" {head.get('ce_storeid')}, which this store ({store_id}) does not hold: the topics belong to another"
            " history, or the store was restored from an older backup. Use another PRM_PREFIX, or delete the events"
            " topics and run `prm-es topics`: they are filled again from the store"
        )
    return position


def _publish(
    connection: psycopg.Connection[Any],
    settings: Settings,
    producer: Any,  # noqa: ANN401
    progress: Progress,
    store_id: str,
    stop: Event,
) -> None:
    names = {aggregate: settings.event_topic(aggregate) for aggregate in AGGREGATES}
    cursor = progress.everything
    while not stop.is_set():
        LIVE.progressed("looking for events")
        rows = connection.execute(_NEXT, (cursor, BATCH)).fetchall()
        if not rows:
            _wait(connection)
            continue
        cursor = rows[-1].notification_id
        with metrics.work("publish").batch(len(rows)):
            LIVE.doing("publishing a batch")
            moved = _send(producer, _records(rows, names, progress, store_id))
            progress.positions |= moved
            progress.everything = cursor
            LIVE.doing("noting what is published")
            _note(connection, progress, moved)


_NEXT: Final[LiteralString] = (
    "SELECT notification_id, originator_id, originator_version, topic, state FROM events"
    " WHERE notification_id > %s ORDER BY notification_id LIMIT %s"
)


def _wait(connection: psycopg.Connection[Any]) -> None:
    for _notification in connection.notifies(timeout=IDLE_S, stop_after=1):
        return


@dataclass(frozen=True, slots=True)
class _Out:
    place: Place
    position: int
    key: bytes
    headers: Headers
    value: bytes


def _records(rows: Iterable[Row], topics: Mapping[str, str], progress: Progress, store_id: str) -> Iterator[_Out]:
    """Give the records of those rows that their topics do not hold yet; streams of the store alone have no topic."""
    tails = dict(progress.positions)
    for row in rows:
        topic = topics.get(row.topic.split(".", 2)[1])
        if topic is None:
            continue
        place = (topic, partition_of(row.originator_id))
        if row.notification_id <= tails[place]:
            continue
        meta, data = split_state(row.state)
        chain = {
            "sequence": str(row.notification_id),
            "previous": str(tails[place]),
            "aggregateversion": str(row.originator_version),
            "storeid": store_id,
        }
        tails[place] = row.notification_id
        event_id = f"{row.originator_id}/{row.originator_version}"
        headers = event_headers(event_id, row.topic, row.originator_id, meta, chain)
        yield _Out(place, row.notification_id, str(row.originator_id).encode(), headers, data)


def _send(producer: Any, records: Iterable[_Out]) -> dict[Place, int]:  # noqa: ANN401
    """Send the records in one transaction and give the last position of each topic-partition."""
    began, outgoing = time_ns(), list(records)
    if not outgoing:
        return {}
    producer.begin_transaction()
    futures = [
        producer.send(one.place[0], one.value, key=one.key, partition=one.place[1], headers=list(one.headers))
        for one in outgoing
    ]
    producer.flush()
    for future in futures:
        future.get(timeout=0)
    producer.commit_transaction()
    metrics.published(len(outgoing))
    tracing.published([one.headers for one in outgoing], began)
    return {one.place: one.position for one in outgoing}


def _note(connection: psycopg.Connection[Any], progress: Progress, moved: Mapping[Place, int]) -> None:
    rows = [(topic, progress.topic_ids[topic], number, position) for (topic, number), position in moved.items()]
    rows.append((EVERYTHING, EVERYTHING, 0, progress.everything))
    columns = list(zip(*rows, strict=True))
    connection.execute(
        "INSERT INTO published (topic, topic_id, partition, position)"
        " SELECT * FROM unnest(%s::text[], %s::text[], %s::int[], %s::bigint[])"
        " ON CONFLICT (topic, partition) DO UPDATE SET topic_id = excluded.topic_id, position = excluded.position",
        [list(column) for column in columns],
    )
