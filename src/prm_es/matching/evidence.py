"""What speaks for and against two records being the same company, as numbers with names.

Address, postcode, phone, e-mail and domain tend to come as one block (an accountant's, a landlord's, a parent's), so
that they are not independent: what they say together is its strongest part and a little of the rest. Each of them
says less the more records share it. The name is compared word by word, each word weighing what its rarity tells.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log
from typing import Final

from rapidfuzz.distance import OSA, JaroWinkler

from prm_es.matching.folding import sound
from prm_es.matching.frequencies import Frequencies
from prm_es.matching.identity import Identity, Name, label_of
from prm_es.matching.persons import are_persons
from prm_es.matching.words import words


@dataclass(slots=True)  # not frozen: one is made for every two names that are compared
class Names:
    """How two names compare; weights in nats of rarity.

    `held` is that of all words that both have to the letter, `rarest` that of the rarest of them.
    """

    both: float
    held: float
    rarest: float
    one: float
    other: float
    lost_one: float
    lost_other: float
    letters: float
    head: bool
    short_form: bool
    numbers: int
    forms: int
    swapped: bool
    house: bool

    @property
    def shared(self) -> float:
        """The share of all weight that both have."""
        return self.both / max(self.one + self.other - self.both, 1e-9)

    @property
    def within(self) -> float:
        """The share of the lesser name that the other has."""
        return min(1.0, self.both / max(min(self.one, self.other), 1e-9))

    @property
    def parted(self) -> float:
        """The share of its weight that each name has and the other lacks, the lesser of the two."""
        return min(self.lost_one / max(self.one, 1e-9), self.lost_other / max(self.other, 1e-9))

    @property
    def same(self) -> bool:
        """Whether nothing of either name is missing in the other."""
        return self.numbers >= 0 and self.lost_one < _NOTHING and self.lost_other < _NOTHING


@dataclass(frozen=True, slots=True)
class Evidence:
    """The numbers by name, and what a sentence about them needs."""

    values: Mapping[str, float]
    names: Names | None
    agree: Sequence[tuple[str, str, float]]

    @property
    def persons(self) -> bool:
        """Whether both may be private persons."""
        return _APART in self.values


_NOTHING: Final = 0.6
_FULL: Final = 20.0


def evidence_of(one: Identity, other: Identity, facts: Frequencies) -> Evidence:
    """Compare two identities field by field; what either lacks says nothing."""
    found: dict[str, float] = {}
    names = _best_names(one, other, facts)
    if names:
        _tell_of_names(found, names)
    shared = found.get("name_shared", 0.0)
    agree = list(_agreeing(one, other, facts))
    strengths = sorted((strength for _kind, _value, strength in agree), reverse=True)
    if strengths:
        found["reached_same"] = strengths[0]
        found["reached_more"] = sum(strengths[1:]) / 3
        found["reached_and_name"] = strengths[0] * shared
        found["reached_swapped"] = strengths[0] * float(names is not None and names.swapped)
        found["reached_own"] = float(any(_own(value, one, other) for kind, value, _s in agree if kind == "domain"))
    strongest = strengths[0] if strengths else 0.0
    found["reached_other"] = strongest * found.get("name_other", 0.0)
    found["numbers_of_one"] = found.get("numbers_differ", 0.0) * max(strongest, shared)
    found["place_like"] = _place_like(one, other)
    found["place_and_name"] = found["place_like"] * shared
    kinds = {kind for kind, _value, _strength in agree}
    found["domain_is_name"] = float(_domain_is_name(one, other) or _domain_is_name(other, one))
    found["phone_differs"] = float(bool(one.phones and other.phones) and "phone" not in kinds)
    found["domain_differs"] = float(bool(one.domains and other.domains) and "domain" not in kinds)
    found["address_differs"] = float(_addresses_differ(one, other))
    found["postcode_same"] = float(one.postcode is not None and one.postcode == other.postcode)
    if one.city and other.city:
        same = same_city(one.city, other.city)
        found["city_same"] = float(same is True)
        found["city_differs"] = float(same is False)
        found["city_and_name"] = found["city_same"] * shared
    found["moved"] = found.get("name_same_rare", 0.0) * sum(found.get(name, 0.0) for name in _PLACES) / len(_PLACES)
    if are_persons(one, other):
        found[_APART] = min(1.0, max(0.0, (_ONE_HOME - found["place_like"]) / (_ONE_HOME - _STRANGE)))
    found["country_differs"] = float(bool(one.country and other.country) and one.country != other.country)
    return Evidence(found, names, agree)


def _tell_of_names(found: dict[str, float], names: Names) -> None:
    found["name_same"] = float(names.same)
    found["name_rare"] = min(1.0, names.both / _FULL)
    found["name_same_rare"] = found["name_same"] * found["name_rare"]
    found["name_shared"] = names.shared
    found["name_within"] = names.within
    found["name_letters"] = names.letters
    found["name_head"] = float(names.head)
    found["name_short_form"] = float(names.short_form)
    found["name_lost"] = min(1.0, min(names.lost_one, names.lost_other) / _FULL)
    found["name_more"] = min(1.0, max(names.lost_one, names.lost_other) / _FULL)
    found["name_swapped"] = float(names.swapped)
    found["name_house"] = float(names.house)
    found["name_other"] = float(names.within < _OTHER and not names.short_form)
    found["numbers_same"] = float(names.numbers == _SAME_NUMBERS)
    found["numbers_differ"] = float(names.numbers == _OTHER_NUMBERS)
    found["numbers_lack"] = float(names.numbers == _LACKING_NUMBERS)
    found["forms_differ"] = float(names.forms < 0)


_OTHER: Final = 0.3  # of the lesser name's weight
_APART: Final = "homes_apart"
_STRANGE, _ONE_HOME = 0.1, 0.4  # likeness of two places up to which they are two homes, and from which perhaps one
_PLACES: Final = ("phone_differs", "domain_differs", "address_differs", "city_differs")


# Names

_SAME_NUMBERS, _NO_NUMBERS, _LACKING_NUMBERS, _OTHER_NUMBERS = 2, 0, -1, -2


def _best_names(one: Identity, other: Identity, facts: Frequencies) -> Names | None:
    places = {*(one.city or "").split(), *(other.city or "").split()}
    others = [(name, _weights(name, facts, places)) for name in other.names]
    compared = [
        _compare_names(a, b, weights, others_weights)
        for a, weights in ((name, _weights(name, facts, places)) for name in one.names)
        for b, others_weights in others
    ]
    return max(compared, key=_likeness, default=None)


def _likeness(names: Names) -> tuple[float, float]:
    return names.shared - 0.1 * (names.numbers < 0) + 0.02 * min(names.both, _FULL) / _FULL, names.letters


def _compare_names(one: Name, other: Name, ones: Mapping[str, float], others: Mapping[str, float]) -> Names:
    both = rarest = 0.0
    lost = {}
    lost_other = dict(others)
    for token, weight in ones.items():
        if token in others:
            both += weight
            rarest = max(rarest, weight)
            del lost_other[token]
        else:
            lost[token] = weight
    held = both
    rest = 0.0
    rest_other = 0.0
    if lost and lost_other:
        both, rest, rest_other = _match_alike(one, other, lost, lost_other, both)
    left = sum(lost.values()) + rest
    left_other = sum(lost_other.values()) + rest_other
    compact, compact_other = one.compact, other.compact
    return Names(
        both=both,
        held=held,
        rarest=rarest,
        one=both + left,
        other=both + left_other,
        lost_one=left,
        lost_other=left_other,
        letters=OSA.normalized_similarity(compact, compact_other),
        head=bool(one.tokens and other.tokens) and _alike(one.tokens[0], other.tokens[0]) >= _ALIKE,
        short_form=_initials(one, other) or _initials(other, one),
        numbers=_numbers(one, other),
        forms=_forms(one, other),
        swapped=bool(lost and lost_other),
        house=bool(lost) != bool(lost_other) and not words().houses.isdisjoint((*lost, *lost_other)),
    )


def _match_alike(
    one: Name, other: Name, lost: dict[str, float], lost_other: dict[str, float], both: float
) -> tuple[float, float, float]:
    """Pair words that differ in letters or spaces; what they differ by stays lost on both sides."""
    rest = rest_other = 0.0
    if _left(one, lost) == _left(other, lost_other):
        weight = min(sum(lost.values()), sum(lost_other.values()))
        lost.clear()
        lost_other.clear()
        return both + weight, 0.0, 0.0
    alike = [(likeness, a, b) for a in lost for b in lost_other if (likeness := _alike(a, b)) >= _ALIKE]
    for likeness, a, b in sorted(alike, key=lambda pair: (-pair[0], pair[1], pair[2])):
        if a in lost and b in lost_other:
            weight = min(lost.pop(a), lost_other.pop(b))
            both += likeness * weight
            rest += (1 - likeness) * weight
            rest_other += (1 - likeness) * weight
    return both, rest, rest_other


def _left(name: Name, lost: Mapping[str, float]) -> str:
    return "".join([token for token in name.tokens if token in lost])


_ALIKE: Final = 0.72


@lru_cache(maxsize=1 << 16)
def _alike(one: str, other: str) -> float:
    """Give how likely two words are one: a slip of a letter, another ending, or one shortened."""
    if one == other:
        return 1.0
    short, long = (one, other) if len(one) <= len(other) else (other, one)
    if len(short) >= 3 and long.startswith(short):  # noqa: PLR2004
        return 0.85 if len(short) >= 4 else 0.75  # noqa: PLR2004
    if len(short) < 4:  # noqa: PLR2004
        return 0.0
    if short[0] == long[0] and short[-1] == long[-1] and len(long) > len(short) + 2 and _within(short, long):
        return 0.75
    edits = OSA.distance(one, other, score_cutoff=3)
    allowed = 1 if len(short) < 6 else 2 if len(short) < 10 else 3  # noqa: PLR2004
    if edits > allowed:
        return 0.0
    likeness = 1 - edits / len(long) - (0.0 if short[0] == long[0] else 0.05)
    if sound(one) == sound(other):
        likeness = max(likeness, 0.93)
    return max(likeness, JaroWinkler.similarity(one, other) - 0.05)


def _within(short: str, long: str) -> bool:
    letters = iter(long)
    return all(letter in letters for letter in short)


def _weights(name: Name, facts: Frequencies, places: set[str]) -> Mapping[str, float]:
    """Give what each word of a name weighs: one that says where it is, half."""
    share = facts.share
    return {token: -log(share(token)) / (2 if token in places else 1) for token in name.tokens}


def _initials(short: Name, long: Name) -> bool:
    if len(short.tokens) != 1 or len(long.tokens) < 2:  # noqa: PLR2004
        return False
    word = short.tokens[0]
    return len(word) >= 2 and word in {  # noqa: PLR2004
        long.initials,
        "".join(token[0] for token in long.raw),
        "".join(token[0] for token in long.raw if len(token) > 2),  # noqa: PLR2004
    }


def _numbers(one: Name, other: Name) -> int:
    if not one.numbers and not other.numbers:
        return _NO_NUMBERS
    if one.numbers == other.numbers:
        return _SAME_NUMBERS
    return _OTHER_NUMBERS if one.numbers and other.numbers else _LACKING_NUMBERS


def _forms(one: Name, other: Name) -> int:
    if not one.forms or not other.forms:
        return 0
    return 1 if one.forms & other.forms else -1


# Places and ways to reach it


def _agreeing(one: Identity, other: Identity, facts: Frequencies) -> list[tuple[str, str, float]]:
    """Give what agrees with how much it says: its own worth, weakened by each further record that has it."""
    found: list[tuple[str, str, float]] = []

    def add(kind: str, value: str, worth: float, holders: int) -> None:
        found.append((kind, value, worth / (1 + log(max(holders, 2) / 2))))

    for phone in sorted(_same_phones(one, other)):
        add("phone", phone, 0.9, facts.holders("phone", phone))
    for email in sorted(one.emails & other.emails):
        add("email", email, 1.0, facts.holders("email", email))
    for domain in sorted(one.domains & other.domains):
        add("domain", domain, 1.0, facts.holders("domain", domain))
    if value := _same_address(one, other):
        add("address", value, 0.8, facts.holders("address", value))
    return found


def _same_phones(one: Identity, other: Identity) -> set[str]:
    """Give the phones that agree; of one whose country is not known the last digits count."""
    same = set(one.phones & other.phones)
    if not same:
        same = {
            max(a, b)
            for a in one.phones
            for b in other.phones
            if (a[0] == "?" or b[0] == "?") and a[-_SUBSCRIBER:] == b[-_SUBSCRIBER:]
        }
    return same


_SUBSCRIBER: Final = 8


def _same_address(one: Identity, other: Identity) -> str | None:
    a, b = one.address, other.address
    if a is None or b is None or a.number != b.number:
        return None
    if not _streets_alike(a.street, b.street):
        return None
    if a.number is None and not (one.postcode and one.postcode == other.postcode):
        return None
    if one.city and other.city and same_city(one.city, other.city) is False and one.postcode != other.postcode:
        return None
    return a.key or " ".join(sorted(a.street))


def _streets_alike(one: Sequence[str], other: Sequence[str]) -> bool:
    return _street_likeness(one, other) >= _RUN_TOGETHER


def _street_likeness(one: Sequence[str], other: Sequence[str]) -> float:
    """Give 1 if half of the words of the shorter are in the other, else how alike their letters are."""
    short, long = (one, other) if len(one) <= len(other) else (other, one)
    if not short:
        return float(not long)
    if sum(any(_alike(a, b) >= _ALIKE for b in long) for a in short) >= max(1, (len(short) + 1) // 2):
        return 1.0
    return OSA.normalized_similarity("".join(short), "".join(long))


_RUN_TOGETHER: Final = 0.8  # a space lost or put in


def _addresses_differ(one: Identity, other: Identity) -> bool:
    """Tell whether two addresses are two places: what slips of the pen may have made of one speaks for neither."""
    a, b = one.address, other.address
    if a is None or b is None or a.key is None or b.key is None:
        return False
    likeness = _street_likeness(a.street, b.street)
    if likeness < _RUN_TOGETHER:
        return likeness < _BLURRED
    return a.number != b.number and not _slip(a.number or "", b.number or "")


_BLURRED: Final = 0.5


def _slip(one: str, other: str) -> bool:
    """Tell whether two numbers of more than one digit are one digit or one transposition apart."""
    return min(len(one), len(other)) > 1 and OSA.distance(one, other) <= 1


def _place_like(one: Identity, other: Identity) -> float:
    """Give how alike the places are, by what both sides say of them; without an address and postcode 0."""
    likeness: list[float] = []
    a, b = one.address, other.address
    if a and b:
        if a.street and b.street:
            likeness += [OSA.normalized_similarity(" ".join(a.street), " ".join(b.street))] * 2
        if a.number and b.number:
            likeness.append(float(a.number == b.number) or 0.5 * OSA.normalized_similarity(a.number, b.number))
    if one.postcode and other.postcode:
        likeness += [max(0.0, 1 - OSA.distance(one.postcode, other.postcode) / 3)] * 2
    if not likeness:
        return 0.0
    if one.city and other.city:
        likeness.append(OSA.normalized_similarity(one.city, other.city))
    return max(0.0, (sum(likeness) / len(likeness) - _CHANCE) / (1 - _CHANCE))


_CHANCE: Final = 0.4  # two addresses that have nothing to do with each other are that much alike


def same_city(one: str, other: str) -> bool | None:
    """Tell whether two folded names of cities are one's: a slip for every four letters, wherever the spaces are.

    None if one is a part of the other ("Hollywood" and "West Hollywood"): some write so for short, others are two.
    """
    if one == other or JaroWinkler.similarity(one, other) > 0.93:  # noqa: PLR2004
        return True
    if f" {one} " in f" {other} " or f" {other} " in f" {one} ":
        return None
    one, other = one.replace(" ", ""), other.replace(" ", "")
    return OSA.distance(one, other) <= min(len(one), len(other)) // 4


def _own(domain: str, one: Identity, other: Identity) -> bool:
    """Tell whether a domain that both have is named like both, not like an accountant or landlord of theirs."""
    label = label_of(domain)
    return all(
        any(name.compact.startswith(label) or label.startswith(name.tokens[0]) for name in side.names if name.tokens)
        for side in (one, other)
    )


def _domain_is_name(one: Identity, other: Identity) -> bool:
    labels = {label_of(domain) for domain in one.domains}
    if not labels or other.domains & one.domains:
        return False
    return any(name.compact in labels or "".join(name.tokens[:2]) in labels for name in other.names)
