"""What is known of a customer: who it is, folded, and the keys under which it is found.

To make that of a thousand customers keeps a core busy for a fifth of the time that it takes to fold them. A process of
its own, `python -m prm_es.projections.known`, makes it of many on another core: it reads a line with parts of customers
and writes a line for each part, and ends with its standard input.
"""

import dataclasses
import subprocess
import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing, suppress
from functools import cache, lru_cache
from threading import Lock
from typing import IO, Final
from uuid import UUID

import structlog
from pydantic import TypeAdapter

from prm_es.aggregates.fields import Customer, record_of
from prm_es.matching.identity import identity_of
from prm_es.matching.keys import key_of, keys_of
from prm_es.matching.packed import pack
from prm_es.store.vault import TOKEN

log = structlog.get_logger()

Told = tuple[Customer | None, tuple[str, ...]]  # a customer, and the keys by which alone it is the same one
Parts = Sequence[Sequence[Told]]


@dataclasses.dataclass(frozen=True)
class Known:
    """What is known of a customer: the individuals whom it names, its identity, packed, and all its keys."""

    people: tuple[UUID, ...]
    identity: str | None
    keys: tuple[int, ...]


@lru_cache(maxsize=4096)  # a batch asks for each customer twice
def known_of(customer: Customer | None, customer_keys: tuple[str, ...]) -> Known:
    """Give what is compared of a customer; of an individual that is who it is, by the id of its own, and no more."""
    return _brought.pop((customer, customer_keys), None) or _made(customer, customer_keys)


def _made(customer: Customer | None, customer_keys: tuple[str, ...]) -> Known:
    people = _people(customer) if customer else ()
    exact = exact_keys(customer_keys, people)
    if customer is None or customer.individual:
        return Known(people, None, tuple(sorted(exact)))
    identity = identity_of(dataclasses.replace(record_of(customer, "root"), keys=customer_keys))
    return Known(people, pack(identity), tuple(sorted({*exact, *map(key_of, keys_of(identity))})))


def _people(customer: Customer) -> tuple[UUID, ...]:
    """Give the ids of the individuals whose tax ids these are: they were sealed under a key of that id."""
    found = (TOKEN.fullmatch(one.value) for one in customer.tax_ids if one.individual)
    return tuple(sorted({UUID(hex=token.group(1)) for token in found if token}))


def exact_keys(customer_keys: Iterable[str], people: Iterable[UUID]) -> list[int]:
    """Give the digests of the keys that alone say who it is: no crowd under them is passed over."""
    return [key_of(one) for one in (*customer_keys, *(f"person:{one}" for one in people))]


# Of many at once

MANY: Final = 250  # from so many on it is worth the way there and back
_IN_USE: Final = Lock()
_brought: Final[dict[Told, Known]] = {}  # by the other process, not asked for yet


def known_of_each(parts: Parts) -> Generator[Sequence[Known]]:
    """Give what is known of each customer, part by part; of many, the next are made while one part is used."""
    with closing(_answers(parts)) as answers:
        for part in parts:
            _brought.update(zip(part, next(answers, ()), strict=False))
            yield [known_of(*one) for one in part]
            _brought.clear()  # of what was asked for before, it was not needed


def _answers(parts: Parts) -> Generator[Sequence[Known]]:
    """Give the other process's answers; none for a few customers or while another thread asks, fewer if it ends."""
    if sum(map(len, parts)) < MANY or not _IN_USE.acquire(blocking=False):
        return
    try:
        yield from _asked(_helper(), parts)
    finally:
        _IN_USE.release()


def _asked(helper: subprocess.Popen[bytes], parts: Parts) -> Generator[Sequence[Known]]:
    left = len(parts)
    try:
        _pipe(helper.stdin).write(_questions().dump_json(parts) + b"\n")
        _pipe(helper.stdin).flush()
        while left and (line := _pipe(helper.stdout).readline()):
            left -= 1
            yield _answer().validate_json(line)
    except BrokenPipeError:
        pass
    finally:
        if left:  # answers that nobody reads would be taken for those to the next question
            _end(helper)


@cache
def _helper() -> subprocess.Popen[bytes]:
    # In a group of its own: Ctrl-C is for the worker, with which it ends.
    command = [sys.executable, "-m", __name__]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0)  # noqa: S603


def _end(helper: subprocess.Popen[bytes]) -> None:
    _helper.cache_clear()
    helper.kill()
    log.warning("known.helper_ended", pid=helper.pid, code=helper.wait())
    for pipe in (helper.stdin, helper.stdout):
        with suppress(BrokenPipeError):
            _pipe(pipe).close()


def _pipe(end: IO[bytes] | None) -> IO[bytes]:
    if end is None:
        raise AssertionError("both ends are pipes")
    return end


@cache
def _questions() -> TypeAdapter[Parts]:
    return TypeAdapter(list[list[Told]])


@cache
def _answer() -> TypeAdapter[Sequence[Known]]:
    return TypeAdapter(list[Known])


def _serve() -> None:
    for line in sys.stdin.buffer:
        for part in _questions().validate_json(line):
            sys.stdout.buffer.write(_answer().dump_json([_made(*one) for one in part]) + b"\n")
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    _serve()
