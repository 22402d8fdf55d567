"""The compiled codec writes what kafka-python writes, and reads what it reads."""

from collections.abc import Iterator, Sequence
from typing import Any

import kafka.producer.kafka as producing
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.record import memory_records
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder

from prm_es.consumers import compiled_records, header_names

Record = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]

EPOCH = slice(12, 16)  # of the partition's leader: the broker's to write
RECORDS = st.lists(
    st.tuples(
        st.binary(max_size=40) | st.none(),
        st.binary(max_size=400) | st.none(),
        st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=60)), max_size=16),
    ),
    min_size=1,
    max_size=20,
)


@pytest.fixture(autouse=True)
def _given_back() -> Iterator[None]:
    yield
    plain()


def plain() -> None:
    memory_records.DefaultRecordBatch = DefaultRecordBatch
    memory_records.DefaultRecordBatchBuilder = producing.DefaultRecordBatchBuilder = DefaultRecordBatchBuilder


def written(records: Sequence[Record], *, transactional: bool) -> bytes:
    builder = MemoryRecordsBuilder(2, 0, 1 << 20)
    for number, (key, value, headers) in enumerate(records):
        assert builder.append(1_700_000_000_000 + number, key, value, headers)
    if transactional:
        builder.set_producer_state(5, 1, 7, is_transactional=True)
    builder.close()
    content = bytearray(builder.buffer())
    content[EPOCH] = bytes(4)
    return bytes(content)


def read(content: bytes) -> list[Any]:
    batches = list(MemoryRecords(content))
    assert all(batch.validate_crc() for batch in batches)
    return [
        (one.offset, one.timestamp, one.timestamp_type, one.key, one.value, one.headers, one.validate_crc())
        for batch in batches
        for one in batch
    ]


@given(RECORDS, st.booleans())
def test_either_codec_writes_and_reads_the_same(records: list[Record], transactional: bool) -> None:
    plain()
    content = written(records, transactional=transactional)
    seen = read(content)
    compiled_records.use()
    assert written(records, transactional=transactional) == content
    assert read(content) == seen
    assert [one[3:6] for one in seen] == records


def test_a_name_may_be_a_kind_of_text() -> None:
    compiled_records.use()
    content = written([(b"k", b"v", [(Named("ce_id"), b"1")])], transactional=False)
    assert content == written([(b"k", b"v", [("ce_id", b"1")])], transactional=False)


class Named(str):
    __slots__ = ()


def test_a_full_batch_takes_no_more_records() -> None:
    compiled_records.use()
    builder = MemoryRecordsBuilder(2, 0, 1_000)
    taken = [builder.append(1, b"key", b"x" * 300, []) for _ in range(5)]
    assert [one is not None for one in taken] == [True, True, True, False, False]
    assert taken[2].offset == 2


def test_a_header_name_that_is_not_utf8_is_left_to_the_tolerant_reader() -> None:
    compiled_records.use()
    header_names.tolerate()
    content = bytearray(written([(b"k", b"v", [("ce_id", b"1"), ("caf\u00e9s", b"2")])], transactional=False))
    place = content.index("caf\u00e9s".encode())
    content[place : place + 6] = b"caf\xe9\xe9s"
    (seen,) = [one for batch in MemoryRecords(bytes(content)) for one in batch]
    assert [name for name, _value in seen.headers] == ["ce_id", "caf??s"]
