"""Every advisory lock, in one place. The first key tells installations that share a database apart."""

from enum import IntEnum
from zlib import crc32


class Lock(IntEnum):
    """The second key of each lock; those of workers are held for a session, the others for a transaction."""

    APPEND = 1
    MIGRATE = 2
    PUBLISH = 3
    REBUILD = 4
    CONFLICTS = 5
    DEADLINES = 6
    REACTIONS = 7
    ASK = 8
    LETTERS = 9


def keys(prefix: str, lock: Lock) -> tuple[int, int]:
    """Give the pair of 32-bit keys that PostgreSQL's two-argument lock functions take."""
    number = crc32(prefix.encode())
    return number - 2**32 if number >= 2**31 else number, int(lock)
