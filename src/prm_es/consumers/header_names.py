"""Header names that are not UTF-8: kafka-python cannot read past such a record, and everything behind it would wait.

Clients built on librdkafka may write any bytes as a header's name. In such a name, and only there, every byte beyond
ASCII is read as a question mark; the record is then decided, or becomes a dead letter, like any other.
"""

from functools import wraps
from typing import Any

from kafka.record.default_records import DefaultRecordBatch
from kafka.record.util import decode_varint

_QUESTION_MARK = b"?"


def tolerate() -> None:
    """Make every consumer of this process read such records; safe to call again."""
    read = DefaultRecordBatch._read_msg  # noqa: SLF001
    if hasattr(read, "__wrapped__"):
        return

    @wraps(read)
    def tolerant(batch: Any) -> Any:  # noqa: ANN401
        try:
            return read(batch)
        except UnicodeDecodeError:
            _clean(batch._buffer, batch._pos)  # noqa: SLF001
            return read(batch)

    DefaultRecordBatch._read_msg = tolerant  # noqa: SLF001


def _clean(buffer: bytearray, start: int) -> None:
    """Replace, in the names of the headers of the record that starts here, what is not ASCII; lengths stay."""
    position = start
    for _ in ("length", "attributes", "timestamp", "offset"):
        _number, position = decode_varint(buffer, position)
    for _ in ("key", "value"):
        position = _behind(buffer, position)
    count, position = decode_varint(buffer, position)
    for _ in range(count):
        length, begin = decode_varint(buffer, position)
        name = bytes(buffer[begin : begin + length])
        try:
            name.decode()
        except UnicodeDecodeError:
            buffer[begin : begin + length] = b"".join(bytes([b]) if b < 128 else _QUESTION_MARK for b in name)  # noqa: PLR2004
        position = _behind(buffer, begin + length)


def _behind(buffer: bytearray, position: int) -> int:
    """Give the place behind nullable bytes, whose length is -1 for null."""
    length, begin = decode_varint(buffer, position)
    return int(begin) + max(int(length), 0)
