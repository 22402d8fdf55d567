"""In which order commands to different aggregates may be sent: level by level, pure.

Commands to one aggregate keep their order in Kafka, commands to different ones do not. So an aggregate whose commands
name another one of the batch waits until all of that one's commands are answered.
"""

import re
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

_UUID: Final = re.compile(rb"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class Node(NamedTuple):
    """What of a command matters for the order: whom it is for, and the texts in which it may name others."""

    subject: str
    texts: tuple[bytes, ...]


def named(texts: Iterable[bytes]) -> set[str]:
    """Give every UUID that stands in the texts, in lower case."""
    return {found.decode().lower() for text in texts for found in _UUID.findall(text)}


def levels(commands: Sequence[Node]) -> list[list[int]]:
    """Give the places of the commands, level by level; within a level they keep the order of the batch.

    A subject's level is one more than the highest of the subjects that its commands name. Where subjects name one
    another in a circle, the one that comes first in the batch goes first.
    """
    subjects = dict.fromkeys(command.subject for command in commands)
    names: dict[str, set[str]] = {subject: set() for subject in subjects}
    for command in commands:
        names[command.subject] |= {name for name in named(command.texts) if name in subjects}
    for subject, others in names.items():
        others.discard(subject)
    level = _depths(names)
    sent: dict[int, list[int]] = defaultdict(list)
    for place, command in enumerate(commands):
        sent[level[command.subject]].append(place)
    return [sent[depth] for depth in sorted(sent)]


@dataclass
class _Graph:
    """Who names whom, and what is settled so far; `names` holds the subjects in the order of the batch."""

    names: Mapping[str, set[str]]
    depth: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.order = {subject: place for place, subject in enumerate(self.names)}
        self.waits = {subject: set(others) for subject, others in self.names.items()}
        self.named_by: dict[str, list[str]] = defaultdict(list)
        for subject, others in self.names.items():
            for other in others:
                self.named_by[other].append(subject)

    def settle(self, ready: deque[str]) -> None:
        """Give these subjects their level, and all that waited for nothing else."""
        while ready:
            subject = ready.popleft()
            if subject in self.depth:
                continue
            self.depth[subject] = 1 + max((self.depth[n] for n in self.names[subject] if n in self.depth), default=-1)
            for waiting in self.named_by[subject]:
                self.waits[waiting].discard(subject)
                if not self.waits[waiting]:
                    ready.append(waiting)

    def first_of_circle(self, start: str) -> str:
        """Follow the names from a subject that waits until they come round, and give the first of that circle."""
        walked: dict[str, int] = {}
        subject = start
        while subject not in walked:
            walked[subject] = len(walked)
            subject = min(self.waits[subject], key=self.order.__getitem__)
        circle = list(walked)[walked[subject] :]
        return min(circle, key=self.order.__getitem__)


def _depths(names: Mapping[str, set[str]]) -> dict[str, int]:
    graph = _Graph(names)
    graph.settle(deque(subject for subject, others in names.items() if not others))
    for subject in names:
        while subject not in graph.depth:
            graph.settle(deque([graph.first_of_circle(subject)]))
    return graph.depth
