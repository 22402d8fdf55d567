"""In which order commands to different aggregates may be sent: level by level, pure.

Commands to one aggregate keep their order in Kafka, commands to different ones do not. So an aggregate whose commands
name another one of the batch waits until all of that one's commands are answered; and a command whose `causationid`
names another command of the batch waits, with what follows it in its aggregate, until that one is answered.
"""

import re
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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


def levels(commands: Sequence[Node]) -> list[list[int]]:
    """Give the places of the commands, level by level; within a level they keep the order of the batch.

    A command's level is one more than the highest of the commands before it that it must wait for. Where they wait for
    one another in a circle, the one that comes first in the batch goes first.
    """
    causes = _causes(commands)
    runs = _runs(commands, causes)
    last = {run.subject: run for run in runs}
    waits: dict[_Run, set[_Run]] = {run: set() for run in runs}
    for place, (command, run) in enumerate(zip(commands, runs, strict=True)):
        first = _Run(run.subject, 0)
        waits[first] |= {last[name] for name in named(command.texts) if name in last and name != run.subject}
        if run.number:
            waits[run].add(_Run(run.subject, run.number - 1))
        if place in causes:
            waits[run].add(runs[causes[place]])
    level = _depths(waits)
    sent: dict[int, list[int]] = defaultdict(list)
    for place, run in enumerate(runs):
        sent[level[run]].append(place)
    return [sent[depth] for depth in sorted(sent)]


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
