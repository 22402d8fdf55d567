"""The sides of conflicts: leads, and the opportunities and named accounts that they are compared with.

What a comparison needs of each follows from its own events alone, as its rows do in every read model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Final
from uuid import UUID

import orjson

from prm_es.aggregates import lead_messages as lead
from prm_es.aggregates import opportunity as deal
from prm_es.aggregates.base import Event
from prm_es.aggregates.fields import Customer
from prm_es.aggregates.lead import FINAL, IDENTITY, STATUS_AFTER
from prm_es.aggregates.policy import PolicyLoaded
from prm_es.frozen import replace
from prm_es.matching.packed import unpack
from prm_es.messages import Recorded
from prm_es.projections.base import Rows
from prm_es.projections.known import exact_keys, known_of
from prm_es.projections.partners import fold_partner

ACCOUNT: Final = "named_account"


@dataclass(frozen=True)
class Lead:
    """A lead as the comparison needs it, or an opportunity or named account that it is compared with.

    `kind` says which of them; `linked` is a lead's opportunity, and an opportunity's lead. `place` is the position that
    says who was first, `version` the last of its own that says anything here. `people` are the ids of those whom it
    names, `identity` what is compared, folded, and `keys` the digests of the keys under which it is found. Nothing of
    an individual's is there but the id.
    """

    lead_id: UUID
    kind: str
    origin: str
    status: str
    partner_id: UUID | None
    linked: UUID | None
    version: int
    place: int
    came_at: datetime
    protected_until: datetime | None = None
    customer: str | None = None
    customer_keys: list[str] = field(default_factory=list)
    product_lines: list[str] = field(default_factory=list)
    people: list[UUID] = field(default_factory=list)
    identity: str | None = None
    keys: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class LeadKey:
    """A key under which a live lead is found."""

    key: int
    lead_id: UUID


@dataclass(frozen=True)
class Rules:
    """The weights of the policy that was loaded last, as JSON; empty: those that are shipped."""

    stream_id: UUID
    weights: str


def fold(rows: Rows, recorded: Recorded, event: Event) -> Rows:
    """Give the rows of a partner, lead, opportunity or policy after its own event; conflicts follow in `react`."""
    match recorded.aggregate:
        case "partner":
            return fold_partner(rows, recorded, event)
        case "lead":
            return {**rows, "lead": (_lead(next(iter(rows["lead"]), None), recorded, event),)}
        case "opportunity":
            return {**rows, "lead": (_opportunity(next(iter(rows["lead"]), None), recorded, event),)}
        case "policy" if isinstance(event, PolicyLoaded):
            weights = event.document.get("matching")
            return {**rows, "rules": (Rules(recorded.subject, orjson.dumps(weights).decode() if weights else ""),)}
        case _:
            return rows


def blank(recorded: Recorded, kind: str, origin: str, partner_id: UUID | None) -> Lead:
    """Give a side of which nothing is known but where it came in."""
    return Lead(
        lead_id=recorded.subject,
        kind=kind,
        origin=origin,
        status="",
        partner_id=partner_id,
        linked=None,
        version=recorded.version,
        place=recorded.position,
        came_at=recorded.at,
    )


def _lead(before: Lead | None, recorded: Recorded, event: Event) -> Lead:
    if isinstance(event, lead.Registered | lead.Captured) or before is None:
        origin = "captured" if isinstance(event, lead.Captured) else "registered"
        before = blank(recorded, "lead", origin, event.partner_id if isinstance(event, lead.Registered) else None)
    row = replace(before, version=recorded.version, status=STATUS_AFTER.get(type(event), before.status))
    match event:
        case lead.Details():
            moved = isinstance(event, lead.Resubmitted) and not event.keeps_place
            return _details(replace(row, place=recorded.position) if moved else row, event)
        case lead.Protection():
            return replace(row, protected_until=event.protected_until)
        case lead.ProtectionEnded() | lead.DecisionReverted() | lead.Disqualified():
            return replace(row, protected_until=None)
        case lead.ProtectionExpired() | lead.ProtectionRevoked():
            held = row.partner_id if event.status != "qualified" else None
            return replace(row, status=event.status, partner_id=held, protected_until=None)
        case lead.Offered() | lead.Transferred():
            return replace(row, partner_id=event.partner_id)
        case lead.Declined() | lead.OfferExpired() | lead.Recalled():
            return replace(row, partner_id=None, protected_until=None)
        case lead.Converted():
            return replace(row, linked=event.opportunity_id)
        case _:
            return row


def _details(row: Lead, event: lead.Details) -> Lead:
    changed = getattr(event, "changed", IDENTITY)
    if "customer" in changed:
        row = about(row, event.customer, event.customer_keys)
    return replace(row, product_lines=list(event.product_lines)) if "product_lines" in changed else row


def about(row: Lead, customer: Customer | None, customer_keys: Sequence[str]) -> Lead:
    """Give the side with another customer."""
    known = known_of(customer, tuple(customer_keys))
    return replace(
        row,
        customer=customer.name if customer else None,
        customer_keys=list(customer_keys),
        people=list(known.people),
        identity=known.identity,
        keys=list(known.keys),
    )


def _opportunity(before: Lead | None, recorded: Recorded, event: Event) -> Lead:
    if isinstance(event, deal.Opened) or before is None:
        before = blank(recorded, "opportunity", "", event.partner_id if isinstance(event, deal.Opened) else None)
    row = replace(before, version=recorded.version)
    match event:
        case deal.Opened():
            lines = [product.line for product in event.products]
            row = replace(row, status="open", linked=event.lead_id, product_lines=lines)
            return about(row, event.customer, event.customer_keys)
        case deal.DetailsChanged():
            if "products" in event.changed:
                row = replace(row, product_lines=[product.line for product in event.products])
            return about(row, event.customer, event.customer_keys) if "customer" in event.changed else row
        case deal.PartnerOfRecordChanged():
            return replace(row, partner_id=event.partner_id)
        case deal.Won() | deal.Lost():
            return replace(row, status=event.stage)
        case deal.Reopened():
            return replace(row, status="open")
        case _:
            return row


def ended(row: Lead) -> bool:
    """Tell whether a side is in nobody's way any more."""
    if row.kind == "lead":
        return row.status in FINAL or (row.status == "converted" and row.protected_until is None)
    return row.status in ("lost", "dropped")


def postings(rows: Rows) -> list[tuple[int, UUID]]:
    """Give the keys under which it is found while it is live; for ever by the people whom it names, to forget them."""
    return [(key, row.lead_id) for row in rows["lead"] for key in found_under(row)]


def found_under(row: Lead) -> list[int]:
    """Give the keys of one side under which it is found now."""
    return sorted(exact_keys((), row.people)) if ended(row) else row.keys


def same_postings(before: Rows, after: Rows) -> bool:
    """Tell whether two states are found under the same keys."""
    return [found_under(row) for row in before["lead"]] == [found_under(row) for row in after["lead"]]


unpacked: Final = lru_cache(maxsize=20_000)(unpack)  # a crowd of leads is compared with the same few


def kind_of(row: Lead) -> str:
    """Name what a side is, as `screen` does: an opportunity that was won is a customer."""
    return "customer" if row.status == "won" else row.kind
