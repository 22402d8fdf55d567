"""A server that is away is asked again and again; a worker that cannot do without it ends, to be started again."""

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest
from kafka import KafkaProducer
from kafka.errors import KafkaError

from prm_es import presence
from prm_es.consumers import projector, publisher, runtime
from prm_es.projections.pipeline import MODEL
from prm_es.settings import Settings
from tests.workers import Crew

AWAY_S = 8.0
LONGEST_PAUSE_S = 2.0
ENDS_WITHIN_S = 3.0


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


def test_a_projector_ends_although_the_closing_of_its_consumer_was_cancelled() -> None:
    class Consumer:
        async def start(self) -> None: ...

        async def stop(self) -> None:
            raise asyncio.CancelledError  # as aiokafka's, when a request of it waits to be tried again

    async def start_and_stop() -> float:
        settings = Settings(kafka="127.0.0.1:1")
        thread = projector._app(settings, [MODEL]).consumer._thread
        thread._create_consumer = lambda **_named: Consumer()
        await thread.start()
        began = time.monotonic()
        await thread.stop()
        return time.monotonic() - began

    assert asyncio.new_event_loop().run_until_complete(start_and_stop()) < ENDS_WITHIN_S


def test_a_projector_that_hangs_on_its_way_out_ends_all_the_same() -> None:
    done = subprocess.run([sys.executable, "-c", _STUCK], timeout=60, check=False, capture_output=True, text=True)
    assert done.returncode == runtime.UNAVAILABLE, done.stderr
    assert "projector.stuck" in done.stdout + done.stderr


_STUCK = """
import asyncio
from prm_es.consumers import projector
from prm_es.projections.pipeline import MODEL
from prm_es.settings import Settings

class Stuck(projector.faust.Service):
    async def on_stop(self):
        await asyncio.sleep(1000)

app = projector._app(Settings(kafka="127.0.0.1:1"), [MODEL])
projector._Worker(app, Stuck(), quiet=True, redirect_stdouts=False, override_logging=False).execute_from_commandline()
"""


@pytest.fixture
def silent() -> Iterator[str]:
    """Give the address of a server that takes connections and says nothing, as one that was stopped."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_what_answers_is_there_although_it_lets_nobody_in(settings: Settings) -> None:
    assert presence.away(settings) == {}
    stranger = settings.model_copy(update={"postgres": f"{settings.postgres} user=nobody password=wrong"})
    assert presence.away(stranger) == {}


def test_what_hangs_is_away_like_what_is_gone(silent: str) -> None:
    host, port = silent.split(":")
    hanging = presence.away(Settings(kafka=silent, postgres=f"host={host} port={port}"))
    assert hanging.keys() == {"PostgreSQL", "Kafka"}
    assert hanging["PostgreSQL"] == "no answer within 3 s"
    gone = presence.away(Settings(kafka="127.0.0.1:1", postgres="host=127.0.0.1 port=1"))
    assert gone.keys() == {"PostgreSQL", "Kafka"}
    assert gone["PostgreSQL"] == "connection refused"


def test_a_worker_waits_for_a_server_that_is_away_and_ends_when_asked(settings: Settings, tmp_path: Path) -> None:
    with Crew(settings.model_copy(update={"postgres": "host=127.0.0.1 port=1"}), tmp_path) as crew:
        worker = crew.start("handle")
        assert worker.until_logged("worker.waits")["server"] == "PostgreSQL"
        assert worker.end() == 0
        assert [entry["server"] for entry in worker.logged("worker.waits")] == ["PostgreSQL"]


def test_what_takes_longer_than_it_can_ends_the_process() -> None:
    program = """
from time import sleep
from prm_es.consumers import runtime
from prm_es.liveness import LIVE
runtime.end_if_it_hangs()
LIVE.doing("a transaction", at_most=0.1)
sleep(100)
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=60, check=False, capture_output=True, text=True)
    assert done.returncode == runtime.UNAVAILABLE, done.stderr
    assert "a transaction" in done.stdout + done.stderr


def test_a_node_that_is_not_ready_is_said_and_not_raised_for_the_sender_would_lose_its_request() -> None:
    client = publisher._Client(bootstrap_servers="127.0.0.1:1")
    try:
        assert client.await_ready("coordinator-1", timeout_ms=100) is False
    finally:
        client.close()
