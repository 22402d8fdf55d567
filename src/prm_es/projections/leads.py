"""Read model leads: every lead as it stands, its offers to partners, and the other leads that may be the same customer.

Which event sets and clears what follows `evolve` of the lead; beside that, rows keep what a reader asks about the past:
when and how it was decided, warned of, breached, unprotected, ended.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from prm_es.aggregates import lead_messages as m
from prm_es.aggregates.base import Event
from prm_es.aggregates.lead import FINAL
from prm_es.frozen import replace
from prm_es.messages import Recorded
from prm_es.projections import partners
from prm_es.projections.base import NONE_OF_IT, OWN, ReadModel, Rows, Table
from prm_es.projections.partners import fold_partner, without


@dataclass(frozen=True)
class Lead:
    """One lead. `customer` may be a token of personal data.

    `place_position` is that of the event that gave it its place in the queue. `ended` leads stand in nobody's way.
    The clock of the decision runs by `sla_warn_at` and `sla_due_at`, or stands still since `sla_stopped_at` with
    `sla_warn_left` and `sla_left` of working time. `unprotected_at` and `unprotected_by` tell of the last protection.
    """

    lead_id: UUID
    external_id: str | None
    origin: str
    status: str
    partner_id: UUID | None
    submitted_by: str
    owner: str | None
    source: str | None
    customer: str | None
    customer_keys: list[str]
    country: str | None
    product_lines: list[str]
    deal_type: str | None
    amount: Decimal | None
    currency: str | None
    expected_close_on: date | None
    score: int | None
    came_in_at: datetime
    place_position: int
    identity_version: int
    screened_version: int
    held_until: datetime | None
    sla_warn_at: datetime | None
    sla_due_at: datetime | None
    sla_stopped_at: datetime | None
    sla_warn_left: timedelta | None
    sla_left: timedelta | None
    sla_warned_at: datetime | None
    sla_breached_at: datetime | None
    asked_for: list[str]
    place_until: datetime | None
    lapse_at: datetime | None
    decided_at: datetime | None
    decision: str | None
    reject_reason: str | None
    disqualify_reason: str | None
    protected_from: datetime | None
    protected_until: datetime | None
    remind_at: list[datetime]
    extensions: int
    extension_requested_at: datetime | None
    unprotected_at: datetime | None
    unprotected_by: str | None
    respond_by: datetime | None
    contact_by: datetime | None
    contact_overdue_at: datetime | None
    recall_at: datetime | None
    opportunity_id: UUID | None
    converted_at: datetime | None
    ended: bool
    ended_at: datetime | None
    data_gaps: list[str]
    touched_at: datetime
    updated_position: int


@dataclass(frozen=True)
class Offer:
    """One offer of a captured lead; `answer` is open, accepted, declined, expired, recalled or transferred.

    What the partner may know of the lead before it opens the offer stands here, as the lead was while the offer stood.
    """

    lead_id: UUID
    number: int
    partner_id: UUID
    strategy: str | None
    offered_at: datetime
    respond_by: datetime
    opened_at: datetime | None
    answered_at: datetime | None
    answer: str
    reason: str | None
    country: str | None
    product_lines: list[str]
    amount: Decimal | None
    currency: str | None


@dataclass(frozen=True)
class LeadMatch:
    """Another lead that may be the same customer; `partner_id` is the lead's own.

    `strength`, `other_first` and `sentence` are null where the last screening did not find it, but somebody had
    decided before; `outcome` is null while nobody has.
    """

    lead_id: UUID
    other_lead_id: UUID
    partner_id: UUID | None
    strength: str | None
    matched_keys: list[str]
    sentence: str | None
    other_first: bool | None
    outcome: str | None
    resolved_at: datetime | None


def fold(rows: Rows, recorded: Recorded, event: Event) -> Rows:
    """Give the aggregate's rows after the event."""
    if recorded.aggregate == "partner":
        return fold_partner(rows, recorded, event)
    if recorded.aggregate == "lead":
        return _fold_lead(rows, recorded, event)
    return rows


def _fold_lead(rows: Rows, recorded: Recorded, event: Event) -> Rows:
    if isinstance(event, m.Registered | m.Captured):
        return {**rows, "lead": (_came_in(recorded, event),)}
    (before,) = rows["lead"]
    after = _general(_changed(before, recorded, event), recorded, event)
    return {
        **rows,
        "lead": (after,),
        "offer": _described(_offers(rows["offer"], before, recorded, event), after),
        "lead_match": _matches(rows["lead_match"], after, recorded, event),
    }


# Coming in


def _came_in(recorded: Recorded, event: m.Registered | m.Captured) -> Lead:
    details = _details(event, _DETAILS)
    if isinstance(event, m.Registered):
        special: dict[str, Any] = {
            "origin": "registered",
            "status": "submitted",
            "partner_id": event.partner_id,
            "submitted_by": event.submitted_by,
            "held_until": event.held_until,
            **_running(event),
        }
    else:
        special = {
            "origin": "captured",
            "status": "new",
            "submitted_by": event.captured_by,
            "source": event.source,
        }
    fixed: dict[str, Any] = {
        **dict.fromkeys(Lead.__dataclass_fields__),
        "owner": event.owner,
        "came_in_at": recorded.at,
        "place_position": recorded.position,
        "identity_version": recorded.version,
        "screened_version": 0,
        "asked_for": [],
        "remind_at": [],
        "extensions": 0,
        "ended": False,
        "data_gaps": sorted(event.missing),
        "touched_at": recorded.at,
        "updated_position": recorded.position,
    }
    return Lead(**{**fixed, **details, **special, "lead_id": recorded.subject})


_DETAILS: Final = ("external_id", "customer", "product_lines", "deal_type", "amount", "expected_close_on")


def _details(event: m.Details, names: Iterable[str]) -> dict[str, Any]:
    """Give the columns of these fields of the event; those that no column shows are left out."""
    values: dict[str, Any] = {name: getattr(event, name) for name in _DETAILS if name in names}
    if "product_lines" in values:
        values["product_lines"] = list(event.product_lines)
    if "customer" in values:
        customer = event.customer
        values["customer"] = customer.name if customer else None
        values["country"] = customer.country if customer else None
        values["customer_keys"] = list(event.customer_keys)
    if "amount" in values:
        values["amount"] = event.amount.amount if event.amount else None
        values["currency"] = event.amount.currency if event.amount else None
    return values


# What any event may change

_STATUS: Final[dict[type[Event], str]] = {
    m.ReviewStarted: "in_review",
    m.InformationRequested: "action_required",
    m.Resubmitted: "submitted",
    m.Approved: "approved",
    m.Rejected: "rejected",
    m.Withdrawn: "withdrawn",
    m.Lapsed: "lapsed",
    m.DecisionReverted: "in_review",
    m.Converted: "converted",
    m.Qualified: "qualified",
    m.Offered: "offered",
    m.Accepted: "accepted",
    m.Declined: "qualified",
    m.OfferExpired: "qualified",
    m.Recalled: "qualified",
    m.Contacted: "contacted",
    m.WorkStarted: "working",
    m.Disqualified: "disqualified",
}

# What the system notes by itself, and what follows from an opportunity: nobody worked on the lead.
_UNTOUCHED: Final = (
    m.Screened,
    m.SlaWarned,
    m.SlaBreached,
    m.Lapsed,
    m.ProtectionExpiring,
    m.ProtectionExpired,
    m.ProtectionEnded,
    m.OfferExpired,
    m.ContactOverdue,
)


def _general(row: Lead, recorded: Recorded, event: Event) -> Lead:
    status = _STATUS.get(type(event), row.status)
    if isinstance(event, m.ProtectionExpired | m.ProtectionRevoked):
        status = event.status
    final = status in FINAL
    touched = None if isinstance(event, _UNTOUCHED) else _time_of(recorded, event)
    return replace(
        row,
        status=status,
        ended=final or (status == "converted" and row.protected_until is None),
        ended_at=(row.ended_at or _time_of(recorded, event)) if final else None,
        data_gaps=_gaps(row, event),
        touched_at=max(row.touched_at, touched or row.touched_at),
        updated_position=recorded.position,
    )


def _time_of(recorded: Recorded, event: Event) -> datetime:
    """Give when it took effect: what was noted or told late is dated at its own time."""
    match event:
        case m.Lapsed():
            return event.lapsed_at
        case m.ProtectionExpired() | m.OfferExpired():
            return event.expired_at
        case m.ActivityLogged():
            return event.happened_at
        case _:
            return recorded.at


def _gaps(row: Lead, event: Event) -> list[str]:
    match event:
        case m.Resubmitted() | m.Corrected():
            return without(row.data_gaps, *(name for name in event.changed if getattr(event, name, None)))
        case m.Approved() | m.ProtectionExtended() | m.Accepted():
            return sorted({*row.data_gaps, *event.missing})
        case m.Screened():
            return without(row.data_gaps, *(("screening",) if event.version >= row.identity_version else ()))
        case m.ActivityLogged():
            return without(row.data_gaps, "activity")
        case m.Converted() | m.Recalled():
            return without(row.data_gaps, "next_action")
        case _:
            return row.data_gaps


# What each event changes

_IDLE: Final[dict[str, Any]] = dict.fromkeys(("respond_by", "contact_by", "contact_overdue_at", "recall_at"))
_UNASSIGNED: Final[dict[str, Any]] = {**_IDLE, "partner_id": None, "owner": None}
_NO_CLOCK: Final[dict[str, Any]] = {
    **dict.fromkeys(("sla_warn_at", "sla_due_at", "sla_stopped_at", "sla_warn_left", "sla_left")),
    **dict.fromkeys(("place_until", "lapse_at")),
    "asked_for": [],
}
_UNDECIDED: Final[dict[str, Any]] = dict.fromkeys(("decided_at", "decision", "reject_reason"))
_FRESH_CLOCK: Final[dict[str, Any]] = {**_NO_CLOCK, "sla_warned_at": None, "sla_breached_at": None}


def _changed(row: Lead, recorded: Recorded, event: Event) -> Lead:
    match event:
        case m.Resubmitted() | m.Corrected():
            return _with_changes(row, recorded, event)
        case m.Screened():
            return replace(row, screened_version=event.version)
        case m.SlaWarned():
            return replace(row, sla_warn_at=None, sla_warned_at=event.warned_at)
        case m.SlaBreached():
            return replace(row, sla_warn_at=None, sla_due_at=None, sla_breached_at=event.breached_at)
        case m.Transferred():
            return replace(row, partner_id=event.partner_id, owner=None)
        case m.OwnerAssigned():
            return replace(row, owner=event.owner)
        case m.Converted():
            return replace(row, **_IDLE, opportunity_id=event.opportunity_id, converted_at=recorded.at)
        case m.Protection() | m.ExtensionRequested() | m.ProtectionExpiring():
            return _with_protection(row, recorded, event)
        case m.ProtectionEnded() | m.ProtectionExpired() | m.ProtectionRevoked():
            return _without_protection(row, recorded, event)
        case _:
            return _with_work(_reviewed(row, recorded, event), recorded, event)


def _with_changes(row: Lead, recorded: Recorded, event: m.Resubmitted | m.Corrected) -> Lead:
    changed = replace(row, **_details(event, event.changed))
    identity = _changes_identity(event)
    if identity:
        changed = replace(changed, held_until=None)
    if identity or isinstance(event, m.Resubmitted):
        changed = replace(changed, identity_version=recorded.version)
    if isinstance(event, m.Corrected):
        return changed
    place = row.place_position if event.keeps_place else recorded.position
    return replace(changed, place_position=place, **{**_NO_CLOCK, **_running(event)})


def _changes_identity(event: m.Resubmitted | m.Corrected) -> bool:
    return not {"customer", "product_lines"}.isdisjoint(event.changed)


def _running(clock: m.Clock) -> dict[str, Any]:
    return {"sla_warn_at": clock.sla_warn_at, "sla_due_at": clock.sla_due_at}


def _reviewed(row: Lead, recorded: Recorded, event: Event) -> Lead:
    match event:
        case m.InformationRequested():
            stopped: dict[str, Any] = {
                "sla_stopped_at": recorded.at,
                "sla_warn_left": event.sla_warn_left,
                "sla_left": event.sla_left,
                "asked_for": list(event.fields),
                "place_until": event.place_until,
                "lapse_at": event.lapse_at,
            }
            return replace(row, **{**_NO_CLOCK, **stopped})
        case m.Rejected():
            return replace(row, **_NO_CLOCK, decision="rejected", decided_at=recorded.at, reject_reason=event.reason)
        case m.Withdrawn() | m.Lapsed():
            return replace(row, **_NO_CLOCK)
        case m.DecisionReverted():
            again = {**_FRESH_CLOCK, **_UNDECIDED, **_running(event)}
            reverted = _unprotected(row, recorded.at, "reverted")
            return replace(reverted, **again, identity_version=recorded.version)
        case _:
            return row


def _with_protection(
    row: Lead, recorded: Recorded, event: m.Protection | m.ExtensionRequested | m.ProtectionExpiring
) -> Lead:
    if isinstance(event, m.ExtensionRequested):
        return replace(row, extension_requested_at=recorded.at)
    if isinstance(event, m.ProtectionExpiring):
        return replace(row, remind_at=[at for at in row.remind_at if at > event.remind_at])
    protected = replace(
        row,
        protected_from=event.protected_from,
        protected_until=event.protected_until,
        remind_at=list(event.remind_at),
        extensions=row.extensions + 1 if isinstance(event, m.ProtectionExtended) else 0,
        extension_requested_at=None,
        unprotected_at=None,
        unprotected_by=None,
    )
    match event:
        case m.Approved():
            return replace(protected, **_NO_CLOCK, decision="approved", decided_at=recorded.at, held_until=None)
        case m.Accepted():
            return replace(protected, **{**_IDLE, "contact_by": event.contact_by, "recall_at": event.recall_at})
        case _:
            return protected


def _without_protection(
    row: Lead, recorded: Recorded, event: m.ProtectionEnded | m.ProtectionExpired | m.ProtectionRevoked
) -> Lead:
    match event:
        case m.ProtectionEnded():
            return _unprotected(row, recorded.at, event.outcome)
        case m.ProtectionExpired():
            left = _unprotected(row, event.expired_at, "expired")
        case m.ProtectionRevoked():
            left = _unprotected(row, recorded.at, "revoked")
    return replace(left, **_UNASSIGNED) if event.status == "qualified" else left


def _unprotected(row: Lead, at: datetime, by: str) -> Lead:
    if row.protected_until is None:
        return row
    return replace(
        row,
        protected_from=None,
        protected_until=None,
        remind_at=[],
        extension_requested_at=None,
        unprotected_at=at,
        unprotected_by=by,
    )


def _with_work(row: Lead, recorded: Recorded, event: Event) -> Lead:
    match event:
        case m.Qualified():
            return replace(row, score=event.score)
        case m.Offered():
            return replace(row, partner_id=event.partner_id, respond_by=event.respond_by, owner=None)
        case m.Declined() | m.OfferExpired():
            return replace(row, **_UNASSIGNED)
        case m.Recalled():
            return replace(_unprotected(row, recorded.at, "recalled"), **_UNASSIGNED)
        case m.Disqualified():
            left = _unprotected(row, recorded.at, "disqualified")
            return replace(left, **_IDLE, disqualify_reason=event.reason)
        case m.ContactOverdue():
            return replace(row, contact_by=None, contact_overdue_at=event.contact_by)
        case m.Contacted():
            return replace(row, contact_by=None, contact_overdue_at=None, recall_at=event.recall_at)
        case m.WorkStarted():
            return replace(row, recall_at=event.recall_at)
        case m.ActivityLogged():
            return replace(row, recall_at=event.recall_at or row.recall_at)
        case _:
            return row


# Offers


def _offers(offers: tuple[Offer, ...], before: Lead, recorded: Recorded, event: Event) -> tuple[Offer, ...]:
    match event:
        case m.Offered():
            return (*offers, _offer(offers, recorded, event.partner_id, event.respond_by, event.strategy))
        case m.Opened():
            return _with_last(offers, opened_at=recorded.at)
        case m.Accepted():
            return _with_last(offers, answer="accepted", answered_at=event.accepted_at)
        case m.Declined():
            return _with_last(offers, answer="declined", answered_at=recorded.at, reason=event.reason)
        case m.OfferExpired():
            return _with_last(offers, answer="expired", answered_at=event.expired_at)
        case m.Recalled():
            return _with_last(offers, answer="recalled", answered_at=recorded.at)
        case m.Transferred() if before.respond_by is not None:
            left = _with_last(offers, answer="transferred", answered_at=recorded.at)
            return (*left, _offer(offers, recorded, event.partner_id, before.respond_by, None))
        case _:
            return offers


def _offer(
    offers: tuple[Offer, ...], recorded: Recorded, partner_id: UUID, respond_by: datetime, strategy: str | None
) -> Offer:
    return Offer(
        lead_id=recorded.subject,
        number=len(offers) + 1,
        partner_id=partner_id,
        strategy=strategy,
        offered_at=recorded.at,
        respond_by=respond_by,
        opened_at=None,
        answered_at=None,
        answer="open",
        reason=None,
        country=None,
        product_lines=[],
        amount=None,
        currency=None,
    )


def _described(offers: tuple[Offer, ...], lead: Lead) -> tuple[Offer, ...]:
    """Give the offers with the open one as its lead is now; who had an earlier one learns nothing new."""
    return _with_last(offers, **{name: getattr(lead, name) for name in _KNOWN_UNOPENED})


_KNOWN_UNOPENED: Final = ("country", "product_lines", "amount", "currency")


def _with_last(offers: tuple[Offer, ...], **values: Any) -> tuple[Offer, ...]:  # noqa: ANN401
    """Give the offers with the last one changed, if it is open; one that was answered stays as it is."""
    if not offers or offers[-1].answer != "open":
        return offers
    return (*offers[:-1], replace(offers[-1], **values))


# Matches


def _matches(matches: tuple[LeadMatch, ...], lead: Lead, recorded: Recorded, event: Event) -> tuple[LeadMatch, ...]:
    known = {one.other_lead_id: one for one in matches}
    match event:
        case m.Screened():
            decided = {other: _not_found(one) for other, one in known.items() if one.outcome}
            for found in event.matches:
                decided[found.lead_id] = _found(decided.get(found.lead_id) or _unknown(lead, found.lead_id), found)
            known = decided
        case m.MatchResolved():
            one = known.get(event.other_lead) or _unknown(lead, event.other_lead)
            known[event.other_lead] = replace(one, outcome=event.outcome, resolved_at=recorded.at)
        case m.Resubmitted() | m.Corrected() if _changes_identity(event):
            known = {o: replace(one, outcome=None, resolved_at=None) for o, one in known.items() if one.strength}
        case _:
            pass
    return tuple(replace(known[other], partner_id=lead.partner_id) for other in sorted(known))


def _unknown(lead: Lead, other: UUID) -> LeadMatch:
    return LeadMatch(
        lead_id=lead.lead_id,
        other_lead_id=other,
        partner_id=lead.partner_id,
        strength=None,
        matched_keys=[],
        sentence=None,
        other_first=None,
        outcome=None,
        resolved_at=None,
    )


def _not_found(one: LeadMatch) -> LeadMatch:
    return replace(one, strength=None, matched_keys=[], sentence=None, other_first=None)


def _found(one: LeadMatch, found: m.Match) -> LeadMatch:
    """Give the match with what was found; a lead that a screening names twice is matched by the stronger."""
    return replace(
        one,
        strength="hard" if "hard" in (one.strength, found.strength) else found.strength,
        matched_keys=sorted({*one.matched_keys, *found.matched_keys}),
        sentence=one.sentence or found.sentence,
        other_first=bool(one.other_first) or found.other_first,
    )


# Who the customer is, a partner to whom a lead is offered is told once it has opened the offer.
_SEEN: Final = (
    f"{OWN} AND (status <> 'offered' OR EXISTS (SELECT FROM {{model}}.offer o"
    " WHERE o.lead_id = lead.lead_id AND o.answer = 'open' AND o.opened_at IS NOT NULL))"
)

MODEL = ReadModel(
    name="leads",
    version=7,
    aggregates=("partner", "lead"),
    tables=(
        Table(Lead, ("lead_id",), sealed=("customer",), seen=_SEEN),
        Table(Offer, ("lead_id", "number")),
        Table(LeadMatch, ("lead_id", "other_lead_id"), seen=NONE_OF_IT),
        partners.TABLE,
    ),
    fold=fold,
    shared_sql=(partners.SQL,),
    views=("leads", "registrations", "protected_customers", "offers"),
    personal_seen="EXISTS (SELECT FROM {model}.lead l WHERE l.lead_id = personal.aggregate_id)",
)
