"""What identifies a company: its names, places and addresses folded so that two spellings of one can be compared.

Exact keys (tax id roots, the vendor's own customer id) are made by `aggregates.fields.customer_keys`: whoever has
them puts them into `Record.keys`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import TYPE_CHECKING, Final

from prm_es.matching.folding import ascii_text, fold_words, sound
from prm_es.matching.words import MARKER, words

if TYPE_CHECKING:
    from tldextract import TLDExtract


@dataclass(frozen=True, slots=True)
class Record:
    """A company as somebody wrote it down; any field may be missing.

    `keys` are exact: two records with a common one are the same company. `country` is an ISO 3166 alpha-2 code.
    """

    name: str | None = None
    trade_name: str | None = None
    keys: tuple[str, ...] = ()
    country: str | None = None
    state: str | None = None
    city: str | None = None
    address: str | None = None
    postcode: str | None = None
    phones: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()


@dataclass(frozen=True)
class Name:
    """A folded name: its own words in order, its numbers and its legal forms apart."""

    tokens: tuple[str, ...]
    numbers: frozenset[str]
    forms: frozenset[str]
    raw: tuple[str, ...]

    @cached_property
    def sorted(self) -> str:
        """Give what stays the same whatever the order of the words, and however often each stands there."""
        return " ".join(sorted({*self.tokens, *self.numbers}))

    @cached_property
    def compact(self) -> str:
        """Give the words without spaces."""
        return "".join(self.tokens)

    @cached_property
    def initials(self) -> str:
        """Give the first letters of the words."""
        return "".join(token[0] for token in self.tokens)


@dataclass(frozen=True, slots=True)
class Address:
    """A folded address: the words of the street, the number of the house, and what is inside the building."""

    street: tuple[str, ...]
    number: str | None
    unit: frozenset[str]

    @property
    def key(self) -> str | None:
        """Give street and number as one text, None without both."""
        return f"{' '.join(sorted(self.street))} {self.number}" if self.street and self.number else None


@dataclass(frozen=True, slots=True)
class Identity:
    """A record, folded. `names` holds the legal name first, then the trade name if it is another."""

    keys: frozenset[str]
    names: tuple[Name, ...]
    country: str | None
    city: str | None
    address: Address | None
    postcode: str | None
    phones: frozenset[str]
    emails: frozenset[str]
    domains: frozenset[str]


def identity_of(record: Record) -> Identity:
    """Fold a record; what cannot be read (a phone of three digits, a domain without a suffix) is left out."""
    country = record.country.upper() if record.country else None
    names = (name_of(text) for text in dict.fromkeys((record.name, record.trade_name)) if text)
    return Identity(
        keys=frozenset(record.keys),
        names=tuple(dict.fromkeys(name for name in names if name.tokens or name.numbers)),
        country=country,
        city=city_of(record.city),
        address=address_of(record.address),
        postcode=postcode_of(record.postcode, country),
        phones=frozenset(filter(None, (phone_of(one, country) for one in record.phones))),
        emails=frozenset(filter(None, (email_of(one) for one in record.emails))),
        domains=frozenset(
            filter(None, (*map(domain_of, record.domains), *(mail_domain_of(one) for one in record.emails)))
        ),
    )


# Names

_REGISTRATION: Final = 8  # digits: a person's or company's number that stands in the name, not a numeral of it
_LETTERS_DIGITS: Final = re.compile(r"([a-z]{2,})0*(\d+)")
_ORDINAL: Final = re.compile(r"0*(\d+)(?:st|nd|rd|th|o|a|er|eme|e|s)?")
_ROMAN: Final = {
    f"{tens}{units}": str(10 * ten + unit)
    for ten, tens in enumerate(("", "x", "xx"))
    for unit, units in enumerate(("", "i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix"))
    if ten or unit
}
_GLUED: Final = re.compile(r"[^\x00-\u024f]")


def name_of(text: str) -> Name:
    """Fold a company's name.

    Legal forms and what is said of a company at a time ("in liquidation") are taken off its ends, abbreviations
    written out, numbers read. A name made of nothing else keeps all its words.
    """
    table = words()
    forms: set[str] = set()
    if _GLUED.search(text):
        for form, kind in table.glued_forms.items():
            if form in text:
                text = text.replace(form, " ")
                forms.add(kind)
    raw = fold_words(text)
    kept = _without_forms(raw, forms) if raw else raw
    tokens: list[str] = []
    numbers: set[str] = set()
    tens = None
    same = _same(kept)
    for place, word in enumerate(same):
        number = _number(word, last=0 < place == len(same) - 1)
        if number and tens and len(number) == 1:
            numbers.discard(tens)
            number = tens[0] + number
        tens = number if number and not word[0].isdigit() and len(number) == 2 and number[1] == "0" else None  # noqa: PLR2004
        if number:
            numbers.add(number)
        elif split := _LETTERS_DIGITS.fullmatch(word):
            tokens.append(split[1])
            numbers.add(split[2])
        elif word not in table.ties and not (word.isdigit() and len(word) >= _REGISTRATION):
            tokens.append(word)
    if not tokens and not numbers:
        tokens = list(kept or raw)
    return Name(tuple(tokens), frozenset(numbers), frozenset(forms), raw)


def _without_forms(found: tuple[str, ...], forms: set[str]) -> tuple[str, ...]:
    """Take legal forms and markers off both ends, and note their kinds; one word is always left."""
    table = words()
    while (end := _phrase(found, table.forms_by_last.get(found[-1], ()), first=False)) is not None:
        found = found[: -end[0]]
        forms.add(end[1])
    while (start := _phrase(found, table.forms_by_first.get(found[0], ()), first=True)) is not None:
        found = found[start[0] :]
        forms.add(start[1])
    forms.discard(MARKER)
    return found


def _phrase(
    found: tuple[str, ...], phrases: Sequence[tuple[tuple[str, ...], str]], *, first: bool
) -> tuple[int, str] | None:
    for phrase, kind in phrases:
        size = len(phrase)
        if size < len(found) and (found[:size] if first else found[-size:]) == phrase:
            return size, kind
    return None


def _same(found: tuple[str, ...]) -> Sequence[str]:
    same = words().same
    given: list[str] = []
    place = 0
    while place < len(found):
        pair = " ".join(found[place : place + 2])
        if place + 1 < len(found) and pair in same:
            given.append(same[pair])
            place += 2
        else:
            given.append(same.get(found[place], found[place]))
            place += 1
    return given


def _number(word: str, *, last: bool) -> str | None:
    if word[0].isdigit():
        found = _ORDINAL.fullmatch(word)
        return found[1] if found and len(found[1]) < _REGISTRATION else None
    if word in _ROMAN and (len(word) > 1 or last):
        return _ROMAN[word]
    return words().numbers.get(word)


def sounds(name: Name) -> Sequence[str]:
    """Give how the words of a name sound, in order."""
    return [sound(token) for token in name.tokens]


# Places

_DIGITS: Final = re.compile(r"\d+")
_STATE: Final = re.compile(r"\s*(?:[-/,(]|\s-\s)\s*[A-Za-z]{2}\)?\s*$")


def city_of(text: str | None) -> str | None:
    """Fold the name of a city, in whatever language: without a state's two letters and a district's number."""
    if not text:
        return None
    folded = _folded_city(text)
    return _cities().get(folded, folded) or None


def _folded_city(text: str) -> str:
    table = words()
    found = [word for word in fold_words(_STATE.sub("", text)) if word not in table.city_ties]
    found = [word for word in found if not word[0].isdigit()] or found
    if len(found) > 1 and len(found[-1]) == 2 and len(found[-2]) > 2:  # noqa: PLR2004 - a state's two letters
        found.pop()
    return " ".join(table.street_words.get(word, word) for word in found)


@cache
def _cities() -> Mapping[str, str]:
    return {_folded_city(other): _folded_city(city) for city, others in words().cities.items() for other in others}


def postcode_of(text: str | None, country: str | None) -> str | None:
    """Fold a postcode; of an American one the first five digits count."""
    if not text:
        return None
    folded = "".join(fold_words(text))
    if country in {None, "US"} and folded.isdigit() and len(folded) == 9:  # noqa: PLR2004 - ZIP+4
        return folded[:5]
    if country == "BR" and folded.isdigit():
        folded = folded.zfill(8)
    return folded if folded.strip("0") else None


def address_of(text: str | None) -> Address | None:
    """Fold an address: kinds of streets are left out, titles written out, what is inside the building set apart."""
    if not text:
        return None
    outside, inside = _parted(fold_words(text))
    number_at = _number_at(outside)
    before = _street(outside[:number_at])
    street = before or _street(outside[number_at + 1 :])[:_STREET_WORDS]
    number = _digits(outside[number_at]) if number_at < len(outside) else None
    unit = {_digits(word) for word in (*inside, *outside[number_at + 1 :]) if word[0].isdigit() or len(word) == 1}
    return Address(street, number, frozenset(unit)) if street or number else None


_STREET_WORDS: Final = 3  # of a street whose number stands first; what follows is a district or city


def _parted(found: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Part the words of a building from those inside it: "suite 900" may stand first, else it is the rest."""
    units = words().units
    if len(found) > 2 and found[0] in units and found[1][0].isdigit():  # noqa: PLR2004 - and a street follows
        return found[2:], found[:2]
    inside = next((place for place, word in enumerate(found) if place and word in units), len(found))
    return found[:inside], found[inside:]


def _number_at(found: tuple[str, ...]) -> int:
    """Give the place of the number of the house: not one that a street is named by, if there is another."""
    places = [place for place, word in enumerate(found) if word[0].isdigit()]
    if len(places) > 1 and places[0] and found[places[0] - 1] in words().streets:
        places = places[1:]
    return places[0] if places else len(found)


def _street(found: tuple[str, ...]) -> tuple[str, ...]:
    same, left_out = words().street_words, _no_street()
    return tuple(same.get(word, word) for word in found if word not in left_out)


@cache
def _no_street() -> frozenset[str]:
    return frozenset((*words().streets, *words().ties, "sn"))


def _digits(word: str) -> str:
    digits = _DIGITS.match(word)
    return (digits[0].lstrip("0") or "0") if digits else word


# Ways to reach it


def phone_of(text: str, country: str | None) -> str | None:
    """Give a phone in E.164; where no country tells how to read it, "?" and its digits."""
    digits = "".join(character for character in text if character.isdigit())
    if len(digits) < 7 or len(set(digits)) == 1:  # noqa: PLR2004 - shorter than any subscriber's number
        return None
    import phonenumbers  # noqa: PLC0415 - its tables, for those who match

    given = text if country or text.lstrip().startswith("+") else f"+{digits[2:]}" if text.startswith("00") else text
    try:
        read = phonenumbers.parse(given, country)
    except phonenumbers.NumberParseException:
        return f"?{digits.lstrip('0')}"
    national = str(read.national_number)
    if read.country_code == 55 and len(national) == 10 and national[2] in "6789":  # noqa: PLR2004 - a ninth digit came in 2012
        national = f"{national[:2]}9{national[2:]}"
    return f"+{read.country_code}{national}"


def email_of(text: str) -> str | None:
    """Fold an e-mail address."""
    folded = text.strip().lower()
    return folded if "@" in folded[1:-1] else None


def mail_domain_of(text: str) -> str | None:
    """Give the registrable domain of an e-mail address, None if anybody may have a letter box there."""
    host = text.strip().lower().rpartition("@")[2]
    return None if host in words().free_mail or host in _disposable() else domain_of(host)


@lru_cache(maxsize=1 << 12)
def domain_of(text: str) -> str | None:
    """Give the registrable domain of a host or web address by the bundled list of public suffixes.

    None for a host where anybody may have a page, and for what is no domain.
    """
    found = _extract()(ascii_text(text) if not text.isascii() else text)
    domain = f"{found.domain}.{found.suffix}".lower() if found.domain and found.suffix else None
    return None if domain in words().shared_hosts or domain in words().free_mail else domain


@cache
def _extract() -> "TLDExtract":
    from tldextract import TLDExtract  # noqa: PLC0415 - slow to load, for those who match

    return TLDExtract(suffix_list_urls=(), cache_dir=None, include_psl_private_domains=True)


@cache
def _disposable() -> frozenset[str]:
    from disposable_email_domains import blocklist  # noqa: PLC0415

    return frozenset(blocklist)


def label_of(domain: str) -> str:
    """Give the part of a registrable domain that its owner chose, without hyphens."""
    return domain.partition(".")[0].replace("-", "")
