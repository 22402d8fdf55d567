"""What the parts of the made-up world share: one source of chance, one span of time, stories, people and customers.

Stories of one customer share a thread: what they tell of leads and protections happens in the order of its time, so
each such command names the one before it as its cause.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from random import Random
from typing import Any, Final
from uuid import UUID, uuid5

import orjson

from prm_es.messages import NAMESPACE, Actor, Envelope, Role, aggregate_id
from prm_es.upstream.demo import words
from prm_es.upstream.demo.places import PLACES, WEIGHTS, Place, individual_tax_id, tax_id

SPAN: Final = timedelta(days=730)
ACTOR: Final = "demo"
MANAGERS: Final = ("cm-ines", "cm-jonas", "cm-nora", "cm-paula", "cm-victor")
_CUSTOMERS: Final = 1150
_OPENS: Final = 8
_HOURS: Final = 9
# What a later decision about the same customer depends on, or itself depends on an earlier one.
_IN_TURN: Final = frozenset(
    (
        "register",
        "capture",
        "approve",
        "extend",
        "correct",
        "transfer",
        "revoke",
        "accept",
        "recall",
        "disqualify",
        "convert",
        "win",
        "lose",
    )
)


@dataclass(frozen=True, slots=True)
class Seller:
    """A partner as the stories of leads and opportunities need it.

    `lines` are those of the price list that it may sell, `since` and `until` when it takes new deals.
    """

    id: UUID
    number: int
    place: Place
    lines: tuple[tuple[str, str, int], ...]
    types: tuple[str, ...]
    users: tuple[str, ...]
    manager: str
    skill: float
    weight: float
    since: datetime
    until: datetime


@dataclass
class World:
    """Everything that was made so far, in the order it was made.

    `meant` holds the code with which a command is meant to be refused, by its id; `threads` the thread of a command, by
    its id; `leads` and `deals` how many were told; `wins` and `registrations` what goals are about: the partner, the
    day and, of wins, the amount.
    """

    random: Random
    source: str
    end: datetime
    commands: list[Envelope] = field(default_factory=list)
    sellers: list[Seller] = field(default_factory=list)
    customers: list[dict[str, Any]] = field(default_factory=list)
    meant: dict[str, str] = field(default_factory=dict)
    threads: dict[str, str] = field(default_factory=dict)
    leads: int = 0
    deals: int = 0
    wins: list[tuple[UUID, date, Decimal]] = field(default_factory=list)
    registrations: list[tuple[UUID, date]] = field(default_factory=list)

    @classmethod
    def empty(cls, seed: int, until: date) -> "World":
        """Make a world that ends as the day begins."""
        name = f"demo-{seed}-{until.isoformat()}"
        world = cls(Random(name), name, datetime.combine(until, time(), UTC))  # noqa: S311
        world.customers = [_customer(world.random, number) for number in range(_CUSTOMERS)]
        return world

    @property
    def start(self) -> datetime:
        """When the first thing happens."""
        return self.end - SPAN

    def id(self, aggregate: str, external_id: str) -> UUID:
        """Give the id of an aggregate of this world."""
        return aggregate_id(aggregate, self.source, external_id)

    def story(self, aggregate: str, external_id: str, begins: datetime) -> "Story":
        """Begin to tell what happens to one aggregate."""
        return Story(self, aggregate, external_id, self.id(aggregate, external_id), begins)

    def lead(self, begins: datetime, thread: str | None) -> "Story":
        """Begin to tell what happens to the next lead."""
        self.leads += 1
        story = self.story("lead", f"L-{self.leads:05}", begins)
        story.thread = thread
        return story

    def told(self) -> list[Envelope]:
        """Give all commands in order of business time, each with its cause if it has one."""
        return list(_with_causes(self))

    def chance(self, of: float) -> bool:
        """Throw the dice."""
        return self.random.random() < of

    def moment(self) -> datetime:
        """Give a time at which something new may begin; they lie closer towards the end, as the channel grows."""
        return self.start + timedelta(days=8 + SPAN.days * self.random.random() ** 0.8 * 0.985)

    def selling(self, at: datetime) -> list[Seller]:
        """Give who takes new deals at a time."""
        return [one for one in self.sellers if one.since < at < one.until]

    def seller(self, among: Sequence[Seller]) -> Seller:
        """Choose a seller, the more active ones more often."""
        return self.random.choices(among, [one.weight for one in among])[0]

    def country(self) -> str:
        """Give a country, the larger markets more often."""
        return self.random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]


@dataclass
class Story:
    """What happens to one aggregate, in its order in time. What would happen after the world's end is left out."""

    world: World
    aggregate: str
    external_id: str
    id: UUID
    at: datetime
    told: int = 0
    thread: str | None = None

    @property
    def over(self) -> bool:
        """Tell whether the world ends before."""
        return self.at >= self.world.end

    @property
    def today(self) -> date:
        """Give the date of the present of the story."""
        return self.at.date()

    def day(self, days: int) -> str:
        """Give the date so many days from now, as a message writes it."""
        return (self.today + timedelta(days=days)).isoformat()

    def wait(self, least: float, most: float) -> None:
        """Let some days pass, to a time of day at which people work."""
        random = self.world.random
        then = self.at + timedelta(days=least + (most - least) * random.random())
        hour = timedelta(hours=_OPENS, seconds=random.randrange(_HOURS * 3600))
        self.at = max(datetime.combine(then.date(), time(), UTC) + hour, self.at + timedelta(minutes=1))

    def hours(self, least: float, most: float) -> None:
        """Let some hours pass."""
        self.at += timedelta(hours=least + (most - least) * self.world.random.random())

    def do(self, verb: str, by: str, /, **data: object) -> None:
        """Send a command at this time on behalf of somebody; fields that are None are left out."""
        if self.over:
            return
        self.told += 1
        given = {name: value for name, value in data.items() if value is not None}
        command = Envelope(
            source=self.world.source,
            id=f"{self.external_id}/{self.told}-{verb}",
            type=f"prm.{self.aggregate}.{verb}",
            subject=self.id,
            actor=Actor(ACTOR, Role.INTEGRATION, on_behalf_of=by),
            data=orjson.dumps(given),
            time=self.at,
        )
        if self.thread is not None and (verb in _IN_TURN or self.told == 1):
            self.world.threads[command.id] = self.thread
        self.world.commands.append(command)
        self.at += timedelta(minutes=1)

    def mistake(self, code: str, verb: str, by: str, /, **data: object) -> None:
        """Send a command that is meant to be refused with this code."""
        told = self.told
        self.do(verb, by, **data)
        if self.told > told:
            self.world.meant[self.world.commands[-1].id] = code


def _with_causes(world: World) -> Iterator[Envelope]:
    last: dict[str, Envelope] = {}
    for command in sorted(world.commands, key=lambda command: command.time or world.end):
        thread = world.threads.get(command.id)
        before = last.get(thread) if thread is not None else None
        if thread is not None:
            last[thread] = command
        elsewhere = before is not None and before.subject != command.subject
        yield replace(command, causation_id=before.id) if before and elsewhere else command


@dataclass
class Lead:
    """A lead that is being told, its customer as its partner knows it.

    It holds the customer from `held_from` until `held_until`; `decided_at` is when its registration was last decided.
    """

    world: World
    story: Story
    customer: dict[str, Any]
    seller: Seller
    user: str
    products: list[dict[str, Any]]
    amount: Decimal
    came_in_at: datetime
    decided_at: datetime | None = None
    held_from: datetime | None = None
    held_until: datetime | None = None

    @property
    def lines(self) -> list[str]:
        """Give the product lines that it is about."""
        return [product["line"] for product in self.products]

    @property
    def free_at(self) -> datetime:
        """Give when the customer is free of it."""
        return max(filter(None, (self.came_in_at, self.decided_at, self.held_until, self.story.at)))

    def holds(self, at: datetime) -> bool:
        """Tell whether it keeps rivals from the customer at a time."""
        return self.held_from is not None and self.held_from <= at and (self.held_until is None or at < self.held_until)

    def held(self, days: int) -> None:
        """Note that the command which is told next takes the customer for so many days."""
        self.held_from, self.held_until = self.story.at, self.story.at + timedelta(days=days)

    def money(self) -> dict[str, str]:
        """Give the amount in the currency of the partner's country."""
        return {"amount": str(self.amount), "currency": self.seller.place.currency}

    def belongs_to(self, seller: Seller) -> None:
        """Let it be this partner's, and somebody's there."""
        self.seller, self.user = seller, self.world.random.choice(seller.users)


def person(world: World, where: str) -> dict[str, str]:
    """Make up somebody at a web domain."""
    random = world.random
    first, last = random.choice(words.FIRST), random.choice(words.LAST)
    person_id = uuid5(NAMESPACE, f"person\n{world.source}\n{first}.{last}@{where}")
    return {"person_id": str(person_id), "name": f"{first} {last}", "email": f"{first}.{last}@{where}".lower()}


def domain(name: str) -> str:
    """Give the web domain of a made-up company."""
    return "-".join(name.lower().split()) + ".example"


def names(first: Sequence[str], second: Sequence[str], number: int) -> str:
    """Give the n-th of all pairs of words, each once before any comes again with a number."""
    pair = f"{first[number % len(first)]} {second[(number + number // len(first)) % len(second)]}"
    again = number // (len(first) * len(second))
    return f"{pair} {again + 1}" if again else pair


def _customer(random: Random, number: int) -> dict[str, Any]:
    place = PLACES[random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]]
    city = random.choice(place.cities)
    if place.country == "BR" and random.random() < 1 / 20:
        name = f"{random.choice(words.FIRST)} {random.choice(words.LAST)}"
        return {"name": name, "country": "BR", "city": city, "tax_ids": [individual_tax_id(random)]}
    name = names(words.CUSTOMER_FIRST, words.CUSTOMER_SECOND, number)
    customer: dict[str, Any] = {"name": f"{name} {place.company}", "country": place.country, "city": city}
    if random.random() < 2 / 3:
        customer |= {"tax_ids": [tax_id(random, place.country)]}
    if random.random() < 3 / 4:
        customer |= {"domains": [domain(name)]}
    if random.random() < 1 / 3:
        customer |= {"customer_id": f"C-{number + 1:05}"}
    return customer
