"""The command handler at the broker: whatever bytes lie on a topic, it answers each and goes on."""

from collections.abc import Callable
from threading import Event, Thread
from typing import Any

import orjson
from kafka import KafkaProducer

from prm_es.consumers import commands
from prm_es.dispatch import Record
from prm_es.messages import binary_command
from prm_es.settings import PARTITIONS, Settings
from tests.support import dead_letters, partner, rows
from tests.workers import read_topics, until


class NotUtf8(str):
    """A header's name as clients may write it that take any bytes."""

    __slots__ = ()

    def encode(self, *_arguments: Any) -> bytes:
        return b"x\xff\xfe"


def handle_until(settings: Settings, done: Callable[[], object]) -> None:
    stop = Event()
    thread = Thread(target=commands.work, args=(settings, stop))
    thread.start()
    try:
        until(lambda: done() or not thread.is_alive(), "the handler is through")
    finally:
        stop.set()
        thread.join()
    assert done()


def test_records_that_no_command_can_be_read_from_hold_nothing_up(migrated: Settings) -> None:
    producer: Any = KafkaProducer(**migrated.kafka_client)
    topic = migrated.command_topic("partner")
    good, odd = partner(), partner()

    def put(value: bytes | None, headers: Any = (), key: bytes | None = b"k") -> None:
        producer.send(topic, value=value, headers=list(headers), key=key, partition=0)

    _key, odd_headers, odd_value = binary_command(odd)
    put(b"x", [(NotUtf8("name"), b"1")])
    put(None)
    put(b"\xff" * 100, [("ce_specversion", b"1.0"), ("ce_id", b"\xff")])
    put(b"", [("content-type", b"")], key=None)
    put(b'{"a":' + b"[" * 700 + b"]" * 700 + b"}")
    put(odd_value, [*odd_headers, (NotUtf8("name"), b"\xff"), ("later", b"2")])
    _key, headers, value = binary_command(good)
    put(value, headers)
    producer.flush()
    producer.close()

    def answered() -> list[dict[str, Any]]:
        return rows(migrated, "SELECT 1 FROM commands WHERE id = %s", [good.id])

    handle_until(migrated, answered)
    assert [row["code"] for row in dead_letters(migrated)] == [
        "message.not_json", "message.empty", "message.not_utf8", "message.not_json", "message.specversion",
    ]  # fmt: skip
    assert rows(migrated, "SELECT outcome FROM commands WHERE id = %s", [odd.id]) == [{"outcome": "accepted"}]
    results = [orjson.loads(seen.value) for seen in read_topics(migrated, [migrated.results_topic])]
    assert {result["id"] for result in results} == {good.id, odd.id}
    dead = read_topics(migrated, [migrated.dead_letters_topic])
    assert sorted(int(seen.head["prm_offset"]) for seen in dead) == [0, 1, 2, 3, 4]


def test_what_could_not_be_committed_while_partitions_are_shared_out_is_committed_afterwards(
    migrated: Settings,
) -> None:
    topic, stop = migrated.command_topic("partner"), Event()
    producer = commands._producer(migrated)
    consumer, other, onlooker = (commands._consumer(migrated) for _client in range(3))
    answering = commands._Answering(migrated, consumer, producer)
    other.subscribe(migrated.command_topics)
    joining = Thread(target=lambda: [commands._poll(other, commands.IDLE_MS) for _poll in iter(stop.is_set, True)])

    def answered(number: int) -> Record:
        sent = producer.send(topic, value=b"x", partition=number)
        producer.flush()
        return Record(topic, number, sent.get().offset, (), b"x")

    def one_more() -> bool:
        commands._poll(consumer, 0)
        answering.begin([answered(number) for number in range(PARTITIONS)], [])
        answering.settle()
        return bool(answering._answered)

    def all_committed() -> bool:
        commands._poll(consumer, commands.IDLE_MS)
        answering.settle()
        mine = [place for place in consumer.assignment() if place.topic == topic]
        return bool({place: onlooker.committed(place) for place in mine} == onlooker.end_offsets(mine))

    try:
        until(lambda: commands._poll(consumer, commands.IDLE_MS) or consumer.assignment(), "it has its partitions")
        joining.start()
        until(one_more, "a commit comes while partitions are shared out")
        until(lambda: (commands._poll(consumer, commands.IDLE_MS), other.assignment())[1], "they are shared out")
        assert any(place.topic == topic for place in consumer.assignment())
        until(all_committed, "what stayed here is committed")
    finally:
        stop.set()
        if joining.ident is not None:
            joining.join()
        answering.close()
        for client in (consumer, other, onlooker, producer):
            client.close()
