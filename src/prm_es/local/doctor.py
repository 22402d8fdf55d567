"""`prm-es doctor`: is this machine fit, is what runs here well, and if not, what is to be done.

Each check gives one finding. What it cannot look at because something else is missing it leaves to that other finding.
"""

import platform
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from prm_es.consumers import topics
from prm_es.errors import PrmError, SchemaMismatch, Unavailable
from prm_es.local import jars
from prm_es.local.connect import running, settings_for
from prm_es.local.folder import Folder, StackRecord, free_port, port_is_free
from prm_es.local.kafka import find_java
from prm_es.local.lookout import healths
from prm_es.local.postgres import server_version
from prm_es.local.stack import address
from prm_es.settings import PARTITIONS, Settings
from prm_es.status import Observer
from prm_es.store.migrate import check

OLDEST_PYTHON: Final = (3, 11)
NEWEST_PYTHON: Final = (3, 13)
MB: Final = 1_000_000
MEMORY_MB: Final = (400, 1_000)  # what everything together needs, and what leaves room
DISK_MB: Final = (500, 5_000)
ANSWER_S: Final = 5.0
CLOCK_S: Final = 2.0
LAG_S: Final = 10.0
RESTARTS: Final = 3


class Grade(StrEnum):
    """How it stands; one fail makes the exit code 1."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it stands, and where it is not well, what to do."""

    name: str
    grade: Grade
    sentence: str

    def __str__(self) -> str:
        return f"{self.grade:<4}  {self.name:<12}  {self.sentence}"


def ok(name: str, sentence: str) -> Finding:
    """Say that something is well."""
    return Finding(name, Grade.OK, sentence)


def warn(name: str, sentence: str) -> Finding:
    """Say that something works and needs looking at."""
    return Finding(name, Grade.WARN, sentence)


def fail(name: str, sentence: str) -> Finding:
    """Say that something does not work, and what to do."""
    return Finding(name, Grade.FAIL, sentence)


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at the machine, then at what `prm-es up` needs, then at what runs; gives each finding as it comes."""
    record = running(settings.data)
    own_postgres = not (settings.postgres or settings.postgres_owner)
    own_kafka = not settings.kafka
    yield python()
    if own_postgres or own_kafka:
        if record is None:  # what runs has its memory already
            yield memory(psutil.virtual_memory().available)
        yield disk(_nearest(settings.data))
        yield data_folder(settings.data, record)
        yield ports(settings.data, record)
    if own_kafka:
        yield java()
        yield kafka_jars(settings)
    if own_postgres:
        yield postgres_binaries()
    yield local_clock(datetime.now(UTC))
    yield from _stack(settings, record)


# The machine


def python(version: tuple[int, int] = sys.version_info[:2]) -> Finding:
    """Judge the interpreter."""
    shown = ".".join(map(str, version))
    if version < OLDEST_PYTHON:
        return fail("python", f"{shown} is too old: install Python 3.11 or newer")
    if version > NEWEST_PYTHON:
        return warn("python", f"{shown} is newer than prm-es was tried with (3.11 to 3.13)")
    if platform.system() != "Linux":
        return warn("python", f"{shown} on {platform.system()}: prm-es is tried on Linux only")
    return ok("python", shown)


def memory(available: int) -> Finding:
    """Judge the memory that is free for PostgreSQL, Kafka and the workers."""
    return _enough("memory", available, MEMORY_MB, "end other programs, or lower PRM_KAFKA_HEAP")


def disk(folder: Path) -> Finding:
    """Judge the space where the data folder lies or will lie."""
    free = shutil.disk_usage(folder).free
    return _enough("disk", free, DISK_MB, f"make room on the disk of {folder}, or name another with --data")


def _enough(name: str, found: int, needed: tuple[int, int], advice: str) -> Finding:
    least, better = (number * MB for number in needed)
    shown = f"{found / MB:,.0f} MB free"
    if found < least:
        return fail(name, f"{shown}, {needed[0]} MB are needed: {advice}")
    return warn(name, f"{shown} is little: {advice}") if found < better else ok(name, shown)


def _nearest(path: Path) -> Path:
    whole = path.expanduser().resolve()
    return next(one for one in (whole, *whole.parents) if one.exists())


def data_folder(data: Path, record: StackRecord | None) -> Finding:
    """Judge whether this user can keep data there, and whether what lies there is ours."""
    folder = Folder.at(data)
    if record:
        return ok("data folder", f"{folder.root}, in use by process {record.supervisor.pid}")
    place = _nearest(data)
    if not place.is_dir():
        return fail("data folder", f"{place} is a file: name a folder with --data")
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as problem:
        return fail("data folder", f"cannot write in {place} ({problem.strerror}): name another with --data")
    if place != folder.root:
        return ok("data folder", f"{folder.root} will be made")
    if any(folder.root.iterdir()) and not folder.lock.exists():
        return warn("data folder", f"{folder.root} holds files that are not of prm-es: name another with --data")
    return ok("data folder", str(folder.root))


def ports(data: Path, record: StackRecord | None) -> Finding:
    """Judge whether loopback has ports to listen on."""
    if record:
        return ok("ports", f"Kafka {record.kafka or '-'}, PostgreSQL {record.postgres or '-'}")
    try:
        free_port()
    except Unavailable as problem:
        return fail("ports", f"{problem}: end what listens there, or allow listening on 127.0.0.1")
    taken = [f"{name} {number}" for name, number in Folder.at(data).ports().items() if not port_is_free(number)]
    if taken:
        return warn("ports", f"something else took {', '.join(taken)}: the next start takes another port")
    return ok("ports", "free ones are there on 127.0.0.1")


def java() -> Finding:
    """Judge whether there is a Java that runs."""
    try:
        program = find_java()
        told = _output([program, "-version"])
    except PrmError as problem:
        return fail("java", str(problem))
    except (OSError, subprocess.SubprocessError) as problem:
        return fail("java", f"it does not run: {problem}. Install the packages again, or put a `java` on the PATH")
    return ok("java", told.partition("\n")[0])


def kafka_jars(settings: Settings) -> Finding:
    """Judge whether Kafka's jars are there, or can be fetched."""
    wanted = jars.wanted()
    if settings.kafka_jars:
        try:
            jars.collect(settings.kafka_jars.expanduser(), wanted)
        except Unavailable as problem:
            return fail("kafka jars", f"{problem}: put it there, or leave PRM_KAFKA_JARS out to have them fetched")
        return ok("kafka jars", f"{len(wanted)} in {settings.kafka_jars}")
    missing = jars.missing(settings.cache or jars.default_cache(), wanted)
    if not missing:
        return ok("kafka jars", f"all {len(wanted)} are in the cache")
    link = f"{settings.maven.rstrip('/')}/{missing[0].path}"
    advice = "PRM_MAVEN names a mirror, PRM_KAFKA_JARS a folder of jars"
    try:
        request = urllib.request.Request(link, method="HEAD")  # noqa: S310 - the scheme is checked by urlopen's opener
        with urllib.request.urlopen(request, timeout=ANSWER_S):  # noqa: S310
            pass
    except (OSError, ValueError, urllib.error.URLError) as problem:
        return fail("kafka jars", f"{len(missing)} are missing and {link} does not answer ({problem}): {advice}")
    return ok("kafka jars", f"{len(missing)} of {len(wanted)} will be fetched from {settings.maven}")


def postgres_binaries() -> Finding:
    """Judge whether the PostgreSQL of the package runs here."""
    try:
        return ok("postgres", server_version())
    except PrmError as problem:
        return fail("postgres", str(problem))
    except (OSError, subprocess.SubprocessError) as problem:
        return fail("postgres", f"its programs do not run here ({problem}): name a server with PRM_POSTGRES")


def _output(argv: Sequence[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True)  # noqa: S603
    return (done.stdout or done.stderr).strip()


def local_clock(now: datetime) -> Finding:
    """Judge the machine's clock by the age of this installation: nothing was installed in the future."""
    installed = datetime.fromtimestamp(Path(str(distribution("prm-es").locate_file(""))).stat().st_mtime, UTC)
    if now < installed:
        return fail("clock", f"it says {now:%F %R} UTC, before prm-es was installed ({installed:%F %R}): set the clock")
    return ok("clock", f"{now:%F %T} UTC")


# What runs


def _stack(settings: Settings, record: StackRecord | None) -> Iterator[Finding]:
    try:
        found = settings_for(settings.data, settings)
    except PrmError as problem:
        yield warn("stack", str(problem))
        return
    if record:
        yield processes(record)
        yield from workers_health(record)
    good = True
    for look in (database, broker):
        for finding in look(found):
            good = good and finding.grade is not Grade.FAIL
            yield finding
    if good:
        yield from workers(found)


def processes(record: StackRecord) -> Finding:
    """Judge the supervisor's children."""
    children = record.children.items()
    dead = [name for name, child in children if not (child.process and child.process.find())]
    if dead:
        return fail("stack", f"not running: {', '.join(dead)}; what they said is in the data folder's logs/")
    often = [f"{name} {child.restarts} times" for name, child in children if child.restarts > RESTARTS]
    if often:
        return warn("stack", f"started again: {', '.join(often)}; why is in the data folder's logs/")
    return ok("stack", f"process {record.supervisor.pid} and {len(record.children)} children, {record.state}")


def workers_health(record: StackRecord) -> Iterator[Finding]:
    """Ask each worker that runs how it is; those that get on are not worth a line."""
    for name, told in healths(record).items():
        if told is None:
            yield warn(name, f"{record.children[name].watch}/health does not answer: it starts, or stands still")
        elif told["status"] != "ok":
            hangs = f"hangs in {told['doing']!r} since {told['doing_since']}"
            yield fail(name, f"{hangs}: look what holds PostgreSQL and Kafka up, then end process {told['process']}")


def database(settings: Settings) -> Iterator[Finding]:
    """Judge PostgreSQL: it answers, its clock and ours agree, its schema is the one that this program needs."""
    where = ""
    try:
        where = address(settings.dsn("auditor"))
        with psycopg.connect(settings.dsn("auditor"), autocommit=True, connect_timeout=int(ANSWER_S)) as connection:
            yield ok("database", f"PostgreSQL {connection.info.server_version // 10_000} answers at {where}")
            yield database_clock(connection)
            yield _migrations(connection, settings)
    except PrmError as problem:
        yield fail("database", str(problem))
    except psycopg.Error as problem:
        words = " ".join(str(problem).split())
        if 'role "' in words:  # the session takes a role that `migrate` makes
            yield fail("migrations", f"{words}: run `prm-es migrate`")
        else:
            yield fail("database", f"no answer from {where}: {words}. Start it, or correct PRM_POSTGRES")


def database_clock(connection: psycopg.Connection[Any]) -> Finding:
    """Judge the clock that dates everything."""
    before = time.time()
    row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
    after = time.time()
    theirs = float(row[0]) if row else before
    apart = max(before - theirs, theirs - after, 0.0)
    if apart > CLOCK_S:
        return warn("clocks", f"the database's and this machine's are {apart:.1f} s apart: let both follow NTP")
    return ok("clocks", f"the database's and this machine's are less than {CLOCK_S:g} s apart")


def _migrations(connection: psycopg.Connection[Any], settings: Settings) -> Finding:
    try:
        check(connection, settings)
        query = "SELECT extract(epoch FROM max(recorded_at) - clock_timestamp())::float8 FROM commits"
        row = connection.execute(query).fetchone()
    except SchemaMismatch as problem:
        return fail("migrations", str(problem))
    ahead = float(row[0] or 0) if row else 0.0
    if ahead > CLOCK_S:
        return fail("clocks", f"the last commit is dated {ahead:.0f} s ahead: the database's clock went back; set it")
    return ok("migrations", "the schema is the one that this program needs")


def broker(settings: Settings) -> Iterator[Finding]:
    """Judge Kafka: it answers, and every topic is there with its partitions."""
    try:
        admin: Any = KafkaAdminClient(**settings.kafka_client, bootstrap_timeout_ms=int(ANSWER_S * 1000))
        with closing(admin):
            brokers = len(admin.describe_cluster()["brokers"])
            yield ok("broker", f"Kafka answers at {settings.kafka}, {brokers} broker{'s' * (brokers != 1)}")
            names = [name for name, _config in topics.wanted(settings)]
            present = set(admin.list_topics())
            described = admin.describe_topics([name for name in names if name in present])
            yield _topics(names, {one["name"]: len(one["partitions"]) for one in described})
    except PrmError as problem:
        yield fail("broker", str(problem))
    except (KafkaError, OSError) as problem:
        words = f"{type(problem).__name__}: {problem}"
        yield fail("broker", f"no answer from {settings.kafka} ({words}). Start it, or correct PRM_KAFKA")


def _topics(names: Sequence[str], partitions: dict[str, int]) -> Finding:
    missing = [name for name in names if name not in partitions]
    if missing:
        return fail("topics", f"missing: {', '.join(missing)}: run `prm-es topics`")
    wrong = [f"{name} has {number}" for name, number in partitions.items() if number != PARTITIONS]
    if wrong:
        return fail(
            "topics", f"{', '.join(wrong)}; each needs {PARTITIONS} partitions: delete it and run `prm-es topics`"
        )
    return ok("topics", f"{len(names)}, each with {PARTITIONS} partitions")


def workers(settings: Settings, pause: Callable[[float], None] = time.sleep) -> Iterator[Finding]:
    """Judge what waits for a worker, twice: what does not become less has nobody who works on it."""
    try:
        with Observer(settings) as observer:
            first = observer.status(counts=False)
            if not first.settled:
                pause(1.0)
            last = observer.status()
    except (PrmError, psycopg.Error, KafkaError) as problem:
        yield fail("workers", f"how far they are cannot be told: {problem}")
        return
    if last.foreign:
        yield fail("history", last.foreign)
    yield _behind("handle", "commands unanswered", first.unanswered or 0, last.unanswered or 0)
    yield _behind("publish", "events unpublished", first.unpublished, last.unpublished)
    for then, now in zip(first.read_models, last.read_models, strict=False):
        if now.parked:
            verb = f"prm-es dead-letters list --read-model {now.name}"
            yield warn(now.name, f"{now.parked} events are parked: `{verb}` says which and why")
        elif now.behind_events and now.behind_seconds > LAG_S:
            yield _behind(f"project {now.name}", "events behind", then.behind_events, now.behind_events)
        else:
            yield ok(now.name, f"complete up to position {now.as_of}")
    if last.open_dead_letters:
        said = f"{last.open_dead_letters} records could not be read or decided as commands"
        yield warn("dead letters", f"{said}: `prm-es dead-letters list` says which and why")


def _behind(worker: str, what: str, then: int, now: int) -> Finding:
    name = worker.rpartition(" ")[2]
    if not now:
        return ok(name, f"0 {what}")
    if now < then:
        return ok(name, f"{now} {what}, becoming fewer")
    return warn(name, f"{now} {what} and not becoming fewer: does `prm-es {worker}` run?")
