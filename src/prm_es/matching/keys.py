"""Candidate keys: what two spellings of one company are likely to have in common, so that they are ever compared.

A key says little by itself; the comparison decides. An identity has a bounded number of them, whatever its names hold,
and they follow from it alone. No common word is a key by itself: "comércio" counts only beside another word. What else
turns out to be common is for whoever keeps the keys to see, and to pass over.
Of its rarest word a company also has what is left without any one letter: a mistyped one has one of these in common.
A name of common words alone has many namesakes: it is looked for in its city as well.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import combinations
from typing import Final

from prm_es.matching.folding import sound
from prm_es.matching.frequencies import COMMON, General
from prm_es.matching.identity import Identity, Name

MOST_WORDS: Final = 4  # of a name, the rarest
_MISTYPED: Final = range(5, 13)  # letters of a word of which each may be the wrong one
_LONG: Final = 11
_HEARD: Final = 3  # letters from which on a sound tells words apart, in one city
_FAR: Final = 5  # and anywhere
_GENERAL: Final = General()
_SHORT: Final = range(3, 7)  # letters of a name that may be the initials of another
_FEW: Final = 4  # of them, below which many others have the same
_VAGUE: Final = ("pair", "sound", "near", "short")


@lru_cache(maxsize=1 << 16)
def key_of(text: str) -> int:
    """Give the digest under which a key is kept: 64 bits with a sign, as PostgreSQL's bigint; odd if it is vague."""
    digest = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)
    return digest | 1 if text.startswith(_VAGUE) else digest & ~1


def is_vague(key: int) -> bool:
    """Tell whether a key is shared by chance more often than others: two common words, a sound, a letter less."""
    return bool(key & 1)


def keys_of(identity: Identity) -> Sequence[str]:
    """Give the candidate keys of an identity, each once, the exact ones not among them."""
    return tuple(dict.fromkeys((*_names(identity), *_reached(identity), *_places(identity))))


def _names(identity: Identity) -> Iterator[str]:
    for name in identity.names:
        yield f"name:{name.sorted}"
        yield f"name:{name.compact or name.sorted}"
        chosen = _chosen(name)
        rare = [word for word in chosen if _GENERAL.share(word) < COMMON]
        yield from (f"word:{word}" for word in rare)
        yield from _together(name, sorted(chosen), rare[:1], identity.city)
        yield from _heard(rare, identity.city)
        yield from (f"near:{left}" for left in _mistyped(rare[:1], identity.city))
        yield from _short(name, identity.city)


def _chosen(name: Name) -> list[str]:
    """Give the words that are keys, the rarest first; of equally rare ones the longest."""
    return sorted(set(name.tokens), key=lambda word: (_GENERAL.share(word), -len(word), word))[:MOST_WORDS]


def _together(name: Name, chosen: Sequence[str], rarest: Sequence[str], city: str | None) -> Iterator[str]:
    """Give the pairs of words: with the rarest one anywhere, common ones, as all of them, in their city if known."""
    for pair in combinations(chosen, 2):
        common = not rarest or rarest[0] not in pair
        if not (common and city):
            yield f"pair:{' '.join(pair)}"
        else:
            yield f"here:{' '.join(pair)} {city}"
    if city and not rarest:
        yield from (f"here:{' '.join(three)} {city}" for three in combinations(chosen, 3))
        yield f"here:{name.sorted} {city}"


def _short(name: Name, city: str | None) -> Iterator[str]:
    """Give the initials of a name, or the name if it may be those of another: a few letters also in their city."""
    short = name.compact if len(name.tokens) == 1 else name.initials
    if len(short) in _SHORT:
        yield f"short:{short}"
        if city and len(short) < _FEW:
            yield f"short:{short} {city}"


def _heard(rare: Iterable[str], city: str | None) -> Iterator[str]:
    for word in rare:
        heard = sound(word)
        if city and len(heard) >= _HEARD:
            yield f"sound:{heard} {city}"
        if len(heard) >= _FAR:
            yield f"sound:{heard}"


def _mistyped(words: Iterable[str], city: str | None) -> Iterator[str]:
    """Give what is left of a word: in its city if that is known; a long one, that few others are like, anywhere too."""
    for word in words:
        if len(word) in _MISTYPED:
            left = (word, *(word[:place] + word[place + 1 :] for place in range(len(word))))
            if city:
                yield from (f"{one} {city}" for one in left)
            if not city or len(word) >= _LONG:
                yield from left


def _reached(identity: Identity) -> Iterator[str]:
    yield from (f"phone:{one}" for one in sorted(identity.phones))
    yield from (f"email:{one}" for one in sorted(identity.emails))
    yield from (f"domain:{one}" for one in sorted(identity.domains))


def _places(identity: Identity) -> Iterator[str]:
    if identity.postcode:
        yield f"postcode:{identity.postcode}"
    address = identity.address
    if address is None:
        return
    if address.number and identity.postcode:
        yield f"place:{address.number} {identity.postcode}"
    if address.key:
        yield f"address:{address.key}"
