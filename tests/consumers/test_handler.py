"""The command handler at the broker: whatever bytes lie on a topic, it answers each and goes on."""

from collections.abc import Callable
from threading import Event, Thread
from typing import Any

import orjson
from kafka import KafkaProducer

from prm_es.consumers import commands
from prm_es.messages import binary_command
from prm_es.settings import Settings
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
