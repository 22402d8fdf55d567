"""Make the topics of an installation; safe to run again."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import TopicAlreadyExistsError

from prm_es.errors import Unavailable
from prm_es.settings import PARTITIONS, Settings

WEEK_MS = str(7 * 24 * 3600 * 1000)


def wanted(settings: Settings) -> list[tuple[str, dict[str, str]]]:
    """Give each topic with its settings. Events topics are never compacted: the store is the truth."""
    flush = {"flush.messages": "1"} if settings.kafka_replication == 1 else {}
    commands = [(topic, {"retention.ms": WEEK_MS, **flush}) for topic in settings.command_topics]
    events: list[tuple[str, dict[str, str]]] = [
        (topic, {"cleanup.policy": "delete"}) for topic in settings.event_topics
    ]
    return [*commands, *events, (settings.results_topic, {}), (settings.dead_letters_topic, {"retention.ms": WEEK_MS})]


def create(settings: Settings) -> list[str]:
    """Make the topics that are missing and give their names; raises kafka.errors.KafkaError."""
    admin: Any = KafkaAdminClient(**settings.kafka_client)
    try:
        present = set(admin.list_topics())
        made = []
        for name, config in wanted(settings):
            if name in present:
                continue
            topic = NewTopic(name, PARTITIONS, settings.kafka_replication, topic_configs=config)
            try:
                admin.create_topics([topic])
            except TopicAlreadyExistsError:
                continue  # another process made it, or the list was a moment old
            made.append(name)
        return made
    finally:
        admin.close()


def ids(settings: Settings, topics: Sequence[str], patience: float = 15.0) -> dict[str, str]:
    """Give the topics' ids once each has all its partitions; a broker tells of a new topic a moment late.

    Raises Unavailable if one is still missing after `patience` seconds.
    """
    admin: Any = KafkaAdminClient(**settings.kafka_client)
    deadline = time.monotonic() + patience
    try:
        while True:
            described = {topic["name"]: topic for topic in admin.describe_topics(list(topics))}
            lacking = [name for name in topics if not _whole(described.get(name))]
            if not lacking:
                return {name: str(described[name]["topic_id"]) for name in topics}
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"topic {lacking[0]} is missing or has not {PARTITIONS} partitions: run `prm-es topics`"
                )
            time.sleep(0.1)
    finally:
        admin.close()


def _whole(topic: Mapping[str, Any] | None) -> bool:
    return topic is not None and len(topic.get("partitions") or ()) == PARTITIONS
