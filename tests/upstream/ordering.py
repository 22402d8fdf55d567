"""Orders in which the commands of a schedule may be decided: for tests of what senders make."""

from collections import deque
from collections.abc import Iterator, Sequence
from random import Random

from prm_es.upstream.schedule import Node, Schedule


def rounds(commands: Sequence[Node]) -> list[list[int]]:
    """Give the places round by round, where all of a round are answered before the next."""
    schedule, found = Schedule(commands), list[list[int]]()
    while schedule.left:
        found.append(sorted(schedule.take(len(commands))))
        for place in found[-1]:
            schedule.answered(place)
    return found


def by_chance(commands: Sequence[Node], random: Random, window: int = 500) -> Iterator[int]:
    """Give the places as they might be decided: each subject in its order, subjects in any, the window never full."""
    schedule, queues = Schedule(commands), dict[str, deque[int]]()
    waiting = 0
    while schedule.left or waiting:
        for place in schedule.take(window - waiting):
            queues.setdefault(commands[place].subject, deque()).append(place)
            waiting += 1
        subject = random.choice(list(queues))
        place = queues[subject].popleft()
        if not queues[subject]:
            del queues[subject]
        waiting -= 1
        yield place
        schedule.answered(place)
