"""Folding of text: scripts, accents, case, punctuation and dotted initials no longer matter."""

import re
from functools import lru_cache
from typing import Final

_POSSESSIVE: Final = re.compile(r"(?<=\w)['\u2019`\u00b4]s\b")
_APOSTROPHE: Final = re.compile(r"(?<=\w)['\u2019`\u00b4](?=\w)")
_ORDINAL: Final = re.compile(r"(?<=\d)[ºª°]")
_GROUPED: Final = re.compile(r"(?<=\d)[.,](?=\d{3}(?!\d))")
_DOT_COM: Final = re.compile(r"(?<=[a-z0-9]{2})\.com(?:\.[a-z]{2})?\b")
_DOTTED: Final = re.compile(r"\b(?:\w\.){2,}(?:\w\b)?")
_SLASHED: Final = re.compile(r"\b(\w)/(\w)\b(?!/)")
_WORD: Final = re.compile(r"[a-z0-9]+")
_CAMEL: Final = re.compile(r"(?<=[a-z]{3})(?=[A-Z]{2,4}\b)")


def ascii_text(text: str) -> str:
    """Write text in Latin letters without accents; other scripts are transliterated."""
    if text.isascii():
        return text
    from anyascii import anyascii  # noqa: PLC0415 - its tables, for those who match

    return str(anyascii(text))


def fold_words(text: str) -> tuple[str, ...]:
    """Give the words of a text in lower case and plain letters; initials with dots or slashes are one word."""
    text = _CAMEL.sub(" ", text)
    text = ascii_text(_ORDINAL.sub("", text)).lower()
    text = _GROUPED.sub("", text)
    text = _DOT_COM.sub("", _POSSESSIVE.sub("s", text))
    text = _APOSTROPHE.sub("", text).replace("&", " and ")
    text = _DOTTED.sub(lambda found: found[0].replace(".", "") + " ", text)
    text = _SLASHED.sub(r"\1\2", text)
    return _joined(_WORD.findall(text))


def _joined(found: list[str]) -> tuple[str, ...]:
    """Join initials that stand apart: "s a" and "j p morgan" are "sa" and "jp morgan"."""
    if all(len(word) > 1 for word in found):
        return tuple(found)
    words: list[str] = []
    run = ""
    for word in found:
        if len(word) == 1 and word.isalpha():
            run += word
            continue
        if run:
            words.append(run)
            run = ""
        words.append(word)
    return (*words, run) if run else tuple(words)


_SOUND: Final = (
    (re.compile(r"ph"), "f"),
    (re.compile(r"sch|ch|sh|x"), "s"),
    (re.compile(r"th"), "t"),
    (re.compile(r"[cq](?=[eiy])"), "s"),
    (re.compile(r"[cqk]+"), "k"),
    (re.compile(r"z|j"), "s"),
    (re.compile(r"w"), "v"),
    (re.compile(r"h"), ""),
    (re.compile(r"y"), "i"),
    (re.compile(r"n(?=[bp])"), "m"),
)
_VOWELS: Final = re.compile(r"(?<=.)[aeiou]+")
_DOUBLE: Final = re.compile(r"(.)\1+")


@lru_cache(maxsize=1 << 16)
def sound(word: str) -> str:
    """Give how a folded word sounds, roughly, in any of the languages written with Latin letters."""
    for pattern, letters in _SOUND:
        word = pattern.sub(letters, word)
    return _DOUBLE.sub(r"\1", _VOWELS.sub("", word))
