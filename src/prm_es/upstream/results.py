"""Outcomes as senders see them: read from the results topic and the dead letters, and matched with what was sent.

A command is answered when a result names its source and id, or when a dead letter names them or the place where the
command lies. Nothing is committed to Kafka: each sender reads on from where the topics ended when it began.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import Any, Final, Literal, Self

import orjson
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from prm_es.errors import Unavailable
from prm_es.settings import Settings
from prm_es.upstream.lines import Outgoing

Place = tuple[str, int, int]
Kind = Literal["accepted", "refused", "dead_lettered"]
OnRefusal = Callable[[dict[str, Any]], None]
TOPIC_S: Final = 5.0
_KINDS: Final[dict[bytes, Kind]] = {b"prm.command.accepted": "accepted", b"prm.command.refused": "refused"}


@dataclass(frozen=True, slots=True)
class Answer:
    """One record of the results or the dead letters; `content` is read from its bytes only when asked for."""

    kind: Kind
    name: tuple[str, str] | None
    place: Place | None
    headers: dict[str, bytes]
    value: bytes

    @property
    def content(self) -> dict[str, Any]:
        """Give the outcome as the service wrote it; of a dead letter, what its headers say."""
        if self.kind != "dead_lettered":
            content: dict[str, Any] = orjson.loads(self.value)
            return content
        code, reason = (self.headers.get(f"prm_{name}", b"").decode("utf-8", "replace") for name in ("code", "reason"))
        return {"outcome": self.kind, "code": code or "message.unreadable", "message": reason or "a dead letter"}


class ResultReader:
    """Reads every outcome that comes in after it was made. Make it before sending; it belongs to one thread."""

    def __init__(self, settings: Settings) -> None:
        """Stand at the end of both topics; raises Unavailable if a broker or a topic is missing."""
        self._dead_letters = settings.dead_letters_topic
        try:
            self._consumer = KafkaConsumer(
                **settings.kafka_client,
                group_id=None,
                enable_auto_commit=False,
                allow_auto_create_topics=False,
                isolation_level="read_committed",
                max_poll_records=2_000,
                fetch_max_wait_ms=100,
            )
        except KafkaError as error:
            raise Unavailable(f"Kafka does not answer: {error}") from error
        try:
            self._go_to_end((settings.results_topic, settings.dead_letters_topic))
        except BaseException:
            self.close()
            raise

    def _go_to_end(self, topics: tuple[str, ...]) -> None:
        try:
            partitions = [TopicPartition(topic, p) for topic in topics for p in self._partitions(topic)]
            self._consumer.assign(partitions)
            for partition, end in self._consumer.end_offsets(partitions).items():
                self._consumer.seek(partition, end)
        except KafkaError as error:
            raise Unavailable(f"Kafka does not answer: {error}") from error

    def _partitions(self, topic: str) -> set[int]:
        """Give a topic's partitions. A topic made a moment ago may not be known to the broker asked."""
        until = monotonic() + TOPIC_S
        while not (partitions := self._consumer.partitions_for_topic(topic)):
            if monotonic() > until:
                raise Unavailable(f"there is no topic {topic} yet: is prm-es running?")
            sleep(0.1)
        return set(partitions)

    def poll(self, timeout_s: float) -> Iterator[Answer]:
        """Give what came in, after waiting for at most this long; raises Unavailable."""
        try:
            batches = self._consumer.poll(timeout_ms=int(timeout_s * 1000))
        except KafkaError as error:
            raise Unavailable(f"Kafka does not answer: {error}") from error
        for records in batches.values():
            for record in records:
                answer = self._answer(record)
                if answer is not None:
                    yield answer

    def _answer(self, record: Any) -> Answer | None:  # noqa: ANN401
        headers = {name: value for name, value in record.headers if value is not None}
        source, id_ = headers.get("ce_commandsource"), headers.get("ce_causationid")
        name = (source.decode("utf-8", "replace"), id_.decode("utf-8", "replace")) if source and id_ else None
        if record.topic == self._dead_letters:
            return Answer("dead_lettered", name, _place(headers), headers, b"")
        kind = _KINDS.get(headers.get("ce_type", b""))
        return Answer(kind, name, None, headers, record.value or b"{}") if kind else None

    def close(self) -> None:
        """Let go of the broker."""
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def _place(headers: dict[str, bytes]) -> Place | None:
    try:
        topic, partition, offset = (headers[f"prm_{name}"].decode() for name in ("topic", "partition", "offset"))
        return topic, int(partition), int(offset)
    except (KeyError, ValueError):
        return None


@dataclass
class Report:
    """What became of a batch. `refusals` stays empty where each was handed to a callback.

    `before` counts those of the answered that had their outcome before the batch began, and were not sent again.
    """

    sent: int = 0
    before: int = 0
    accepted: int = 0
    refused: int = 0
    dead_lettered: int = 0
    unanswered: int = 0
    refusals: list[dict[str, Any]] = field(default_factory=list)

    @property
    def answered(self) -> int:
        """Count the commands whose outcome is known."""
        return self.accepted + self.refused + self.dead_lettered


@dataclass
class _Waiting:
    record: Outgoing
    numbers: list[int]
    places: list[Place]


class Ledger:
    """Which commands wait for their outcome. Holds no more than what is unanswered, and the counts."""

    def __init__(self, on_refusal: OnRefusal | None = None) -> None:
        self.report = Report()
        self.expected = 0  # records whose outcome is waited for
        self._on_refusal = on_refusal or self.report.refusals.append
        self._by_name: dict[tuple[str, str], _Waiting] = {}
        self._by_place: dict[Place, _Waiting] = {}

    def expect(self, number: int, record: Outgoing, place: Place) -> None:
        """Wait for the outcome of the sender's record of this number, at this place; sent twice, answered together."""
        waiting = self._by_name.get(record.name) if record.name else None
        if waiting is None:
            waiting = _Waiting(record, [], [])
            if record.name:
                self._by_name[record.name] = waiting
        waiting.numbers.append(number)
        waiting.places.append(place)
        self._by_place[place] = waiting
        self.expected += 1
        self.report.unanswered += 1

    def take(self, answer: Answer) -> Sequence[int]:
        """Book an answer and give the numbers it answers: none for another sender's or a repeated one."""
        waiting = self._by_place.get(answer.place) if answer.place else None
        if waiting is None and answer.name:
            waiting = self._by_name.get(answer.name)
        if waiting is None:
            return ()
        self._forget(waiting)
        count = len(waiting.numbers)
        self.expected -= count
        self.report.unanswered -= count
        self._count(waiting.record, answer, count)
        return waiting.numbers

    def book(self, record: Outgoing, response: bytes) -> None:
        """Book the outcome that a record's command has from before, as the service wrote it."""
        content = orjson.loads(response)
        kind: Kind = "accepted" if content["outcome"] == "accepted" else "refused"
        self.report.before += 1
        self._count(record, Answer(kind, record.name, None, {}, response), 1)

    def _count(self, record: Outgoing, answer: Answer, count: int) -> None:
        setattr(self.report, answer.kind, getattr(self.report, answer.kind) + count)
        if answer.kind != "accepted":
            self._on_refusal(_refusal(record, answer))

    def _forget(self, waiting: _Waiting) -> None:
        for place in waiting.places:
            self._by_place.pop(place, None)
        if waiting.record.name:
            self._by_name.pop(waiting.record.name, None)


def _refusal(record: Outgoing, answer: Answer) -> dict[str, Any]:
    content = answer.content
    return {
        "outcome": answer.kind,
        "code": content.get("code"),
        "message": content.get("message"),
        "errors": content.get("errors", []),
        "command": record.shown,
    }
