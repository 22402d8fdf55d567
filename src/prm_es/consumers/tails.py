"""What the events topics end with, and whether that is this store's history."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, Final, LiteralString

import psycopg
from kafka import KafkaConsumer, TopicPartition
from psycopg.rows import namedtuple_row

from prm_es.errors import ForeignHistory
from prm_es.messages import split_state
from prm_es.settings import PARTITIONS, DbRole, Settings
from prm_es.store.sole import sole_row

DIGITS: Final = 19  # of a position, which is a bigint
REPAIR: Final = (
    "either another installation writes there, then use another PRM_PREFIX, or this store was restored from an older"
    " backup: `prm-es repair-topics` fills the topics anew from it"
)


def partitions_of(topics: Sequence[str]) -> list[Any]:
    """Give every partition of these topics."""
    return [TopicPartition(topic, number) for topic in topics for number in range(PARTITIONS)]


def verify(settings: Settings, topics: Sequence[str], role: DbRole = "projector") -> None:
    """Raise ForeignHistory unless each partition's last record is the event that this store holds at its position.

    An event's recorded time and content are compared too: where they agree, so does all that came before.
    """
    with psycopg.connect(settings.dsn(role), autocommit=True, row_factory=namedtuple_row) as connection:
        store_id = str(sole_row(connection, "SELECT store_id FROM store_info").store_id)
        last, _ends = tails(settings, partitions_of(topics))
        for record in last.values():
            verified(connection, record, store_id)


def tails(settings: Settings, partitions: Sequence[Any]) -> tuple[dict[Any, Any], dict[Any, int]]:
    """Give the last committed record of each partition and each end offset, all partitions read at once."""
    with closing(_consumer(settings)) as consumer:
        low, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
        found: dict[Any, Any] = {}
        window = 64
        while missing := [one for one in partitions if one not in found and ends[one] > low[one]]:
            starts = {one: max(low[one], ends[one] - window) for one in missing}
            found |= _last_records(consumer, starts, ends)
            low |= {one: ends[one] for one in missing if starts[one] == low[one]}
            window *= 8
        return found, ends


def undecided(settings: Settings, partitions: Sequence[Any]) -> list[Any]:
    """Give the partitions at whose end stands what is neither committed nor aborted."""
    ends = []
    for isolation in ("read_committed", "read_uncommitted"):
        with closing(_consumer(settings, isolation)) as consumer:
            ends.append(consumer.end_offsets(partitions))
    committed, written = ends
    return [one for one in partitions if committed[one] < written[one]]


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


def firsts(settings: Settings, partitions: Sequence[Any]) -> dict[Any, Any]:
    """Give the first committed record of each partition that has one."""
    if not partitions:
        return {}
    found: dict[Any, Any] = {}
    with closing(_consumer(settings, max_partition_fetch_bytes=65_536)) as consumer:
        ends = consumer.end_offsets(partitions)
        consumer.assign(list(partitions))
        consumer.seek_to_beginning(*partitions)
        while any(one not in found and consumer.position(one) < ends[one] for one in partitions):
            for partition, records in consumer.poll(50).items():
                found.setdefault(partition, records[0])
            consumer.pause(*found)
        return found


def _consumer(settings: Settings, isolation: str = "read_committed", **more: Any) -> Any:  # noqa: ANN401
    return KafkaConsumer(
        **settings.kafka_client, group_id=None, enable_auto_commit=False, isolation_level=isolation, **more
    )


def attributes(record: Any) -> dict[str, str]:  # noqa: ANN401
    """Give the CloudEvents attributes of a record's headers."""
    return {name[3:]: (raw or b"").decode("utf-8", "replace") for name, raw in record.headers if name[:3] == "ce_"}


def verified(connection: psycopg.Connection[Any], record: Any, store_id: str) -> int:  # noqa: ANN401
    """Give the position of a record, checked against the store; raises ForeignHistory. The rows are named tuples."""
    head = attributes(record)
    text = head.get("sequence", "")
    position = int(text) if text.isascii() and text.isdigit() and len(text) < DIGITS else 0
    row = connection.execute(_EVENT, (position,)).fetchone()
    if head.get("storeid") != store_id or row is None or not _same(head, record.value, row):
        raise ForeignHistory(
            f"topic {record.topic} partition {record.partition} ends with position {position} of store"
            f" {head.get('storeid')}, which this store ({store_id}) does not hold: {REPAIR}"
        )
    return position


_EVENT: Final[LiteralString] = (
    "SELECT originator_id, originator_version, topic, state FROM events WHERE notification_id = %s"
)


def _same(head: Mapping[str, str], value: bytes | None, row: Any) -> bool:  # noqa: ANN401
    meta, data = split_state(row.state)
    theirs = (head.get("subject"), head.get("aggregateversion"), head.get("type"), head.get("recordedtime"), value)
    return theirs == (str(row.originator_id), str(row.originator_version), row.topic, meta["recordedtime"], data)
