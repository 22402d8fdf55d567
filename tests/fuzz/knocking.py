"""Giving records to the door and counting what comes of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from time import monotonic

import orjson

from prm_es.dispatch import Answer, Record, dispatch
from prm_es.errors import Unavailable
from prm_es.settings import Settings
from prm_es.store.store import Store
from prm_es.workspace import Memory
from tests.support import rows

BATCH = 500
OnProgress = Callable[[int], None]


@dataclass
class Tally:
    """What became of the inputs; `crashed` and `dropped` name the records by their place."""

    inputs: int = 0
    answered: int = 0
    dead: int = 0
    crashed: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    commands: set[tuple[str, str]] = field(default_factory=set)
    places: set[tuple[str, int, int]] = field(default_factory=set)

    def __str__(self) -> str:
        return (
            f"inputs={self.inputs} answered={self.answered} dead={self.dead}"
            f" crashed={len(self.crashed)} dropped={len(self.dropped)}"
        )


def knock(
    settings: Settings, records: Iterator[Record], most: int, seconds: float, on_progress: OnProgress = lambda _n: None
) -> Tally:
    """Give up to so many records within so many seconds, then compare the answers with what the store holds."""
    tally, memory, until = Tally(), Memory(), monotonic() + seconds
    before = _held(settings)
    with Store(settings) as store:
        while tally.inputs < most and monotonic() < until:
            batch = list(islice(records, min(BATCH, most - tally.inputs)))
            tally.inputs += len(batch)
            _give(store, batch, memory, tally)
            on_progress(tally.inputs)
    _compare(before, _held(settings), tally)
    return tally


def _give(store: Store, batch: Sequence[Record], memory: Memory, tally: Tally) -> None:
    """Give a batch; one that falls over is halved until it is known which record it was."""
    try:
        answers = dispatch(store, batch, memory)
    except Unavailable:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, it would have ended the worker
        if len(batch) == 1:
            tally.crashed.append(f"{_name(batch[0])}: {type(error).__name__}: {error}"[:300])
            return
        half = len(batch) // 2
        _give(store, batch[:half], memory, tally)
        _give(store, batch[half:], memory, tally)
        return
    for record, answer in zip(batch, answers, strict=True):
        _count(record, answer, tally)


def _count(record: Record, answer: Answer, tally: Tally) -> None:
    content = orjson.loads(answer.value)
    if answer.dead:
        tally.dead += 1
        tally.places.add((record.topic, record.partition, record.offset))
        if (content["topic"], content["partition"], content["offset"]) != (
            record.topic,
            record.partition,
            record.offset,
        ):
            tally.dropped.append(f"{_name(record)}: its dead letter names another place")
        if content["code"] == "command.failed":
            tally.crashed.append(f"{_name(record)}: deciding it failed")
    elif content["outcome"] in ("accepted", "refused"):
        tally.answered += 1
        tally.commands.add((content["source"], content["id"]))
    else:
        tally.dropped.append(f"{_name(record)}: no outcome")


def _name(record: Record) -> str:
    return f"{record.topic}/{record.partition}/{record.offset}"


Held = tuple[set[tuple[str, str]], set[tuple[str, int, int]]]


def _held(settings: Settings) -> Held:
    """Give the ids of the commands and the places of the dead letters that the store holds."""
    commands = {(row["source"], row["id"]) for row in rows(settings, "SELECT source, id FROM commands")}
    letters = rows(settings, "SELECT topic, partition, record_offset FROM dead_letters")
    return commands, {(row["topic"], row["partition"], row["record_offset"]) for row in letters}


def _compare(before: Held, after: Held, tally: Tally) -> None:
    """Every answer must stand in the store, and nothing else."""
    for name, one in after[0] ^ (before[0] | tally.commands):
        tally.dropped.append(f"{name}#{one}: outcome and store differ")
    for place in after[1] ^ (before[1] | tally.places):
        tally.dropped.append(f"{place}: dead letter and store differ")
