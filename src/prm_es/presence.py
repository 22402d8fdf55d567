"""Whether PostgreSQL and Kafka answer, asked without patience: one that hangs is away like one that is gone."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, Final

import psycopg
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError, RetriableError
from psycopg.pq import PGconn, Ping

from prm_es.errors import Usage
from prm_es.settings import DB_ROLES, Settings

ANSWER_S: Final = 3
POSTGRES: Final = "PostgreSQL"
KAFKA: Final = "Kafka"
_PING: Final[Mapping[int, str]] = {
    Ping.REJECT: "it takes no connections: it starts, stops or recovers",
    Ping.NO_RESPONSE: "connection refused",
}


def away(settings: Settings) -> dict[str, str]:
    """Give the servers that do not answer, each with the reason; what the settings do not name is not asked."""
    asked = {POSTGRES: postgres_away, KAFKA: kafka_away}
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = {name: pool.submit(ask, settings) for name, ask in asked.items()}
    return {name: reason for name, answer in answers.items() if (reason := answer.result())}


def postgres_away(settings: Settings) -> str | None:
    """Say why PostgreSQL does not answer, None if it does; a refusal to let somebody in is an answer."""
    dsn = next(filter(None, (getattr(settings, name) for name in _STRINGS)), None)
    if dsn is None:
        return None
    try:
        psycopg.connect(dsn, connect_timeout=ANSWER_S).close()
    except psycopg.errors.ConnectionTimeout:
        return f"no answer within {ANSWER_S} s"
    except psycopg.OperationalError:
        return _PING.get(PGconn.ping(dsn.encode()))
    return None


_STRINGS: Final = ("postgres", *(f"postgres_{role}" for role in DB_ROLES))


def kafka_away(settings: Settings) -> str | None:
    """Say why Kafka does not answer, None if it does; a refusal to let somebody in is an answer."""
    patience = 1000 * ANSWER_S
    try:
        client: Any = KafkaAdminClient(
            **settings.kafka_client, request_timeout_ms=patience, bootstrap_timeout_ms=patience
        )
        with closing(client):
            client.describe_cluster()
    except RetriableError as error:
        return f"no answer within {ANSWER_S} s ({type(error).__name__})"
    except (KafkaError, Usage):
        return None
    return None
