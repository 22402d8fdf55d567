"""In which order commands to different aggregates may be sent, pure.

Commands to one aggregate keep their order in Kafka, commands to different ones do not. So an aggregate whose commands
name another one of the batch waits until all of that one's commands are answered; and a command whose `causationid`
names another command of the batch waits, with what follows it in its aggregate, until that one is answered.
"""

import re
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple

_UUID: Final = re.compile(rb"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class Node(NamedTuple):
    """What of a command matters for the order: whom it is for, and the texts in which it may name others.

    `name` and `cause` are (source, id): its own, and of the command that made its sender send it.
    """

    subject: str
    texts: tuple[bytes, ...]
    name: tuple[str, str] | None = None
    cause: tuple[str, str] | None = None


class _Run(NamedTuple):
    """Commands of one subject that go together: none but the first has a cause, none but the last is one."""

    subject: str
    number: int


def named(texts: Iterable[bytes]) -> set[str]:
    """Give every UUID that stands in the texts, in lower case."""
    return {found.decode().lower() for text in texts for found in _UUID.findall(text)}


class Schedule:
    """Which commands may be sent now: each when those it depends on are answered, and in its aggregate's order.

    Of those that may go, the ones that stand first in the batch go first. Where they wait for one another in a circle,
    the one that comes first in the batch goes first.
    """

    def __init__(self, commands: Sequence[Node]) -> None:
        causes = _causes(commands)
        self._runs = _runs(commands, causes)
        self._places: dict[_Run, list[int]] = defaultdict(list)
        for place, run in enumerate(self._runs):
            self._places[run].append(place)
        after, answered = self._waits(commands, causes)
        self._unanswered = {run: len(places) for run, places in self._places.items()}
        self._missing = {run: len(others) + (run in after) for run, others in answered.items()}
        self._next = {before: run for run, before in after.items()}
        self._waiting: dict[_Run, list[_Run]] = defaultdict(list)
        for run, others in answered.items():
            for other in others:
                self._waiting[other].append(run)
        self._ready = [(self._places[run][0], run) for run, missing in self._missing.items() if not missing]
        self._left = len(commands)
        heapify(self._ready)

    def _waits(
        self, commands: Sequence[Node], causes: Mapping[int, int]
    ) -> tuple[dict[_Run, _Run], dict[_Run, set[_Run]]]:
        """Give of each run the one of its subject that must be sent before it, and those that must be answered."""
        last = {run.subject: run for run in self._runs}
        answered: dict[_Run, set[_Run]] = {run: set() for run in self._runs}
        for place, (command, run) in enumerate(zip(commands, self._runs, strict=True)):
            answered[_Run(run.subject, 0)] |= {
                last[name] for name in named(command.texts) if name in last and name != run.subject
            }
            if place in causes:
                answered[run].add(self._runs[causes[place]])
        after = {run: _Run(run.subject, run.number - 1) for run in answered if run.number}
        depth = _depths({run: others | ({after[run]} if run in after else set()) for run, others in answered.items()})
        return after, {run: {it for it in others if depth[it] < depth[run]} for run, others in answered.items()}

    @property
    def left(self) -> int:
        """Count the commands that were not given out yet."""
        return self._left

    def awaited(self, place: int) -> bool:
        """Tell whether another command waits for the answer of this one."""
        return self._runs[place] in self._waiting

    def take(self, most: int) -> list[int]:
        """Give the places of up to so many commands that may be sent now, in the order in which to send them."""
        taken: list[int] = []
        while self._ready and len(taken) < most:
            start, run = heappop(self._ready)
            places = self._places[run]
            begin = bisect_left(places, start)
            part = places[begin : begin + most - len(taken)]
            taken += part
            if begin + len(part) < len(places):
                heappush(self._ready, (places[begin + len(part)], run))
            elif run in self._next:
                self._settle(self._next[run])
        self._left -= len(taken)
        return taken

    def answered(self, place: int) -> None:
        """Note that the command at this place has its outcome."""
        run = self._runs[place]
        self._unanswered[run] -= 1
        if not self._unanswered[run]:
            for waiting in self._waiting.get(run, ()):
                self._settle(waiting)

    def _settle(self, run: _Run) -> None:
        self._missing[run] -= 1
        if not self._missing[run]:
            heappush(self._ready, (self._places[run][0], run))


def _causes(commands: Sequence[Node]) -> dict[int, int]:
    """Give the place of each command's cause, where that is for another subject of the batch."""
    places = {command.name: place for place, command in enumerate(commands) if command.name}
    found = {place: places[command.cause] for place, command in enumerate(commands) if command.cause in places}
    return {place: cause for place, cause in found.items() if commands[cause].subject != commands[place].subject}


def _runs(commands: Sequence[Node], causes: Mapping[int, int]) -> list[_Run]:
    """Give each command's run, in the order of the batch."""
    ends = set(causes.values())
    number: dict[str, int] = defaultdict(int)
    empty: dict[str, bool] = defaultdict(lambda: True)
    runs = []
    for place, command in enumerate(commands):
        if place in causes and not empty[command.subject]:
            number[command.subject] += 1
        runs.append(_Run(command.subject, number[command.subject]))
        empty[command.subject] = place in ends
        number[command.subject] += place in ends
    return runs


@dataclass
class _Graph:
    """Who waits for whom, and what is settled so far; `names` holds the runs in the order of the batch."""

    names: Mapping[_Run, set[_Run]]
    depth: dict[_Run, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.order = {run: place for place, run in enumerate(self.names)}
        self.waits = {run: set(others) for run, others in self.names.items()}
        self.named_by: dict[_Run, list[_Run]] = defaultdict(list)
        for run, others in self.names.items():
            for other in others:
                self.named_by[other].append(run)

    def settle(self, ready: deque[_Run]) -> None:
        """Give these runs their level, and all that waited for nothing else."""
        while ready:
            run = ready.popleft()
            if run in self.depth:
                continue
            self.depth[run] = 1 + max((self.depth[n] for n in self.names[run] if n in self.depth), default=-1)
            for waiting in self.named_by[run]:
                self.waits[waiting].discard(run)
                if not self.waits[waiting]:
                    ready.append(waiting)

    def first_of_circle(self, start: _Run) -> _Run:
        """Follow the waiting from a run until it comes round, and give the first of that circle.

        A run before it of its own subject is settled: it would be nearer the beginning, and the walk goes there first.
        """
        walked: dict[_Run, int] = {}
        run = start
        while run not in walked:
            walked[run] = len(walked)
            run = min(self.waits[run], key=self.order.__getitem__)
        circle = list(walked)[walked[run] :]
        return min(circle, key=self.order.__getitem__)


def _depths(names: Mapping[_Run, set[_Run]]) -> dict[_Run, int]:
    graph = _Graph(names)
    graph.settle(deque(run for run, others in names.items() if not others))
    for run in names:
        while run not in graph.depth:
            graph.settle(deque([graph.first_of_circle(run)]))
    return graph.depth
