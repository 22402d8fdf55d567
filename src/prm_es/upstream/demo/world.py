"""What the parts of the made-up world share: one source of chance, one span of time, stories, people and customers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
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
_CUSTOMERS: Final = 320
_OPENS: Final = 8
_HOURS: Final = 9


@dataclass(frozen=True, slots=True)
class Seller:
    """A partner as the stories of leads and opportunities need it; `since` and `until` are when it takes new deals."""

    id: UUID
    place: Place
    types: tuple[str, ...]
    users: tuple[str, ...]
    manager: str
    skill: float
    weight: float
    since: datetime
    until: datetime


@dataclass
class World:
    """Everything that was made so far, in the order it was made."""

    random: Random
    source: str
    end: datetime
    commands: list[Envelope] = field(default_factory=list)
    sellers: list[Seller] = field(default_factory=list)
    customers: list[dict[str, Any]] = field(default_factory=list)

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
        self.world.commands.append(command)
        self.at += timedelta(minutes=1)


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
    return customer
