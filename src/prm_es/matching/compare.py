"""How strongly two companies match, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import exp, log
from typing import Final

from prm_es.matching.evidence import Evidence, Names, evidence_of
from prm_es.matching.frequencies import COMMON, Frequencies
from prm_es.matching.identity import Identity
from prm_es.matching.weights import Weights


class Strength(StrEnum):
    """From the same customer beyond doubt to none; related is another company of the same house or place."""

    HARD = "hard"
    PROBABLE = "probable"
    POSSIBLE = "possible"
    RELATED = "related"
    NONE = "none"


class Why(StrEnum):
    """A reason, without the values behind it: sentences never show what a person's record says."""

    TAX_ID = "tax_id"
    CUSTOMER_ID = "customer_id"
    SAME_NAME = "same_name"
    LIKE_NAME = "like_name"
    PART_OF_NAME = "part_of_name"
    SHORT_FORM = "short_form"
    OTHER_NUMBER = "other_number"
    SAME_DOMAIN = "same_domain"
    DOMAIN_IS_NAME = "domain_is_name"
    SAME_PHONE = "same_phone"
    SAME_EMAIL = "same_email"
    SAME_ADDRESS = "same_address"
    SAME_POSTCODE = "same_postcode"
    SAME_CITY = "same_city"
    OTHER_CITY = "other_city"
    OTHER_NAME = "other_name"


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason and, where many records share what agrees, how many."""

    why: Why
    holders: int = 0


@dataclass(frozen=True, slots=True)
class Match:
    """How two records match. `score` is the probability that both are one customer, with three decimals.

    `keys` are the exact keys and the web domains that both have, and "name", "phone", "email", "address" without
    their values, which may be a person's.
    """

    strength: Strength
    score: float
    keys: tuple[str, ...]
    reasons: tuple[Reason, ...]


_LIKE_NAME, _PART_OF_NAME = 0.6, 0.75
_MANY: Final = 3  # holders that are worth saying


def compare(one: Identity, other: Identity, facts: Frequencies, weights: Weights, *, explained: bool = True) -> Match:
    """Compare two records. Exact keys decide alone; all else is weighed.

    If it is not to be `explained`, what does not match comes without keys and reasons.
    """
    if keys := one.keys & other.keys:
        why = tuple(
            sorted({Reason(Why.CUSTOMER_ID if key.startswith("id:") else Why.TAX_ID) for key in keys}, key=_order)
        )
        return Match(Strength.HARD, 1.0, tuple(sorted(keys)), why)
    found = evidence_of(one, other, facts)
    score = score_of(found, weights)
    strength = _strength(one, other, score, found, facts, weights)
    if strength is Strength.NONE and not explained:
        return Match(strength, round(score, 3), (), ())
    return Match(strength, round(score, 3), tuple(_keys(found)), tuple(_reasons(found, facts)))


def score_of(found: Evidence, weights: Weights) -> float:
    """Give the probability that both are one customer."""
    given = weights.persons if found.persons and weights.persons else weights
    total = given.start
    for name, value in found.values.items():
        if value:
            total += given.evidence.get(name, 0.0) * value
    return 1 / (1 + exp(-max(-30.0, min(30.0, total))))


def _strength(
    one: Identity, other: Identity, score: float, found: Evidence, facts: Frequencies, weights: Weights
) -> Strength:
    if score >= weights.probable:
        return Strength.POSSIBLE if weights.persons and _household(found) else Strength.PROBABLE
    values = found.values
    apart = (
        values.get("numbers_differ")
        or values.get("name_other")
        or (found.names and not found.names.short_form and (_parted(found.names) or _common_words(found.names)))
        or (values.get("city_differs") and _common_name(one, other, facts))
    )
    if (score >= weights.possible and not apart) or _same_rare_name(one, other, found, facts):
        return Strength.POSSIBLE
    return Strength.RELATED if _related(found) else Strength.NONE


def _household(found: Evidence) -> bool:
    """Tell two persons who may be of one family: whatever else agrees, their given names are two."""
    names = found.names
    return found.persons and names is not None and not names.head and names.parted >= _PARTED


def _same_rare_name(one: Identity, other: Identity, found: Evidence, facts: Frequencies) -> bool:
    """Tell an identical rare name: enough for review whatever else differs. One that many have is not rare."""
    names = found.names
    rare = names is not None and names.same and names.both >= _RARE and _tells(names)
    return rare and not _common_name(one, other, facts)


def _tells(names: Names) -> bool:
    """Tell whether a rare word is among what two names have in common, to the letter or but for a slip."""
    return max(names.rarest, names.both - names.held) >= _TELLING


def _parted(names: Names) -> bool:
    """Tell two shops of one trade in a town: each name lacks so much of the other.

    Less is enough where no rare word is the same to the letter: then those that are only alike are two names.
    """
    return names.parted >= (_PARTED if names.rarest >= _TELLING else _PARTED_ALIKE)


def _common_words(names: Names) -> bool:
    """Tell whether all that two names have in common are common words, while one has a rare one of its own."""
    return not _tells(names) and max(names.lost_one, names.lost_other) >= _TELLING


_TELLING: Final = -log(COMMON)


def _common_name(one: Identity, other: Identity, facts: Frequencies) -> bool:
    """Tell whether the two have a name in common that many others have as well."""
    names = {name.sorted for name in one.names} & {name.sorted for name in other.names}
    return any(facts.holders("name", name) > _NAMESAKES for name in names)


_RARE: Final = 11.0
_NAMESAKES: Final = 10
_PARTED: Final = 0.3
_PARTED_ALIKE: Final = 0.15


def _related(found: Evidence) -> bool:
    """Tell a parent, a sister or a neighbour: a rare word in common, or a way to reach them that few share.

    A word that is only like it is another's. In another city it must be rarer: one that many have there is a word, not
    a house.
    """
    values = found.values
    kin = (
        found.names is not None
        and found.names.held >= (_KIN_AFAR if values.get("city_differs") else _KIN)
        and (found.names.head or found.names.within > _PART_OF_NAME)
    )
    return kin or values.get("reached_same", 0.0) >= _REACHED


_KIN: Final = 8.0
_KIN_AFAR: Final = 9.5
_REACHED: Final = 0.35


def _keys(found: Evidence) -> Sequence[str]:
    keys = [f"domain:{value}" if kind == "domain" else kind for kind, value, _strength in found.agree]
    if found.names and found.names.same:
        keys.append("name")
    return sorted(dict.fromkeys(keys))


def _order(reason: Reason) -> int:
    return _PLACES[reason.why]


_PLACES: Final = {why: place for place, why in enumerate(Why)}
_AGREE: Final = {
    "domain": Why.SAME_DOMAIN,
    "phone": Why.SAME_PHONE,
    "email": Why.SAME_EMAIL,
    "address": Why.SAME_ADDRESS,
}


def _reasons(found: Evidence, facts: Frequencies) -> Sequence[Reason]:
    reasons: dict[Why, Reason] = {}
    names = found.names
    if names is not None:
        name_why = (
            Why.SAME_NAME
            if names.same
            else Why.SHORT_FORM
            if names.short_form
            else Why.PART_OF_NAME
            if names.within > _PART_OF_NAME and names.shared < names.within
            else Why.LIKE_NAME
            if names.shared >= _LIKE_NAME
            else Why.OTHER_NAME
        )
        reasons[name_why] = Reason(name_why)
        if names.numbers < 0:
            reasons[Why.OTHER_NUMBER] = Reason(Why.OTHER_NUMBER)
    for kind, value, _strength in found.agree:
        holders = facts.holders(kind, value)  # type: ignore[arg-type]
        reasons[_AGREE[kind]] = Reason(_AGREE[kind], holders if holders >= _MANY else 0)
    for name, why in (
        ("domain_is_name", Why.DOMAIN_IS_NAME),
        ("city_same", Why.SAME_CITY),
        ("city_differs", Why.OTHER_CITY),
    ):
        if found.values.get(name):
            reasons[why] = Reason(why)
    if found.values.get("postcode_same") and Why.SAME_ADDRESS not in reasons:
        reasons[Why.SAME_POSTCODE] = Reason(Why.SAME_POSTCODE)
    return sorted(reasons.values(), key=_order)
