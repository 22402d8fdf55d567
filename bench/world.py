"""A made-up world of companies and how people write them down: groups with sisters, projects by number, branches,
franchises, landlords and accountants whose phone and address many share, namesakes. By a seed; nobody's real data.

`pairs` gives labelled pairs of records that share a name, phone, domain or address, as an index would bring them up.
"""

import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from prm_es.matching.folding import ascii_text, fold_words
from prm_es.matching.identity import Record
from prm_es.pairs import GivenPair

One = TypeVar("One")


@dataclass(frozen=True)
class Land:
    """What companies of a country are named and where they sit; world.yaml says how to read it."""

    code: str
    firsts: Sequence[str]
    given: Sequence[str]
    lasts: Sequence[str]
    activities: Sequence[str]
    words: Sequence[str]
    places: Sequence[str]
    towns: Sequence[str]
    streets: Sequence[str]
    street: str
    forms: Sequence[str]
    patterns: Sequence[str]
    projects: Sequence[str]
    sisters: Sequence[str]
    suffixes: Sequence[str]
    postcode: str
    phone: Sequence[str]
    short: Mapping[str, Sequence[str]]
    kinds: Sequence[Sequence[str]]
    units: Sequence[str]


def _lands() -> Sequence[Land]:
    """Read the lands; the first, Brazil, comes up as often as the others together."""
    given = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    listed: Iterator[dict[str, Any]] = (
        {name: _list(value) if isinstance(value, str) and name in _LISTS else value for name, value in land.items()}
        for land in given
    )
    return [Land(**land) for land in listed]


def _list(text: str) -> Sequence[str]:
    return [one.strip() for one in text.split(",")]


_LISTS: Final = frozenset(
    [
        *("firsts", "given", "lasts", "activities", "words", "places", "towns", "streets"),
        *("forms", "patterns", "projects", "sisters", "suffixes", "phone"),
    ]
)
_READ: Final = _lands()
LANDS: Final = (*[_READ[0]] * 4, _READ[1], *_READ[1:])
_TITLES: Final = {
    "Presidente": "Pres.",
    "Doutor": "Dr.",
    "Coronel": "Cel.",
    "Professor": "Prof.",
    "Marechal": "Mal.",
    "Engenheiro": "Eng.",
    "Governador": "Gov.",
    "Padre": "Pe.",
    "Général": "Gal",
}
FREE: Final = ("gmail.com", "hotmail.com", "uol.com.br", "yahoo.com")
_ONSETS: Final = [
    "b",
    "br",
    "c",
    "cl",
    "cr",
    "d",
    "dr",
    "f",
    "fl",
    "fr",
    "g",
    "gl",
    "gr",
    "h",
    "j",
    "k",
    "l",
    "m",
    "n",
    "p",
    "pl",
    "pr",
    "qu",
    "r",
    "s",
    "st",
    "t",
    "tr",
    "v",
    "w",
    "z",
    "x",
]
_NUCLEI: Final = ["a", "e", "i", "o", "u", "ia", "io", "ei", "ai", "au"]
_CODAS: Final = ["", "", "", "n", "r", "l", "s", "x", "m", "t", "k"]


@dataclass(frozen=True)
class Place:
    """Where companies sit; `kind` and `unit` are written differently each time."""

    city: str
    street: str
    kind: Sequence[str]
    number: int
    unit: int | None
    postcode: str


@dataclass(frozen=True)
class Company:
    """A company of the world, as it truly is."""

    number: int
    land: Land
    legal: str
    form: str
    trade: str | None
    places: Sequence[Place]
    phones: Sequence[str]
    domain: str | None
    email: str | None
    other_domain: str | None = None
    own_phones: bool = False


class World:
    """Draws companies; each by the chance of the kinds of relations that registries show."""

    def __init__(self, seed: int) -> None:
        self._any = random.Random(seed)
        self._count = 0
        self._brands: list[str] = []

    def companies(self, count: int) -> Sequence[Company]:
        """Give about that many companies: singles, groups, projects, franchises, and tenants of one landlord."""
        ways: Mapping[Callable[[Land], list[Company]], int] = {
            self._single: 56,
            self._group: 12,
            self._projects: 5,
            self._franchise: 4,
            self._tenants: 7,
            self._clients: 8,
            self._namesakes: 8,
        }
        return drawn(ways, count, self._any)

    def _company(self, land: Land, name: str, **given: Any) -> Company:
        chance = self._any.random
        domain = self._domain(land, name) if chance() < 0.6 else None
        place = self.place(land)
        made = Company(
            number=self._count,
            land=land,
            legal=name,
            form=self._any.choice(land.forms),
            trade=self._trade(land, name) if chance() < 0.4 else None,
            places=(
                place,
                *(self._branch(land, place) for _ in range(self._any.choices((0, 1, 2, 5), (75, 13, 8, 4))[0])),
            ),
            phones=tuple(self.phone(land) for _ in range(self._any.choice((1, 1, 2)))),
            domain=domain,
            email=None if domain else f"{letters(name)[:12]}{self._any.randint(1, 99)}@{self._any.choice(FREE)}",
        )
        if domain and chance() < 0.12:
            made = replace(made, other_domain=self._other_domain(land, name, domain))
        if len(made.places) > 1 and chance() < 0.6:
            made = replace(made, own_phones=True, phones=tuple(self.phone(land) for _ in made.places))
        self._count += 1
        return replace(
            made, **{"own_phones": made.own_phones and "phones" not in given and "places" not in given, **given}
        )

    def _single(self, land: Land) -> list[Company]:
        return [self._company(land, self._name(land))]

    def _group(self, land: Land) -> list[Company]:
        brand = self._brand() if self._any.random() < 0.7 else self._any.choice(land.lasts)
        first = self._company(
            land, f"{brand} {self._any.choice(land.activities)}" if self._any.random() < 0.6 else brand
        )
        made = [first]
        used = {first.legal}
        for _ in range(self._any.randint(1, 5)):
            name = self._any.choice(
                (
                    f"{brand} {self._any.choice(land.sisters)}",
                    f"{brand} {self._any.choice(land.activities)}",
                    f"{brand} {self._any.choice(land.places)}",
                )
            )
            if name in used:
                continue
            used.add(name)
            made.append(self._company(land, name, **self._shared(first)))
        return made

    def _projects(self, land: Land) -> list[Company]:
        pattern = self._any.choice(land.projects)
        brand, word, place = self._brand(), self._any.choice(land.words), self._any.choice(land.places)
        activity = (
            self._any.choice(("Empreendimentos Imobiliários", "Incorporações", "Construtora"))
            if land.code == "BR"
            else ""
        )
        first = self._company(land, brand)
        made = []
        start = self._any.randint(1, 120)
        for number in range(start, start + self._any.randint(2, 7)):
            written = (
                _roman(number)
                if number < 20 and self._any.random() < 0.3
                else f"{number:02d}"
                if self._any.random() < 0.3
                else str(number)
            )
            parts = {"B": brand, "W": word, "P": place, "N": written, "A": activity}
            name = " ".join(parts.get(part, part) for part in pattern.split())
            made.append(self._company(land, name, trade=None, **self._shared(first, always=True)))
        return made

    def _franchise(self, land: Land) -> list[Company]:
        brand = self._brand()
        domain = self._domain(land, brand)
        made = []
        for _ in range(self._any.randint(2, 6)):
            name = self._any.choice(
                (
                    f"{self._any.choice(land.lasts)} {self._any.choice(land.activities)}",
                    self._name(land, "L & L A"),
                    self._name(land),
                )
            )
            trade = brand if self._any.random() < 0.5 else f"{brand} {self._any.choice(land.places)}"
            made.append(self._company(land, name, trade=trade, domain=domain if self._any.random() < 0.7 else None))
        return made

    def _tenants(self, land: Land) -> list[Company]:
        place = self.place(land)
        return [
            self._company(land, self._name(land), places=(replace(place, unit=self._any.randint(1, 900)),))
            for _ in range(self._any.randint(3, 12))
        ]

    def _clients(self, land: Land) -> list[Company]:
        """Those who gave their accountant's phone or mail domain, some its address too."""
        accountant = self._company(land, self._name(land))
        phone = accountant.phones[0]
        made = [accountant]
        for _ in range(self._any.randint(2, 12)):
            one = self._company(land, self._name(land), phones=(phone,))
            if self._any.random() < 0.5:
                one = replace(one, domain=accountant.domain or one.domain)
            if self._any.random() < 0.35:
                one = replace(one, places=accountant.places[:1])
            made.append(one)
        return made

    def _namesakes(self, land: Land) -> list[Company]:
        plain = [one for one in land.patterns if "B" not in one.split()]
        name = self._name(land, self._any.choice(plain))
        made = [self._company(land, name)]
        for _ in range(self._any.randint(1, 4)):
            other = name if self._any.random() < 0.5 else self._neighbour(land, name)
            made.append(self._company(land, other))
        if self._any.random() < 0.25:
            made[1] = replace(made[1], places=(replace(made[1].places[0], city=made[0].places[0].city),))
        return made

    def _neighbour(self, land: Land, name: str) -> str:
        """Another company's name that differs by one word, or has one more."""
        found = name.split()
        if self._any.random() < 0.5 and len(found) > 1:
            found[self._any.randrange(len(found))] = self._any.choice((*land.lasts, *land.words, *land.activities))
        else:
            found.append(self._any.choice((*land.words, *land.places, *land.activities)))
        return " ".join(found)

    def _shared(self, first: Company, *, always: bool = False) -> dict[str, Any]:
        chance = self._any.random
        shared: dict[str, Any] = {}
        if always or chance() < 0.6:
            shared["places"] = (
                replace(first.places[0], unit=first.places[0].unit if chance() < 0.7 else self._any.randint(1, 99)),
            )
        if always or chance() < 0.6:
            shared["phones"] = first.phones
        if always or chance() < 0.75:
            shared |= {"domain": first.domain, "email": first.email}
        return shared

    # Names and places

    def _name(self, land: Land, pattern: str | None = None) -> str:
        parts = (pattern or self._any.choice(land.patterns)).split()
        words = {"A": land.activities, "L": land.lasts, "F": land.firsts, "W": land.words, "P": land.places}
        return " ".join(
            self._brand() if one == "B" else self._any.choice(words[one]) if one in words else one for one in parts
        )

    def _brand(self) -> str:
        if self._any.random() < 0.18:
            made = "".join(self._any.choice("ABCDEFGHIJKLMNOPRSTUVXZ") for _ in range(self._any.choice((2, 3, 3, 4))))
        else:
            made = syllables(self._any.choice((2, 2, 3, 3)), self._any)
        if self._brands and self._any.random() < 0.03:
            return slip(self._any.choice(self._brands), self._any)
        self._brands.append(made)
        return (
            f"{made} {self._any.choice(('Tech', 'Max', 'Plus', 'Brasil', 'Center', 'Prime', 'Group'))}"
            if self._any.random() < 0.12
            else made
        )

    def _trade(self, land: Land, name: str) -> str:
        found = name.split()
        way = self._any.random()
        if way < 0.4:
            return " ".join(found[: max(1, (len(found) + 1) // 2)])
        if way < 0.6:
            return f"{found[0]} {self._any.choice(land.activities)}"
        if way < 0.85:
            return f"{self._brand()} {self._any.choice(land.activities)}" if self._any.random() < 0.5 else self._brand()
        return f"{self._any.choice(land.activities)} {self._any.choice(land.words)}"

    def _domain(self, land: Land, name: str) -> str:
        found = [word for word in fold_words(name) if len(word) > 2 or len(name) < 5] or ["empresa"]
        label = self._any.choice(
            (found[0], "".join(found[:2]), "".join(found)[:24], f"{found[0]}-{found[-1]}", "grupo" + found[0])
        )
        return f"{label}.{self._any.choice(land.suffixes)}"

    def _other_domain(self, land: Land, name: str, domain: str) -> str:
        return (
            f"{domain.partition('.')[0]}.{self._any.choice(land.suffixes)}"
            if self._any.random() < 0.5
            else self._domain(land, name)
        )

    def place(self, land: Land) -> Place:
        """Give any place of the land."""
        return Place(
            city=self._any.choice(land.places),
            street=self._any.choice(land.streets),
            kind=self._any.choice(land.kinds),
            number=self._any.choice((self._any.randint(1, 400), self._any.randint(1, 3000))),
            unit=self._any.randint(1, 1200) if self._any.random() < 0.35 else None,
            postcode=self._digits(land.postcode),
        )

    def _branch(self, land: Land, first: Place) -> Place:
        place = self.place(land)
        return replace(place, city=first.city) if self._any.random() < 0.4 else place

    def phone(self, land: Land) -> str:
        """Give any phone of the land."""
        return self._digits(self._any.choice(land.phone))

    def _digits(self, shape: str) -> str:
        return "".join(str(self._any.randint(0, 9)) if one == "#" else one for one in shape)


# How it is written down


class Writer:
    """Writes companies down the way registries, resellers and hurried people do."""

    def __init__(self, seed: int) -> None:
        self._any = random.Random(seed)

    def record(self, company: Company) -> Record:
        """Give a record of the company at one of its places; fields may be missing, swapped or old."""
        chance = self._any.random
        land = company.land
        place = company.places[0] if chance() < 0.6 else self._any.choice(company.places)
        if chance() < 0.06:
            place = World(self._any.randrange(1 << 30)).place(land)  # it moved, or this is the old one
        name, trade = self._names(company)
        at = company.places.index(place) if place in company.places else 0
        phone = company.phones[at] if company.own_phones else self._any.choice(company.phones)
        phones = () if chance() < 0.25 else (self.phone(phone),)
        if phones and chance() < 0.12:
            phones = (World(self._any.randrange(1 << 30)).phone(land),)  # another line of theirs
        domain = company.other_domain if company.other_domain and chance() < 0.4 else company.domain
        if chance() < 0.04:
            host = self._any.choice(("contab", "assessoria", "grupo")) + letters(self._any.choice(land.lasts))
            domain = f"{host}.{land.suffixes[0]}"
        domains = (self._web(domain),) if domain and chance() < 0.65 else ()
        emails = (company.email,) if company.email and chance() < 0.5 else ()
        if domain and chance() < 0.2:
            emails = (f"{self._any.choice(('contato', 'info', 'vendas', 'financeiro'))}@{domain}",)
        return Record(
            name=name,
            trade_name=trade,
            country=land.code if chance() < 0.8 else None,
            city=self.case(place.city if chance() < 0.95 else self._slip_word(place.city)) if chance() < 0.95 else None,
            address=self.address(land, place) if chance() < 0.85 else None,
            postcode=(place.postcode if chance() < 0.6 else place.postcode.replace("-", ""))
            if chance() < 0.8
            else None,
            phones=phones,
            emails=emails,
            domains=domains,
        )

    def _names(self, company: Company) -> tuple[str, str | None]:
        chance = self._any.random
        legal = self._dirty(company.legal, company.land)
        if len(company.legal.split()) > 2 and company.number % 9 == 0:
            initials = "".join(word[0] for word in company.legal.split() if len(word) > 2).upper()
            way = chance()
            legal = f"{legal} - {initials}" if way < 0.3 else initials if way < 0.5 and len(initials) > 2 else legal
        if chance() < 0.8:
            legal = f"{legal} {company.form if chance() < 0.75 else self._any.choice(company.land.forms)}"
        if chance() < 0.03:
            legal += self._any.choice((" - Em Recuperação Judicial", " (Filial)", " - MATRIZ", " Filial 02"))
        trade = self._dirty(company.trade, company.land) if company.trade else None
        way = chance()
        if trade and way < 0.25:
            name, trade = trade, None
        elif trade and way < 0.30:
            name, trade = trade, legal
        elif way < 0.65:
            name, trade = legal, None
        else:
            name = legal
        name = self.case(name)
        if chance() < 0.05:
            name = name[: self._any.choice((20, 25, 30, 35))].strip()
        return name, self.case(trade) if trade else None

    def _dirty(self, name: str, land: Land) -> str:
        chance = self._any.random
        if chance() < 0.35:
            for word, shorts in land.short.items():
                if word in name and chance() < 0.7:
                    name = name.replace(word, self._any.choice(shorts))
        if chance() < 0.10:
            name = " ".join(self._clipped(word) for word in name.split())
        if chance() < 0.14:
            name = self._slip_word(name)
        found = name.split()
        if len(found) > 2 and chance() < 0.10:
            found = found[:-1] if chance() < 0.7 else [*found[:-2], found[-1]]
        if len(found) > 1 and chance() < 0.05:
            found = [*found[1:], found[0]]
        if len(found) > 1 and chance() < 0.04:
            place = self._any.randrange(len(found) - 1)
            found[place : place + 2] = ["".join(found[place : place + 2])]
        if chance() < 0.04:
            found.append(self._any.choice((*land.places, *land.sisters)))
        return " ".join(found)

    def _clipped(self, word: str) -> str:
        if len(word) < 7 or self._any.random() < 0.4:
            return word
        return word[: self._any.choice((3, 4, 5, 6))] + self._any.choice(("", "."))

    def _slip_word(self, name: str) -> str:
        return slip_word(name, self._any)

    def case(self, text: str) -> str:
        """Write a text in capitals, or without accents, or as it is."""
        way = self._any.random()
        if way < 0.5:
            return ascii_text(text).upper()
        return text if way < 0.8 else ascii_text(text) if way < 0.9 else text.upper()

    def address(self, land: Land, place: Place, haste: float = 1.0) -> str:
        """Write an address; the more haste, the more slips."""
        street = place.street
        if self._any.random() < 0.4:
            for word, short in _TITLES.items():
                street = street.replace(word, short)
        if self._any.random() < 0.10 * haste:
            street = self._slip_word(street)
        unit = "" if place.unit is None or self._any.random() < 0.3 else self._any.choice(land.units).format(place.unit)
        kind = place.kind[0] if self._any.random() < 0.5 else self._any.choice(place.kind)
        number: object = place.number
        if self._any.random() < 0.06 * haste:
            number = self._digit_slip(str(place.number)) if self._any.random() < 0.6 else self._any.randint(1, 3000)
        return self.case(land.street.format(kind=kind, street=street, number=number, unit=unit))

    def _digit_slip(self, text: str) -> str:
        return another_digit(text, self._any)

    def phone(self, phone: str) -> str:
        """Write a phone, perhaps with a slip, or its digits alone."""
        if self._any.random() < 0.04:
            phone = self._digit_slip(phone)
        return re.sub(r"[^\d+]", "", phone) if self._any.random() < 0.4 else phone

    def _web(self, domain: str) -> str:
        return self._any.choice((domain, f"www.{domain}", f"https://www.{domain}/", f"http://{domain}"))


def drawn(ways: Mapping[Callable[[Land], list[One]], float], count: int, any_: random.Random) -> Sequence[One]:
    """Draw that many or a few more, each time in one of the ways by its weight, in any land."""
    made: list[One] = []
    while len(made) < count:
        draw = any_.choices(list(ways), list(ways.values()))[0]
        made += draw(any_.choice(LANDS))
    return made


def syllables(count: int, any_: random.Random) -> str:
    """Make up a word."""
    return "".join(
        any_.choice(_ONSETS) + any_.choice(_NUCLEI) + (any_.choice(_CODAS) if last else "")
        for last in [False] * (count - 1) + [True]
    ).capitalize()


def slip(word: str, any_: random.Random) -> str:
    """Give a word with a slip of the pen: a letter lost, doubled, another, or two in the wrong order."""
    if len(word) < 4:
        return word
    place = any_.randrange(1, len(word))
    way = any_.random()
    if way < 0.3:
        return word[:place] + word[place + 1 :]
    if way < 0.5:
        return word[:place] + word[place - 1] + word[place:]
    if way < 0.75:
        return word[:place] + any_.choice("aeioulnrst") + word[place + 1 :]
    return word[: place - 1] + word[place] + word[place - 1] + word[place + 1 :]


def slip_word(text: str, any_: random.Random) -> str:
    """Give a text with a slip in one of its words."""
    found = text.split()
    place = any_.randrange(len(found))
    found[place] = slip(found[place], any_)
    return " ".join(found)


def another_digit(text: str, any_: random.Random) -> str:
    """Give a text with one digit drawn anew."""
    place = any_.choice([place for place, one in enumerate(text) if one.isdigit()])
    return f"{text[:place]}{any_.randint(0, 9)}{text[place + 1 :]}"


def mistyped(code: str, any_: random.Random) -> str:
    """Give a code with one digit drawn anew, or two neighbours in the wrong order."""
    if any_.random() < 0.5 or len(code) == 1:
        return another_digit(code, any_)
    place = any_.randrange(1, len(code))
    return code[: place - 1] + code[place] + code[place - 1] + code[place + 1 :]


def letters(text: str) -> str:
    """Give the letters and digits of a text, folded."""
    return "".join(fold_words(text))


def _roman(number: int) -> str:
    return "X" * (number // 10) + ("", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX")[number % 10]


# Pairs


def pairs(seed: int, companies: int) -> Iterator[GivenPair]:
    """Give the pairs of records, one to four a company, that share a name, first word, phone, domain or address."""
    writer, chance = Writer(seed + 1), random.Random(seed + 2)
    records = written(World(seed).companies(companies), writer.record, chance)
    return sharing(records, _blocks, random.Random(seed + 3))


def written(made: Sequence[Any], write: Callable[[Any], Record], any_: random.Random) -> Sequence[tuple[int, Record]]:
    """Give the records of each, one to four, with its number."""
    return [(one.number, write(one)) for one in made for _ in range(any_.choices((1, 2, 3, 4), (45, 35, 14, 6))[0])]


def sharing(
    records: Sequence[tuple[int, Record]],
    blocks_of: Callable[[Record], Iterator[tuple[str, str]]],
    any_: random.Random,
    most: int = 30,
) -> Iterator[GivenPair]:
    """Give the pairs that have a block in common, of each no more than `most`; numbers say whose the records are."""
    blocks: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, (_number, record) in enumerate(records):
        for key in blocks_of(record):
            blocks[key].append(place)
    found: set[tuple[int, int]] = set()
    for (kind, _value), members in sorted(blocks.items()):
        both = list(combinations(members, 2))
        wanted = most if kind != "head" else 3
        found.update(both if len(both) <= wanted else any_.sample(both, wanted))
    for one, other in sorted(found):
        yield GivenPair(records[one][1], records[other][1], records[one][0] == records[other][0])


def _blocks(record: Record) -> Iterator[tuple[str, str]]:
    for name in filter(None, (record.name, record.trade_name)):
        words = fold_words(name)
        yield "name", " ".join(sorted(words))
        yield "name", "".join(words)[:9]
        yield "head", words[0] if words else ""
    for phone in record.phones:
        yield "phone", "".join(one for one in phone if one.isdigit())[-8:]
    for domain in (*record.domains, *(email.rpartition("@")[2] for email in record.emails)):
        if domain not in FREE:
            yield "domain", domain.rstrip("/").rpartition("//")[2].removeprefix("www.")
    if record.address:
        numbers = [word for word in fold_words(record.address) if word.isdigit()]
        yield "address", f"{record.postcode or record.city or ''} {numbers[0] if numbers else ''}".replace("-", "")


def only(pair: GivenPair, *fields: str) -> GivenPair:
    """Leave nothing in a pair but the fields named."""
    kept = {name: getattr(pair.left, name) for name in fields}, {name: getattr(pair.right, name) for name in fields}
    return GivenPair(Record(**kept[0]), Record(**kept[1]), pair.same)


_ALL: Final = ("trade_name", "country", "city", "address", "postcode", "phones", "emails", "domains")


def varied(seed: int, companies: int) -> Iterator[GivenPair]:
    """Give pairs with all sorts of fields: all, name and city alone, the name alone, or any others missing."""
    any_ = random.Random(seed + 4)
    for pair in pairs(seed, companies):
        way = any_.random()
        if way < 0.4:
            yield pair
        elif way < 0.65:
            yield only(pair, "name", "city")
        elif way < 0.72:
            yield only(pair, "name")
        elif way < 0.8:
            yield only(pair, "name", "trade_name", "city", "country")
        else:
            yield only(pair, "name", *(name for name in _ALL if any_.random() < 0.6))
