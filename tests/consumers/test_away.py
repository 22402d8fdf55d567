"""A broker that is away is asked again and again, and a worker that cannot do without it ends, to be started again."""

import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Thread

import psycopg
import pytest
from kafka import KafkaProducer
from kafka.errors import KafkaError
from psycopg import sql

from prm_es.consumers import topics
from prm_es.install import install
from prm_es.local.folder import Folder
from prm_es.local.kafka import Kafka, find_jars
from prm_es.local.postgres import Postgres
from prm_es.local.processes import Child, wait_ready
from prm_es.settings import Settings
from tests.support import partner, rows
from tests.workers import Crew, publish_all, until, write

AWAY_S = 8.0
LONGEST_PAUSE_S = 2.0
ENDS_WITHIN_S = 20.0


def test_a_broker_that_is_away_is_asked_again_within_two_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as broker:
        settings = Settings(kafka=f"127.0.0.1:{broker.getsockname()[1]}")

        def connect() -> None:
            with suppress(KafkaError):
                KafkaProducer(**settings.kafka_client, bootstrap_timeout_ms=1000 * AWAY_S)

        Thread(target=connect, daemon=True).start()
        broker.settimeout(AWAY_S)
        asked = [time.monotonic()]
        while asked[-1] - asked[0] < AWAY_S - LONGEST_PAUSE_S:
            broker.accept()[0].close()
            asked.append(time.monotonic())
            assert asked[-1] - asked[-2] < LONGEST_PAUSE_S


@pytest.fixture
def broker(server_folder: Folder) -> Iterator[tuple[str, Child]]:
    """Give a broker of the test's own, which it may end."""
    server = Kafka(
        server_folder.root / "kafka-away",
        port=server_folder.port("kafka-away"),
        controller_port=server_folder.port("controller-away"),
        mark=str(server_folder.root),
    )
    server.prepare(find_jars(Settings()))
    child = Child(server.spec(), server_folder.logs)
    child.start()
    try:
        wait_ready(child, server.ready)
        yield server.address, child
    finally:
        child.stop()


def test_a_projector_without_broker_and_database_ends(
    broker: tuple[str, Child], postgres_server: Postgres, tmp_path: Path
) -> None:
    prefix = f"t{secrets.token_hex(4)}"
    with ExitStack() as stack:
        admin = stack.enter_context(psycopg.connect(postgres_server.dsn(), autocommit=True))
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(prefix)))
        stack.callback(admin.execute, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(prefix)))
        address, server = broker
        settings = Settings(prefix=prefix, kafka=address, postgres=postgres_server.dsn(prefix), data=tmp_path)
        install(settings)
        topics.create(settings)
        crew = stack.enter_context(Crew(settings, tmp_path))
        projector = crew.start("project", "pipeline")
        write(settings, [partner()])
        publish_all(settings)
        until(lambda: rows(settings, f"SELECT 1 FROM {settings.read_schema}.partners"), "the partner is seen")
        server.stop()
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [prefix])
        began = time.monotonic()
        assert projector.exit_code() != 0
        assert time.monotonic() - began < ENDS_WITHIN_S
