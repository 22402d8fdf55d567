"""The command handler: command topics in, one commit a batch, results and dead letters out, then the offsets."""

from collections.abc import Sequence
from threading import Event
from time import time_ns
from typing import Any, Final

import structlog
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import NoOffsetForPartitionError, OffsetOutOfRangeError
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

BATCH: Final = 500
IDLE_MS: Final = 500


def work(settings: Settings, stop: Event) -> None:
    """Handle commands until stopped; raises Unavailable or KafkaError, with nothing acknowledged."""
    header_names.tolerate()
    with Store(settings) as store:
        consumer = _consumer(settings)
        producer = _producer(settings)
        memory = Memory()
        try:
            while not stop.is_set():
                LIVE.progressed("waiting for commands")
                records = _poll(consumer)
                if records:
                    began = time_ns()
                    with metrics.work("handle").batch(len(records)):
                        LIVE.doing("deciding a batch")
                        answers = dispatch(store, records, memory)
                        LIVE.doing("sending the answers")
                        _produce(settings, producer, answers)
                        LIVE.doing("committing the offsets")
                        consumer.commit(_next_offsets(records))
                    tracing.handled(answers, began)
                    log.debug("commands.handled", records=len(records))
        finally:
            producer.close(timeout=5)
            consumer.close()


def group(settings: Settings) -> str:
    """Name the consumer group of the command handlers."""
    return f"{settings.prefix}.handlers"


def _consumer(settings: Settings) -> Any:  # noqa: ANN401
    return KafkaConsumer(
        *settings.command_topics,
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


def _poll(consumer: Any) -> list[Record]:  # noqa: ANN401
    try:
        polled = consumer.poll(timeout_ms=IDLE_MS)
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


def _next_offsets(records: Sequence[Record]) -> dict[Any, Any]:
    last = {TopicPartition(record.topic, record.partition): record.offset for record in records}
    return {partition: OffsetAndMetadata(offset + 1, "", -1) for partition, offset in last.items()}
