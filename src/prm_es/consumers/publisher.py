"""The publisher: the log in order of position to the events topics, in Kafka transactions, one active process.

Whatever goes wrong, the process ends and the next one starts from what the topics hold: a producer that met an
exception may still commit a transaction with a hole in it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from threading import Event
from time import monotonic, time_ns
from typing import Any, Final, LiteralString

import psycopg
import structlog
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError
from kafka.net.compat import KafkaNetClient
from psycopg.rows import namedtuple_row

from prm_es import metrics, tracing
from prm_es.consumers import topics
from prm_es.consumers.single import take_lock
from prm_es.consumers.tails import attributes, firsts, partitions_of, tails, undecided, verified
from prm_es.errors import Unavailable
from prm_es.liveness import LIVE
from prm_es.messages import Headers, event_headers, split_state
from prm_es.partitions import partition_of
from prm_es.settings import AGGREGATES, Settings
from prm_es.store.locks import Lock
from prm_es.store.migrate import check
from prm_es.store.sole import sole_row
from prm_es.store.store import CHANNEL

log = structlog.get_logger()

BATCH: Final = 1_000
IDLE_S: Final = 0.5
TOPICS_S: Final = 10.0  # between two looks whether the topics are still the same
TRANSACTION_S: Final = 15  # the broker aborts what takes longer
HANGS_S: Final = 20.0  # kafka-python waits without limit for the end of a transaction
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
            _decide(settings, producer)
            progress = resume(connection, settings, store_id)
            _note(connection, progress, progress.positions)
            log.info("publisher.active", position=progress.everything)
            _publish(connection, settings, producer, progress, store_id, stop)
        finally:
            producer.close(timeout=5)


def transactional_id(settings: Settings, store_id: str) -> str:
    """Name the one publisher of a store's history: whoever takes it fences all others of it."""
    return f"{settings.prefix}.publisher.{store_id}"


class _Client(KafkaNetClient):  # type: ignore[misc]
    """kafka-python's sender asks for a request again if a node is not ready, and loses it if that is said by raising.

    The transaction would then wait for it until the delivery timeout of two minutes, or for ever at its commit.
    """

    def await_ready(self, node_id: Any, timeout_ms: float = 30_000) -> bool:  # noqa: ANN401
        try:
            return bool(super().await_ready(node_id, timeout_ms))
        except KafkaError:
            return False


def _producer(settings: Settings, store_id: str) -> Any:  # noqa: ANN401
    producer = KafkaProducer(
        **settings.kafka_client,
        kafka_client=_Client,
        transactional_id=transactional_id(settings, store_id),
        transaction_timeout_ms=1000 * TRANSACTION_S,
        retry_backoff_ms=5,  # between the steps of small transactions; lifts them from 65 to 169 a second
        linger_ms=100,  # a transaction is flushed at once: until then records gather instead of going out one by one
        batch_size=131_072,
    )
    producer.init_transactions()  # fences a predecessor that lost its lock but not its life
    return producer


def _decide(settings: Settings, producer: Any) -> None:  # noqa: ANN401
    """Abort what a predecessor's transaction left at the end of a partition without saying how it ended.

    A broker that is killed while it writes the ends of a transaction may never write the rest of them. Nobody reads
    such records until this producer's next transaction ends there: if that is committed, they are as well.
    """
    left = undecided(settings, partitions_of(settings.event_topics))
    if not left:
        return
    log.warning("publisher.undecided", partitions=[f"{one.topic}/{one.partition}" for one in left])
    producer.begin_transaction()
    for one in left:
        producer.send(one.topic, b"", partition=one.partition)
    producer.flush()
    producer.abort_transaction()


def resume(connection: psycopg.Connection[Any], settings: Settings, store_id: str) -> Progress:
    """Find out what the topics hold; raises ForeignHistory if it is not what this store holds.

    A topic that was made anew may hold what was published since, without its beginning: such records are deleted, for
    what lies before them could only be appended behind.
    """
    topic_ids = topics.ids(settings, settings.event_topics)
    noted = _noted(connection)
    everything = noted[EVERYTHING, 0].position if (EVERYTHING, 0) in noted else 0
    partitions = partitions_of(settings.event_topics)
    last, ends = tails(settings, partitions)
    held = {one: verified(connection, record, store_id) for one, record in last.items()}
    rows = {one: noted.get((one.topic, one.partition)) for one in partitions}
    anew = [one for one, row in rows.items() if row is not None and row.topic_id != topic_ids[one.topic]]
    for one in _without_beginning(settings, [one for one in anew if one in held], ends):
        del held[one]
    positions: dict[Place, int] = {}
    lacking = []
    for partition, row in rows.items():
        known = 0 if row is None or partition in anew else row.position
        expired = known if ends[partition] > 0 else 0  # an end above 0 without a record: all have expired
        actual = held.get(partition, expired)
        positions[partition.topic, partition.partition] = actual
        if row is None or partition in anew or actual < known:
            everything = min(everything, actual)
        if row is not None and actual < row.position:
            lacking.append(partition)
    for topic in dict.fromkeys(one.topic for one in lacking):
        log.warning(
            "publisher.refills", topic=topic, partitions=[one.partition for one in lacking if one.topic == topic]
        )
    return Progress(topic_ids, positions, everything)


def _without_beginning(settings: Settings, partitions: Sequence[Any], ends: Mapping[Any, int]) -> list[Any]:
    """Delete the records of those partitions whose first record says that others were published before it."""
    torn = [one for one, record in firsts(settings, partitions).items() if attributes(record).get("previous") != "0"]
    if torn:
        with closing(KafkaAdminClient(**settings.kafka_client)) as admin:
            admin.delete_records({one: ends[one] for one in torn})
    return torn


def _noted(connection: psycopg.Connection[Any]) -> dict[Place, Row]:
    rows = connection.execute("SELECT topic, partition, topic_id, position FROM published")
    return {(row.topic, row.partition): row for row in rows}


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
    looked = monotonic()
    while not stop.is_set():
        LIVE.progressed("looking for events")
        if monotonic() - looked > TOPICS_S:
            _check_topics(settings, progress)
            looked = monotonic()
        rows = connection.execute(_NEXT, (cursor, BATCH), binary=True).fetchall()
        if not rows:
            _wait(connection)
            continue
        cursor = rows[-1].notification_id
        with metrics.work("publish").batch(len(rows)):
            LIVE.doing("publishing a batch", at_most=HANGS_S)
            moved = _send(producer, _records(rows, names, progress, store_id))
            progress.positions |= moved
            progress.everything = cursor
            LIVE.doing("noting what is published")
            _note(connection, progress, moved)


def _check_topics(settings: Settings, progress: Progress) -> None:
    """Raise Unavailable if a topic was made anew meanwhile: the next start fills it from the beginning."""
    now = topics.ids(settings, settings.event_topics)
    if anew := sorted(name for name, topic_id in now.items() if topic_id != progress.topic_ids[name]):
        raise Unavailable(f"{', '.join(anew)} was deleted and made anew while events were published to it")


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
