"""The command handler: command topics in, one commit a batch, results and dead letters out, then the offsets."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from time import time_ns
from typing import Any, Final

import structlog
from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import (
    CommitFailedError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    RebalanceInProgressError,
)
from kafka.structs import OffsetAndMetadata

from prm_es import metrics, tracing
from prm_es.consumers import header_names
from prm_es.dispatch import Answer, Record, dispatch
from prm_es.errors import Unavailable
from prm_es.liveness import LIVE
from prm_es.partitions import partition_of
from prm_es.settings import SESSION_S, Settings
from prm_es.store.store import Store
from prm_es.workspace import Memory

log = structlog.get_logger()

BATCH: Final = 1_000
IDLE_MS: Final = 500


def work(settings: Settings, stop: Event) -> None:
    """Handle commands until stopped; raises Unavailable or KafkaError, with nothing acknowledged."""
    header_names.tolerate()
    with Store(settings) as store:
        consumer = _consumer(settings)
        producer = _producer(settings)
        answering = _Answering(settings, consumer, producer)
        memory = Memory()
        try:
            while not stop.is_set():
                records = _poll(consumer, 0 if answering.under_way else IDLE_MS)
                if not records:
                    answering.settle()
                    continue
                began = time_ns()
                with metrics.work("handle").batch(len(records)):
                    LIVE.doing("deciding a batch")
                    answers = dispatch(store, records, memory)
                    answering.settle()
                    answering.begin(records, answers)
                tracing.handled(answers, began)
                log.debug("commands.handled", records=len(records))
            answering.settle()
        finally:
            answering.close()
            producer.close(timeout=5)
            consumer.close()


class _Answering(ConsumerRebalanceListener):  # type: ignore[misc]
    """Sends the answers of one batch while the next is decided; its offsets are committed once all are sent.

    While the group shares out its partitions anew nothing can be committed, and trying disturbs the consumer's joining.
    What another handler has then is given to it again, and answered as before; what stays here is not: its offsets are
    committed once all is shared out.
    """

    def __init__(self, settings: Settings, consumer: Any, producer: Any) -> None:  # noqa: ANN401
        self._settings, self._consumer, self._producer = settings, consumer, producer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="answers")
        self._under_way: Future[None] | None = None
        self._answered: dict[Any, int] = {}  # the offsets to commit
        self._sharing_out = False
        consumer.subscribe(settings.command_topics, listener=self)

    def on_partitions_revoked(self, _revoked: object) -> None:
        """Commit nothing from now on."""
        self._sharing_out = True

    def on_partitions_assigned(self, _assigned: object) -> None:
        """Commit from now on what stayed here."""
        self._sharing_out = False
        here = self._consumer.assignment()
        self._answered = {place: offset for place, offset in self._answered.items() if place in here}

    @property
    def under_way(self) -> bool:
        """Tell whether a batch is not settled yet."""
        return self._under_way is not None

    def begin(self, records: Sequence[Record], answers: Sequence[Answer]) -> None:
        """Send the answers to these records."""
        self._under_way = self._thread.submit(_produce, self._settings, self._producer, answers)
        self._answered |= {TopicPartition(one.topic, one.partition): one.offset + 1 for one in records}

    def settle(self) -> None:
        """Wait until all is sent, and commit; raises KafkaError."""
        if self._under_way is not None:
            sent, self._under_way = self._under_way, None
            LIVE.doing("sending the answers")
            sent.result()
        if self._answered and not self._sharing_out:
            LIVE.doing("committing the offsets")
            self._commit()
        LIVE.progressed("waiting for commands")

    def _commit(self) -> None:
        try:
            self._consumer.commit({one: OffsetAndMetadata(offset, "", -1) for one, offset in self._answered.items()})
            self._answered = {}
        except (CommitFailedError, RebalanceInProgressError) as error:
            self._sharing_out = True
            log.info("commands.offsets_not_committed", reason=type(error).__name__)

    def close(self) -> None:
        """End the thread; whatever is under way is not acknowledged."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def group(settings: Settings) -> str:
    """Name the consumer group of the command handlers."""
    return f"{settings.prefix}.handlers"


def _consumer(settings: Settings) -> Any:  # noqa: ANN401
    return KafkaConsumer(
        **settings.kafka_client,
        group_id=group(settings),
        enable_auto_commit=False,
        auto_offset_reset="none",  # a group's first start is handled below; anything else is an alarm
        allow_auto_create_topics=False,
        max_poll_records=BATCH,
        fetch_max_wait_ms=100,
        session_timeout_ms=1000 * SESSION_S,
        heartbeat_interval_ms=1_000,
    )


def _producer(settings: Settings) -> Any:  # noqa: ANN401
    return KafkaProducer(
        **settings.kafka_client,
        linger_ms=100,  # every batch is flushed at once: until then records gather instead of going out one by one
        batch_size=131_072,
        delivery_timeout_ms=31_000,
    )


def _poll(consumer: Any, timeout_ms: int) -> list[Record]:  # noqa: ANN401
    try:
        polled = consumer.poll(timeout_ms=timeout_ms)
    except NoOffsetForPartitionError:
        new = [partition for partition in consumer.assignment() if consumer.committed(partition) is None]
        if new:  # after a rebalance, none may be
            consumer.seek_to_beginning(*new)
        return []
    except OffsetOutOfRangeError as error:
        raise Unavailable(
            "commands were deleted before they were handled (the committed offset is out of range): "
            f"{error}. Decide what to do about them, then set the group's offsets"
        ) from error
    return [
        Record(record.topic, record.partition, record.offset, record.headers, record.value)
        for records in polled.values()
        for record in records
    ]


def _produce(settings: Settings, producer: Any, answers: Sequence[Answer]) -> None:  # noqa: ANN401
    topics = {True: settings.dead_letters_topic, False: settings.results_topic}
    futures = [
        producer.send(
            topics[answer.dead],
            answer.value,
            key=answer.key,
            headers=list(answer.headers),
            partition=None if answer.subject is None else partition_of(answer.subject),
        )
        for answer in answers
    ]
    producer.flush()
    for future in futures:
        future.get(timeout=0)
