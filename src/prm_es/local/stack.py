"""The whole installation in one data folder: servers first, then schema and topics, then the workers."""

import os
import secrets
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final, Self

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from prm_es.errors import Unavailable
from prm_es.local.folder import MARK, Away, Folder, Lock, ProcessRecord, StackRecord, end, orphans
from prm_es.local.kafka import Kafka, find_jars
from prm_es.local.lookout import Lookout
from prm_es.local.postgres import Postgres, end_servers
from prm_es.local.processes import Child, Screen, Spec, wait_ready
from prm_es.settings import DB_ROLES, DbRole, Settings

WRITE_AGAIN_S: Final = 2.0

Step = Callable[[Settings], object]


@dataclass(frozen=True)
class Worker:
    """A worker by its command line and the database roles whose passwords it gets."""

    name: str
    argv: Sequence[str]
    roles: Sequence[DbRole]


def worker(name: str, *verb: str, role: DbRole) -> Worker:
    """Describe a worker that is a verb of this program."""
    return Worker(name, _verb(*verb), (role,))


def _verb(*words: str) -> Sequence[str]:
    return (sys.executable, "-m", "prm_es", *words)


API: Final = Worker("api", _verb("api"), ("reader", "portal", "writer", "projector", "auditor"))
ISSUER: Final = Worker("issuer", _verb("dev-issuer"), ("reader",))


WORKERS: Final = (
    worker("handle", "handle", role="writer"),
    worker("publish", "publish", role="writer"),
    worker("project", "project", "pipeline", "leads", "performance", role="projector"),
    worker("conflicts", "conflicts", role="projector"),
    worker("deadlines", "deadlines", role="projector"),
    worker("reactions", "reactions", role="projector"),
    ISSUER,
    API,
)


def own_servers(folder: Folder, settings: Settings) -> tuple[Postgres | None, Kafka | None]:
    """Describe the servers that this folder runs itself: those that the settings do not name."""
    own_postgres = own_kafka = None
    if not (settings.postgres or settings.postgres_owner):
        port, password = folder.port("postgres"), folder.secrets().superuser
        own_postgres = Postgres(folder.root / "postgres", port=port, password=password)
    if not settings.kafka:
        own_kafka = Kafka(
            folder.root / "kafka",
            port=folder.port("kafka"),
            controller_port=folder.port("controller"),
            heap=settings.kafka_heap,
            mark=str(folder.root),
        )
    return own_postgres, own_kafka


def clear(folder: Folder) -> list[int]:
    """End what a killed supervisor left running and give the pids; hold the lock."""
    return [*end(orphans(folder)), *end_servers(folder.root / "postgres")]


class Stack:
    """Everything that runs in a data folder. Enter it to hold the folder, `start` it once; leaving it stops all.

    Entering raises AlreadyRunning with the pid of who holds the folder. `migrate` and `topics` are called with settings
    that name the running servers, before any worker starts.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        migrate: Step,
        topics: Step,
        workers: Sequence[Worker] = WORKERS,
        screen: Screen | None = None,
        kafka: bool = True,
    ) -> None:
        """Describe it; with `kafka` false no broker is started."""
        self.folder = Folder.at(settings.data)
        self.hurry = threading.Event()
        self.children: list[Child] = []
        self._given = settings
        self._steps = (migrate, topics)
        self._workers = workers
        self._screen = screen or Screen(echo=False)
        self._with_kafka = kafka
        self._guard = threading.Lock()
        self._open = ExitStack()
        self._record: StackRecord | None = None
        self._postgres: Postgres | None = None
        self._given_up = threading.Event()
        self._lookout: Lookout | None = None

    def __enter__(self) -> Self:
        """Take the folder and end what a killed run has left in it."""
        self._open.enter_context(Lock(self.folder))
        try:
            left = clear(self.folder)
            if left:
                self._screen.say(f"ended {len(left)} processes that an earlier run had left behind")
            self._record = StackRecord(
                state="starting",
                supervisor=ProcessRecord.of(os.getpid()),
                started_at=datetime.now(UTC),
                prefix=self._given.prefix,
            )
            self._write()
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        """Stop the workers in their order, then Kafka, then PostgreSQL; let the folder go."""
        with self._open:
            if self._lookout:
                self._lookout.stop()
            self._set(state="stopping", away={})
            for child in self._in_stopping_order():
                child.stop(self.hurry)
            with self._guard:
                self._record = None
            (self.folder.root / "stack.json").unlink(missing_ok=True)

    @property
    def postgres_address(self) -> str:
        """Where the database is, without a password."""
        return self._record.postgres if self._record else ""

    def start(self) -> Settings:
        """Bring everything up and give settings that name the servers; raises Unavailable with what is wrong."""
        settings = self._start_servers()
        for step in self._steps:
            step(settings)
        self._lookout = Lookout(settings, self._note_away)
        self._lookout.start()
        dsns = self._let_roles_in(settings)
        settings = self._with_addresses(settings)
        for each in self._workers:
            if each is ISSUER and not self._own_issuer:
                continue
            environment = self._environment(settings, {role: dsns[role] for role in each.roles})
            if each is not API:
                environment.pop("PRM_SESSION_SECRET", None)
            port = self.folder.port(f"watch-{each.name}")
            spec = Spec(each.name, each.argv, {**environment, "PRM_METRICS_PORT": str(port)})
            self._run(spec, watch=f"http://{settings.metrics_host}:{port}")
        self._set(state="ready")
        return settings

    def _start_servers(self) -> Settings:
        self._postgres, kafka = own_servers(self.folder, self._given)
        kafka = kafka if self._with_kafka else None
        jobs: list[Callable[[], None]] = [self._start_postgres] if self._postgres else []
        if kafka:
            jobs.append(partial(self._start_kafka, kafka))
        with ThreadPoolExecutor(max_workers=2) as pool:
            try:
                for future in as_completed([pool.submit(job) for job in jobs]):
                    future.result()
            except BaseException:
                self._given_up.set()
                raise
        found = {"kafka": kafka.address} if kafka else {}
        if self._postgres:
            found["postgres"] = self._postgres.dsn(self._given.prefix)
        settings = self._given.model_copy(update=found)
        self._set(kafka=settings.kafka, postgres=address(settings.admin_dsn))
        return settings

    def _start_postgres(self) -> None:
        server = self._postgres
        if server is None:
            return
        server.prepare()
        child = self._run(server.spec())
        wait_ready(child, lambda: self._unless_given_up() and server.ready())
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            name = self._given.prefix
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def _start_kafka(self, server: Kafka) -> None:
        server.prepare(find_jars(self._given, self._given_up))
        child = self._run(server.spec())
        wait_ready(child, lambda: self._unless_given_up() and server.ready())

    def _unless_given_up(self) -> bool:
        if self._given_up.is_set():
            raise Unavailable("the start was given up")
        return True

    def _let_roles_in(self, settings: Settings) -> dict[DbRole, str]:
        """Give each role's connection string, and keep them for the other verbs.

        On our own server every role gets a password of its own; elsewhere who may log in is not ours to change.
        """
        known = self.folder.secrets()
        if self._postgres is None:
            dsns = {role: settings.dsn(role) for role in DB_ROLES}
        else:
            known.roles = {role: known.roles.get(role) or secrets.token_urlsafe(24) for role in DB_ROLES}
            dsns = {}
            with psycopg.connect(settings.admin_dsn, autocommit=True) as connection:
                for role in DB_ROLES:
                    name, password = settings.db_role(role), known.roles[role]
                    change = sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), password)
                    connection.execute(change)
                    dsns[role] = self._postgres.dsn(settings.prefix, name, password)
        known.dsns = {str(role): dsn for role, dsn in dsns.items()} | {"admin": settings.admin_dsn}
        self.folder.write_secrets(known)
        return dsns

    @property
    def _own_issuer(self) -> bool:
        """Tell whether the development issuer lets people in, because no other is named."""
        return not self._given.oidc_issuer

    @property
    def record(self) -> StackRecord | None:
        """What `stack.json` says."""
        return self._record

    def _with_addresses(self, settings: Settings) -> Settings:
        """Give the workers that serve people a port each, the same from start to start, and tell them of each other."""
        if API not in self._workers:
            return settings
        known = self.folder.secrets()
        known.session = known.session or secrets.token_urlsafe(32)
        self.folder.write_secrets(known)
        found: dict[str, object] = {"session_secret": settings.session_secret or known.session}
        if "api_port" not in settings.model_fields_set:
            found["api_port"] = self.folder.port("api")
        if self._own_issuer:
            port = self.folder.port("issuer")
            found |= {"issuer_port": port, "oidc_issuer": f"http://127.0.0.1:{port}", "issuer_host": "127.0.0.1"}
        served = settings.model_copy(update=found)
        own = f"http://{served.api_host}:{served.api_port}"
        self._set(api=served.api_url or own, issuer=served.oidc_issuer)
        return served

    def _environment(self, settings: Settings, dsns: Mapping[DbRole, str]) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PRM_POSTGRES")}
        terminal = self._screen.echo and self._screen.console.is_terminal and settings.log_format == "auto"
        return {
            **kept,
            **environment_of(settings),
            **({"PRM_LOG_FORMAT": "console"} if terminal else {}),
            "PRM_DATA": str(self.folder.root),
            "PRM_KAFKA": settings.kafka,
            **{f"PRM_POSTGRES_{role.upper()}": dsn for role, dsn in dsns.items()},
            MARK: str(self.folder.root),
        }

    def _run(self, spec: Spec, *, watch: str = "") -> Child:
        child = Child(spec, self.folder.logs, self._screen, changed=self._write)
        child.record.watch = watch
        self.children.append(child)
        child.start()
        return child

    def _note_away(self, away: Mapping[str, Away]) -> None:
        before = self._record.away if self._record else {}
        for name in away.keys() - before.keys():
            self._screen.say(f"{name} does not answer: {away[name].reason}")
        for name in before.keys() - away.keys():
            self._screen.say(f"{name} answers again")
        self._set(away=dict(away))

    def _in_stopping_order(self) -> list[Child]:
        servers = {Kafka.name: 1, Postgres.name: 2}
        return sorted(self.children, key=lambda child: servers.get(child.spec.name, 0))

    def _set(self, **changes: object) -> None:
        with self._guard:
            if self._record:
                self._record = self._record.model_copy(update=changes)
        self._write()

    def _write(self) -> None:
        with self._guard:
            if self._record:
                children = {child.spec.name: child.record for child in self.children}
                self._record = self._record.model_copy(update={"children": children})
                try:
                    self.folder.write_record(self._record)
                except OSError as problem:  # a full disk: whoever watches a child must go on
                    self._screen.say(f"cannot write {self.folder.root / 'stack.json'}: {problem.strerror}")
                    self._write_later()

    def _write_later(self) -> None:
        again = threading.Timer(WRITE_AGAIN_S, self._write)
        again.daemon = True
        again.start()


def address(dsn: str) -> str:
    """Say where a connection string leads, without its password."""
    parts = conninfo_to_dict(dsn)
    host, port = parts.get("host") or "localhost", parts.get("port") or "5432"
    return f"{host}:{port}/{parts.get('dbname') or ''}"


def environment_of(settings: Settings, *, secret: bool = False) -> dict[str, str]:
    """Give the PRM_* variables that say the same as settings; connection strings only where `secret` is asked for."""
    told = {name: getattr(settings, name) for name in settings.model_fields_set}
    return {
        f"PRM_{name.upper()}": str(value)
        for name, value in told.items()
        if value is not None and (secret or not name.startswith("postgres"))
    }
