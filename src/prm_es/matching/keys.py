"""Candidate keys: what two spellings of one company are likely to have in common, so that they are ever compared.

A key says little by itself; the comparison decides. An identity has a bounded number of them, whatever its names hold,
and they follow from it alone. No common word is a key by itself: "comércio" counts only beside another word. What else
turns out to be common is for whoever keeps the keys to see, and to pass over.
One mistyped letter leaves how a word sounds, its beginning or its end; in one city these are few enough to be keys.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from hashlib import blake2b
from itertools import combinations
from typing import Final

from prm_es.matching.folding import sound
from prm_es.matching.identity import Identity, Name
from prm_es.matching.words import words

MOST_WORDS: Final = 4  # of a name, the longest
_ENDS: Final = 4  # letters of a word's beginning or end
_HEARD: Final = 3  # letters from which on a sound tells words apart


def key_of(text: str) -> int:
    """Give the digest under which a key is kept: 64 bits with a sign, as PostgreSQL's bigint."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


def keys_of(identity: Identity) -> Sequence[str]:
    """Give the candidate keys of an identity, each once, the exact ones not among them."""
    return tuple(dict.fromkeys((*_names(identity), *_reached(identity), *_places(identity))))


def _names(identity: Identity) -> Iterator[str]:
    for name in identity.names:
        yield f"name:{name.sorted}"
        yield f"name:{name.compact or name.sorted}"
        chosen = _chosen(name)
        rare = [word for word in chosen if word not in _common()]
        yield from (f"word:{word}" for word in rare)
        yield from (f"pair:{one} {other}" for one, other in combinations(chosen, 2))
        yield from _heard(rare, identity.city)


def _chosen(name: Name) -> list[str]:
    """Give the words that are keys, in order: of many, the longest that are not common."""
    told = sorted(set(name.tokens), key=lambda word: (word in _common(), -len(word), word))
    return sorted(told[:MOST_WORDS])


def _heard(rare: Iterable[str], city: str | None) -> Iterator[str]:
    for word in rare:
        heard = sound(word)
        if len(heard) >= _HEARD:
            yield f"sound:{heard}"
        if city and len(word) > _ENDS:
            yield f"head:{word[:_ENDS]} {city}"
            yield f"tail:{word[-_ENDS:]} {city}"
        elif city:
            yield f"head:{word} {city}"


@cache
def _common() -> frozenset[str]:
    """Give the words that abbreviations stand for: those that companies of one trade or another have in common."""
    return frozenset(words().same.values())


def _reached(identity: Identity) -> Iterator[str]:
    yield from (f"phone:{one}" for one in sorted(identity.phones))
    yield from (f"email:{one}" for one in sorted(identity.emails))
    yield from (f"domain:{one}" for one in sorted(identity.domains))


def _places(identity: Identity) -> Iterator[str]:
    address = identity.address
    if address is None:
        return
    if address.number and identity.postcode:
        yield f"place:{address.number} {identity.postcode}"
    if address.key:
        yield f"address:{address.key}"
