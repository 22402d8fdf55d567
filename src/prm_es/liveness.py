"""Whether a worker gets on: what it does, since when, and when it last finished something.

Liveness is progress, not a running process: a loop that hangs is dead although its process lives.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import Final, Literal

State = Literal["starting", "active", "standby"]


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of a worker; times in seconds before now. `hangs`: what it does takes longer than it can."""

    state: State
    doing: str
    doing_for: float
    progress_ago: float
    hangs: bool = False

    def stuck(self, within: float) -> bool:
        """Tell whether nothing was finished for longer than `within` seconds."""
        return self.progress_ago > within


class Liveness:
    """Told by the worker's loop, asked by another thread; each telling is one assignment."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        now = clock()
        self._clock = clock
        self._state: State = "starting"
        self._doing: tuple[str, float, float] = ("starting", now, inf)
        self._progressed = now

    def doing(self, what: str, at_most: float = inf) -> None:
        """Say what begins now, and after how many seconds it can only hang; nothing is finished by that."""
        self._doing = (what, self._clock(), at_most)

    def progressed(self, doing: str) -> None:
        """Say that a batch or a look is through, and what begins now."""
        now = self._clock()
        self._state = "active"
        self._doing = (doing, now, inf)
        self._progressed = now

    def standby(self) -> None:
        """Say that another process was found to be active, and that this one is there."""
        now = self._clock()
        if self._state != "standby":
            self._state = "standby"
            self._doing = ("standing by: another process is active", now, inf)
        self._progressed = now

    def report(self) -> Report:
        """Give what is known now."""
        now = self._clock()
        doing, since, at_most = self._doing
        return Report(self._state, doing, now - since, now - self._progressed, now - since > at_most)


LIVE: Final = Liveness()
"""This process's: one process is one worker."""
