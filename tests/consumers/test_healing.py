"""Topics that lost something are filled from the store; those of another history are refused until repaired."""

from collections.abc import Sequence
from contextlib import closing, suppress
from threading import Event
from typing import Any

import psycopg
import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from prm_es.consumers import publisher
from prm_es.consumers.runtime import UNAVAILABLE
from prm_es.consumers.tails import partitions_of, verify
from prm_es.errors import ForeignHistory, Unavailable
from prm_es.messages import Envelope
from prm_es.projections import conflicts, pipeline
from prm_es.projections.base import ReadModel
from prm_es.projections.runner import CHUNK
from prm_es.settings import Settings
from tests.projections.generations import contents, live, one_pass
from tests.support import partner, rows
from tests.test_cli import environment, in_process
from tests.workers import (
    Crew,
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


@pytest.fixture(scope="module")
def told() -> list[Envelope]:
    partners, deals = story(30)
    return partners + deals


def caught_up(settings: Settings, model: ReadModel = pipeline.MODEL) -> bool:
    """Tell whether no partition's checkpoint is behind what was published there."""
    query = (
        f"SELECT 1 FROM {settings.projections_schema}.checkpoints c JOIN published p USING (topic, partition)"
        " WHERE c.name = %s AND c.generation = %s AND p.position > c.position"
    )
    return noted(settings) == head(settings) and not rows(settings, query, [model.name, live(settings, model)])


def check_rows(settings: Settings, model: ReadModel = pipeline.MODEL) -> None:
    """Check that the rows, as they stand, are those of folding the log once."""
    stand = contents(settings, live(settings, model), model)
    assert any(stand.values())
    assert stand == one_pass(settings, model)


def put(settings: Settings, records: Sequence[Seen]) -> None:
    with closing(KafkaProducer(**settings.kafka_client)) as producer:
        for one in records:
            headers = [(name, text.encode()) for name, text in one.head.items()]
            producer.send(one.place[0], one.value, key=one.key, partition=one.place[1], headers=headers)
        producer.flush()


def expire(settings: Settings) -> None:
    """Delete every event record, as retention does."""
    partitions = partitions_of(settings.event_topics)
    with closing(KafkaConsumer(**settings.kafka_client)) as consumer, _admin(settings) as admin:
        admin.delete_records({one: end for one, end in consumer.end_offsets(partitions).items() if end})


def _admin(settings: Settings) -> Any:
    return closing(KafkaAdminClient(**settings.kafka_client))


def longest(records: Sequence[Seen], topic: str) -> list[Seen]:
    """Give the records of that partition of a topic that has most of them."""
    places = [one.place for one in records if one.place[0] == topic]
    chosen = max(sorted(set(places)), key=places.count)
    return [one for one in records if one.place == chosen]


def test_topics_rewritten_without_a_record_and_without_their_end_lose_nothing(
    installed: Settings, told: list[Envelope], crew: Crew
) -> None:
    write(installed, told)
    publish_all(installed)
    records = read_topics(installed, installed.event_topics)
    deals, partners = (longest(records, installed.event_topic(name)) for name in ("opportunity", "partner"))
    lost = [deals[len(deals) // 2], *partners[-2:]]
    assert deals[0] not in lost
    remake_event_topics(installed)
    put(installed, [one for one in records if one not in lost])
    worker = crew.start("project", "pipeline")
    worker.until_logged("projector.active")
    until(lambda: caught_up(installed), "the rows are complete")
    assert head(installed) < CHUNK  # more would have been read from the store at once
    assert worker.logged("projector.tail_filled")
    assert worker.end() == 0
    check_rows(installed)
    with publishing(installed) as wrong:
        filled = [one for one in records if one.place != deals[0].place]
        until(lambda: wrong or len(_without(installed, deals[0].place)) == len(filled), "the end is published again")
    assert _heads(_without(installed, deals[0].place)) == _heads(filled)


def _without(settings: Settings, place: tuple[str, int]) -> list[Seen]:
    return [one for one in read_topics(settings, settings.event_topics) if one.place != place]


def _heads(records: Sequence[Seen]) -> list[tuple[tuple[str, int], dict[str, str]]]:
    return sorted(((one.place, one.head) for one in records), key=lambda one: (one[0], int(one[1]["ce_sequence"])))


def test_topics_made_anew_that_hold_their_end_alone_are_filled_from_the_beginning(
    installed: Settings, told: list[Envelope]
) -> None:
    write(installed, told)
    publish_all(installed)
    records = read_topics(installed, installed.event_topics)
    remake_event_topics(installed)
    put(installed, longest(records, installed.event_topic("opportunity"))[-2:])
    with publishing(installed) as wrong:
        until(lambda: wrong or len(read_topics(installed, installed.event_topics)) == len(records), "they are whole")
    check_topics(installed)


def test_a_topic_made_anew_under_a_publisher_is_noticed_and_filled(
    installed: Settings, told: list[Envelope], crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "TOPICS_S", 0.5)
    worker = crew.start("project", "pipeline")
    write(installed, told[: len(told) // 2])
    with suppress(Unavailable, KafkaError), publishing(installed) as wrong:
        until(lambda: wrong or caught_up(installed), "the first half is published")
        remake_event_topics(installed)
        write(installed, told[len(told) // 2 :])
        until(lambda: wrong, "the publisher ends")
    publish_all(installed)
    check_topics(installed)
    assert worker.exit_code() == UNAVAILABLE
    assert "made anew" in worker.logged("worker.unavailable")[0]["reason"]
    again = crew.start("project", "pipeline")
    again.until_logged("projector.active")  # the rows may be complete already
    until(lambda: caught_up(installed), "the rows are complete")
    assert again.end() == 0
    check_rows(installed)


def test_records_that_expired_before_a_read_model_saw_them_are_read_from_the_store(
    installed: Settings, told: list[Envelope], crew: Crew
) -> None:
    third = len(told) // 3
    write(installed, told[:third])
    publish_all(installed)
    first = crew.start("project", "pipeline")
    until(lambda: caught_up(installed), "the group has committed offsets")
    assert first.end() == 0
    write(installed, told[third : 2 * third])
    publish_all(installed)
    expire(installed)
    assert not caught_up(installed)
    second = crew.start("project", "pipeline")
    until(lambda: caught_up(installed), "what expired is in the rows")
    write(installed, told[2 * third :])
    publish_all(installed)
    until(lambda: caught_up(installed), "it goes on from the topics")
    assert second.end() == 0
    check_rows(installed)


# Another history


def refused(worker: Worker) -> str:
    """Give the sentence with which a worker refuses to work."""
    assert worker.exit_code() == UNAVAILABLE
    (said,) = worker.logged("worker.unavailable")
    reason: str = said["reason"]
    assert reason.startswith("ForeignHistory: "), reason
    return reason


def repaired(settings: Settings) -> str:
    ran = in_process(environment(settings), "repair-topics", "--yes")
    assert ran.code == 0, ran.err
    return ran.err


def check_repaired(settings: Settings, crew: Crew, before: str) -> None:
    """Check that publisher and projector work again, on topics that hold this store's history under a new id."""
    assert store_id(settings) != before
    publishes, projects = crew.start("publish"), crew.start("project", "pipeline")
    write(settings, [partner()])
    until(lambda: caught_up(settings), "all is published and projected")
    assert (publishes.end(), projects.end()) == (0, 0)
    check_topics(settings)
    heads = [one.head["ce_storeid"] for one in read_topics(settings, settings.event_topics)]
    assert set(heads) == {store_id(settings)}
    check_rows(settings)


def test_another_stores_events_stop_publisher_and_projector_until_the_topics_are_repaired(
    installed: Settings, told: list[Envelope], crew: Crew
) -> None:
    write(installed, told)
    publish_all(installed)
    follows = crew.start("project", "pipeline")
    until(lambda: caught_up(installed), "all is projected")
    (known,) = longest(read_topics(installed, installed.event_topics), installed.event_topic("opportunity"))[-1:]
    strange = {**known.head, "ce_storeid": "5d0b5c59-9d3e-4f6a-8b1c-7a1000000000", "ce_sequence": "1000000"}
    put(installed, [Seen(known.place, 0, known.key, strange, known.value)])
    publishes, projects = crew.start("publish"), crew.start("project", "pipeline")
    for worker in (follows, publishes, projects):
        assert "`prm-es repair-topics`" in refused(worker)
        assert strange["ce_storeid"] in refused(worker)
    before = store_id(installed)
    said = repaired(installed)
    assert f"1 partitions end with events of store {strange['ce_storeid']}, up to position 1000000" in said
    check_repaired(installed, crew, before)


def test_the_same_event_recorded_otherwise_is_another_history(installed: Settings, told: list[Envelope]) -> None:
    write(installed, told[:40])
    publish_all(installed)
    known = read_topics(installed, [installed.event_topic("partner")])[-1]
    more = known.value.replace(b"{", b'{"more":1,', 1)
    for head_, value in (
        ({"ce_recordedtime": "2026-01-01T00:00:00Z"}, known.value),
        ({"ce_sequence": "9" * 30}, known.value),
        ({}, more),
    ):
        put(installed, [Seen(known.place, 0, known.key, known.head | head_, value)])
        with pytest.raises(ForeignHistory, match="does not hold"):
            publisher.work(installed, Event())
        with pytest.raises(ForeignHistory, match="does not hold"):
            verify(installed, installed.event_topics)


def test_topics_are_not_repaired_under_an_active_publisher_nor_unasked(
    installed: Settings, told: list[Envelope], crew: Crew
) -> None:
    write(installed, told[:40])
    publishes = crew.start("publish")
    until(lambda: noted(installed) == head(installed), "all is published")
    before = store_id(installed)
    ran = in_process(environment(installed), "repair-topics", "--yes")
    assert (ran.code, "a publisher is active" in ran.err) == (UNAVAILABLE, True)
    assert publishes.end() == 0
    ran = in_process(environment(installed), "repair-topics", stdin=b"n\n")
    assert ran.code == 1
    assert store_id(installed) == before
    check_topics(installed)


def test_rows_that_contain_more_than_the_log_stop_their_workers_and_are_made_anew(
    installed: Settings, told: list[Envelope], crew: Crew
) -> None:
    write(installed, told)
    publish_all(installed)
    models: list[ReadModel] = [pipeline.MODEL, conflicts.MODEL]
    for model in models:
        one_pass(installed, model)
    _change(
        installed,
        f"UPDATE {installed.projections_schema}.checkpoints SET position = {head(installed) + 7}"
        f" WHERE name IN ('{models[0].name}', '{models[1].name}') AND partition = 0",
    )
    for verb in (("project", "pipeline"), ("conflicts",)):
        said = refused(crew.start(*verb))
        assert f"contains position {head(installed) + 7} of a log that ends with {head(installed)}" in said
        assert "`prm-es repair-topics`" in said
    before = store_id(installed)
    assert "read models made anew: conflicts, pipeline" in repaired(installed).replace(
        "pipeline, conflicts", "conflicts, pipeline"
    )
    worker = crew.start("conflicts")
    worker.until_logged("worker.active")
    check_repaired(installed, crew, before)
    assert worker.end() == 0


def _change(settings: Settings, statement: str) -> None:
    with psycopg.connect(settings.postgres) as connection:
        assert connection.execute(statement.encode()).rowcount > 0
