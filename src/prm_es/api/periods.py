"""Periods as people write them, and the days they are."""

import re
from datetime import date, timedelta
from typing import Final

from prm_es.errors import Usage

_NAMED: Final = ("this-month", "last-month", "this-quarter", "last-quarter", "this-year", "last-year")


def period_of(text: str, today: date) -> tuple[date, date]:
    """Give first and last day of a period: 2026, 2026-Q1, 2026-03, this-month, last-quarter, …, or FROM..TO in days.

    Raises Usage.
    """
    if text in _NAMED:
        which, unit = text.split("-")
        return _around(today, unit, back=which == "last")
    if found := re.fullmatch(r"(\d{4})", text):
        year = int(found.group(1))
        return _from(date(year, 1, 1), 12) if year else _unknown_period(text)
    if (found := re.fullmatch(r"(\d{4})-Q([1-4])", text)) and int(found.group(1)):
        return _from(date(int(found.group(1)), 3 * int(found.group(2)) - 2, 1), 3)
    if (found := re.fullmatch(r"(\d{4})-(0[1-9]|1[0-2])", text)) and int(found.group(1)):
        return _from(date(int(found.group(1)), int(found.group(2)), 1), 1)
    try:
        first, last = (date.fromisoformat(day) for day in text.split(".."))
    except ValueError:
        return _unknown_period(text)
    return first, last


def _unknown_period(text: str) -> tuple[date, date]:
    raise Usage(
        f"{text} is no period: use 2026, 2026-Q1, 2026-03, 2026-03-01..2026-03-31 or one of {', '.join(_NAMED)}"
    )


def _around(today: date, unit: str, *, back: bool) -> tuple[date, date]:
    months = {"month": 1, "quarter": 3, "year": 12}[unit]
    start = date(today.year, (today.month - 1) // months * months + 1, 1)
    if back:
        before = start - timedelta(days=1)
        start = date(before.year, (before.month - 1) // months * months + 1, 1)
    return _from(start, months)


def _from(start: date, months: int) -> tuple[date, date]:
    following = start.year * 12 + start.month - 1 + months
    if following // 12 > date.max.year:
        return start, date.max
    return start, date(following // 12, following % 12 + 1, 1) - timedelta(days=1)
