"""What happened on a lead or an opportunity, in words, as far as the reader may know it.

The vendor's people see everything. A partner's see what happened while the lead or deal was theirs, without internal
notes, without what only concerns the vendor's decision, and never a word of a rival.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson

from prm_es.audit.history import words
from prm_es.messages import PARTNER_ROLES, Recorded
from prm_es.store.store import Store
from prm_es.store.vault import all_key_ids, opened


@dataclass(frozen=True, slots=True)
class Entry:
    """One event. `what` is its stable name, `said` its data in words, `details` the data itself."""

    position: int
    version: int
    at: datetime
    recorded_at: datetime
    by: str
    role: str
    org: str
    on_behalf_of: str | None
    what: str
    internal: bool
    said: str
    details: Mapping[str, Any]


# Of the vendor's own decision, or of others who have a part in it.
_VENDOR_ONLY: Final = frozenset(
    {
        "lead.captured",
        "lead.qualified",
        "lead.screened",
        "lead.match_resolved",
        "lead.sla_warned",
        "lead.sla_breached",
        "opportunity.forecast_overridden",
        "opportunity.credit_split_set",
        "opportunity.partner_added",
        "opportunity.partner_removed",
    }
)
# Texts in which the vendor's people may have named a rival, and ids that point to one.
_UNTOLD: Final[Mapping[str, frozenset[str]]] = {
    "lead.offered": frozenset({"candidates", "strategy"}),
    "lead.approved": frozenset({"override_reason", "deciding_event"}),
    "lead.rejected": frozenset({"deciding_event"}),
    "lead.transferred": frozenset({"previous", "reason"}),
    "lead.recalled": frozenset({"deciding_event"}),
    "lead.protection_revoked": frozenset({"deciding_event"}),
    "lead.decision_reverted": frozenset({"reason", "deciding_event"}),
    "lead.corrected": frozenset({"reason"}),
    "opportunity.partner_of_record_changed": frozenset({"previous", "reason"}),
}
_GIVES: Final = frozenset(
    {
        "lead.registered",
        "lead.offered",
        "lead.transferred",
        "opportunity.opened",
        "opportunity.partner_of_record_changed",
    }
)
_TAKES: Final = frozenset({"lead.declined", "lead.offer_expired", "lead.recalled"})


def timeline(store: Store, aggregate: str, subject: UUID, orgs: Collection[UUID] | None) -> list[Entry]:
    """Give what happened, in order; `orgs` are those whose people ask, None for the vendor's. Empty if there is none.

    Whether the reader may see the lead or opportunity at all is asked before, of the read model.
    """
    events = [event for event in store.stream(subject) if event.aggregate == aggregate]
    keys = store.keys(all_key_ids(event.data.decode() for event in events))
    told = [(event, opened(orjson.loads(event.data), keys)) for event in events]
    return list(_seen(told, orgs) if orgs is not None else (_entry(event, data) for event, data in told))


def _seen(told: Sequence[tuple[Recorded, Mapping[str, Any]]], orgs: Collection[UUID]) -> Iterator[Entry]:
    """Give the events of the time in which one of the organisations had it."""
    own = {str(org) for org in orgs}
    holder: str | None = None
    for event, data in told:
        name = name_of(event)
        if name in _GIVES:
            holder = str(data.get("partner_id"))
        theirs = event.actor.role not in PARTNER_ROLES or event.actor.org in own
        internal = data.get("visibility") == "internal"
        if holder in own and theirs and not internal and name not in _VENDOR_ONLY:
            hidden = _UNTOLD.get(name, frozenset())
            yield _entry(event, {key: value for key, value in data.items() if key not in hidden})
        if name in _TAKES:
            holder = None


def name_of(event: Recorded) -> str:
    """Give an event's name with its aggregate's: lead.approved."""
    return ".".join(event.type.split(".")[1:3])


def _entry(event: Recorded, data: Mapping[str, Any]) -> Entry:
    return Entry(
        position=event.position,
        version=event.version,
        at=event.at,
        recorded_at=event.recorded_at,
        by=event.actor.id,
        role=event.actor.role.value,
        org=event.actor.org,
        on_behalf_of=event.actor.on_behalf_of,
        what=name_of(event).partition(".")[2],
        internal=data.get("visibility") == "internal",
        said="; ".join(words("", data)),
        details=data,
    )
