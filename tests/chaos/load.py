"""The load: bursts of commands as senders send them, mistakes included, and a sender that outlives the broker."""

import json
import random
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from itertools import count
from threading import Event, Lock, Thread
from typing import Any, Final
from uuid import UUID, uuid5

from kafka import KafkaProducer
from kafka.errors import KafkaError

from prm_es.messages import NAMESPACE, Actor, Envelope, Role
from prm_es.settings import Settings
from prm_es.upstream.demo import scenario
from tests.workers import Sent, plain, reused, unreadable, written_otherwise

Place = tuple[str, int, int]
Content = tuple[bytes | None, tuple[tuple[str, bytes], ...]]

TWICE: Final = 0.1
GARBAGE: Final = 0.01
REUSED: Final = 0.01
LIVE: Final = 0.3  # of a burst: what happens now, beside the scenario, which is an import of the past
UNTIL: Final = date(2026, 6, 30)
MANAGER: Final = Actor("carla", Role.CHANNEL_MANAGER)
ADMIN: Final = Actor("vera", Role.VENDOR_ADMIN)
IMPORTER: Final = Actor("crm", Role.INTEGRATION)
LINE: Final = "scales"


def content(one: Sent) -> Content:
    """Give what of a record is the sender's; the same content may lie on a topic several times."""
    return one.value, tuple(one.headers)


class Load:
    """Bursts without end, the same for the same seed but for today's dates."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(f"load {seed}")
        self._told = self._scenarios(seed)
        self._live = _Live(random.Random(f"live {seed}"), f"chaos-{seed}")
        self._late: list[Sent] = []

    def _scenarios(self, seed: int) -> Iterator[Envelope]:
        for number in count():
            yield from scenario(1000 * seed + number, UNTIL)

    def burst(self, size: int, live: float = LIVE) -> list[Sent]:
        """Give at least so many records; a command that is sent again comes bursts later as well as at once."""
        now = round(size * live)
        told = iter(self._live.commands(now))
        places = set(self._chance.sample(range(size), now))
        commands = [next(told) if place in places else next(self._told) for place in range(size)]
        return [record for one in commands for record in self._with_mistakes(one)]

    def _with_mistakes(self, sent: Envelope) -> Iterator[Sent]:
        chance, late = self._chance, self._late
        yield plain(sent)
        if chance.random() < TWICE:
            late.append(chance.choice((plain, written_otherwise))(sent))
        if chance.random() < REUSED:
            late.append(reused(sent))
        if chance.random() < GARBAGE:
            late.append(unreadable(chance))
        while late and chance.random() < 0.02 + 0.002 * len(late):
            yield late.pop(chance.randrange(len(late)))

    def rest(self) -> list[Sent]:
        """Give what is to be sent again and was not yet."""
        left, self._late = self._late, []
        return left


class _Live:
    """What people do now: partners suspended while they register, rivals, one tax id twice, offers of two seconds."""

    def __init__(self, chance: random.Random, source: str) -> None:
        self._chance, self._source = chance, source
        self._numbers = count(1)
        self._partners: list[UUID] = []
        self._waiting: deque[Envelope] = deque()

    def commands(self, amount: int) -> list[Envelope]:
        if not self._partners:
            for _ in range(8):
                self._join()
        while len(self._waiting) < amount:
            self._chance.choice(
                (self._turmoil, self._turmoil, self._rivals, self._same_tax_id, self._offer, self._end)
            )()
        return [self._waiting.popleft() for _ in range(amount)]

    def _say(self, kind: str, subject: UUID, actor: Actor = MANAGER, /, **data: Any) -> None:
        number = next(self._numbers)
        self._waiting.append(
            Envelope(
                source=self._source,
                id=f"{number}-{kind}",
                type=f"prm.{kind}",
                subject=subject,
                actor=actor,
                data=json.dumps(data).encode(),
            )
        )

    def _new(self, kind: str) -> UUID:
        return uuid5(NAMESPACE, f"{self._source}\n{kind}\n{next(self._numbers)}")

    def _join(self, **data: Any) -> UUID:
        subject = self._new("partner")
        given = {"legal_name": f"Partner {subject.hex[:6]}", "status": "active", "country": "BR", "types": ["reseller"]}
        capacity = {"open_leads": 5000, "live_registrations": 5000}
        authorised = [{"product_line": LINE}]
        whole = {**given, "capacity": capacity, "authorisations": authorised, **data}
        self._say("partner.import", subject, IMPORTER, **whole)
        if not data:
            self._partners.append(subject)
        return subject

    def _register(self, by: UUID, customer: str | None = None) -> UUID:
        subject = self._new("lead")
        self._say(
            "lead.register",
            subject,
            partner_id=str(by),
            customer={
                "name": f"Lojas {subject.hex[:8]}",
                "customer_id": customer or f"c-{subject.hex}",
                "country": "BR",
            },
            contact={"name": "Rita Prado", "email": f"rita-{subject.hex[:6]}@sul.example"},
            product_lines=[LINE],
            deal_type="new",
            amount={"amount": "5000", "currency": "BRL"},
            expected_close_on=(datetime.now(UTC) + timedelta(days=60)).date().isoformat(),
            business_problem="Their stock counts are two weeks old when they reach head office.",
        )
        return subject

    def _turmoil(self) -> None:
        by = self._chance.choice(self._partners)
        for kind in ("partner.suspend", "partner.reinstate"):
            leads = [self._register(by) for _ in range(4)]
            for one in leads:
                self._say("lead.log_activity", one, kind="call", summary="Asked for the head of stores.")
            self._say(kind, by, reason="A late payment.") if kind == "partner.suspend" else self._say(kind, by)
            for _ in range(4):
                self._register(by)

    def _rivals(self) -> None:
        customer = f"r-{next(self._numbers)}"
        leads = [self._register(by, customer) for by in self._chance.sample(self._partners, 2)]
        for one in leads:
            self._say("lead.start_review", one)
            self._say("lead.approve", one)

    def _same_tax_id(self) -> None:
        taken = {"country": "AR", "value": _cuit(next(self._numbers))}
        for _ in range(2):
            self._join(tax_ids=[taken])

    def _offer(self) -> None:
        subject, by = self._new("lead"), self._chance.choice(self._partners)
        self._say("lead.capture", subject, customer={"name": "Feira Norte", "country": "BR"}, product_lines=[LINE])
        self._say("lead.qualify", subject)
        due = datetime.now(UTC) + timedelta(seconds=self._chance.uniform(1, 4))
        self._say("lead.offer", subject, partner_id=str(by), respond_by=due.isoformat())

    def _end(self) -> None:
        """Terminate a partner that has registered and was approved: a reaction takes its protections."""
        if self._chance.random() < 0.7:
            return
        by = self._partners.pop(self._chance.randrange(len(self._partners)))
        for _ in range(3):
            lead = self._register(by)
            self._say("lead.approve", lead)
        self._say("partner.terminate", by, ADMIN, reason="The agreement has run out.")
        self._join()


def _cuit(number: int) -> str:
    """Give an Argentinian tax id with its check digit."""
    for prefix in range(20, 35):
        digits = f"{prefix}{number:08d}"
        check = -sum(int(one) * weight for one, weight in zip(digits, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2), strict=True)) % 11
        if check < 10:
            return f"{digits}{check}"
    raise ValueError(number)


class Sender:
    """Sends bursts in a thread of its own, until the broker has every record, whatever happens to the broker."""

    def __init__(self, settings: Settings) -> None:
        self.sent: dict[Place, Sent] = {}
        self.contents: dict[Content, Sent] = {}
        self._settings = settings
        self._queue: deque[Sent] = deque()
        self._guard = Lock()
        self._under_way = 0
        self._stop = Event()
        self._producer: Any = None
        self._thread = Thread(target=self._work, name="sender", daemon=True)
        self._thread.start()

    def give(self, burst: Sequence[Sent]) -> None:
        with self._guard:
            for one in burst:
                self.contents.setdefault(content(one), one)
            self._queue.extend(burst)

    @property
    def left(self) -> int:
        """How many records the broker has not confirmed."""
        with self._guard:
            return len(self._queue) + self._under_way

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=60)
        self._drop_producer()

    def _work(self) -> None:
        while not self._stop.is_set():
            with self._guard:
                chunk = [self._queue.popleft() for _ in range(min(100, len(self._queue)))]
                self._under_way = len(chunk)
            if not chunk:
                time.sleep(0.01)
            while chunk and not self._stop.is_set():
                chunk = self._send(chunk)
                with self._guard:
                    self._under_way = len(chunk)

    def _send(self, chunk: Sequence[Sent]) -> list[Sent]:
        """Send and give what has to be sent again."""
        try:
            if self._producer is None:
                self._producer = self._new_producer()
            futures = [
                self._producer.send(
                    self._settings.command_topic(one.aggregate), one.value, key=one.key, headers=list(one.headers)
                )
                for one in chunk
            ]
            self._producer.flush(timeout=30)
        except KafkaError:
            self._drop_producer()
            self._stop.wait(0.2)
            return list(chunk)
        again = []
        for future, one in zip(futures, chunk, strict=True):
            try:
                place = future.get(timeout=0)
                self.sent[place.topic, place.partition, place.offset] = one
            except KafkaError:
                again.append(one)
        if again:
            self._drop_producer()
        return again

    def _new_producer(self) -> Any:
        return KafkaProducer(
            **self._settings.kafka_client, linger_ms=5, request_timeout_ms=10_000, delivery_timeout_ms=15_000
        )

    def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(KafkaError):
                producer.close(timeout=2)
