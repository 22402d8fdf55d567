"""A supervised child: its output goes to the console and to a log, and it is started again when it dies."""

import json
import logging
import os
import re
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO, Any, Final

import psutil
from rich.console import Console
from rich.text import Text

from prm_es.errors import PrmError, Unavailable
from prm_es.local.folder import ChildRecord, ProcessRecord

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 10.0
SETTLED_S: Final = 10.0
LOG_BYTES: Final = 5_000_000
LOG_COPIES: Final = 3
LONGEST_REASON: Final = 200
COLOURS: Final = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_green", "bright_magenta")
_ESCAPES: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Spec:
    """What to run and how to end it: each signal of `ending` gets its seconds, then comes SIGKILL."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path | None = None
    user: str | None = None
    ending: Sequence[tuple[signal.Signals, float]] = ((signal.SIGTERM, 15.0),)
    quiet: bool = False
    before: Callable[[], None] = field(default=_nothing)


class Screen:
    """The supervisor's console: a coloured name before every line. `echo=False` shows its own sentences only."""

    def __init__(self, console: Console | None = None, *, echo: bool = True) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self.echo = echo
        self._colours: dict[str, str] = {}

    def line(self, name: str, text: str) -> None:
        """Show one line of a child's output."""
        if not self.echo:
            return
        colour = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
        prefix = Text(f"{name:<11} │ ", style=colour, end="")
        self._print(Text.assemble(prefix, Text.from_ansi(text)))

    def say(self, sentence: str) -> None:
        """Show one sentence of the supervisor's own."""
        self._print(Text(sentence, style="bold"))

    def _print(self, text: Text) -> None:
        with suppress(OSError):  # where nothing can be shown, a disk that is full, children are watched all the same
            self.console.print(text, soft_wrap=True)


def next_pause(last: float, lived: float) -> float:
    """Give the seconds to wait before the next start: doubled each time, from the first again after a long life."""
    return min(last * 2, LONGEST_PAUSE_S) if last and lived <= SETTLED_S else FIRST_PAUSE_S


class Child:
    """One supervised process. Its own session keeps the terminal's Ctrl-C away from it: we end it, in our order."""

    def __init__(
        self, spec: Spec, logs: Path, screen: Screen | None = None, *, changed: Callable[[], None] = _nothing
    ) -> None:
        self.spec = spec
        self.record = ChildRecord()
        self._screen = screen or Screen(echo=False)
        self._changed = changed
        self._guard = threading.Lock()
        self._stopping = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._watch, name=f"watch-{spec.name}", daemon=True)
        self._log = RotatingFileHandler(
            logs / f"{spec.name}.log", maxBytes=LOG_BYTES, backupCount=LOG_COPIES, errors="replace"
        )
        self._last: deque[str] = deque(maxlen=8)

    def start(self) -> None:
        """Start it and keep it running until `stop`."""
        self._thread.start()

    def stop(self, hurry: threading.Event | None = None) -> None:
        """End it and wait until it is gone; when `hurry` is set, without any further patience."""
        with self._guard:
            self._stopping.set()
        process = self._process
        if process:
            for number, patience in self.spec.ending:
                process.send_signal(number)
                if _gone(process, patience, hurry):
                    break
            else:
                with suppress(ProcessLookupError):
                    process.kill()
        if self._thread.ident:
            self._thread.join()
        self._log.close()

    def last_words(self) -> str:
        """Give the last lines it wrote."""
        return "\n".join(self._last)

    def _ended(self, how: str) -> str:
        reason = reason_in(list(self._last))
        return f"{how}: {reason}" if reason else how

    def _watch(self) -> None:
        pause = 0.0
        while not self._stopping.is_set():
            began = time.monotonic()
            how = self._run_once()
            if self._stopping.is_set():
                return
            pause = next_pause(pause, time.monotonic() - began)
            self._screen.say(f"{self.spec.name} {how}, starting again in {pause:.1f} s")
            self.record.restarts += 1
            self.record.ended_at, self.record.ended = datetime.now(UTC), self._ended(how)
            self._changed()
            self._stopping.wait(pause)

    def _run_once(self) -> str:
        """Run it to its end and tell how it ended."""
        try:
            self.spec.before()
            process = self._spawn()
        except (OSError, PrmError, psutil.Error) as problem:
            self._keep(f"could not start: {problem}")
            return f"could not start ({problem})"
        if process is None:
            return "was stopped"
        code = process.wait()
        self.record.process = None
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"

    def _spawn(self) -> subprocess.Popen[str] | None:
        with self._guard:
            if self._stopping.is_set():
                return None
            process = subprocess.Popen(  # noqa: S603 - the supervisor runs what it was built to run
                self.spec.argv,
                env=dict(self.spec.env),
                cwd=self.spec.cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
                **_as_user(self.spec.user),
            )
            _take_turns(process)
            self._process = process
        self.record.process = ProcessRecord.of(process.pid)
        self.record.since = datetime.now(UTC)
        self._changed()
        threading.Thread(target=self._pump, args=(process.stdout,), daemon=True).start()
        return process

    def _pump(self, output: IO[str]) -> None:
        # In a thread of its own: grandchildren may keep the pipe open after the child's death, which is not its end.
        for line in output:
            self._keep(line.rstrip("\n"))

    def _keep(self, line: str) -> None:
        plain = _ESCAPES.sub("", line)
        self._last.append(plain)
        self._log.handle(logging.makeLogRecord({"msg": plain}))
        if not self.spec.quiet:
            self._screen.line(self.spec.name, line)


def reason_in(lines: Sequence[str]) -> str:
    """Give the last reason that a worker's lines name, else its last line."""
    for line in reversed(lines):
        with suppress(ValueError):
            if reason := json.loads(line).get("reason"):
                return " ".join(str(reason).split())[:LONGEST_REASON]
    return next((line.strip()[:LONGEST_REASON] for line in reversed(lines) if line.strip()), "")


def _take_turns(process: subprocess.Popen[str]) -> None:
    """Let what the process wakes up wait for its turn, where the system knows of that: sched(7), SCHED_BATCH.

    A batch goes from process to process; each woken at once takes the core, and its caches, from the one that wakes it.
    """
    if hasattr(os, "SCHED_BATCH"):
        with suppress(OSError):
            os.sched_setscheduler(process.pid, os.SCHED_BATCH, os.sched_param(0))


def _as_user(user: str | None) -> dict[str, Any]:
    return {"user": user, "group": user, "extra_groups": ()} if user else {}


def _gone(process: subprocess.Popen[str], patience: float, hurry: threading.Event | None) -> bool:
    deadline = time.monotonic() + patience
    while process.poll() is None:
        if time.monotonic() > deadline or (hurry and hurry.is_set()):
            return False
        time.sleep(0.02)
    return True


def wait_ready(child: Child, ready: Callable[[], bool], patience: float = 60.0, attempts: int = 4) -> None:
    """Wait until a server answers; raises Unavailable with its last words if it keeps dying or takes too long."""
    deadline = time.monotonic() + patience
    while not ready():
        if child.record.restarts >= attempts or time.monotonic() > deadline:
            raise Unavailable(f"{child.spec.name} does not start:\n{child.last_words()}")
        time.sleep(0.05)
