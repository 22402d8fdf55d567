"""The publisher: one is active, a zombie is fenced, and whatever the topics lack is filled from the store."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import psycopg
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

from prm_es.aggregates import policy
from prm_es.consumers import publisher
from prm_es.consumers.publisher import BATCH
from prm_es.consumers.runtime import UNAVAILABLE
from prm_es.consumers.tails import partitions_of, tails, undecided
from prm_es.errors import ForeignHistory
from prm_es.install import install
from prm_es.messages import Envelope, stored_state
from prm_es.settings import PARTITIONS, Settings
from prm_es.store.locks import Lock
from prm_es.store.store import NewEvent, Store, Writes
from tests.support import command, partner, rows
from tests.workers import (
    Crew,
    OpenTransactions,
    Seen,
    Worker,
    check_topics,
    head,
    noted,
    publish_all,
    publishing,
    read_topics,
    remake_event_topics,
    store_id,
    story,
    until,
    write,
)


class Source:
    """Gives commands that were not given before, in the order of the story."""

    def __init__(self) -> None:
        partners, deals = story(1_000)
        self._left = partners + deals

    def take(self, count: int) -> list[Envelope]:
        taken, self._left = self._left[:count], self._left[count:]
        assert len(taken) == count
        return taken


@pytest.fixture(scope="module")
def source() -> Source:
    return Source()


@pytest.fixture(scope="module")
def installed(migrated: Settings) -> Settings:
    install(migrated)
    return migrated


@pytest.fixture
def crew(installed: Settings, tmp_path: Path) -> Iterator[Crew]:
    with Crew(installed, tmp_path) as crew:
        yield crew


def published(settings: Settings) -> bool:
    return noted(settings) == head(settings)


def test_a_log_of_many_batches_is_published_once_in_order(installed: Settings, source: Source) -> None:
    write(installed, source.take(2 * BATCH + 200), size=2 * BATCH + 200)  # one commit larger than two batches
    assert head(installed) > 2 * BATCH
    publish_all(installed)
    check_topics(installed)
    publish_all(installed)
    check_topics(installed)


def test_a_second_publisher_stands_by_and_takes_over_from_one_that_was_killed(
    installed: Settings, source: Source, crew: Crew
) -> None:
    active, standby = _two(crew)
    write(installed, source.take(300))
    until(lambda: published(installed), "the active one publishes")
    assert not standby.logged("publisher.active")
    active.kill()
    standby.until_logged("publisher.active")
    write(installed, source.take(300))
    until(lambda: published(installed), "the other one publishes")
    check_topics(installed)
    assert standby.end() == 0


def test_what_a_killed_broker_left_neither_committed_nor_aborted_is_never_seen(
    installed: Settings, source: Source
) -> None:
    write(installed, source.take(300))
    publish_all(installed)
    partitions = partitions_of(installed.event_topics)
    last, _ends = tails(installed, partitions)
    with _unverified(installed), closing(publisher._producer(installed, store_id(installed))) as producer:
        producer.begin_transaction()
        # As if the coordinator had never heard of them: nobody writes how a transaction ended there.
        producer._transaction_manager._partitions_in_transaction.update(last)
        for record in last.values():
            producer.send(record.topic, record.value, record.key, record.headers, partition=record.partition)
        producer.flush()
    assert undecided(installed, partitions) == [one for one in partitions if one in last]
    write(installed, source.take(300))
    publish_all(installed)
    check_topics(installed)
    assert undecided(installed, partitions) == []


@contextmanager
def _unverified(settings: Settings) -> Iterator[None]:
    """Let records of a transaction be written to partitions of which its coordinator was not told."""
    with closing(KafkaAdminClient(**settings.kafka_client)) as admin:
        brokers = [str(one["broker_id"]) for one in admin.describe_cluster()["brokers"]]

        def verify(word: str) -> None:
            told = {"transaction.partition.verification.enable": word}
            admin.alter_configs([ConfigResource(ConfigResourceType.BROKER, one, told) for one in brokers])

        verify("false")
        try:
            yield
        finally:
            verify("true")


def _two(crew: Crew) -> tuple[Worker, Worker]:
    active = crew.start("publish")
    active.until_logged("publisher.active")
    standby = crew.start("publish")
    standby.until_logged("worker.standby")
    return active, standby


def test_a_publisher_that_slept_past_its_lock_is_fenced_and_doubles_nothing(
    installed: Settings, source: Source, crew: Crew
) -> None:
    zombie, successor = _two(crew)
    zombie.pause()
    write(installed, source.take(1_500), size=1_500)
    zombie.go_on()
    with closing(OpenTransactions(installed)) as kafka:
        zombie.pause_while(kafka.open)
    _take_its_lock(installed)
    successor.until_logged("publisher.active")
    until(lambda: published(installed), "the successor publishes")
    zombie.go_on()
    assert zombie.exit_code() == UNAVAILABLE
    assert zombie.logged("worker.unavailable")
    check_topics(installed)
    write(installed, source.take(100))
    until(lambda: published(installed), "the successor goes on")
    check_topics(installed)


def _take_its_lock(settings: Settings) -> None:
    """End the connection that holds the publisher's lock, as a network that lost it would."""
    ended = rows(
        settings,
        "SELECT pg_terminate_backend(pid) AS ended FROM pg_locks WHERE locktype = 'advisory' AND granted"
        " AND objid = %s AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        [int(Lock.PUBLISH)],
    )
    assert ended == [{"ended": True}]


def test_topics_made_anew_are_filled_from_the_store(installed: Settings, source: Source) -> None:
    write(installed, source.take(100))
    publish_all(installed)
    remake_event_topics(installed)
    assert not read_topics(installed, installed.event_topics)
    _publish_until_whole(installed)


def _publish_until_whole(settings: Settings) -> None:
    """Publish until the topics hold as many records as the log has events that belong there."""
    wanted = len(rows(settings, "SELECT 1 FROM events WHERE topic NOT LIKE 'prm.policy.%%'"))
    with publishing(settings) as wrong:
        until(lambda: wrong or len(read_topics(settings, settings.event_topics)) >= wanted, "the topics are whole")
    check_topics(settings)


@pytest.mark.parametrize("back", ["position = 0", "position = greatest(0, position - 100)"])
def test_what_was_published_but_not_noted_is_not_published_again(
    installed: Settings, source: Source, back: str
) -> None:
    write(installed, source.take(100))
    publish_all(installed)
    _change(installed, f"UPDATE published SET {back}")
    write(installed, source.take(100))
    publish_all(installed)
    check_topics(installed)


def test_without_any_note_the_topics_themselves_say_what_is_there(installed: Settings, source: Source) -> None:
    write(installed, source.take(100))
    publish_all(installed)
    _change(installed, "DELETE FROM published")
    publish_all(installed)
    check_topics(installed)


def test_what_was_noted_but_is_not_there_is_published(installed: Settings, source: Source) -> None:
    publish_all(installed)
    write(installed, source.take(100))
    _change(installed, f"UPDATE published SET position = {head(installed)}")
    _publish_until_whole(installed)


def _change(settings: Settings, statement: str) -> None:
    with psycopg.connect(settings.postgres, options=f"-c search_path={settings.store_schema}") as connection:
        assert connection.execute(statement.encode()).rowcount > 0


def test_streams_of_the_store_alone_are_not_published(installed: Settings, source: Source) -> None:
    document = f'{{"document":{policy.default().model_dump_json()}}}'.encode()
    state = stored_state(datetime.now(UTC), datetime.now(UTC), command("policy.load"), document)
    with Store(installed) as store, store.batch() as batch:
        batch.write(Writes(events=[NewEvent(policy.STREAM, 1, "prm.policy.loaded.v1", state)]))
    position = head(installed)
    publish_all(installed)
    assert noted(installed) == position
    write(installed, [partner()])
    publish_all(installed)
    assert all(int(one.head["ce_sequence"]) != position for one in read_topics(installed, installed.event_topics))
    check_topics(installed)


def test_topics_of_another_store_are_refused_with_the_repair_in_the_message_and_the_repair_works(
    installed: Settings, source: Source, crew: Crew
) -> None:
    write(installed, source.take(20))
    publish_all(installed)
    known = read_topics(installed, installed.event_topics)[-1]
    _put(installed, known, {**known.head, "ce_storeid": "another"})
    write(installed, source.take(20))
    before = len(read_topics(installed, installed.event_topics))

    refused = crew.start("publish")
    assert refused.exit_code() == UNAVAILABLE
    (told,) = refused.logged("worker.unavailable")
    assert "ForeignHistory" in told["reason"]
    assert known.place[0] in told["reason"]
    assert "`prm-es repair-topics`" in told["reason"]
    assert len(read_topics(installed, installed.event_topics)) == before

    remake_event_topics(installed)
    _publish_until_whole(installed)


def test_a_tail_that_is_not_what_the_store_holds_is_refused(installed: Settings, source: Source) -> None:
    write(installed, source.take(20))
    publish_all(installed)
    known = read_topics(installed, installed.event_topics)[-1]
    ahead_of_a_restored_store = {**known.head, "ce_sequence": "1000000"}
    another_event = {**known.head, "ce_subject": "another"}
    for strange in (ahead_of_a_restored_store, another_event, {}):
        _put(installed, known, strange)
        with pytest.raises(ForeignHistory):
            publisher.work(installed, Event())
    remake_event_topics(installed)
    _publish_until_whole(installed)


def _put(settings: Settings, like: Seen, head: dict[str, str]) -> None:
    producer: Any = KafkaProducer(**settings.kafka_client)
    with closing(producer):
        headers = [(name, text.encode()) for name, text in head.items()]
        topic, partition = like.place
        producer.send(topic, like.value, key=like.key, partition=partition, headers=headers)
        producer.flush()


def test_after_all_records_expired_the_notes_count(installed: Settings, source: Source) -> None:
    publish_all(installed)
    last = {one.place: int(one.head["ce_sequence"]) for one in read_topics(installed, installed.event_topics)}
    _expire(installed)
    assert not read_topics(installed, installed.event_topics)
    before = head(installed)
    write(installed, source.take(400))
    publish_all(installed)
    check_topics(installed, first=before + 1)
    first_of: dict[tuple[str, int], int] = {}
    for one in read_topics(installed, installed.event_topics):
        first_of.setdefault(one.place, int(one.head["ce_previous"]))
    assert first_of
    assert first_of.items() <= last.items()
    remake_event_topics(installed)
    _publish_until_whole(installed)


def _expire(settings: Settings) -> None:
    partitions = [TopicPartition(name, number) for name in settings.event_topics for number in range(PARTITIONS)]
    consumer: Any = KafkaConsumer(**settings.kafka_client, group_id=None)
    admin: Any = KafkaAdminClient(**settings.kafka_client)
    with closing(consumer), closing(admin):
        ends = consumer.end_offsets(partitions)
        admin.delete_records({one: end for one, end in ends.items() if end})
