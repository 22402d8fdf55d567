"""Read model deadlines: what is due when, and whose it is. The kind of a deadline is the command that is due then.

A deadline stands from the event that sets it to the event that moves or ends it, as the aggregates evolve.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from prm_es.aggregates import lead_messages as lead
from prm_es.aggregates import opportunity
from prm_es.aggregates.base import Event
from prm_es.frozen import replace
from prm_es.messages import Recorded
from prm_es.projections import partners
from prm_es.projections.base import Rows, Table
from prm_es.projections.ordered import OrderedModel
from prm_es.projections.partners import fold_partner

WARN, BREACH, LAPSE = "lead.warn_sla", "lead.breach_sla", "lead.lapse"
EXPIRE, REMIND = "lead.expire", "lead.remind_protection"
EXPIRE_OFFER, CONTACT, RECALL = "lead.expire_offer", "lead.remind_contact", "lead.recall"
STALL: Final = "opportunity.mark_stalled"
WARNINGS: Final = frozenset({WARN, BREACH, REMIND, CONTACT})  # nobody is told of what was over when it came in
_REVIEW: Final = (WARN, BREACH, LAPSE)
_ALL: Final = (*_REVIEW, EXPIRE, REMIND, EXPIRE_OFFER, CONTACT, RECALL)


@dataclass(frozen=True)
class Holder:
    """Whose lead or opportunity it is, and whether the opportunity is closed."""

    aggregate_id: UUID
    partner_id: UUID | None
    closed: bool


@dataclass(frozen=True)
class Deadline:
    """One thing that is due.

    `late` says that it was over when it was set, which is so with imports of the past. `done` marks a stall that was
    noted: an older activity that is logged later does not bring it back.
    """

    aggregate_id: UUID
    kind: str
    due_at: datetime
    set_position: int
    late: bool
    done: bool


def fold(rows: Rows, recorded: Recorded, event: Event) -> Rows:
    """Give the aggregate's rows after the event."""
    match recorded.aggregate:
        case "partner":
            return fold_partner(rows, recorded, event)
        case "lead":
            deadlines = _lead(rows["deadline"], recorded, event)
        case "opportunity":
            deadlines = _opportunity(rows["deadline"], recorded, event)
        case _:
            return rows
    ordered = tuple(sorted(deadlines, key=lambda one: (one.kind, one.due_at)))
    return {**rows, "holder": _holder(rows, recorded, event), "deadline": ordered}


def _holder(rows: Rows, recorded: Recorded, event: Event) -> tuple[Holder, ...]:
    held: Holder = rows["holder"][0] if rows["holder"] else Holder(recorded.subject, None, closed=False)
    match event:
        case lead.Registered() | lead.Offered() | lead.Transferred() | opportunity.PartnerOfRecordChanged():
            return (replace(held, partner_id=event.partner_id),)
        case opportunity.Opened():
            return (replace(held, partner_id=event.partner_id, closed=event.stage in ("won", "lost")),)
        case opportunity.Won() | opportunity.Lost():
            return (replace(held, closed=True),)
        case opportunity.Reopened():
            return (replace(held, closed=False),)
        case lead.Declined() | lead.OfferExpired() | lead.Recalled():
            return (replace(held, partner_id=None),)
        case lead.ProtectionExpired() | lead.ProtectionRevoked() if event.status == "qualified":
            return (replace(held, partner_id=None),)
        case _:
            return (held,)


# Leads

_Set = dict[str, Iterable[datetime | None]]


def _lead(rows: tuple[Deadline, ...], recorded: Recorded, event: Event) -> Iterable[Deadline]:
    if isinstance(event, lead.ProtectionExpiring):
        return [one for one in rows if one.kind != REMIND or one.due_at > event.remind_at]
    ended, times = _ended(event), _times(event)
    kept = [one for one in rows if one.kind not in (*ended, *times)]
    return kept + [
        _deadline(recorded, kind, at)
        for kind, due in times.items()
        for at in due
        if at is not None and not (kind in WARNINGS and at <= recorded.recorded_at)
    ]


def _deadline(recorded: Recorded, kind: str, at: datetime) -> Deadline:
    return Deadline(recorded.subject, kind, at, recorded.position, late=at <= recorded.recorded_at, done=False)


def _ended(event: Event) -> tuple[str, ...]:
    match event:
        case lead.SlaWarned():
            return (WARN,)
        case lead.SlaBreached():
            return (WARN, BREACH)
        case lead.InformationRequested() | lead.Resubmitted() | lead.Approved():
            return _REVIEW
        case lead.Accepted():
            return (EXPIRE_OFFER,)
        case lead.Contacted() | lead.ContactOverdue():
            return (CONTACT,)
        case lead.Converted():
            return (EXPIRE_OFFER, CONTACT, RECALL)
        case lead.ProtectionEnded():
            return (EXPIRE, REMIND)
        case _:
            return _ALL if isinstance(event, _ENDS) else ()


_ENDS: Final = (
    lead.Rejected,
    lead.Withdrawn,
    lead.Lapsed,
    lead.DecisionReverted,
    lead.Declined,
    lead.OfferExpired,
    lead.Recalled,
    lead.Disqualified,
    lead.ProtectionExpired,
    lead.ProtectionRevoked,
)


def _times(event: Event) -> _Set:
    match event:
        case lead.Clock():
            return {WARN: (event.sla_warn_at,), BREACH: (event.sla_due_at,)}
        case lead.InformationRequested():
            return {LAPSE: (event.lapse_at,)}
        case lead.Accepted():
            return {**_protection(event), CONTACT: (event.contact_by,), RECALL: (event.recall_at,)}
        case lead.Protection():
            return _protection(event)
        case lead.Offered():
            return {EXPIRE_OFFER: (event.respond_by,)}
        case lead.Contacted() | lead.WorkStarted():
            return {RECALL: (event.recall_at,)}
        case lead.ActivityLogged() if event.recall_at:
            return {RECALL: (event.recall_at,)}
        case _:
            return {}


def _protection(event: lead.Protection) -> _Set:
    return {EXPIRE: (event.protected_until,), REMIND: event.remind_at}


# Opportunities


def _opportunity(rows: tuple[Deadline, ...], recorded: Recorded, event: Event) -> Iterable[Deadline]:
    match event:
        case opportunity.Stalled():
            return [replace(one, done=True) for one in rows]
        case opportunity.Opened() | opportunity.StageChanged() | opportunity.ActivityLogged() | opportunity.Reopened():
            known = max((one.due_at for one in rows), default=None)
            if event.stalls_at is None or (known is not None and event.stalls_at <= known):
                return rows
            return [_deadline(recorded, STALL, event.stalls_at)]
        case _:
            return rows


_SEEN: Final = "EXISTS (SELECT FROM {model}.holder h WHERE h.aggregate_id = deadline.aggregate_id)"

MODEL = OrderedModel(
    name="deadlines",
    version=2,
    aggregates=("partner", "lead", "opportunity"),
    tables=(
        Table(Holder, ("aggregate_id",)),
        Table(Deadline, ("aggregate_id", "kind", "due_at"), seen=_SEEN),
        partners.TABLE,
    ),
    fold=fold,
    views=("deadlines",),
    shared_sql=(partners.SQL,),
)
