"""The data folder: where things lie in it, who holds it, and what a killed run left behind."""

import fcntl
import json
import os
import random
import secrets
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, Self

import psutil
from pydantic import BaseModel, ValidationError

from prm_es.errors import AlreadyRunning, Unavailable
from prm_es.files import write_file

MARK: Final = "PRM_STACK"
"""Environment variable of every child: the folder it serves. It finds children that died before being recorded."""
# Below the range from which Linux gives out ports for outgoing connections, so that nobody takes ours by accident.
PORTS: Final = range(15_000, 32_000)
# psutil computes a start time from the boot time, which a clock adjustment moves a little.
START_TOLERANCE_S: Final = 1.5
HANDOVER_S: Final = 3.0
GLANCE_S: Final = 0.3


class ProcessRecord(BaseModel):
    """A process, known by pid and start time: a pid alone is given to somebody else one day."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> Self:
        """Describe a process that lives; raises psutil.NoSuchProcess."""
        return cls(pid=pid, started=psutil.Process(pid).create_time())

    def find(self) -> psutil.Process | None:
        """Give the process if it still lives and is the one that was recorded."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) <= START_TOLERANCE_S
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


class ChildRecord(BaseModel):
    """A child of the supervisor; `process` is None while it waits to be started again.

    `watch` is where a worker says how it is, as http://HOST:PORT; a server's is empty. `ended_at` and `ended` say when
    and how it ended last.
    """

    process: ProcessRecord | None = None
    restarts: int = 0
    since: datetime | None = None
    watch: str = ""
    ended_at: datetime | None = None
    ended: str = ""


class Away(BaseModel):
    """A server that does not answer."""

    since: datetime
    reason: str


class StackRecord(BaseModel):
    """What `stack.json` tells the other verbs. No passwords: those are in `secrets.json`.

    `api` is the address of the pages, `issuer` that of who lets people in.
    """

    state: Literal["starting", "ready", "stopping"]
    supervisor: ProcessRecord
    started_at: datetime
    prefix: str
    kafka: str = ""
    postgres: str = ""
    api: str = ""
    issuer: str = ""
    children: dict[str, ChildRecord] = {}
    away: dict[str, Away] = {}


class Secrets(BaseModel):
    """Passwords made at random for this folder, and the connection strings of the running servers.

    `session` signs the cookies of the pages.
    """

    superuser: str
    roles: dict[str, str] = {}
    dsns: dict[str, str] = {}
    session: str = ""


@dataclass(frozen=True)
class Folder:
    """Paths of one data folder."""

    root: Path

    @classmethod
    def at(cls, data: Path) -> Self:
        """Name a folder by its absolute path; nothing is made."""
        return cls(data.expanduser().resolve())

    @property
    def lock(self) -> Path:
        """Held by the supervisor as long as it lives; contains its pid."""
        return self.root / "lock"

    @property
    def logs(self) -> Path:
        """One log a child, with rotation."""
        return self.root / "logs"

    def make(self) -> None:
        """Make the folder; raises Unavailable when that cannot be."""
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise Unavailable(f"cannot make the data folder {self.root}: {problem}") from problem

    def record(self) -> StackRecord | None:
        """Read what the last supervisor wrote; None if there is nothing readable."""
        try:
            return StackRecord.model_validate_json((self.root / "stack.json").read_bytes())
        except (OSError, ValidationError):
            return None

    def write_record(self, record: StackRecord) -> None:
        """Replace `stack.json` in one step."""
        write_file(self.root / "stack.json", record.model_dump_json(indent=1))

    def secrets(self) -> Secrets:
        """Read the folder's passwords, made on first use; raises Unavailable if the file was damaged."""
        path = self.root / "secrets.json"
        try:
            return Secrets.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            made = Secrets(superuser=secrets.token_urlsafe(24))
            self.write_secrets(made)
            return made
        except (OSError, ValidationError) as problem:
            raise Unavailable(f"cannot read {path}: {problem}") from problem

    def write_secrets(self, value: Secrets) -> None:
        """Replace `secrets.json` in one step, readable by its owner only."""
        write_file(self.root / "secrets.json", value.model_dump_json(indent=1), mode=0o600)

    def ports(self) -> dict[str, Any]:
        """Give the ports that were given before, by name."""
        try:
            known: dict[str, Any] = json.loads((self.root / "ports.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return known

    def port(self, name: str) -> int:
        """Give the loopback port that `name` had before if it is still free, else a new one, remembered."""
        path, known = self.root / "ports.json", self.ports()
        port = known.get(name)
        if not (isinstance(port, int) and port_is_free(port)):
            port = free_port(avoid=known.values())
            write_file(path, json.dumps({**known, name: port}))
        return port


def port_is_free(port: int) -> bool:
    """Tell whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port(avoid: Iterable[Any] = ()) -> int:
    """Find a loopback port that nobody listens on; raises Unavailable."""
    taken = set(avoid)
    for port in random.sample(PORTS, 200):
        if port not in taken and port_is_free(port):
            return port
    raise Unavailable("found no free port on 127.0.0.1")


class Lock:
    """The exclusive hold on a data folder; it ends with the process, however that ends."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        """Take the folder; raises AlreadyRunning with the pid of the holder."""
        self._folder.make()
        descriptor = os.open(self._folder.lock, os.O_RDWR | os.O_CREAT, 0o644)
        began = time.monotonic()
        while not _try_lock(descriptor):
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            # A killed holder lets go a moment after it has died; a new one writes its pid a moment after it has taken.
            patience = GLANCE_S if _lives(holder) else HANDOVER_S
            if time.monotonic() - began >= patience:
                os.close(descriptor)
                raise AlreadyRunning(f"{self._folder.root} is in use by process {holder or 'unknown'}")
            time.sleep(0.02)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor
        return self

    def __exit__(self, *_exception: object) -> None:
        """Let the folder go."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lives(pid: str) -> bool:
    try:
        return _runs(psutil.Process(int(pid)))
    except (ValueError, psutil.Error):
        return False


def orphans(folder: Folder) -> list[psutil.Process]:
    """Find what a killed supervisor of this folder left running; hold the lock.

    A recorded child counts if pid and start time are the recorded ones; any process counts that carries our mark.
    PostgreSQL is left to `postgres.end_servers`, which knows how to end it.
    """
    record = folder.record()
    children = record.children if record else {}
    recorded = [child.process for name, child in children.items() if child.process and name != "postgres"]
    found = {process.pid: process for process in (known.find() for known in recorded) if process}
    family = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid not in family and process.environ().get(MARK) == str(folder.root):
                found[process.pid] = process
    return list(found.values())


def end(processes: Iterable[psutil.Process], *, patience: float = 10.0) -> list[int]:
    """End processes, gently first, and give their pids once they are gone."""
    processes = list(processes)
    for process in processes:
        with suppress(psutil.Error):
            process.terminate()
    alive = still_alive(processes, patience)
    for process in alive:
        with suppress(psutil.Error):
            process.kill()
    still_alive(alive, 5)
    return [process.pid for process in processes]


def still_alive(processes: Iterable[psutil.Process], patience: float) -> list[psutil.Process]:
    """Wait until processes have ended and give those that have not.

    Not psutil's own wait: to it an orphan that nobody reaps, as in many containers, lives for ever.
    """
    deadline = time.monotonic() + patience
    alive = list(processes)
    while alive := [process for process in alive if _runs(process)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return alive


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def wait_gone(record: ProcessRecord, patience: float) -> bool:
    """Wait until a process that need not be our child has ended; tell whether it has."""
    deadline = time.monotonic() + patience
    while record.find():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
