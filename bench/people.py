"""Made-up private persons and how they are written down: households, namesakes, neighbours, those who moved.

About one customer in twelve is a person: a sole trader, a consultant, an individual. `pairs` gives labelled pairs.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Final

from prm_es.matching.folding import fold_words
from prm_es.matching.identity import Record
from prm_es.pairs import GivenPair
from world import (
    FREE,
    Land,
    Place,
    World,
    Writer,
    drawn,
    letters,
    mistyped,
    only,
    sharing,
    slip_word,
    syllables,
    written,
)


@dataclass(frozen=True)
class Person:
    """A person, as they truly are."""

    number: int
    land: Land
    given: Sequence[str]
    last: Sequence[str]
    home: Place
    phones: Sequence[str]
    email: str | None


class People:
    """Draws persons: most live alone, one in ten with another who is a customer too."""

    def __init__(self, seed: int) -> None:
        self._any = random.Random(seed)
        self._world = World(seed + 1)
        self._count = 0

    def persons(self, count: int) -> Sequence[Person]:
        """Give about that many persons."""
        ways: Mapping[Callable[[Land], list[Person]], float] = {
            lambda land: [self._person(land)]: 62,
            self._household: 4.5,
            self._namesakes: 5.5,
            self._neighbours: 3,
        }
        return drawn(ways, count, self._any)

    def _person(
        self,
        land: Land,
        given: Sequence[str] = (),
        last: Sequence[str] = (),
        home: Place | None = None,
        phones: Sequence[str] = (),
    ) -> Person:
        self._count += 1
        given, last = given or self._given(land), last or self._last(land)
        name = letters(f"{given[0]}{last[-1]}")[:14]
        free = self._any.choice(FREE)
        return Person(
            number=self._count,
            land=land,
            given=given,
            last=last,
            home=home or self.home(land),
            phones=phones or tuple(self._world.phone(land) for _ in range(self._any.choice((1, 1, 2)))),
            email=f"{name}{self._any.randint(1, 999)}@{free}" if self._any.random() < 0.8 else None,
        )

    def _household(self, land: Land) -> list[Person]:
        """A family, or a couple of two last names: each is a customer of their own."""
        first = self._person(land)
        chance = self._any.random
        return [
            first,
            *(
                self._person(
                    land,
                    last=first.last if chance() < 0.8 else (),
                    home=first.home,
                    phones=first.phones if chance() < 0.3 else (),
                )
                for _ in range(self._any.choice((1, 1, 1, 2)))
            ),
        ]

    def _namesakes(self, land: Land) -> list[Person]:
        given, last = self._given(land)[:1], self._last(land)[:1]
        return [self._person(land, given, last) for _ in range(self._any.randint(2, 4))]

    def _neighbours(self, land: Land) -> list[Person]:
        """Those who live in one building and have nothing else in common."""
        home = self.home(land)
        return [
            self._person(land, home=replace(home, unit=self._any.randint(1, 90)))
            for _ in range(self._any.randint(2, 5))
        ]

    def _given(self, land: Land) -> Sequence[str]:
        return tuple(self._often(land.given) for _ in range(1 if self._any.random() < 0.75 else 2))

    def _last(self, land: Land) -> Sequence[str]:
        """Give one last name or two, of which three in ten are rare."""
        two = self._any.random() < (0.5 if land.code in {"BR", "MX"} else 0.06)
        return tuple(
            self._often(land.lasts) if self._any.random() < 0.7 else syllables(self._any.choice((2, 2, 3)), self._any)
            for _ in range(1 + two)
        )

    def _often(self, names: Sequence[str]) -> str:
        """Draw a name, the first ones more often than the last."""
        return names[int(len(names) * self._any.random() ** 1.5)]

    def home(self, land: Land) -> Place:
        """Give a place in a city or town, mostly in a small street, in a district whose postcode many have."""
        place = self._world.place(land)
        chance = self._any.random
        town = chance() < 0.6
        city = self._any.choice(land.towns) if town else place.city
        district = random.Random(f"{city} {self._any.randint(1, 2 if town else 6)}")
        return replace(
            place,
            city=city,
            street=self.small_street(land) if chance() < 0.7 else place.street,
            number=self._any.choice((self._any.randint(1, 99), place.number)),
            unit=place.unit and place.unit % 90 + 1,
            postcode="".join(str(district.randint(0, 9)) if one == "#" else one for one in land.postcode),
        )

    def small_street(self, land: Land) -> str:
        """Give the name of a street that hardly another town has."""
        last = (
            self._any.choice(land.lasts) if self._any.random() < 0.4 else syllables(self._any.choice((2, 3)), self._any)
        )
        return f"{self._any.choice(land.given)} {last}" if self._any.random() < 0.4 else last


class Clerk:
    """Writes persons down: every field may have a slip, and where there is haste several have."""

    def __init__(self, seed: int) -> None:
        self._any = random.Random(seed)
        self._writer = Writer(seed + 1)
        self._others = People(seed + 2)

    def record(self, person: Person) -> Record:
        """Give a record of a person; fields may be missing, or old."""
        chance = self._any.random
        land, place = person.land, person.home
        haste = self._any.choices((0.5, 1.0, 3.0), (4, 4, 2))[0]
        if chance() < 0.04:  # they moved, or this is where they lived before
            moved = self._others.home(land)
            place = replace(moved, city=place.city) if chance() < 0.6 else moved
        if chance() < 0.03:  # the house has a name of its own
            place = replace(place, street=self._others.small_street(land))
        city = place.city if chance() >= 0.04 * haste else self._any.choice(land.places)
        code = place.postcode if chance() < 0.6 else place.postcode.replace("-", "")
        phones = (self._writer.phone(self._any.choice(person.phones)),) if chance() < 0.4 else ()
        return Record(
            name=self._writer.case(self._name(person, haste)),
            country=land.code if chance() < 0.8 else None,
            city=self._writer.case(self._slipped(city, 0.06 * haste)) if chance() < 0.93 else None,
            address=self._writer.address(land, place, haste) if chance() < 0.9 else None,
            postcode=(mistyped(code, self._any) if chance() < 0.07 * haste else code) if chance() < 0.85 else None,
            phones=phones,
            emails=(person.email,) if person.email and chance() < 0.4 else (),
        )

    def _name(self, person: Person, haste: float) -> str:
        """Write a name: shortened, changed by marriage, one half left out, turned round, with slips."""
        chance = self._any.random
        given, last = list(person.given), list(person.last)
        if len(given) > 1 and chance() < 0.5:
            given = [given[0] if chance() < 0.7 else given[1]]
        if len(last) > 1 and chance() < 0.4:
            last = [last[-1] if chance() < 0.7 else last[0]]
        if chance() < 0.05:  # what friends call them, or who else lives there wrote
            given = [self._any.choice(person.land.given)]
        if chance() < 0.025:
            last = [self._any.choice(person.land.lasts)]
        given = [self._slipped(one, 0.06 * haste) for one in given]
        last = [self._slipped(one, 0.06 * haste) for one in last]
        if chance() < 0.06:
            given = [f"{given[0][0]}{self._any.choice(('', '.'))}", *given[1:]]
        left_out = chance()
        if left_out < 0.012 * haste:
            given = []
        elif left_out < 0.024 * haste:
            last = []
        turned = chance()
        if turned < 0.03 * haste:
            return " ".join((*last, *given))
        if turned < 0.05 and given and last:
            return f"{' '.join(last)}, {' '.join(given)}"
        return " ".join((*given, *last))

    def _slipped(self, text: str, share: float) -> str:
        return slip_word(text, self._any) if self._any.random() < share else text


def pairs(seed: int, persons: int) -> Iterator[GivenPair]:
    """Give the pairs of records, one to four a person, that an index would bring up."""
    clerk, chance = Clerk(seed + 6), random.Random(seed + 7)
    records = written(People(seed + 5).persons(persons), clerk.record, chance)
    return sharing(records, _blocks, random.Random(seed + 8))


def _blocks(record: Record) -> Iterator[tuple[str, str]]:
    """Give one name and the initial of the other, the postcode or city and an initial, house and postcode, phones."""
    found = fold_words(record.name or "")
    where = (record.postcode or record.city or "").replace("-", "")
    yield "name", " ".join(sorted(found))
    for one, other in permutations(found, 2):
        yield "person", f"{one} {other[0]}"
    for one in found:
        yield "here", f"{where} {one[0]}"
    for phone in record.phones:
        yield "phone", "".join(one for one in phone if one.isdigit())[-8:]
    for email in record.emails:
        yield "email", email
    numbers = [word for word in fold_words(record.address or "") if word.isdigit()]
    if numbers:
        yield "address", f"{where} {numbers[0]}"


def varied(seed: int, persons: int) -> Iterator[GivenPair]:
    """Give pairs with their homes and, half of them, with nothing else but the name."""
    any_ = random.Random(seed + 9)
    for pair in pairs(seed, persons):
        yield pair if any_.random() < 0.5 else only(pair, *_AT_HOME)


_AT_HOME: Final = ("name", "country", "city", "address", "postcode")
