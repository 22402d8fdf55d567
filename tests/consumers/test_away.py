"""A broker that is away is asked again and again, so that it is found soon after its return."""

import socket
import time
from contextlib import suppress
from threading import Thread

from kafka import KafkaProducer
from kafka.errors import KafkaError

from prm_es.settings import Settings

AWAY_S = 8.0
LONGEST_PAUSE_S = 2.0


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
