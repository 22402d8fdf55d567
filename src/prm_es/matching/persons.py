"""Whether two records may be private persons: told by the absence of all that a company's name shows."""

from functools import cache, lru_cache
from typing import Final

from prm_es.matching.frequencies import common_words
from prm_es.matching.identity import Identity
from prm_es.matching.words import words


def are_persons(one: Identity, other: Identity) -> bool:
    """Tell whether both say where they live and neither shows a sign of a company; one must have two names.

    The other may be mistyped, or have one of them alone: a single word by itself is more likely a brand.
    """
    if one.domains or other.domains or len(one.names) != 1 or len(other.names) != 1:
        return False
    if not ((one.postcode and other.postcode) or (one.address and other.address)):
        return False
    a, b = one.names[0], other.names[0]
    if a.forms or b.forms or a.numbers or b.numbers or len(a.tokens) + len(b.tokens) <= 2:  # noqa: PLR2004 - one each
        return False
    return _is_personal(a.raw) and _is_personal(b.raw)


_MOST_WORDS: Final = 6


@lru_cache(maxsize=1 << 16)
def _is_personal(found: tuple[str, ...]) -> bool:
    return len(found) <= _MOST_WORDS and _of_companies().isdisjoint(found)


@cache
def _of_companies() -> frozenset[str]:
    """Give the words that companies are named by and persons are not."""
    table = words()
    shortened = [word for word, same in table.same.items() if same not in table.persons]
    return frozenset(("and", "the", "of", *shortened, *table.houses, *common_words())) - table.persons
