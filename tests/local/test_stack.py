"""A whole stack with real servers and idle workers: what dies comes back, and nothing is lost."""

import os
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from kafka import KafkaConsumer, KafkaProducer

from prm_es.consumers import topics
from prm_es.errors import AlreadyRunning, Unavailable
from prm_es.local.connect import running, settings_for
from prm_es.local.folder import ProcessRecord
from prm_es.local.stack import Stack, Worker, address, environment_of
from prm_es.settings import Settings
from prm_es.store.migrate import migrate

IDLE = "import os; print(*sorted(n for n in os.environ if n.startswith('PRM_'))); import time; time.sleep(600)"
WORKERS = (
    Worker("handle", [sys.executable, "-uc", IDLE], ["writer"]),
    Worker("pipeline", [sys.executable, "-uc", IDLE], ["projector"]),
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    # A comma, a space and a letter beyond Latin-1: paths are not always plain.
    settings = Settings(data=tmp_path_factory.mktemp("stack") / "data, ž", prefix="stack")
    with Stack(settings, migrate=migrate, topics=topics.create, workers=WORKERS) as made:
        made.start()
        yield made


@pytest.fixture(scope="module")
def connected(stack: Stack) -> Settings:
    return settings_for(stack.folder.root, Settings())


def until(true: Callable[[], object], patience: float = 120) -> None:
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def recorded(stack: Stack, name: str) -> ProcessRecord | None:
    record = running(stack.folder.root)
    assert record
    return record.children[name].process


def kill(stack: Stack, name: str) -> None:
    """Kill a child and wait until the record names its successor."""
    first = recorded(stack, name)
    assert first
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: recorded(stack, name) not in (None, first))


def test_the_record_tells_what_runs(stack: Stack) -> None:
    record = running(stack.folder.root)
    assert record
    assert record.state == "ready"
    assert record.supervisor.pid == os.getpid()
    assert set(record.children) == {"postgres", "kafka", "handle", "pipeline"}
    assert record.kafka.startswith("127.0.0.1:")
    assert record.postgres.startswith("127.0.0.1:")
    assert "password" not in (stack.folder.root / "stack.json").read_text()


def test_a_second_stack_is_refused_with_the_pid_of_the_first(stack: Stack) -> None:
    second = Stack(Settings(data=stack.folder.root), migrate=migrate, topics=topics.create)
    with pytest.raises(AlreadyRunning, match=f"process {os.getpid()}"), second:
        pass
    assert running(stack.folder.root)


def test_a_worker_gets_the_database_role_it_needs_and_no_other(stack: Stack) -> None:
    log = stack.folder.logs / "handle.log"
    until(lambda: "PRM_" in log.read_text())
    names = log.read_text().splitlines()[0].split()
    assert [name for name in names if name.startswith("PRM_POSTGRES")] == ["PRM_POSTGRES_WRITER"]
    assert {"PRM_DATA", "PRM_KAFKA", "PRM_PREFIX", "PRM_STACK"} <= set(names)


def test_every_role_logs_in_with_a_password_of_its_own(stack: Stack, connected: Settings) -> None:
    for role in ("writer", "projector", "reader", "auditor"):
        with psycopg.connect(connected.dsn(role)) as connection:
            assert connection.execute("SELECT session_user, current_user").fetchone() == (f"stack_{role}",) * 2
    assert stat.S_IMODE((stack.folder.root / "secrets.json").stat().st_mode) == 0o600
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(psycopg.conninfo.make_conninfo(connected.postgres_reader, password="stack_reader"))


def test_both_servers_listen_on_loopback_only(stack: Stack) -> None:
    for name in ("postgres", "kafka"):
        process = recorded(stack, name)
        assert process
        listening = [c for c in psutil.Process(process.pid).net_connections("inet") if c.status == psutil.CONN_LISTEN]
        assert listening
        assert {connection.laddr.ip.removeprefix("::ffff:") for connection in listening} == {"127.0.0.1"}


def test_each_worker_is_told_a_port_of_its_own_to_say_how_it_is_and_the_record_names_it(stack: Stack) -> None:
    record = running(stack.folder.root)
    assert record
    told = {child.spec.name: child.spec.env.get("PRM_METRICS_PORT") for child in stack.children}
    watched = {name: child.watch for name, child in record.children.items()}
    assert watched == {name: f"http://127.0.0.1:{port}" if port else "" for name, port in told.items()}
    assert {name for name, address in watched.items() if address} == {"handle", "pipeline"}
    assert watched["handle"] != watched["pipeline"]


def test_a_killed_worker_is_started_again(stack: Stack) -> None:
    kill(stack, "handle")
    record = running(stack.folder.root)
    assert record
    assert record.children["handle"].restarts == 1
    assert record.children["pipeline"].restarts == 0


def test_a_killed_database_comes_back_with_what_it_committed(stack: Stack, connected: Settings) -> None:
    with psycopg.connect(connected.postgres) as connection:
        connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS number")
    kill(stack, "postgres")
    until(lambda: answers(connected.postgres))
    with psycopg.connect(connected.postgres) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (1000,)


def answers(dsn: str) -> bool:
    try:
        psycopg.connect(dsn).close()
    except psycopg.OperationalError:
        return False
    return True


def listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError:
        return False
    return True


def test_a_killed_broker_comes_back_with_what_it_acknowledged(stack: Stack, connected: Settings) -> None:
    producer = KafkaProducer(**connected.kafka_client, acks="all")
    sent = [producer.send(connected.results_topic, str(number).encode()) for number in range(1000)]
    for future in sent:
        future.get(30)
    producer.close()
    kill(stack, "kafka")
    until(lambda: listens(connected.bootstrap[0]))
    consumer = KafkaConsumer(
        connected.results_topic, **connected.kafka_client, auto_offset_reset="earliest", consumer_timeout_ms=60_000
    )
    got = set()
    for record in consumer:
        got.add(int(record.value))
        if len(got) == 1000:
            break
    consumer.close()
    assert got == set(range(1000))


def test_settings_that_were_given_are_kept(stack: Stack) -> None:
    given = Settings(kafka="broker:9092", postgres_reader="host=elsewhere")
    assert settings_for(stack.folder.root, given) is given
    partly = settings_for(stack.folder.root, Settings(kafka="broker:9092"))
    assert partly.kafka == "broker:9092"
    assert partly.prefix == "stack"
    assert partly.postgres_reader


def test_where_nothing_runs_it_is_said_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="start it with `prm-es up`"):
        settings_for(tmp_path / "nothing", Settings())


def test_a_step_that_fails_stops_everything(tmp_path: Path, settings: Settings) -> None:
    def fail(_settings: Settings) -> None:
        raise Unavailable("the schema is from tomorrow")

    given = settings.model_copy(update={"data": tmp_path / "data"})
    stack = Stack(given, migrate=fail, topics=fail, workers=WORKERS)
    with pytest.raises(Unavailable, match="from tomorrow"), stack:
        stack.start()
    assert running(tmp_path / "data") is None
    with stack:
        pass


def test_servers_that_are_already_there_are_used_and_not_started(tmp_path: Path, migrated: Settings) -> None:
    given = migrated.model_copy(update={"data": tmp_path / "data"})
    with Stack(given, migrate=migrate, topics=topics.create, workers=WORKERS) as stack:
        stack.start()
        assert [child.spec.name for child in stack.children] == ["handle", "pipeline"]
        handler, projector = (dict(child.spec.env) for child in stack.children)
        assert handler["PRM_KAFKA"] == migrated.kafka
        assert f"role={migrated.prefix}_writer" in handler["PRM_POSTGRES_WRITER"]
        assert "PRM_POSTGRES_WRITER" not in projector
        found = settings_for(tmp_path / "data", Settings())
        with psycopg.connect(found.dsn("reader")) as connection:
            assert connection.execute("SELECT current_user").fetchone() == (f"{migrated.prefix}_reader",)
    assert not (tmp_path / "data" / "postgres").exists()


def test_an_address_has_no_password() -> None:
    assert address("postgresql://u:secret@db:5433/crm") == "db:5433/crm"


def test_settings_become_an_environment_and_passwords_only_when_asked() -> None:
    given = Settings(prefix="x", postgres="host=db password=secret", kafka_heap="256m")
    assert environment_of(given) == {"PRM_PREFIX": "x", "PRM_KAFKA_HEAP": "256m"}
    assert environment_of(given, secret=True)["PRM_POSTGRES"] == "host=db password=secret"
