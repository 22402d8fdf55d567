"""Commands go out in bulk: each when those it depends on are answered, with a sliding window of unanswered ones."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, Final

import orjson
from kafka import KafkaProducer
from kafka.errors import KafkaError

from prm_es.consumers import compiled_records
from prm_es.dispatch import canonical_content
from prm_es.errors import Unavailable, Usage
from prm_es.messages import Envelope
from prm_es.partitions import partition_of
from prm_es.settings import Settings
from prm_es.store.store import Store
from prm_es.upstream.lines import Outgoing, outgoing
from prm_es.upstream.progress import OnProgress, silent
from prm_es.upstream.results import Ledger, OnRefusal, Place, Report, ResultReader
from prm_es.upstream.schedule import Schedule

CHUNK: Final = 1_000
WINDOW: Final = 20_000
TIMEOUT_S: Final = 60.0
OnResume = Callable[[int, int], None]  # answered before, of how many
_POLL_S: Final = 0.2
_CLOSE_S: Final = 5


def send(
    settings: Settings,
    commands: Sequence[Envelope | Outgoing],
    *,
    wait: bool,
    timeout: float = TIMEOUT_S,
    on_progress: OnProgress = silent,
    on_refusal: OnRefusal | None = None,
    on_resume: OnResume | None = None,
) -> Report:
    """Send commands so that each is decided after those it depends on; with `wait` until every one is answered.

    With `on_resume`, those that the store has answered before with the same content are not sent again: their first
    outcome is counted, and the callback is told how many they are, and of how many. Without `wait` those commands that
    no other waits for may be unanswered on return. Refusals go to `on_refusal`, or into the report. Raises Unavailable
    if Kafka is away or no outcome came for `timeout` seconds, and Usage, before anything is sent, for a command whose
    type names no aggregate.
    """
    records = [command if isinstance(command, Outgoing) else outgoing(command) for command in commands]
    ledger = Ledger(on_refusal)
    if on_resume is not None:
        records = _not_answered(settings, records, ledger)
        on_resume(ledger.report.before, len(commands))
    if not records:
        return ledger.report
    schedule = Schedule([record.node for record in records])
    reader = ResultReader(settings) if wait or any(map(schedule.awaited, range(len(records)))) else None
    try:
        with producer_of(settings) as producer:
            _Run(settings, producer, reader, ledger, timeout, on_progress).send(records, schedule, wait=wait)
    finally:
        if reader is not None:
            reader.close()
    return ledger.report


def _not_answered(settings: Settings, records: Sequence[Outgoing], ledger: Ledger) -> list[Outgoing]:
    """Book the records whose commands the store has answered with this very content; give the others.

    Where the store cannot be asked, for a sender may know the broker alone, all are given: sending twice is safe.
    """
    if not (settings.postgres or settings.postgres_auditor):
        return list(records)
    left: list[Outgoing] = []
    with Store(settings, "auditor") as store:
        for start in range(0, len(records), CHUNK):
            chunk = records[start : start + CHUNK]
            named = ((one.name, one.envelope) for one in chunk)
            found = store.responses({name: canonical_content(sent) for name, sent in named if name and sent})
            for record in chunk:
                response = found.get(record.name) if record.name and record.envelope else None
                if response is None:
                    left.append(record)
                else:
                    ledger.book(record, response)
    return left


def send_one(settings: Settings, command: Envelope, timeout: float = TIMEOUT_S) -> dict[str, Any]:
    """Send one command and give its outcome as the service wrote it, or {"outcome": "dead_lettered", code, message}.

    Raises Unavailable if no outcome came in time, Usage if the type names no aggregate.
    """
    record = outgoing(command)
    with ResultReader(settings) as reader, producer_of(settings) as producer:
        (place,) = publish(producer, settings, [record])
        until = monotonic() + timeout
        while monotonic() < until:
            for answer in reader.poll(_POLL_S):
                if answer.name == record.name or (answer.place is not None and answer.place == place):
                    return answer.content
    raise Unavailable(
        f"no outcome within {timeout:g} s: the command is sent and stays in its topic; is a handler running?"
    )


@contextmanager
def refusals_file(path: Path) -> Iterator[OnRefusal]:
    """Give a callback that writes refusals to a file as JSON Lines, begun anew; a new one is its owner's only.

    Raises Usage if the file cannot be made, Unavailable if it cannot be written any more.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        raise Usage(f"{path}: {error.strerror}") from None

    def write(refusal: dict[str, Any]) -> None:
        try:
            _write_all(descriptor, orjson.dumps(refusal, option=orjson.OPT_APPEND_NEWLINE))
        except OSError as error:
            raise Unavailable(f"{path}: {error.strerror}") from error

    try:
        yield write
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


class _Run:
    """One call of `send`: what is under way, and the reading of answers between the writing."""

    def __init__(
        self,
        settings: Settings,
        producer: KafkaProducer,
        reader: ResultReader | None,
        ledger: Ledger,
        timeout: float,
        on_progress: OnProgress,
    ) -> None:
        self._publish: Callable[[Sequence[Outgoing]], list[Place]] = lambda chunk: publish(producer, settings, chunk)
        self._reader = reader
        self._ledger = ledger
        self._timeout = timeout
        self._on_progress = on_progress
        self._last = monotonic()  # when something was sent or answered

    def send(self, records: Sequence[Outgoing], schedule: Schedule, *, wait: bool) -> None:
        """Send the records as the schedule lets them; with `wait` return only when all have their outcome."""
        report = self._ledger.report
        self._on_progress(report.sent, report.answered)
        while schedule.left:
            taken = schedule.take(min(CHUNK, WINDOW - self._ledger.expected))
            if taken:
                self._send(records, taken, schedule, wait=wait)
            elif not self._take(schedule, _POLL_S):
                self._check_time()
        while wait and self._ledger.expected:
            if not self._take(schedule, _POLL_S):
                self._check_time()
        self._on_progress(report.sent, report.answered)

    def _send(self, records: Sequence[Outgoing], taken: Sequence[int], schedule: Schedule, *, wait: bool) -> None:
        report = self._ledger.report
        written = self._publish([records[place] for place in taken])
        report.sent += len(taken)
        for place, where in zip(taken, written, strict=True):
            if wait or schedule.awaited(place):
                self._ledger.expect(place, records[place], where)
            else:
                report.unanswered += 1
        self._last = monotonic()
        self._on_progress(report.sent, report.answered)
        self._take(schedule, 0)

    def _check_time(self) -> None:
        if monotonic() - self._last > self._timeout:
            report = self._ledger.report
            raise Unavailable(
                f"no outcome for {self._timeout:g} s: {report.unanswered} of {report.sent} commands sent are"
                " unanswered; they stay in their topics, and the same ids may be sent again"
            )

    def _take(self, schedule: Schedule, timeout: float) -> bool:
        """Read answers for so many seconds; tell whether any command got its outcome."""
        if self._reader is None:
            return False
        taken = [place for answer in self._reader.poll(timeout) for place in self._ledger.take(answer)]
        for place in taken:
            schedule.answered(place)
        if taken:
            self._last = monotonic()
            self._on_progress(self._ledger.report.sent, self._ledger.report.answered)
        return bool(taken)


@contextmanager
def producer_of(settings: Settings) -> Iterator[KafkaProducer]:
    """Give a producer for as long as the context lasts; raises Unavailable."""
    compiled_records.use()
    try:
        producer = KafkaProducer(
            **settings.kafka_client, linger_ms=5, batch_size=131_072, allow_auto_create_topics=False
        )
    except KafkaError as error:
        raise Unavailable(f"Kafka does not answer: {error}") from error
    try:
        yield producer
    finally:
        producer.close(timeout=_CLOSE_S)


def publish(producer: KafkaProducer, settings: Settings, chunk: Sequence[Outgoing]) -> list[Place]:
    """Send records and give the places where they lie, once the brokers have them all; raises Unavailable."""
    try:
        futures = [
            producer.send(
                settings.command_topic(record.aggregate),
                key=record.subject.encode() or None,
                partition=partition_of(record.envelope.subject) if record.envelope else None,
                value=record.value,
                headers=list(record.headers),
            )
            for record in chunk
        ]
        producer.flush()
        written = [future.get(timeout=0) for future in futures]
    except KafkaError as error:
        raise Unavailable(f"Kafka did not take every command: {error}") from error
    return [(metadata.topic, metadata.partition, metadata.offset) for metadata in written]
