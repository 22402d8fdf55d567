"""What is killed: a real `prm-es up --detach`, and beside it a second handler, publisher and projectors."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final, Self

import psutil
import psycopg
from kafka.errors import KafkaError
from psycopg.rows import dict_row

import prm_es
from prm_es.consumers import commands
from prm_es.errors import PrmError
from prm_es.local.connect import settings_for
from prm_es.local.folder import Folder
from prm_es.projections.registry import READ_MODELS
from prm_es.settings import Settings
from prm_es.status import Observer, Status

PATCHES: Final = Path(__file__).with_name("broken")
IMPORT_QUIET_S: Final = 0.5  # below the time for which settled means still
MODELS: Final = ("pipeline", "leads", "performance")
# The second projector is of the supervised one's group: partitions move between them. The third, with the same read
# models in another order, is of a group of its own, so that every batch meets another owner at the checkpoints.
EXTRAS: Final[Mapping[str, tuple[str, ...]]] = {
    "handle-2": ("handle",),
    "publish-2": ("publish",),
    "project-2": ("project", *MODELS),
    "project-3": ("project", *reversed(MODELS)),
}
ROLES: Final = {"handle": "writer", "publish": "writer"}


def until(look: Callable[[], Any], what: str, seconds: float = 60.0, pause: float = 0.05) -> Any:
    """Look again and again until there is something; raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(pause)
    return seen


def environment(mutant: str | None, marks: Path) -> dict[str, str]:
    """Give the environment of what is killed; a mutant's patch comes by way of the Python path."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("PRM_", "CHAOS_"))}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)  # or every start would compile the whole product anew
    kept |= {name: os.environ[name] for name in ("PRM_CACHE", "PRM_MAVEN", "PRM_KAFKA_JARS") if name in os.environ}
    path = [str(Path(prm_es.__file__).parents[1])]
    if mutant:
        path += [str(PATCHES), str(PATCHES.parents[2])]
        kept |= {"CHAOS_MUTANT": mutant, "CHAOS_MARKS": str(marks)}
    return {**kept, "PYTHONPATH": os.pathsep.join(path), "PRM_IMPORT_QUIET": str(IMPORT_QUIET_S)}


class Extra:
    """A worker beside the supervised ones, started again whenever it ends."""

    def __init__(self, name: str, env: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None
        self._env, self._log = env, folder / f"{name}.log"
        self._stop = Event()
        self._thread = Thread(target=self._watch, name=name, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.is_set():
            with self._log.open("ab") as log:
                argv = [sys.executable, "-m", "prm_es", *EXTRAS[self.name]]
                self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._env)
            self.process.wait()
            self._stop.wait(0.3)

    def end(self) -> int | None:
        """Stop it as a supervisor does and give its exit code; one that does not end in time is killed."""
        self._stop.set()
        process = self.process
        if process is None:
            return None
        process.terminate()
        try:
            code = process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait(timeout=10)
        self._thread.join(timeout=10)
        return code


class Stack:
    """A data folder with everything that runs in it; leaving it leaves nothing behind."""

    def __init__(self, data: Path, mutant: str | None = None, servers: Sequence[str] = ()) -> None:
        self.data = data
        self._servers = servers
        self.marks = data.with_name(f"{data.name}-marks")
        self.extras: dict[str, Extra] = {}
        self._env = environment(mutant, self.marks)
        self._settings: Settings | None = None
        self._observer: Observer | None = None
        self._connection: psycopg.Connection[dict[str, Any]] | None = None

    def __enter__(self) -> Self:
        self.marks.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_exception: object) -> None:
        for extra in self.extras.values():
            extra.end()
        self.forget()
        self.cli("down", check=False)

    # Verbs

    def cli(self, *arguments: str, check: bool = True, timeout: float = 300) -> "subprocess.CompletedProcess[str]":
        """Run a verb of the product on this data folder."""
        argv = [sys.executable, "-m", "prm_es", *arguments, "--data", str(self.data)]
        done = subprocess.run(argv, env=self._env, capture_output=True, text=True, timeout=timeout, check=False)
        if check and done.returncode:
            raise RuntimeError(
                f"prm-es {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done

    def up(self) -> None:
        """Start everything; raises RuntimeError if it does not start, or comes back at another address."""
        self.cli("up", "--detach", *self._servers)
        self.forget()
        found = settings_for(self.data, Settings(data=self.data))
        if self._settings is not None and (found.kafka, found.postgres) != (
            self._settings.kafka,
            self._settings.postgres,
        ):
            raise RuntimeError("the servers came back at another address")
        self._settings = found

    def stop_workers(self) -> None:
        """Stop everything but servers that are not its own, and its connections."""
        self.forget()
        self.cli("down")

    def down(self) -> None:
        """Stop everything cleanly, the extra workers first."""
        for extra in self.extras.values():
            extra.end()
        self.extras.clear()
        self.stop_workers()

    def start_extras(self) -> None:
        for name, arguments in EXTRAS.items():
            role = ROLES.get(arguments[0], "projector")
            settings = self.settings
            dsn = getattr(settings, f"postgres_{role}")
            env = {**self._env, "PRM_KAFKA": settings.kafka, f"PRM_POSTGRES_{role.upper()}": dsn}
            env |= {"PRM_DATA": str(self.data), "PRM_LOG_FORMAT": "json"}
            self.extras[name] = Extra(name, env, Folder.at(self.data).logs)

    # What runs

    @property
    def settings(self) -> Settings:
        if self._settings is None:
            raise RuntimeError("not up yet")
        return self._settings

    def settings_of_servers(self) -> Settings:
        """Give settings under which the folder's own servers are started again."""
        return Settings(data=self.data)

    def groups(self) -> dict[str, list[str]]:
        """Give the consumer groups with the topics that they read."""
        settings = self.settings
        models = [READ_MODELS[name] for name in MODELS]
        events = [settings.event_topic(name) for name in ("partner", "lead", "opportunity")]
        names = ["+".join(f"{one.name}-v{one.version}" for one in order) for order in (models, models[::-1])]
        named = {f"{settings.prefix}.projector.{name}": events for name in names}
        return {commands.group(settings): settings.command_topics, **named}

    def pid(self, name: str) -> int | None:
        """Give the process of a worker, a server or the supervisor; None while it is not there."""
        if name in self.extras:
            process = self.extras[name].process
            return process.pid if process and process.poll() is None else None
        record = Folder.at(self.data).record()
        if record is None:
            return None
        known = record.supervisor if name == "supervisor" else record.children[name].process
        found = known.find() if known else None
        return found.pid if found else None

    def rows(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        """Ask the database as its superuser; raises psycopg.OperationalError while it is away."""
        if self._connection is None or self._connection.closed:
            self._connection = self.connect()
        try:
            cursor = self._connection.execute(query.encode(), parameters)
            return cursor.fetchall() if cursor.description else []
        except psycopg.OperationalError:
            self._connection.close()
            raise

    def connect(self, *, autocommit: bool = True) -> psycopg.Connection[dict[str, Any]]:
        settings = self.settings
        options = f"-c search_path={settings.store_schema} -c timezone=UTC"
        return psycopg.connect(settings.admin_dsn, autocommit=autocommit, options=options, row_factory=dict_row)

    def status(self) -> Status | None:
        """Give the product's own status, or None while a server is away."""
        try:
            if self._observer is None:
                self._observer = Observer(self.settings)
            return self._observer.status(counts=False)
        except (PrmError, psycopg.Error, KafkaError, OSError, AssertionError):
            self.forget()
            return None

    def status_json(self) -> dict[str, Any]:
        """Give what the command line says of the whole, whatever is away."""
        told: dict[str, Any] = json.loads(self.cli("status", "--json", check=False).stdout)
        return told

    def forget(self) -> None:
        """Drop the connections: what they lead to has gone."""
        observer, self._observer = self._observer, None
        connection, self._connection = self._connection, None
        with suppress(Exception):
            if observer is not None:
                observer.__exit__()
        if connection is not None:
            connection.close()

    def sessions(self, pid: int) -> list[dict[str, Any]]:
        """Give the database sessions of a process, found by its ports."""
        try:
            ports = {one.laddr.port for one in psutil.Process(pid).net_connections("tcp") if one.raddr}
        except psutil.Error:
            return []
        return self.rows(
            "SELECT pid, wait_event_type = 'Lock' AS waits, xact_start IS NOT NULL AS inside, ARRAY(SELECT l.objid::int"
            " FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'advisory' AND l.granted) AS locks"
            " FROM pg_stat_activity a WHERE client_port = ANY(%s)",
            list(ports),
        )


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def stands_still(pid: int) -> bool:
    """Tell whether a stopped process has come to stand; one that is gone stands still too."""
    try:
        return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return True
