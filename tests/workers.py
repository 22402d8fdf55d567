"""What the tests of running workers share: processes to kill, loads to give them, and what the topics then hold."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self, TypeVar
from uuid import UUID, uuid4

from kafka import KafkaConsumer
from kafka.admin import KafkaAdminClient

from prm_es.consumers import publisher, topics
from prm_es.consumers.tails import partitions_of
from prm_es.messages import Envelope, binary_command, stored_state, structured_command
from prm_es.settings import AGGREGATES, Settings
from prm_es.store.store import NewEvent, Store, Writes
from prm_es.upstream.demo import scenario
from tests.support import Desk, command, rows

PATIENCE_S = 60.0
T = TypeVar("T")


def until(look: Callable[[], T], what: str, seconds: float = PATIENCE_S) -> T:
    """Look again and again until there is something; the pause is no part of any order of events."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.01)
    return seen


# Processes


class Worker:
    """One process of the product, `python -m prm_es …`, which logs into a file."""

    def __init__(self, settings: Settings, folder: Path, *arguments: str, **environment: str) -> None:
        self.log = folder / f"{arguments[0]}-{uuid4().hex[:8]}.log"
        env = {name: text for name, text in os.environ.items() if not name.startswith("PRM_")}
        env |= {
            "PRM_KAFKA": settings.kafka,
            "PRM_POSTGRES": settings.postgres,
            "PRM_PREFIX": settings.prefix,
            "PRM_DATA": str(folder),
            "PRM_LOG_FORMAT": "json",
            **environment,
        }
        with self.log.open("wb") as log:
            argv = [sys.executable, "-m", "prm_es", *arguments]
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("{") and line.endswith("}")]
        return [entry for entry in map(json.loads, lines) if entry.get("event") == event]

    def until_logged(self, event: str) -> dict[str, Any]:
        def look() -> list[dict[str, Any]]:
            found = self.logged(event)
            assert found or self.process.poll() is None, self.log.read_text()
            return found

        return until(look, f"{event} in the log")[0]

    def exit_code(self) -> int:
        return self.process.wait(timeout=PATIENCE_S)

    def pause(self) -> None:
        """Stop it and return once it stands still."""
        self.process.send_signal(signal.SIGSTOP)
        until(lambda: _state(self.process.pid) == "T", "the process stands still")

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def pause_while(self, in_flight: Callable[[], bool]) -> None:
        """Stop it at a moment at which it has work in flight, seen while it stands still."""

        def caught() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            self.pause()
            if in_flight():
                return True
            self.go_on()
            return False

        until(caught, "work in flight")

    def kill_while(self, in_flight: Callable[[], bool]) -> None:
        self.pause_while(in_flight)
        self.kill()

    def end(self) -> int:
        """Ask it to stop and give its exit code."""
        self.process.terminate()
        return self.exit_code()


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


class Crew:
    """Starts workers and leaves none behind."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings, self._folder = settings, folder
        self._workers: list[Worker] = []

    def start(self, *arguments: str, **environment: str) -> Worker:
        worker = Worker(self._settings, self._folder, *arguments, **environment)
        self._workers.append(worker)
        return worker

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.kill()


# Loads


def story(deals: int, seed: int = 1) -> tuple[list[Envelope], list[Envelope]]:
    """Give the demo's commands about partners, and those about its first so many opportunities that no lead opens."""
    told = scenario(seed, date(2026, 3, 1))
    chosen = set([one.subject for one in told if one.type == "prm.opportunity.open"][:deals])
    partners = [one for one in told if one.type.startswith("prm.partner.")]
    return partners, [one for one in told if one.subject in chosen]


def late_story(share: float, whole: int = 0) -> list[Envelope]:
    """Give the demo's commands about partners, and those about what first comes up in the last share of it.

    Of so many of the oldest partners that still work it is the whole story: those for whom there are logins have rows
    to look at, whatever today's demo is.
    """
    told = scenario(1, datetime.now(UTC).date())
    begun: dict[UUID, int] = {}
    for number, one in enumerate(told):
        begun.setdefault(one.subject, number)
    late = (1 - share) * len(told)
    oldest = set(_oldest(told)[:whole])
    kept = {one.subject for one in told if one.type.startswith("prm.partner.") or begun[one.subject] > late}
    kept |= {one.subject for one in told if {one.actor.org, json.loads(one.data).get("partner_id")} & oldest}
    return [one for one in told if one.subject in kept]


def _oldest(told: Iterable[Envelope]) -> list[str]:
    since: dict[UUID, datetime | None] = {}
    works: dict[UUID, bool] = {}
    for one in told:
        if one.type.startswith("prm.partner."):
            since.setdefault(one.subject, one.time)
            verb = one.type.rpartition(".")[2]
            if verb == "import":
                works[one.subject] = json.loads(one.data).get("status", "active") == "active"
            elif verb in ("activate", "reinstate", "suspend", "terminate"):
                works[one.subject] = verb in ("activate", "reinstate")
    return [str(one) for one in sorted(filter(works.get, works), key=lambda one: (str(since[one]), one))]


@dataclass(frozen=True)
class Sent:
    """A record to send; `name` is the command's source and id, None if no command can be read from it."""

    aggregate: str
    key: bytes
    headers: Sequence[tuple[str, bytes]]
    value: bytes
    name: tuple[str, str] | None


def plain(sent: Envelope) -> Sent:
    key, headers, value = binary_command(sent)
    return Sent(sent.type.split(".")[1], key, headers, value, (sent.source, sent.id))


def written_otherwise(sent: Envelope) -> Sent:
    """Give the same command in the other content mode, its fields in another order."""
    content = structured_command(sent)
    content["data"] = dict(reversed(content["data"].items()))
    value = json.dumps(dict(reversed(content.items())), indent=1).encode()
    headers = [("content-type", b"application/cloudevents+json")]
    return replace(plain(sent), headers=headers, value=value)


def reused(sent: Envelope) -> Sent:
    """Give another command under the same id."""
    return plain(replace(sent, data=json.dumps({**json.loads(sent.data), "surprise": 1}).encode()))


def unreadable(chance: random.Random) -> Sent:
    structured = [("content-type", b"application/cloudevents+json")]
    headers, value = chance.choice(
        [
            ([], chance.randbytes(40)),
            (structured, b'{"specversion": "1.0", "id": 7}'),
            (structured, b"[]"),
            ([("ce_specversion", b"1.0"), ("ce_id", b"\xff\xfe")], b"{}"),
        ]
    )
    return Sent(chance.choice(AGGREGATES), chance.randbytes(16), headers, value, None)


def mixed(commands: Iterable[Envelope], seed: int) -> list[Sent]:
    """Give the commands with what senders do wrong: one in ten again, some re-serialised, ids reused, rubbish."""
    chance = random.Random(seed)
    load: list[Sent] = []
    late: list[Sent] = []
    for sent in commands:
        load.append(plain(sent))
        if chance.random() < 0.1:
            late.append(chance.choice((plain, written_otherwise))(sent))
        if chance.random() < 0.01:
            late.append(reused(sent))
        if chance.random() < 0.01:
            late.append(unreadable(chance))
        if late and chance.random() < 0.05:
            load.append(late.pop(chance.randrange(len(late))))
    return load + late


def write(settings: Settings, commands: Sequence[Envelope], size: int = 400) -> None:
    """Write commands to the store without the help of a handler."""
    with Store(settings) as store:
        desk = Desk(store, topic=f"tests-{uuid4()}")
        for start in range(0, len(commands), size):
            desk.give(*map(desk.record, commands[start : start + size]))


def append(settings: Settings, events: Sequence[tuple[UUID, int, str, dict[str, Any]]]) -> None:
    """Write events that no command could make: subject, version, wire type and data."""
    with Store(settings) as store, store.batch() as batch:
        at = batch.head.at
        states = [stored_state(at, at, command("tests.append"), json.dumps(event[3]).encode()) for event in events]
        new = [NewEvent(*event[:3], state) for event, state in zip(events, states, strict=True)]
        batch.write(Writes(events=new))


# Topics


@dataclass(frozen=True)
class Seen:
    """A record as a consumer that reads only what is committed sees it."""

    place: tuple[str, int]
    offset: int
    key: bytes | None
    head: dict[str, str]
    value: bytes


def read_topics(settings: Settings, names: Sequence[str]) -> list[Seen]:
    """Read everything that is committed, each partition in its order."""
    partitions = partitions_of(names)
    consumer: Any = KafkaConsumer(
        **settings.kafka_client, group_id=None, isolation_level="read_committed", max_poll_records=5000
    )
    seen = []
    with closing(consumer):
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        consumer.seek_to_beginning(*partitions)
        while any(consumer.position(one) < ends[one] for one in partitions):
            for partition, records in consumer.poll(200).items():
                place = (partition.topic, partition.partition)
                seen += [Seen(place, one.offset, one.key, _head(one.headers), one.value) for one in records]
    return seen


def _head(headers: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    return {name: raw.decode("utf-8", "replace") for name, raw in headers}


class OpenTransactions:
    """Tells whether records of a transaction under way lie on the events topics."""

    def __init__(self, settings: Settings) -> None:
        self._partitions = partitions_of(settings.event_topics)
        self._consumers: list[Any] = [
            KafkaConsumer(**settings.kafka_client, group_id=None, isolation_level=level)
            for level in ("read_committed", "read_uncommitted")
        ]

    def open(self) -> bool:
        committed, written = (consumer.end_offsets(self._partitions) for consumer in self._consumers)
        return any(written[one] > committed[one] for one in self._partitions)

    def close(self) -> None:
        for consumer in self._consumers:
            consumer.close()


def check_topics(settings: Settings, *, first: int = 1) -> None:
    """Check that the events topics hold the log, from a position on: each event once, in order, chained."""
    log = {row["notification_id"]: row for row in rows(settings, "SELECT * FROM events ORDER BY notification_id")}
    seen = read_topics(settings, settings.event_topics)
    positions = sorted(int(one.head["ce_sequence"]) for one in seen)
    public = [n for n, row in log.items() if n >= first and row["topic"].split(".")[1] in AGGREGATES]
    assert positions == public
    last: dict[tuple[str, int], int] = {}
    versions: dict[bytes, int] = {}
    homes: dict[bytes, tuple[str, int]] = {}
    for one in seen:
        position, key = int(one.head["ce_sequence"]), one.key or b""
        assert position > last.get(one.place, 0)
        assert first > 1 or int(one.head["ce_previous"]) == last.get(one.place, 0)
        last[one.place] = position
        assert homes.setdefault(key, one.place) == one.place
        assert int(one.head["ce_aggregateversion"]) == versions.get(key, 0) + 1 or (first > 1 and key not in versions)
        versions[key] = int(one.head["ce_aggregateversion"])
        row = log[position]
        assert (one.head["ce_subject"], one.head["ce_type"]) == (str(row["originator_id"]), row["topic"])
        assert key.decode() == one.head["ce_subject"]
        assert int(one.head["ce_aggregateversion"]) == row["originator_version"]
        state = json.loads(row["state"])
        assert json.loads(one.value) == state["data"]
        assert bytes(row["state"]).endswith(b',"data":' + one.value + b"}")


def remake_event_topics(settings: Settings) -> None:
    """Delete the events topics and make them anew."""
    admin: Any = KafkaAdminClient(**settings.kafka_client)
    with closing(admin):
        admin.delete_topics(settings.event_topics)
        until(lambda: not set(settings.event_topics) & set(admin.list_topics()), "the topics are gone")
        topics.create(settings)
        until(lambda: set(settings.event_topics) <= set(admin.list_topics()), "the topics are there")


@contextmanager
def publishing(settings: Settings) -> Iterator[list[Exception]]:
    """Publish in a thread; gives what goes wrong in it, and raises it at the end."""
    stop = Event()
    wrong: list[Exception] = []

    def work() -> None:
        try:
            publisher.work(settings, stop)
        except Exception as error:  # noqa: BLE001
            wrong.append(error)

    thread = Thread(target=work)
    thread.start()
    try:
        yield wrong
    finally:
        stop.set()
        thread.join()
    if wrong:
        raise wrong[0]


def store_id(settings: Settings) -> str:
    return str(rows(settings, "SELECT store_id FROM store_info")[0]["store_id"])


def noted(settings: Settings) -> int:
    """Give the position up to which everything is published, as the store has it."""
    found = rows(settings, "SELECT position FROM published WHERE topic = '*'")
    return int(found[0]["position"]) if found else 0


def head(settings: Settings) -> int:
    return int(rows(settings, "SELECT max(last_position) AS head FROM commits")[0]["head"])


def publish_all(settings: Settings) -> None:
    with publishing(settings) as wrong:
        until(lambda: wrong or noted(settings) == head(settings), "everything is published")
