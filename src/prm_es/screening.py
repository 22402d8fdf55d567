"""Screening the whole log under any policy, in memory: nothing is written and nothing asked.

It is the fold of the conflict worker, but for whose policy it goes by: the customer keys are made anew by its scope,
its named accounts stand from the beginning, and the policies that the log tells of are passed over.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from prm_es.aggregates import lead_messages as lead
from prm_es.aggregates import opportunity as deal
from prm_es.aggregates.base import Event
from prm_es.aggregates.catalogue import parse_event, wire_type
from prm_es.aggregates.fields import customer_keys
from prm_es.aggregates.policy import STREAM, Policy, PolicyLoaded
from prm_es.messages import SERVICE, Actor, Recorded, Role
from prm_es.projections import conflicts, likeness, sides
from prm_es.projections.conflicts import Conflict
from prm_es.projections.ordered import Book, Parsed
from prm_es.projections.sides import kind_of

COLUMNS: Final = (
    "strength",
    "score",
    "sentence",
    "first_kind",
    "first_id",
    "first_partner_id",
    "second_kind",
    "second_id",
    "second_partner_id",
    "found_position",
)
_BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two that match at the end of the log, the first of them first."""

    conflict: Conflict
    first: sides.Lead
    second: sides.Lead

    @property
    def row(self) -> tuple[Any, ...]:
        """Give the values of COLUMNS."""
        sides = ((kind_of(one), one.lead_id, one.partner_id) for one in (self.first, self.second))
        told = self.conflict
        return (told.strength, told.score, told.reasons, *(it for side in sides for it in side), told.found_position)


class Screening:
    """What the conflict worker would know by now if this policy had always held."""

    def __init__(self, policy: Policy) -> None:
        self._scope = policy.lead.match_scope
        self._book = Book(conflicts.index, {})
        loaded = PolicyLoaded(document=policy.model_dump(mode="json"))
        self._fold(
            Recorded(0, STREAM, 1, wire_type(loaded), _BEGINNING, _BEGINNING, _NOBODY, "", "", None, b""), loaded
        )

    def take(self, events: Iterable[Recorded]) -> None:
        """Go on with the next events of the log, in the order of their positions."""
        for one in events:
            if one.aggregate in _TOLD:
                self._fold(one, self._by_scope(parse_event(one.type, one.data)))

    def _by_scope(self, event: Event) -> Event:
        if not isinstance(event, lead.Details | deal.Opened | deal.DetailsChanged) or event.customer is None:
            return event
        return event.model_copy(update={"customer_keys": tuple(sorted(customer_keys(event.customer, self._scope)))})

    def _fold(self, recorded: Recorded, event: Event) -> None:
        before = self._book.get(recorded.subject) or conflicts.MODEL.empty()
        self._book[recorded.subject] = sides.fold(before, recorded, event)
        conflicts.react(self._book, before, Parsed(recorded, event))

    def pairs(self) -> Sequence[Pair]:
        """Give the pairs that stand, in the order in which they were found."""
        found = (one for _id, rows in self._book.items() for one in rows["conflict"] if one.ended_position is None)
        return [self._pair(one) for one in sorted(found, key=lambda one: (one.found_position, one.ids))]

    def _pair(self, one: Conflict) -> Pair:
        (second,) = (it for it in one.ids if it != one.first_lead_id)
        return Pair(one, self._side(one.first_lead_id), self._side(second))

    def _side(self, one: UUID) -> sides.Lead:
        side: sides.Lead = self._book[one]["lead"][0]
        return side


_TOLD: Final = ("lead", "opportunity")
_NOBODY: Final = Actor(SERVICE, Role.SYSTEM)


def summary(pairs: Sequence[Pair]) -> Iterator[str]:
    """Count the pairs by strength, in a line."""
    strengths = (likeness.HARD, likeness.PROBABLE, likeness.POSSIBLE, likeness.RELATED)
    counts = ((name, sum(one.conflict.strength == name for one in pairs)) for name in strengths)
    yield f"{len(pairs)} pairs: {', '.join(f'{number} {name}' for name, number in counts)}"
