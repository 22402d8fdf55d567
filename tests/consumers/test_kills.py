"""Handler, publisher and projector are killed in turn, each with a batch in flight: nothing lost, nothing doubled."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from decimal import Decimal
from threading import Thread
from typing import Any

import psycopg
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from prm_es import rebuild
from prm_es.consumers import commands, projector
from prm_es.install import install
from prm_es.projections.pipeline import MODEL
from prm_es.settings import PARTITIONS, Settings
from prm_es.status import Observer, Status, wait
from tests.support import check_log, command, partner, rows
from tests.workers import (
    Crew,
    OpenTransactions,
    Sent,
    Worker,
    check_topics,
    head,
    mixed,
    noted,
    plain,
    read_topics,
    story,
    until,
)

SEED = 20260310
DEALS = 300  # about 3,700 commands about opportunities
AHEAD = 2_000  # commands that the sender keeps unanswered
PILE = 1_000  # events that a worker is kept from before it is killed

Place = tuple[str, int, int]


@dataclass
class Fire:
    """What was sent and where it lies, and the workers that are alive."""

    settings: Settings
    sent: dict[Place, Sent]
    workers: dict[str, Worker]


class Sender:
    """Sends a load, never more than AHEAD commands before the handler."""

    def __init__(self, settings: Settings, observer: Observer) -> None:
        self._settings, self._observer = settings, observer
        self._producer: Any = KafkaProducer(**settings.kafka_client)
        self.sent: dict[Place, Sent] = {}

    def send(self, load: Sequence[Sent]) -> None:
        for start in range(0, len(load), 250):
            until(lambda: (self._observer.status(counts=False).unanswered or 0) < AHEAD, "the handler comes after")
            self._send(load[start : start + 250])

    def _send(self, chunk: Sequence[Sent]) -> None:
        futures = [
            self._producer.send(
                self._settings.command_topic(one.aggregate), one.value, key=one.key, headers=list(one.headers)
            )
            for one in chunk
        ]
        self._producer.flush()
        for future, one in zip(futures, chunk, strict=True):
            place = future.get(timeout=0)
            self.sent[place.topic, place.partition, place.offset] = one

    def close(self) -> None:
        self._producer.close()


@pytest.fixture(scope="module")
def fire(migrated: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fire]:
    install(migrated)
    partners, deals = story(DEALS)
    with ExitStack() as stack:
        crew = stack.enter_context(Crew(migrated, tmp_path_factory.mktemp("logs")))
        observer = stack.enter_context(Observer(migrated))
        pacing = stack.enter_context(Observer(migrated))
        sender = stack.enter_context(closing(Sender(migrated, pacing)))
        workers = {verb: crew.start(*verb.split()) for verb in ("handle", "publish", "project pipeline")}
        sender.send([plain(one) for one in partners])
        wait(migrated, 120, ("pipeline",))
        load = Thread(target=sender.send, args=(mixed(deals, SEED),))
        load.start()
        _kill_in_turn(migrated, crew, workers, observer)
        load.join()
        wait(migrated, 120, ("pipeline",))
        yield Fire(migrated, sender.sent, workers)


def _kill_in_turn(settings: Settings, crew: Crew, workers: dict[str, Worker], observer: Observer) -> None:
    def seen() -> Status:
        return observer.status(counts=False)

    with (
        psycopg.connect(settings.postgres, autocommit=True) as connection,
        closing(OpenTransactions(settings)) as kafka,
    ):
        start = head(settings)
        until(lambda: head(settings) > start, "the load is being handled")
        workers["handle"].kill_while(
            lambda: _in_transaction(connection, settings, "writer") and bool(seen().unanswered)
        )
        before = head(settings)
        workers["handle"] = crew.start("handle")

        workers["publish"].pause()
        until(lambda: head(settings) > before and seen().unpublished > PILE, "events pile up before the publisher")
        workers["publish"].go_on()
        workers["publish"].kill_while(lambda: kafka.open() and seen().unpublished > 0)
        workers["project pipeline"].pause()
        workers["publish"] = crew.start("publish")

        until(lambda: seen().published - seen().read_models[0].as_of > PILE, "events pile up before the projector")
        workers["project pipeline"].go_on()
        workers["project pipeline"].kill_while(
            lambda: _in_transaction(connection, settings, "projector") and seen().read_models[0].behind_events > 0
        )
        workers["project pipeline"] = crew.start("project", "pipeline")


def _in_transaction(connection: psycopg.Connection[Any], settings: Settings, role: str) -> bool:
    """Tell whether a connection of that role has written something that it has not committed."""
    query = "SELECT 1 FROM pg_stat_activity WHERE application_name = %s AND backend_xid IS NOT NULL"
    return connection.execute(query, [f"{settings.prefix}-{role}"]).fetchone() is not None


def test_every_command_has_exactly_one_outcome_row(fire: Fire) -> None:
    names = Counter((row["source"], row["id"]) for row in rows(fire.settings, "SELECT source, id FROM commands"))
    assert names == Counter({one.name for one in fire.sent.values() if one.name})
    outcomes = {row["outcome"] for row in rows(fire.settings, "SELECT DISTINCT outcome FROM commands")}
    assert outcomes == {"accepted", "refused"}


def test_the_log_and_its_chain_are_whole(fire: Fire) -> None:
    check_log(fire.settings)


def test_results_never_differ_from_the_recorded_outcome(fire: Fire) -> None:
    recorded: defaultdict[tuple[str, str], set[bytes]] = defaultdict(set)
    first = {}
    for row in rows(fire.settings, "SELECT source, id, response FROM commands"):
        first[row["source"], row["id"]] = bytes(row["response"])
        recorded[row["source"], row["id"]].add(bytes(row["response"]))
    reuses = rows(fire.settings, "SELECT source, id, response FROM reused_ids")
    for row in reuses:
        recorded[row["source"], row["id"]].add(bytes(row["response"]))
    assert reuses
    published: defaultdict[tuple[str, str], set[bytes]] = defaultdict(set)
    for one in read_topics(fire.settings, [fire.settings.results_topic]):
        published[one.head["ce_commandsource"], one.head["ce_causationid"]].add(one.value)
    assert published == recorded
    assert all(response in published[name] for name, response in first.items())


def test_a_command_sent_again_gets_the_first_answer_again(fire: Fire) -> None:
    sent = Counter(one.name for one in fire.sent.values() if one.name)
    answers = Counter(
        (one.head["ce_commandsource"], one.head["ce_causationid"])
        for one in read_topics(fire.settings, [fire.settings.results_topic])
    )
    assert sum(count > 1 for count in sent.values()) > 100
    assert all(answers[name] >= count for name, count in sent.items())


def test_each_event_lies_on_its_topic_once_in_order(fire: Fire) -> None:
    assert head(fire.settings) > 3 * PILE
    check_topics(fire.settings)


def test_dead_letters_are_exactly_what_could_not_be_read(fire: Fire) -> None:
    unreadable = {place for place, one in fire.sent.items() if one.name is None}
    assert unreadable
    stored = rows(fire.settings, "SELECT topic, partition, record_offset FROM dead_letters")
    assert Counter(tuple(row.values()) for row in stored) == Counter(unreadable)
    told = read_topics(fire.settings, [fire.settings.dead_letters_topic])
    assert {
        (one.head["prm_topic"], int(one.head["prm_partition"]), int(one.head["prm_offset"])) for one in told
    } == unreadable


def test_the_rows_equal_those_of_a_rebuild(fire: Fire) -> None:
    assert set(rebuild.compare(fire.settings, MODEL).differs.values()) == {0}


def test_the_rows_equal_a_plain_reading_of_the_log(fire: Fire) -> None:
    expected = Counter(
        (deal["stage"], deal.get("currency"), deal.get("amount"), deal["partner"]) for deal in _deals(fire.settings)
    )
    view = rows(
        fire.settings,
        f"SELECT stage, currency, amount, partner_id::text FROM {fire.settings.read_schema}.opportunities",
    )
    assert Counter(tuple(row.values()) for row in view) == expected
    stays = rows(fire.settings, f"SELECT stage, entered FROM {fire.settings.read_schema}.funnel")
    assert {row["stage"]: row["entered"] for row in stays} == Counter(
        stage for deal in _deals(fire.settings) for stage in deal["stays"]
    )
    partners = rows(fire.settings, f"SELECT status, count(*) FROM {fire.settings.read_schema}.partners GROUP BY 1")
    assert {row["status"]: row["count"] for row in partners} == _partners(fire.settings)


def _log(settings: Settings, aggregate: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    query = "SELECT originator_id, topic, state FROM events WHERE topic LIKE %s ORDER BY notification_id"
    for row in rows(settings, query, [f"prm.{aggregate}.%"]):
        yield str(row["originator_id"]), row["topic"].split(".")[2], json.loads(row["state"])["data"]


def _deals(settings: Settings) -> list[dict[str, Any]]:
    deals: dict[str, dict[str, Any]] = {}
    for subject, name, data in _log(settings, "opportunity"):
        deal = deals.setdefault(subject, {"stays": []})
        if "stage" in data:
            deal["stage"] = data["stage"]
            deal["stays"].append(data["stage"])
        if name == "amount_changed" or (name in {"opened", "won"} and "amount" in data):
            money = data.get("amount", {})
            deal["currency"] = money.get("currency")
            deal["amount"] = Decimal(money["amount"]) if money else None
        if name in {"opened", "partner_of_record_changed"}:
            deal["partner"] = data["partner_id"]
    return list(deals.values())


def _partners(settings: Settings) -> dict[str, int]:
    after = {
        "invited": "invited",
        "application_submitted": "applied",
        "invitation_declined": "declined",
        "review_started": "under_review",
        "approved": "approved",
        "rejected": "rejected",
        "onboarding_started": "onboarding",
        "activated": "active",
        "suspended": "suspended",
        "reinstated": "active",
        "terminated": "terminated",
    }
    statuses: dict[str, str] = {}
    for subject, name, data in _log(settings, "partner"):
        status = data["status"] if name == "imported" else after.get(name)
        if status:
            statuses[subject] = status
    return Counter(statuses.values())


def test_a_restart_after_a_clean_stop_redelivers_nothing(fire: Fire) -> None:
    settings = fire.settings
    groups = {
        commands.group(settings): settings.command_topics,
        projector.group(settings, [MODEL]): [settings.event_topic(name) for name in MODEL.aggregates],
    }
    for group, names in groups.items():
        until(lambda: _left(settings, group, names) == 0, f"{group} has read everything")  # noqa: B023
    fire.workers["project pipeline"].pause()
    _many_small_transactions(settings)
    fire.workers["project pipeline"].go_on()
    wait(settings, 120, ("pipeline",))
    assert {verb: worker.end() for verb, worker in fire.workers.items()} == dict.fromkeys(fire.workers, 0)
    assert {group: _left(settings, group, names) for group, names in groups.items()} == dict.fromkeys(groups, 0)


def _many_small_transactions(settings: Settings) -> None:
    """Publish events of one aggregate, each alone: there is a marker between any two records."""
    subject = partner().subject
    with Observer(settings) as observer, closing(Sender(settings, observer)) as sender:
        for number in range(20):
            before = head(settings)
            one = partner(subject) if not number else command("partner.set_capacity", subject, {"open_leads": number})
            sender.send([plain(one)])
            until(lambda: noted(settings) == head(settings) > before, "the event is published")  # noqa: B023


def _left(settings: Settings, group: str, names: Sequence[str]) -> int:
    """Count the records that a worker of the group would get if it started now."""
    consumer: Any = KafkaConsumer(
        **settings.kafka_client, group_id=group, enable_auto_commit=False, isolation_level="read_committed"
    )
    partitions = [TopicPartition(name, number) for name in names for number in range(PARTITIONS)]
    with closing(consumer):
        ends, begins = consumer.end_offsets(partitions), consumer.beginning_offsets(partitions)
        consumer.assign(partitions)
        for one in partitions:
            consumer.seek(one, consumer.committed(one) or begins[one])
        count = 0
        while any(consumer.position(one) < ends[one] for one in partitions):
            count += sum(map(len, consumer.poll(200).values()))
        return count
