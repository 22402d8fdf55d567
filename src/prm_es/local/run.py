"""What `prm-es up`, `down` and `up --reset` do."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

from rich.console import Console

from prm_es.api.issuer.logins import LOGINS
from prm_es.consumers import topics
from prm_es.errors import Unavailable, Usage
from prm_es.local.connect import running
from prm_es.local.folder import Folder, Lock, StackRecord, wait_gone
from prm_es.local.kafka import find_jars
from prm_es.local.processes import Screen
from prm_es.local.stack import WORKERS, Stack, Step, Worker, clear, environment_of
from prm_es.settings import Settings
from prm_es.store.migrate import migrate

_DETACHED: Final = "PRM_DETACHED"
START_PATIENCE_S: Final = 180.0
STOP_PATIENCE_S: Final = 120.0


def run_foreground(
    settings: Settings,
    *,
    workers: Sequence[Worker] = WORKERS,
    console: Console | None = None,
    steps: tuple[Step, Step] = (migrate, topics.create),
) -> None:
    """Run everything until Ctrl-C or SIGTERM, then stop it in order; a second Ctrl-C hurries.

    Raises AlreadyRunning with the pid of who holds the data folder, Unavailable when something does not start, and
    KeyboardInterrupt when it was interrupted before it was ready.
    """
    began = time.monotonic()
    screen = Screen(console, echo=not os.environ.pop(_DETACHED, ""))
    stack = Stack(settings, migrate=steps[0], topics=steps[1], workers=workers, screen=screen)
    with _Signals(stack).caught() as asked, stack:
        ready = stack.start()
        asked.up.set()
        where = f"Kafka {ready.kafka}, PostgreSQL {stack.postgres_address}, data {stack.folder.root}"
        screen.say(f"ready in {time.monotonic() - began:.1f} s: {where}")
        for line in _pages(stack.record):
            screen.say(line)
        asked.stop.wait()
        screen.say("stopping (once more to hurry)")
    screen.say("stopped")


def _pages(record: StackRecord | None) -> Iterator[str]:
    """Say where the pages are and, of the development issuer, who may log in."""
    if record and record.api:
        yield f"pages at {record.api}"
        if "issuer" in record.children:
            logins = ", ".join(f"{one.name} ({one.role.value.replace('_', ' ')})" for one in LOGINS)
            yield f"log in there, without a password, as {logins}"


class _Signals:
    """Ctrl-C, SIGTERM and a closed terminal: interrupt a start, end a run, and hurry an end."""

    def __init__(self, stack: Stack) -> None:
        self.up = threading.Event()
        self.stop = threading.Event()
        self._stack = stack

    @contextmanager
    def caught(self) -> Iterator["_Signals"]:
        """Take the signals for as long as the context lasts."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, self._handle) for number in numbers}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self.stop.is_set():
            self._stack.hurry.set()
            return
        self.stop.set()
        if not self.up.is_set():
            raise KeyboardInterrupt


def run_detached(
    settings: Settings,
    *,
    console: Console | None = None,
    command: Sequence[str] = (sys.executable, "-m", "prm_es", "up"),
    patience: float = START_PATIENCE_S,
) -> StackRecord:
    """Start a supervisor of its own session and wait until it is ready.

    Raises AlreadyRunning, or Unavailable with the last lines of its log when it died or took too long.
    """
    folder = Folder.at(settings.data)
    with Lock(folder):
        # Only to see that nobody else has it: the supervisor takes it for good.
        pass
    if not settings.kafka:
        # Here, where the progress can be seen.
        find_jars(settings)
    process = _spawn(folder, command, {**environment_of(settings, secret=True), "PRM_DATA": str(folder.root)})
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        record = running(folder.root)
        if record and record.supervisor.pid == process.pid and record.state == "ready":
            screen = Screen(console)
            screen.say(f"runs in the background as process {process.pid}: `prm-es down` stops it")
            for line in _pages(record):
                screen.say(line)
            return record
        if process.poll() is not None:
            raise Unavailable(f"it did not start (exit code {process.returncode}):\n{_tail(folder)}")
        time.sleep(0.1)
    process.terminate()
    raise Unavailable(f"it was not ready within {patience:.0f} s:\n{_tail(folder)}")


def _spawn(folder: Folder, command: Sequence[str], environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    log = folder.logs / "supervisor.log"
    if log.exists():
        log.replace(log.with_suffix(".log.1"))
    with log.open("wb") as output:
        return subprocess.Popen(  # noqa: S603 - this program again
            [*command, "--data", str(folder.root)],
            env={**os.environ, **environment, _DETACHED: "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _tail(folder: Folder, lines: int = 15) -> str:
    text = (folder.logs / "supervisor.log").read_text(errors="replace")
    return "\n".join(text.splitlines()[-lines:])


def stop(data: Path, patience: float = STOP_PATIENCE_S) -> str:
    """Stop what runs in a data folder and say what happened; raises Unavailable if it does not end in time."""
    folder = Folder.at(data)
    record = running(data)
    if record:
        supervisor = record.supervisor.find()
        if supervisor:
            supervisor.terminate()
        if not wait_gone(record.supervisor, patience):
            raise Unavailable(f"process {record.supervisor.pid} was told to stop {patience:.0f} s ago and still runs")
        return f"stopped process {record.supervisor.pid} and its {len(record.children)} children"
    if not folder.lock.exists():
        return f"nothing runs in {data}"
    with Lock(folder):
        left = clear(folder)
        (folder.root / "stack.json").unlink(missing_ok=True)
    return f"ended {len(left)} processes that a killed run had left behind" if left else f"nothing runs in {data}"


def reset(data: Path) -> None:
    """Remove everything in a data folder; raises AlreadyRunning while it is in use, Usage if it is not ours."""
    folder = Folder.at(data)
    if not folder.root.exists() or not any(folder.root.iterdir()):
        return
    if not folder.lock.exists():
        raise Usage(f"{folder.root} is not a data folder of prm-es: nothing was removed")
    with Lock(folder):
        clear(folder)
        for path in folder.root.iterdir():
            if path == folder.lock:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
