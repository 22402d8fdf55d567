"""What is compared with a side, and how like two are: by the keys that a book of rows says they share."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Final, Literal, TypeVar

from prm_es.aggregates.policy import STREAM
from prm_es.frozen import replace
from prm_es.matching.compare import Strength, compare
from prm_es.matching.evidence import same_city
from prm_es.matching.frequencies import General, Kind, values_of
from prm_es.matching.keys import is_vague, key_of
from prm_es.matching.packed import city_in
from prm_es.matching.sentence import sentence as in_words
from prm_es.matching.weights import Weights, default
from prm_es.projections.known import exact_keys
from prm_es.projections.ordered import Book, Page
from prm_es.projections.sides import Lead, ended, unpacked

CROWD: Final = 40  # more than so many under one key, and it tells nobody apart
VAGUE_CROWD: Final = 8  # and under one that many share by chance
LOOKED_AT: Final = 10  # of those that share keys, the ones that share the most and the rarest
IN_DOUBT: Final = 4  # after so many none that shares but one key that tells anybody apart
HARD, PROBABLE, POSSIBLE, RELATED = "hard", "probable", "possible", "related"

_T = TypeVar("_T")
Counts = tuple[tuple[str, int], ...]  # words and values, as keys are written, and how many have each


@dataclass(frozen=True)
class Found:
    """How a match was found: how strongly, how like the two are, by which keys, and in words that name nobody."""

    strength: str
    score: Decimal
    keys: list[str]
    reasons: str


def candidates(book: Book, row: Lead) -> list[Lead]:
    """Give those that share a key: all under exact keys, and of the others those that share the most and the rarest.

    Of those in another city none that shares nothing but a few letters, a sound or two common words.
    """
    shared, telling, twice = _shared(book, row)
    ranked = sorted(shared.items(), key=lambda one: (-one[1], one[0].one.int))
    found: list[Lead] = []
    looked_at = 0
    for place, (page, weight) in enumerate(ranked):
        if weight < _LEAST:
            break
        if weight < _SURE and looked_at >= (LOOKED_AT if page in twice else IN_DOUBT):
            continue
        rows = page.rows or book.rows_of(page, (one for one, _weight in ranked[place : place + IN_DOUBT]))
        other: Lead = rows["lead"][0]
        if comparable(row, other):
            looked_at += 1
            if page in telling or not _elsewhere(row, other):
                found.append(other)
    return found


def _shared(book: Book, row: Lead) -> tuple[Mapping[Page, int], AbstractSet[Page], AbstractSet[Page]]:
    """Give what it says that each shares keys with a side; who shares a telling key, and who more than one."""
    exact = exact_keys(row.customer_keys, row.people)
    shared: dict[Page, int] = {}
    telling: set[Page] = set()
    twice: set[Page] = set()
    for key, weight, pages in sharing(row.keys, exact, lambda key: () if key in book.crowded else book.under(key)):
        if not is_vague(key):
            twice |= telling.intersection(pages)
            telling.update(pages)
        for page in pages:
            shared[page] = shared.get(page, 0) + weight
    return shared, telling, twice


def sharing(
    keys: Iterable[int], exact: Collection[int], under: Callable[[int], Collection[_T]]
) -> Iterator[tuple[int, int, Collection[_T]]]:
    """Give each key that tells anybody apart, what it says to share it, and those who do; exact ones however many."""
    for key in keys:
        ones = under(key)
        if key in exact:
            yield key, _SURE, ones
        elif ones and len(ones) <= crowd(key):
            yield key, (_VAGUE if is_vague(key) else _TELLING) // len(ones), ones


_city: Final = lru_cache(maxsize=1 << 14)(city_in)


def _elsewhere(one: Lead, other: Lead) -> bool:
    here, there = (_city(it.identity) if it.identity else None for it in (one, other))
    return here is not None and there is not None and same_city(here, there) is False


# What one key weighs that nobody else has: an exact one more than all others together.
_SURE, _TELLING, _VAGUE = 1_000_000_000, 1_000_000, 200_000
_LEAST: Final = _VAGUE // 8  # one vague key that more than eight have is no reason to look


def crowded(book: Book, key: int) -> bool:
    """Tell whether so many stand under a key now that it tells nobody apart."""
    return key in book.crowded or book.count(key) > crowd(key)


def crowd(key: int) -> int:
    """Give how many may stand under a key before it tells nobody apart."""
    return VAGUE_CROWD if is_vague(key) else CROWD


def comparable(one: Lead, other: Lead) -> bool:
    """Tell whether two sides could be rivals: live, in different hands, a lead among them, a product line in common."""
    return (
        one.partner_id != other.partner_id  # hence never itself
        and "lead" in (one.kind, other.kind)
        and not ended(one)
        and not ended(other)
        and _common_line(one, other)
    )


def _common_line(one: Lead, other: Lead) -> bool:
    return not (one.product_lines and other.product_lines) or bool(set(one.product_lines) & set(other.product_lines))


def match(one: Lead, other: Lead, counts: Counts, weights: str) -> Found | None:
    """Give how two sides match, or None if they do not; `counts` are those of `one`, the weights JSON as in Rules."""
    if keys := sorted(set(one.customer_keys) & set(other.customer_keys)):
        words = dict.fromkeys(_EXACT[key.partition(":")[0]] for key in keys)
        return Found(HARD, Decimal(1), keys, ", ".join(words))
    if set(one.people) & set(other.people):
        return Found(PROBABLE, Decimal(1), ["person"], "same individual")
    if one.identity is None or other.identity is None:
        return None
    found = _alike(one.identity, other.identity, counts, weights)
    if found and found.strength == PROBABLE and _told_apart(one, other):
        return replace(found, strength=POSSIBLE)
    return found


@lru_cache(maxsize=8192)  # a lead changes hands more often than its customer changes
def _alike(one: str, other: str, counts: Counts, weights: str) -> Found | None:
    """Compare two packed identities."""
    found = compare(unpacked(one), unpacked(other), _holders(counts), _read_weights(weights), explained=False)
    if found.strength is Strength.NONE:
        return None
    return Found(found.strength.value, Decimal(round(found.score * 1000)) / 1000, list(found.keys), in_words(found))


_EXACT: Final = {"tax": "same tax id", "id": "same customer id"}


def weights_in(book: Book) -> str:
    """Give the weights that hold now."""
    rows = book.get(STREAM)
    return rows["rules"][0].weights if rows and rows["rules"] else ""


@lru_cache(maxsize=16)
def _read_weights(text: str) -> Weights:
    return Weights.model_validate_json(text) if text else default()


def _told_apart(one: Lead, other: Lead) -> bool:
    """Tell whether the vendor itself has two customers of them: each has an id of its own with it."""
    return all(any(key.startswith("id:") for key in it.customer_keys) for it in (one, other))


class Holders:
    """How common words and values are: words in general, values among what stands in the book now.

    Only of values that are keys of one side the book knows all who have them; nothing else is asked for.
    """

    def __init__(self, counts: Counts) -> None:
        self._counts = dict(counts)

    def share(self, token: str) -> float:
        """Give the share of all names that have the word: in general, or here if it is more common here."""
        here = self._counts.get("word:" + token)
        return _share(token) if here is None else max(_share(token), here / _AT_LEAST)

    def holders(self, kind: Kind | Literal["word"], value: str) -> int:
        """Give how many have the value: of a crowd, that it is one."""
        return self._counts.get(f"{kind}:{value}", 0)


_holders: Final = lru_cache(maxsize=64)(Holders)  # one side is compared with several


def counts_of(book: Book, row: Lead) -> Counts:
    """Count who has the words and values of one side now, a crowd as one more than a crowd."""
    told = _telling(row.identity) if row.identity else {}
    asked = ((key, text) for key in row.keys if (text := told.get(key)))
    return tuple((text, crowd(key) + 1 if crowded(book, key) else book.count(key)) for key, text in asked)


@lru_cache(maxsize=4096)
def _telling(identity: str) -> Mapping[int, str]:
    """Give all that Holders is asked about of a packed identity, by the digests."""
    given = unpacked(identity)
    words = (f"word:{token}" for name in given.names for token in name.tokens)
    return {key_of(text): text for text in (*words, *(f"{kind}:{value}" for kind, value in values_of(given)))}


_share: Final = lru_cache(maxsize=1 << 16)(General().share)
_AT_LEAST: Final = 100_000  # names that there are taken to be: a few that share a word do not make it common
