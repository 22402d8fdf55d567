"""A match in words. No value of a record is in it, and a partner's people learn neither who the rival is nor when."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from prm_es.matching.compare import Match, Reason, Strength, Why

_WORDS: Final = {
    Why.TAX_ID: "same tax id",
    Why.CUSTOMER_ID: "same customer id",
    Why.SAME_NAME: "same name",
    Why.LIKE_NAME: "name much alike",
    Why.PART_OF_NAME: "one name is part of the other",
    Why.SHORT_FORM: "one name is the other's initials",
    Why.OTHER_NUMBER: "but another number in the name",
    Why.SAME_DOMAIN: "same web domain",
    Why.DOMAIN_IS_NAME: "one's web domain is the other's name",
    Why.SAME_PHONE: "same phone",
    Why.SAME_EMAIL: "same e-mail",
    Why.SAME_ADDRESS: "same address",
    Why.SAME_POSTCODE: "same postcode",
    Why.SAME_CITY: "same city",
    Why.OTHER_CITY: "another city",
    Why.OTHER_NAME: "names differ",
}
_FOR: Final = frozenset(_WORDS) - {Why.OTHER_NUMBER, Why.OTHER_CITY, Why.OTHER_NAME}


def sentence(match: Match, *, earlier_by: timedelta | None = None, vendor: bool = True) -> str:
    """Say why two records match; raises nothing.

    `earlier_by` is how long before this record the other was registered, negative if after. The vendor's people read
    all reasons, how many share what agrees, and the order in time; a partner's only what its own record has in common
    with another.
    """
    if not vendor:
        return _for_partner(match)
    said = [_said(reason) for reason in match.reasons] or ["nothing in common"]
    order = () if earlier_by is None else (_order(earlier_by),)
    related = () if match.strength is not Strength.RELATED else ("related, not the same customer",)
    return "; ".join((", ".join(said), *related, *order))


def _said(reason: Reason) -> str:
    words = _WORDS[reason.why]
    return f"{words} (as {reason.holders} records have)" if reason.holders else words


def _order(earlier_by: timedelta) -> str:
    return f"registered {span(abs(earlier_by))} {'earlier' if earlier_by >= timedelta(0) else 'later'}"


def _for_partner(match: Match) -> str:
    if match.strength in {Strength.RELATED, Strength.NONE}:
        return "no match"
    said: Sequence[str] = [_WORDS[reason.why] for reason in match.reasons if reason.why in _FOR]
    return f"{', '.join(said) or 'alike'}: already known"


_UNITS: Final = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


def span(length: timedelta) -> str:
    """Say a length of time in its largest whole unit: "41 minutes"."""
    seconds = int(length.total_seconds())
    for size, unit in _UNITS:
        if seconds >= size:
            number = seconds // size
            return f"{number} {unit}{'' if number == 1 else 's'}"
    return "less than a second"
