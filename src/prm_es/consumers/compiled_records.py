"""Records read and written by aiokafka's compiled codec, which comes with Faust, beneath kafka-python.

kafka-python sums up and takes apart each header in Python: with the dozen that a CloudEvent has, that is half of what
a client does. Both libraries descend from the same code, so that a batch means the same to either. What the compiled
codec cannot read goes to kafka-python's own, which says what is wrong with it.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import kafka.producer.kafka as producing
from aiokafka.record.default_records import DefaultRecordBatch as CompiledBatch
from aiokafka.record.default_records import DefaultRecordBatchBuilder as CompiledBuilder
from kafka.record import memory_records
from kafka.record.default_records import DefaultRecord, DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.record.util import calc_crc32c

_ATTRIBUTES: Final = DefaultRecordBatchBuilder.ATTRIBUTES_OFFSET  # two bytes, big-endian
_CRC: Final = DefaultRecordBatchBuilder.CRC_OFFSET
Headers = Sequence[tuple[str, bytes | None]]


def use() -> None:
    """Make every client of this process use them; safe to call again."""
    memory_records.DefaultRecordBatch = _Batch
    memory_records.DefaultRecordBatchBuilder = _Builder
    producing.DefaultRecordBatchBuilder = _Builder


class _Batch(DefaultRecordBatch):  # type: ignore[misc]
    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        if self.is_control_batch or self.compression_type:
            return super().__iter__()  # type: ignore[no-any-return]
        try:
            records = list(CompiledBatch(bytes(self._buffer)))
        except Exception:  # noqa: BLE001 - whatever it is, kafka-python meets it again
            return super().__iter__()  # type: ignore[no-any-return]
        return map(_record, records)


def _record(read: Any) -> Any:  # noqa: ANN401
    key, value = read.key, read.value
    size = len(key or b"") + len(value or b"")  # without headers: a metric of the client is all that asks for it
    return DefaultRecord(size, read.offset, read.timestamp, read.timestamp_type, key, value, read.headers)


class _Builder(DefaultRecordBatchBuilder):  # type: ignore[misc]
    __slots__ = ("_compiled",)

    def __init__(self, **given: Any) -> None:  # noqa: ANN401
        super().__init__(**given)
        self._compiled = CompiledBuilder(**{**given, "is_transactional": 0})

    def set_producer_state(
        self, producer_id: int, producer_epoch: int, base_sequence: int, is_transactional: bool
    ) -> None:
        super().set_producer_state(producer_id, producer_epoch, base_sequence, is_transactional)
        self._compiled.set_producer_state(producer_id, producer_epoch, base_sequence)

    def append(self, offset: int, timestamp: int | None, key: Any, value: Any, headers: Headers) -> Any:  # noqa: ANN401
        try:
            return self._compiled.append(offset, timestamp, key, value, headers)
        except TypeError:  # a name of a kind of its own, such as that of an enumeration: the compiled one takes none
            return self._compiled.append(offset, timestamp, key, value, [(str(name), raw) for name, raw in headers])

    def build(self) -> bytearray:
        built: bytearray = self._compiled.build()
        if self._is_transactional:  # the compiled one must know it before the first record, kafka-python after the last
            built[_ATTRIBUTES + 1] |= self.TRANSACTIONAL_MASK
            built[_CRC:_ATTRIBUTES] = calc_crc32c(memoryview(built)[_ATTRIBUTES:]).to_bytes(4, "big")
        return built

    def size(self) -> int:
        return int(self._compiled.size())

    @classmethod
    def size_of(cls, key: Any, value: Any, headers: Headers) -> int:  # noqa: ANN401
        return int(CompiledBuilder.size_of(key, value, headers))
