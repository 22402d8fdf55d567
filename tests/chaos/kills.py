"""Who is killed when: every kind equally often, in an order and after delays that the seed fixes, with work in flight.

A kill counts only if it caught its victim at work. Half of them come at a moment that is looked for: the victim is
stopped, looked at, and killed if it has begun something. The other half come at a gate: a lock held from here keeps the
victim at the last step before its commit, or between one commit and the next.
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

import psycopg

from prm_es.settings import SESSION_S
from prm_es.store.locks import Lock, keys
from tests.chaos.load import Load, Sender
from tests.chaos.stack import Stack, kill, stands_still, until

HANDLERS: Final = ("handle", "handle-2")
PUBLISHERS: Final = ("publish", "publish-2")
PROJECTORS: Final = ("project", "project-2", "project-3")
ORDERED: Final = ("conflicts", "deadlines", "reactions")
SERVERS: Final = ("kafka", "postgres", "supervisor")
FENCED: Final = "publisher-fenced"
OUSTED: Final = "projector-ousted"
PAUSED: Final = "projector-paused"
KINDS: Final = (*HANDLERS, "publisher", *PROJECTORS, *ORDERED, *SERVERS, FENCED, OUSTED, PAUSED)

BURST: Final = 200
SEEK_S: Final = 10.0  # how long a victim is watched for work
OUST_S: Final = SESSION_S + 2.0
PAUSE_S: Final = 1.5


class Missed(Exception):  # noqa: N818
    """The victim was never caught at work, or was not there."""


class Killer:
    def __init__(
        self, stack: Stack, sender: Sender, load: Load, chance: random.Random, burst: int = BURST, live: float = 0.3
    ) -> None:
        self._live = live
        self._stack, self._sender, self._load, self._chance, self._burst = stack, sender, load, chance, burst
        self.kills: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        self.last = 0.0

    def send(self) -> None:
        """Give the sender another burst."""
        self._sender.give(self._load.burst(self._burst, self._live))

    def kill(self, kind: str, *, gate: bool | None = None) -> bool:
        """Send a burst and kill one victim in it; tells whether it counts."""
        gated = self._chance.random() < 0.5
        delay = self._chance.uniform(0, 0.3)
        gated = gated if gate is None else gate
        self.send()
        time.sleep(delay)
        try:
            if kind in SERVERS:
                self._kill_server(kind)
            elif kind == FENCED:
                self._fence_publisher()
            elif kind == OUSTED:
                self._pause_projector("project-2", OUST_S)
            elif kind == PAUSED:
                self._pause_projector("project-3", PAUSE_S)
            else:
                self._kill_worker(kind, gated=gated)
        except (Missed, TimeoutError, psycopg.OperationalError):
            self.missed[kind] += 1
            return False
        self.kills[kind] += 1
        self.last = time.monotonic()
        return True

    # Workers

    def _kill_worker(self, kind: str, *, gated: bool) -> None:
        name = self._active_publisher() if kind == "publisher" else kind
        if gated:
            self._kill_at_gate(name, kind)
            return
        pid = self._stop_at_work(name, lambda pid: self._at_work(kind, pid))
        kill(pid)

    def _kill_at_gate(self, name: str, kind: str) -> None:
        with self._gate(kind):
            pid = self._present(name)
            self._until_at_work(lambda: any(one["waits"] for one in self._stack.sessions(pid)))
            sessions = self._stack.sessions(pid)
            kill(pid)
            # Its statement would go on by itself once the gate opens: the connection dies with it, as from afar.
            for session in sessions:
                self._stack.rows("SELECT pg_terminate_backend(%s, 5000)", session["pid"])

    @contextmanager
    def _gate(self, kind: str) -> Iterator[None]:
        settings = self._stack.settings
        with self._stack.connect(autocommit=False) as connection:
            if kind in HANDLERS:
                connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", keys(settings.prefix, Lock.APPEND))
            elif kind == "publisher":
                connection.execute("LOCK TABLE published IN SHARE MODE")
            else:
                connection.execute(f"LOCK TABLE {settings.projections_schema}.checkpoints IN SHARE MODE".encode())
            yield
            connection.rollback()

    def _stop_at_work(self, name: str, at_work: Callable[[int], bool]) -> int:
        """Stop a process at a moment at which it is at work, and give its pid; it stands still then."""

        def caught() -> int | None:
            pid = self._present(name)
            kill(pid, signal.SIGSTOP)
            try:
                until(lambda: stands_still(pid), "it stands still", 5, 0.002)
                if at_work(pid):
                    return pid
            except BaseException:
                kill(pid, signal.SIGCONT)
                raise
            kill(pid, signal.SIGCONT)
            time.sleep(self._chance.uniform(0.002, 0.03))
            return None

        found: int = self._until_at_work(caught)
        return found

    def _until_at_work(self, look: Callable[[], int | bool | None]) -> int:
        """Look until there is work, with a new burst every few seconds."""
        for _ in range(4):
            with suppress(TimeoutError):
                return int(until(look, "work in flight", SEEK_S / 4, 0.002))
            self.send()
        raise Missed

    def _present(self, name: str) -> int:
        found: int = until(lambda: self._stack.pid(name), f"{name} is there", 30)
        return found

    def _at_work(self, kind: str, pid: int) -> bool:
        if kind == "publisher":
            return self._unpublished() > 0
        return any(one["inside"] for one in self._stack.sessions(pid))

    def _unpublished(self) -> int:
        (row,) = self._stack.rows(
            "SELECT (SELECT max(last_position) FROM commits)"
            " - coalesce((SELECT position FROM published WHERE topic = '*'), 0) AS behind"
        )
        return int(row["behind"])

    def _active_publisher(self, *, but: str = "") -> str:
        def look() -> str | None:
            for name in PUBLISHERS:
                pid = self._stack.pid(name) if name != but else None
                if pid and any(Lock.PUBLISH in one["locks"] for one in self._stack.sessions(pid)):
                    return name
            return None

        found: str = until(look, "a publisher is active", 40)
        return found

    def _fence_publisher(self) -> None:
        """Stop the active publisher past the loss of its lock, let the standby publish, then let the old one go on."""
        name = self._active_publisher()
        pid = self._stop_at_work(name, lambda _pid: self._unpublished() > 0)
        try:
            for session in self._stack.sessions(pid):
                self._stack.rows("SELECT pg_terminate_backend(%s)", session["pid"])
            self._active_publisher(but=name)
            self.send()
            until(lambda: self._unpublished() == 0, "the standby publishes", 60)
            self.send()
        finally:
            kill(pid, signal.SIGCONT)
        until(lambda: self._stack.pid(name) != pid, "the old publisher ends", 60)

    def _pause_projector(self, name: str, seconds: float) -> None:
        """Stop a projector inside a transaction while others are given the same events, then let it go on.

        The second is ousted meanwhile: its partitions are given to another of its group. The third shares no group.
        """
        pid = self._stop_at_work(name, lambda pid: any(one["inside"] for one in self._stack.sessions(pid)))
        try:
            for _ in range(3):
                self.send()
                time.sleep(seconds / 3)
        finally:
            kill(pid, signal.SIGCONT)

    # Servers

    def _kill_server(self, name: str) -> None:
        def busy() -> bool:
            status = self._stack.status()
            return status is not None and not status.settled

        self._until_at_work(busy)
        number = signal.SIGQUIT if name == "postgres" else signal.SIGKILL  # PostgreSQL: immediate shutdown
        pid = self._present(name)
        os.kill(pid, number)
        self._stack.forget()
        if name == "supervisor":
            time.sleep(self._chance.uniform(0, 2))
            self._stack.up()
            return
        until(lambda: self._stack.pid(name) not in (None, pid), f"{name} is started again", 30)


def deal(chance: random.Random, rounds: int, kinds: Sequence[str], times: int) -> list[list[str]]:
    """Deal every kind so many times out to the rounds."""
    deck = [kind for kind in kinds for _ in range(times)]
    chance.shuffle(deck)
    return [deck[number::rounds] for number in range(rounds)]
