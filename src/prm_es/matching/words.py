"""The packaged tables of words, folded once: legal forms, abbreviations, numbers, kinds of streets, free mail."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

import yaml

from prm_es.matching.folding import fold_words

Phrase = tuple[str, ...]


@dataclass(frozen=True)
class Words:
    """Every key and word but those of cities is folded; phrases are found by their last word, or by their first."""

    forms_by_last: Mapping[str, Sequence[tuple[Phrase, str]]]
    forms_by_first: Mapping[str, Sequence[tuple[Phrase, str]]]
    glued_forms: Mapping[str, str]
    same: Mapping[str, str]
    numbers: Mapping[str, str]
    ties: frozenset[str]
    houses: frozenset[str]
    streets: frozenset[str]
    units: frozenset[str]
    street_words: Mapping[str, str]
    city_ties: frozenset[str]
    cities: Mapping[str, Sequence[str]]
    free_mail: frozenset[str]
    shared_hosts: frozenset[str]
    persons: frozenset[str]


MARKER: Final = "marker"
# One-word forms that stand before the name; any other short form there is more likely a word of the name.
_LEADING: Final = frozenset(
    [
        *("ooo", "oao", "zao", "pao", "ao", "too", "tov", "ip", "ano"),
        *("jsc", "ojsc", "pjsc", "cjsc", "jsco", "llc", "ltd", "pt", "sarl", "sas", "sasu", "eurl"),
        *("srl", "spa", "uab", "ou", "gmbh"),
    ]
)


@cache
def words() -> Words:
    """Read the tables; the first call takes some milliseconds."""
    given: Mapping[str, Any] = yaml.safe_load(files(__package__).joinpath("words.yaml").read_text(encoding="utf-8"))
    phrases = [(phrase, kind) for kind, lines in given["forms"].items() for phrase in _phrases(lines)]
    phrases += [(phrase, MARKER) for phrase in _phrases(given["markers"])]
    same = _same(given["same"])
    return Words(
        forms_by_last=_by(phrases, -1),
        forms_by_first=_by([one for one in phrases if len(one[0]) > 1 or one[0][0] in _LEADING], 0),
        glued_forms={form: kind for kind, forms in given["glued_forms"].items() for form in forms},
        same=same,
        numbers={
            phrase[0]: digits for digits, lines in given["numbers"].items() for phrase in _phrases([",".join(lines)])
        },
        ties=_singles(given["ties"]),
        houses=frozenset(same.get(" ".join(phrase), phrase[0]) for phrase in _phrases(given["houses"])),
        streets=_singles(given["streets"]),
        units=_singles(given["units"]),
        street_words=_same(given["street_words"]),
        city_ties=_singles(given["city_ties"]),
        cities=given["cities"],
        free_mail=_plain(given["free_mail"]),
        shared_hosts=_plain(given["shared_hosts"]),
        persons=_singles(given["persons"]),
    )


def _plain(lines: Iterable[str]) -> frozenset[str]:
    return frozenset(one.strip() for line in lines for one in line.split(","))


def _phrases(lines: Iterable[str]) -> Sequence[Phrase]:
    return [fold_words(one) for line in lines for one in str(line).split(",") if fold_words(one)]


def _singles(lines: Iterable[str]) -> frozenset[str]:
    return frozenset(phrase[0] for phrase in _phrases(lines))


def _same(groups: Mapping[str, Sequence[str]]) -> Mapping[str, str]:
    """Map single words, and phrases joined by a space, to the word they stand for."""
    return {" ".join(phrase): word for word, others in groups.items() for phrase in _phrases(others)}


def _by(phrases: Iterable[tuple[Phrase, str]], place: int) -> Mapping[str, Sequence[tuple[Phrase, str]]]:
    found: dict[str, list[tuple[Phrase, str]]] = {}
    for phrase, kind in phrases:
        found.setdefault(phrase[place], []).append((phrase, kind))
    return {word: sorted(group, key=lambda one: -len(one[0])) for word, group in found.items()}
