"""Real servers for the tests: one PostgreSQL and one Kafka a session, a database and a topic prefix a test module."""

import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import settings as examples
from kafka.admin import KafkaAdminClient
from psycopg import sql

from prm_es.errors import AlreadyRunning
from prm_es.local.folder import Folder, Lock, end, orphans
from prm_es.local.kafka import Kafka, find_jars
from prm_es.local.postgres import Postgres, end_servers
from prm_es.local.processes import Child, Spec, wait_ready
from prm_es.settings import DB_ROLES, Settings

if TYPE_CHECKING:
    from tests.workers import Crew

_FOLDERS = "prm-es-tests-"
_KEPT = {"PRM_CACHE", "PRM_MAVEN", "PRM_KAFKA_JARS", "PRM_KAFKA_HEAP"}


def pytest_configure() -> None:
    # A developer's own installation must not be what the tests run against.
    for name in [name for name in os.environ if name.startswith("PRM_") and name not in _KEPT]:
        del os.environ[name]

    # A plain SIGTERM would skip the fixtures' ends and leave the servers behind.
    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)

    examples.register_profile("untimed", deadline=None)  # what is slow on a busy machine is not wrong
    examples.load_profile("untimed")


def _sweep() -> None:
    """End what a session that was killed has left running."""
    for path in Path(tempfile.gettempdir()).glob(f"{_FOLDERS}*"):
        folder = Folder.at(path)
        with suppress(AlreadyRunning, OSError), Lock(folder):
            end(orphans(folder))
            end_servers(folder.root / "postgres")
            shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Folder]:
    _sweep()
    folder = Folder.at(Path(tempfile.mkdtemp(prefix=_FOLDERS)))
    with Lock(folder):
        yield folder
        shutil.rmtree(folder.root, ignore_errors=True)


@contextmanager
def _running(folder: Folder, spec: Spec, ready: Callable[[], bool]) -> Iterator[Child]:
    child = Child(spec, folder.logs)
    with ExitStack() as stack:
        stack.callback(child.stop)
        child.start()
        wait_ready(child, ready)
        yield child


@pytest.fixture(scope="session")
def postgres_server(server_folder: Folder) -> Iterator[Postgres]:
    server = Postgres(
        server_folder.root / "postgres", port=server_folder.port("postgres"), password=server_folder.secrets().superuser
    )
    server.prepare()
    with _running(server_folder, server.spec(), server.ready):
        yield server


@pytest.fixture(scope="session")
def kafka_server(server_folder: Folder) -> Iterator[Kafka]:
    server = Kafka(
        server_folder.root / "kafka",
        port=server_folder.port("kafka"),
        controller_port=server_folder.port("controller"),
        mark=str(server_folder.root),
    )
    server.prepare(find_jars(Settings()))
    with _running(server_folder, server.spec(), server.ready):
        yield server


@contextmanager
def installation(postgres_server: Postgres, kafka_server: Kafka, data: Path) -> Iterator[Settings]:
    """Give settings with a database, a topic prefix and role names that nobody else uses. Nothing is migrated."""
    prefix = f"t{secrets.token_hex(4)}"
    with psycopg.connect(postgres_server.dsn(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(prefix)))
    given = Settings(data=data, prefix=prefix, kafka=kafka_server.address, postgres=postgres_server.dsn(prefix))
    yield given
    _drop_topics(given)
    with psycopg.connect(postgres_server.dsn(), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(prefix)))
        for role in DB_ROLES:
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(given.db_role(role))))


@pytest.fixture(scope="module")
def settings(
    postgres_server: Postgres, kafka_server: Kafka, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """Settings with a database, a topic prefix and role names that no other module uses. Nothing is migrated."""
    with installation(postgres_server, kafka_server, tmp_path_factory.mktemp("data")) as given:
        yield given


@pytest.fixture
def fresh(postgres_server: Postgres, kafka_server: Kafka, tmp_path: Path) -> Iterator[Settings]:
    """Give the same for one test alone."""
    with installation(postgres_server, kafka_server, tmp_path) as given:
        yield given


@pytest.fixture(scope="module")
def migrated(settings: Settings) -> Settings:
    """Give the module's settings once its schema and its topics are there."""
    from prm_es.consumers import topics  # noqa: PLC0415
    from prm_es.store.migrate import migrate  # noqa: PLC0415

    migrate(settings)
    topics.create(settings)
    return settings


@pytest.fixture
def installed(fresh: Settings) -> Settings:
    """Give settings of one test's own where all is as `prm-es up` makes it, and no worker runs."""
    from prm_es.consumers import topics  # noqa: PLC0415
    from prm_es.install import install  # noqa: PLC0415

    install(fresh)
    topics.create(fresh)
    return fresh


@pytest.fixture
def crew(installed: Settings, tmp_path: Path) -> "Iterator[Crew]":
    """Give a way to start workers as processes, which end with the test."""
    from tests.workers import Crew  # noqa: PLC0415

    with Crew(installed, tmp_path) as hands:
        yield hands


def _drop_topics(settings: Settings) -> None:
    admin: Any = KafkaAdminClient(**settings.kafka_client)
    try:
        admin.delete_topics([topic for topic in admin.list_topics() if topic.startswith(f"{settings.prefix}.")])
    finally:
        admin.close()
