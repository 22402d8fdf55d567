"""Goals of the made-up partners: for the year and spread over its months, for each month, or for a quarter.

They are told last, since what they ask for is made up from what was reached: some ask for more, some for less.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final
from uuid import uuid5

from prm_es.messages import NAMESPACE
from prm_es.upstream.demo.world import Seller, Story, World

MONTHS_OF_YEAR: Final = (6, 6, 8, 8, 8, 9, 7, 7, 9, 10, 10, 12)
_FULL: Final = 100
_REACHED: Final = (60, 130)  # so many percent of a goal are reached


@dataclass(frozen=True, slots=True)
class _Span:
    """A year as far as the partner sells in it and the world lasts: its first and last month, both included."""

    year: int
    first: int
    last: int

    @property
    def share(self) -> Decimal:
        """Give the part of the year's target that falls into these months."""
        return Decimal(sum(MONTHS_OF_YEAR[self.first - 1 : self.last])) / _FULL


def make(world: World) -> None:
    """Set goals of the amount won for every partner that sells, and of registrations for every third."""
    for seller in world.sellers:
        story = Story(world, "partner", f"P-{seller.number + 1:03}/goals", seller.id, seller.since)
        story.wait(0, 2)
        for span in _spans(world, seller):
            _amounts(world, seller, story, span)
            if seller.number % 3 == 0:
                _registrations(world, seller, story, span)
        if seller.number % 12 == 0:  # the months of this year have a goal of this metric
            goal = {"metric": "won_amount", "period": f"{world.end.year}", "currency": seller.place.currency}
            given = _given(seller, "mistake", goal | {"target": "1000"})
            story.mistake("partner.goal_overlaps", "set_goal", seller.manager, **given)


def _spans(world: World, seller: Seller) -> Iterator[_Span]:
    begins, ends = seller.since.date(), world.end.date()
    for year in range(begins.year, ends.year + 1):
        first = begins.month if year == begins.year else 1
        yield _Span(year, first, ends.month if year == ends.year else 12)


def _amounts(world: World, seller: Seller, story: Story, span: _Span) -> None:
    """Set a year's target over its months, or one for each month: in the year of the beginning, and for some always."""
    won = sum((amount for one, day, amount in world.wins if one == seller.id and _within(span, day)), Decimal(0))
    year = _wanted(world, won / span.share, 10_000 * seller.place.rate)
    goal = {"metric": "won_amount", "currency": seller.place.currency}
    if span.first == 1 and seller.number % 3:
        shares = [str(share) for share in MONTHS_OF_YEAR]
        _set(seller, story, "won", goal | {"period": str(span.year), "target": str(year), "distribution": shares})
        return
    for month in range(span.first, 13):
        target = _rounded(year * MONTHS_OF_YEAR[month - 1] / _FULL)
        _set(seller, story, "won", goal | {"period": f"{span.year}-{month:02}", "target": str(target)})


def _registrations(world: World, seller: Seller, story: Story, span: _Span) -> None:
    for quarter in range((span.first - 1) // 3, (span.last - 1) // 3 + 1):
        months = range(3 * quarter + 1, 3 * quarter + 4)
        days = [day for one, day in world.registrations if one == seller.id and _within(span, day)]
        count = sum(day.month in months for day in days)
        target = max(1, int(_wanted(world, Decimal(count), 1)))
        goal = {"metric": "registered_count", "period": f"{span.year}-Q{quarter + 1}", "target": str(target)}
        _set(seller, story, "registered", goal)


def _within(span: _Span, day: date) -> bool:
    return day.year == span.year and span.first <= day.month <= span.last


def _wanted(world: World, reached: Decimal, least: int) -> Decimal:
    """Give the target of which what was reached is a made-up part."""
    percent = world.random.randrange(*_REACHED)
    return max(_rounded(reached * _FULL / percent), Decimal(least))


def _rounded(target: Decimal) -> Decimal:
    """Give the target as people set it: two digits that count."""
    return Decimal(int(Decimal(f"{target:.1e}")))


def _set(seller: Seller, story: Story, name: str, goal: dict[str, Any]) -> None:
    story.do("set_goal", seller.manager, **_given(seller, name, goal))


def _given(seller: Seller, name: str, goal: dict[str, Any]) -> dict[str, Any]:
    goal_id = uuid5(NAMESPACE, f"goal\n{seller.id}\n{name}-{goal['period']}")
    return goal | {"goal_id": str(goal_id), "owner": seller.users[0]}
