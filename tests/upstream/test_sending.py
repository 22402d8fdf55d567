"""Sending against a real broker; a small stand-in for the service answers."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from prm_es.consumers import topics
from prm_es.errors import Poison, Unavailable, Usage
from prm_es.messages import Actor, Envelope, Role, read_command, structured_command
from prm_es.settings import Settings
from prm_es.upstream import results, sending
from prm_es.upstream.lines import outgoing, read_lines
from prm_es.upstream.results import Report
from prm_es.upstream.sending import refusals_file, send, send_one

ACTOR = Actor("tester", Role.INTEGRATION)


def command(number: int, *names: int, subject: int | None = None, source: str = "test", data: str = "") -> Envelope:
    content = {"names": [str(UUID(int=name)) for name in names], "say": data}
    about = UUID(int=number if subject is None else subject)
    return Envelope(source, f"{number}", "prm.opportunity.comment", about, ACTOR, orjson.dumps(content))


class Answering:
    """Answers as the service would: accepted; refused if the data says so; a dead letter if it cannot be read.

    Every answer is sent twice, and one for another sender goes before it.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.seen: list[tuple[str, str]] = []
        self.silent = False
        self.stop = threading.Event()
        self.consumer: Any = KafkaConsumer(**settings.kafka_client, group_id=None, enable_auto_commit=False)
        partitions = [TopicPartition(t, p) for t in settings.command_topics for p in range(12)]
        self.consumer.assign(partitions)
        self.consumer.seek_to_end()
        for partition in partitions:
            self.consumer.position(partition)
        self.producer: Any = KafkaProducer(**settings.kafka_client)
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    def work(self) -> None:
        while not self.stop.is_set():
            for records in self.consumer.poll(timeout_ms=50).values():
                for record in records:
                    self.answer(record)
        self.consumer.close()
        self.producer.close()

    def answer(self, record: Any) -> None:
        try:
            sent = read_command(record.headers, record.value)
        except Poison as poison:
            place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
            headers = [(f"prm_{name}", str(value).encode()) for name, value in place.items()]
            headers += [("prm_code", poison.code.encode()), ("prm_reason", poison.sentence.encode())]
            self.producer.send(self.settings.dead_letters_topic, b"{}", headers=headers)
            return
        self.seen.append((sent.source, sent.id))
        if self.silent:
            return
        for source in ("another", sent.source, sent.source):
            self._result(sent, source)

    def _result(self, sent: Envelope, source: str) -> None:
        refused = b"refuse me" in sent.data
        outcome = "refused" if refused else "accepted"
        content: dict[str, Any] = {"outcome": outcome, "source": source, "id": sent.id}
        if refused:
            errors = [{"field": "say", "code": "rude", "message": "no"}]
            content |= {"code": "test.no", "message": "No.", "errors": errors}
        headers = [
            ("ce_type", f"prm.command.{outcome}".encode()),
            ("ce_commandsource", source.encode()),
            ("ce_causationid", sent.id.encode()),
        ]
        self.producer.send(self.settings.results_topic, orjson.dumps(content), headers=headers)


@pytest.fixture(scope="module")
def answering(settings: Settings) -> Iterator[Answering]:
    topics.create(settings)
    answering = Answering(settings)
    yield answering
    answering.stop.set()
    answering.thread.join()


@pytest.fixture
def service(answering: Answering) -> Answering:
    answering.seen.clear()
    answering.silent = False
    return answering


def counts(report: Report) -> tuple[int, int, int, int, int]:
    return report.sent, report.accepted, report.refused, report.dead_lettered, report.unanswered


def test_every_command_is_counted_once_by_its_outcome(service: Answering) -> None:
    seen: list[tuple[int, int]] = []
    commands = [command(number, data="refuse me" if number % 10 == 0 else "") for number in range(1, 3001)]
    report = send(service.settings, commands, wait=True, timeout=20, on_progress=lambda *at: seen.append(at))
    assert counts(report) == (3000, 2700, 300, 0, 0)
    assert len(report.refusals) == 300
    assert report.refusals[0]["code"] == "test.no"
    assert report.refusals[0]["errors"] == [{"field": "say", "code": "rude", "message": "no"}]
    assert report.refusals[0]["command"]["data"]["say"] == "refuse me"
    assert seen == sorted(seen)
    assert seen[-1] == (3000, 3000)


def test_a_command_is_sent_when_those_it_names_are_answered(service: Answering) -> None:
    # 3 names 2, 2 names 1; in three partitions or more nobody else keeps their order.
    chains = [(number, number + 1, number + 2) for number in range(10, 100, 3)]
    commands = [command(c, b) for _, b, c in chains] + [command(b, a) for a, b, _ in chains]
    commands += [command(a) for a, _, _ in chains]
    report = send(service.settings, commands, wait=False, timeout=20)
    assert report.accepted >= 60
    assert report.sent == 90
    assert report.accepted + report.unanswered == 90
    wait_for(lambda: len(service.seen) == 90)
    at = {int(id_): number for number, (_source, id_) in enumerate(service.seen)}
    assert all(at[a] < at[b] < at[c] for a, b, c in chains)


def wait_for(condition: Callable[[], bool]) -> None:
    ready = threading.Event()
    for _ in range(100):
        if condition():
            return
        ready.wait(0.1)
    pytest.fail("waited in vain")


def test_commands_to_one_subject_keep_their_order(service: Answering) -> None:
    commands = [command(number, subject=7) for number in range(200, 400)]
    assert send(service.settings, commands, wait=True, timeout=20).accepted == 200
    assert [id_ for _source, id_ in service.seen] == [sent.id for sent in commands]


def test_without_waiting_nothing_is_read(service: Answering) -> None:
    report = send(service.settings, [command(1), command(2)], wait=False)
    assert counts(report) == (2, 0, 0, 0, 2)


def test_a_dead_letter_is_found_by_its_place(service: Answering) -> None:
    text = b'{"type": "prm.opportunity.comment", "id": "x", "say": "unreadable"}\n'
    report = send(service.settings, [*read_lines([text, text], "f", check=False), command(1)], wait=True, timeout=20)
    assert counts(report) == (3, 1, 0, 2, 0)
    assert {refusal["code"] for refusal in report.refusals} == {"message.specversion"}
    assert orjson.loads(report.refusals[0]["command"]["line"])["say"] == "unreadable"


def test_one_command_twice_in_a_batch_is_answered_together(service: Answering) -> None:
    assert counts(send(service.settings, [command(1), command(1)], wait=True, timeout=20)) == (2, 2, 0, 0, 0)


def test_silence_is_an_error_that_says_how_many_wait(service: Answering) -> None:
    service.silent = True
    with pytest.raises(Unavailable, match=r"no outcome for 0\.5 s: 3 of 3 commands"):
        send(service.settings, [command(number) for number in (1, 2, 3)], wait=True, timeout=0.5)
    with pytest.raises(Unavailable, match=r"no outcome within 0\.5 s"):
        send_one(service.settings, command(1), timeout=0.5)


def test_no_more_than_a_window_is_unanswered(service: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "CHUNK", 10)
    monkeypatch.setattr(sending, "WINDOW", 30)
    waiting: list[int] = []
    commands = [command(number) for number in range(500)]
    report = send(
        service.settings, commands, wait=True, timeout=20, on_progress=lambda sent, back: waiting.append(sent - back)
    )
    assert report.accepted == 500
    assert max(waiting) <= 40


def test_one_command_gives_its_outcome(service: Answering) -> None:
    assert send_one(service.settings, command(1), timeout=20)["outcome"] == "accepted"
    refused = send_one(service.settings, command(2, data="refuse me"), timeout=20)
    assert (refused["outcome"], refused["code"]) == ("refused", "test.no")


def test_nothing_to_send(service: Answering) -> None:
    assert counts(send(service.settings, [], wait=True)) == (0, 0, 0, 0, 0)


def test_nothing_is_sent_if_one_of_them_has_no_topic(service: Answering) -> None:
    nowhere = Envelope("test", "1", "prm.policy.load", UUID(int=1), ACTOR, b"{}")
    with pytest.raises(Usage):
        send(service.settings, [command(1), nowhere], wait=True)
    assert service.seen == []


def test_an_interrupt_leaves_no_thread_behind(service: Answering) -> None:
    before = Counter(thread.name for thread in threading.enumerate())

    def interrupt(_sent: int, _answered: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        send(service.settings, [command(1)], wait=True, on_progress=interrupt)
    wait_for(lambda: Counter(thread.name for thread in threading.enumerate()) == before)


def test_refusals_go_to_a_file_of_ones_own(service: Answering, tmp_path: Path) -> None:
    path = tmp_path / "refused.jsonl"
    with refusals_file(path) as on_refusal:
        report = send(
            service.settings,
            [command(number, data="refuse me") for number in (1, 2)],
            wait=True,
            timeout=20,
            on_refusal=on_refusal,
        )
    assert report.refusals == []
    found = [orjson.loads(text) for text in path.read_bytes().splitlines()]
    assert {refusal["command"]["id"] for refusal in found} == {"1", "2"}
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Usage), refusals_file(tmp_path / "no" / "folder"):
        pass


def test_topics_that_are_not_there(service: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "TOPIC_S", 0.2)
    other = service.settings.model_copy(update={"prefix": "nowhere"})
    with pytest.raises(Unavailable, match=r"there is no topic nowhere\.results"):
        send(other, [command(1)], wait=True)


def test_records_read_from_lines_and_made_from_envelopes_are_the_same(service: Answering) -> None:
    made = outgoing(command(1))
    (read,) = read_lines([orjson.dumps(structured_command(command(1)))], "f")
    assert read == made
