"""Read model performance: what each partner's leads, offers, deals and acts say about its work, and its goals.

What happened counts for the partner that had the lead or the deal then: a registration for the one that registered, a
decision for the one that was decided upon, a conversion for the one that converted. A transfer moves what comes after
it. What is taken back, a decision by its revert or a closing by its reopening, counts no more.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from prm_es.aggregates import lead_messages as m
from prm_es.aggregates import opportunity as o
from prm_es.aggregates import partner as p
from prm_es.aggregates.base import Event
from prm_es.aggregates.fields import Money
from prm_es.frozen import replace
from prm_es.messages import PARTNER_ROLES, Recorded, Role
from prm_es.projections import partners
from prm_es.projections.base import OWN, ReadModel, Row, Rows, Sums, Table
from prm_es.projections.partners import fold_partner
from prm_es.projections.pipeline import TOUCHES

SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True)
class Lead:
    """One lead as it stands, with what counts of its life.

    `waited_seconds` is how long it waited for a decision, without the time in which the partner was asked for
    information and without that between a decision and its revert; `waits_since` is set while that runs.
    `sla_due_at` is null once it was missed.
    """

    lead_id: UUID
    origin: str
    status: str
    partner_id: UUID | None
    protected: bool
    amount: Decimal | None
    currency: str | None
    product_lines: list[str]
    registered_for: UUID | None
    registered_at: datetime | None
    waits_since: datetime | None
    waited_seconds: int
    sla_due_at: datetime | None
    decided_for: UUID | None
    decided_at: datetime | None
    decision: str | None
    reason: str | None
    within_sla: bool | None
    expired_at: datetime | None
    converted_for: UUID | None
    converted_at: datetime | None
    opportunity_id: UUID | None


@dataclass(frozen=True)
class Offer:
    """One offer of a captured lead; `answer` is accepted, declined, expired, recalled or transferred."""

    lead_id: UUID
    number: int
    partner_id: UUID
    offered_at: datetime
    answer: str | None
    answered_at: datetime | None
    currency: str | None


@dataclass(frozen=True)
class Deal:
    """One opportunity. `attached` are its partners; `opened_at` is null if its import did not know it."""

    opportunity_id: UUID
    partner_id: UUID
    attached: list[str]
    lead_id: UUID | None
    opened_at: datetime | None
    engaged_at: datetime | None
    status: str
    probability: int
    amount: Decimal | None
    currency: str | None
    product_lines: list[str]
    customer_keys: list[str]
    expected_close_on: date | None
    next_action_due_on: date | None
    touched_at: datetime
    closed_on: date | None
    closed_position: int | None


@dataclass(frozen=True)
class WonCustomer:
    """A customer key of a deal that is won; `position` is that of the winning, for those of one day."""

    opportunity_id: UUID
    customer_key: str
    won_on: date
    position: int


@dataclass(frozen=True)
class Act:
    """When a partner last did something itself in a lead, an opportunity or its own affairs."""

    aggregate_id: UUID
    partner_id: UUID
    last_at: datetime


@dataclass(frozen=True)
class Activity:
    """How many activities a partner logged in a lead or an opportunity for a day; in its currency, as it is now."""

    aggregate_id: UUID
    partner_id: UUID
    happened_on: date
    activities: int
    currency: str | None


@dataclass(frozen=True)
class Goal:
    """One goal of a partner, active or withdrawn; `distribution` holds the percent of each month, or nothing."""

    partner_id: UUID
    goal_id: UUID
    metric: str
    period: str
    first_on: date
    last_on: date
    product_line: str | None
    target: Decimal
    currency: str | None
    distribution: list[Decimal]
    owner: str | None
    status: str


def fold(rows: Rows, recorded: Recorded, event: Event) -> Rows:
    """Give the aggregate's rows after the event."""
    match recorded.aggregate:
        case "partner":
            after = {**fold_partner(rows, recorded, event), "goal": _goals(rows["goal"], recorded.subject, event)}
            return _with_acts(after, recorded, event, recorded.subject, ())
        case "lead":
            return _fold_lead(rows, recorded, event)
        case "opportunity":
            return _fold_deal(rows, recorded, event)
        case _:
            return rows


# Acts

# What is the partner's own work, when an import tells it: an import does not say which side did it.
_WORK: Final = (
    m.Registered,
    m.Resubmitted,
    m.Withdrawn,
    m.ExtensionRequested,
    m.Converted,
    m.Opened,
    m.Accepted,
    m.Declined,
    m.Contacted,
    m.WorkStarted,
    m.ActivityLogged,
    m.Commented,
    o.Opened,
    o.StageChanged,
    o.DetailsChanged,
    o.AmountChanged,
    o.CloseDateChanged,
    o.NextActionSet,
    o.NextActionCompleted,
    o.ActivityLogged,
    o.Commented,
    o.HelpRequested,
    o.Won,
    o.Lost,
)


def _with_acts(rows: Rows, recorded: Recorded, event: Event, holder: UUID | None, attached: Iterable[str]) -> Rows:
    """Note who did it, if it was a partner's side: the attached organisation that spoke, else whose it is."""
    actor = recorded.actor
    own = actor.role in PARTNER_ROLES
    if not own and not (actor.role is Role.INTEGRATION and isinstance(event, _WORK)):
        return rows
    partner_id = UUID(actor.org) if own and actor.org in attached else holder
    if partner_id is None:
        return rows
    at = recorded.at
    if isinstance(event, m.ActivityLogged | o.ActivityLogged):
        at = event.happened_at or recorded.at
        rows = {**rows, "activity": _counted(rows["activity"], recorded.subject, partner_id, event.happened_on)}
    known = {act.partner_id: act for act in rows["act"]}
    last = max(at, known[partner_id].last_at) if partner_id in known else at
    known[partner_id] = Act(recorded.subject, partner_id, last)
    return {**rows, "act": tuple(known[one] for one in sorted(known))}


def _counted(counts: tuple[Row, ...], subject: UUID, partner_id: UUID, day: date) -> tuple[Row, ...]:
    known = {(one.partner_id, one.happened_on): one.activities for one in counts}
    known[partner_id, day] = known.get((partner_id, day), 0) + 1
    return tuple(Activity(subject, *key, known[key], None) for key in sorted(known))


# Goals


def _goals(goals: tuple[Row, ...], partner_id: UUID, event: Event) -> tuple[Row, ...]:
    known = {goal.goal_id: goal for goal in goals}
    match event:
        case p.GoalSet():
            known[event.goal_id] = _goal(partner_id, event)
        case p.GoalWithdrawn():
            known[event.goal_id] = replace(known[event.goal_id], status="withdrawn")
        case _:
            return goals
    return tuple(known[one] for one in sorted(known))


def _goal(partner_id: UUID, event: p.GoalSet) -> Goal:
    first, last = days_of(event.period)
    return Goal(
        partner_id=partner_id,
        goal_id=event.goal_id,
        metric=event.metric,
        period=event.period,
        first_on=first,
        last_on=last,
        product_line=event.product_line,
        target=event.target,
        currency=event.currency,
        distribution=list(event.distribution),
        owner=event.owner,
        status="active",
    )


def days_of(period: str) -> tuple[date, date]:
    """Give first and last day of a goal's period: 2026, 2026-Q1 or 2026-03."""
    year, _, part = period.partition("-")
    if part.startswith("Q"):
        month, months = 3 * int(part[1:]) - 2, 3
    elif part:
        month, months = int(part), 1
    else:
        month, months = 1, 12
    end = int(year) * 12 + month - 1 + months
    return date(int(year), month, 1), date(end // 12, end % 12 + 1, 1) - timedelta(days=1)


# Leads

_STATUS: Final[Mapping[type[Event], str]] = {
    m.Registered: "submitted",
    m.ReviewStarted: "in_review",
    m.InformationRequested: "action_required",
    m.Resubmitted: "submitted",
    m.Approved: "approved",
    m.Rejected: "rejected",
    m.Withdrawn: "withdrawn",
    m.Lapsed: "lapsed",
    m.DecisionReverted: "in_review",
    m.Captured: "new",
    m.Qualified: "qualified",
    m.Offered: "offered",
    m.Accepted: "accepted",
    m.Declined: "qualified",
    m.OfferExpired: "qualified",
    m.Recalled: "qualified",
    m.Contacted: "contacted",
    m.WorkStarted: "working",
    m.Disqualified: "disqualified",
    m.Converted: "converted",
}


def _fold_lead(rows: Rows, recorded: Recorded, event: Event) -> Rows:
    if isinstance(event, m.Registered | m.Captured):
        before, after = None, _came_in(recorded, event)
    else:
        (before,) = rows["lead"]
        after = _lead_after(before, recorded, event)
        after = replace(after, status=_STATUS.get(type(event), after.status))
    offers = _in(after.currency, _offers(rows["offer"], recorded, event))
    holder = before.partner_id if before else after.partner_id
    changed = _with_acts({**rows, "lead": (after,), "offer": offers}, recorded, event, holder, ())
    return {**changed, "activity": _in(after.currency, changed["activity"])}


def _came_in(recorded: Recorded, event: m.Registered | m.Captured) -> Lead:
    registered = isinstance(event, m.Registered)
    return Lead(
        lead_id=recorded.subject,
        origin="registered" if registered else "captured",
        status=_STATUS[type(event)],
        partner_id=event.partner_id if isinstance(event, m.Registered) else None,
        protected=False,
        **_money(event.amount),
        product_lines=list(event.product_lines),
        registered_for=event.partner_id if isinstance(event, m.Registered) else None,
        registered_at=recorded.at if registered else None,
        waits_since=recorded.at if registered else None,
        waited_seconds=0,
        sla_due_at=event.sla_due_at if isinstance(event, m.Registered) else None,
        decided_for=None,
        decided_at=None,
        decision=None,
        reason=None,
        within_sla=None,
        expired_at=None,
        converted_for=None,
        converted_at=None,
        opportunity_id=None,
    )


def _money(amount: Money | None) -> dict[str, Any]:
    return {"amount": amount.amount if amount else None, "currency": amount.currency if amount else None}


def _lead_after(row: Lead, recorded: Recorded, event: Event) -> Lead:
    match event:
        case m.InformationRequested() | m.Resubmitted() | m.SlaBreached() | m.DecisionReverted():
            return _with_clock(row, recorded, event)
        case m.Approved() | m.Rejected():
            return _decided(row, recorded, event)
        case m.Withdrawn() | m.Lapsed():
            return _stopped(row, recorded.at)
        case m.Corrected():
            return _with_changes(row, event)
        case m.Converted():
            return replace(
                row, converted_for=row.partner_id, converted_at=recorded.at, opportunity_id=event.opportunity_id
            )
        case _:
            return _held(row, event)


def _with_clock(
    row: Lead, recorded: Recorded, event: m.InformationRequested | m.Resubmitted | m.SlaBreached | m.DecisionReverted
) -> Lead:
    match event:
        case m.InformationRequested():
            late = row.sla_due_at is None or recorded.at > row.sla_due_at
            return replace(_stopped(row, recorded.at), sla_due_at=None if late else row.sla_due_at)
        case m.Resubmitted():
            return replace(_with_changes(row, event), waits_since=recorded.at, sla_due_at=event.sla_due_at)
        case m.SlaBreached():
            return replace(row, sla_due_at=None)
        case m.DecisionReverted():
            undecided: dict[str, Any] = dict.fromkeys(("decided_for", "decided_at", "decision", "reason", "within_sla"))
            clock: dict[str, Any] = {"waits_since": recorded.at, "sla_due_at": event.sla_due_at}
            return replace(row, **undecided, **clock, protected=False)


def _stopped(row: Lead, at: datetime) -> Lead:
    if row.waits_since is None:
        return row
    return replace(row, waits_since=None, waited_seconds=row.waited_seconds + (at - row.waits_since) // SECOND)


def _decided(row: Lead, recorded: Recorded, event: m.Approved | m.Rejected) -> Lead:
    """Take the decision; while the partner is asked for information, its time stands still."""
    in_time = row.sla_due_at is not None and (row.waits_since is None or recorded.at <= row.sla_due_at)
    approved = isinstance(event, m.Approved)
    return replace(
        _stopped(row, recorded.at),
        protected=approved,
        decided_for=row.partner_id,
        decided_at=recorded.at,
        decision="approved" if approved else "rejected",
        reason=event.reason if isinstance(event, m.Rejected) else None,
        within_sla=in_time,
    )


def _with_changes(row: Lead, event: m.Resubmitted | m.Corrected) -> Lead:
    if "amount" in event.changed:
        row = replace(row, **_money(event.amount))
    if "product_lines" in event.changed:
        row = replace(row, product_lines=list(event.product_lines))
    return row


def _held(row: Lead, event: Event) -> Lead:
    """Say who has the lead now, and whether it is protected."""
    match event:
        case m.Offered() | m.Transferred():
            return replace(row, partner_id=event.partner_id)
        case m.Accepted():
            return replace(row, protected=True)
        case m.Declined() | m.OfferExpired() | m.Recalled():
            return replace(row, partner_id=None, protected=False)
        case m.ProtectionEnded() | m.Disqualified():
            return replace(row, protected=False)
        case m.ProtectionExpired() | m.ProtectionRevoked():
            unassigned = event.status == "qualified"
            row = replace(row, status=event.status, protected=False, partner_id=None if unassigned else row.partner_id)
            if isinstance(event, m.ProtectionExpired) and event.status == "expired":
                return replace(row, expired_at=event.expired_at)
            return row
        case _:
            return row


def _offers(offers: tuple[Row, ...], recorded: Recorded, event: Event) -> tuple[Row, ...]:
    match event:
        case m.Offered():
            return (*offers, Offer(recorded.subject, len(offers) + 1, event.partner_id, recorded.at, None, None, None))
        case m.Transferred() if offers and offers[-1].answer is None:
            handed = Offer(recorded.subject, len(offers) + 1, event.partner_id, recorded.at, None, None, None)
            return (*_answered(offers, "transferred", recorded.at), handed)
        case m.Accepted():
            return _answered(offers, "accepted", event.accepted_at)
        case m.Declined():
            return _answered(offers, "declined", recorded.at)
        case m.OfferExpired():
            return _answered(offers, "expired", event.expired_at)
        case m.Recalled():
            return _answered(offers, "recalled", recorded.at)
        case _:
            return offers


def _in(currency: str | None, rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """Give the rows with the currency of their lead or deal: who had that sees them, not what another has now."""
    return tuple(one if one.currency == currency else replace(one, currency=currency) for one in rows)


def _answered(offers: tuple[Row, ...], answer: str, at: datetime) -> tuple[Row, ...]:
    """Answer the offer that stands; a lead that was accepted before and is recalled now stays accepted."""
    if not offers or offers[-1].answer is not None:
        return offers
    return (*offers[:-1], replace(offers[-1], answer=answer, answered_at=at))


# Deals


def _fold_deal(rows: Rows, recorded: Recorded, event: Event) -> Rows:
    if isinstance(event, o.Opened):
        before, after = None, _opened(recorded, event)
    else:
        (before,) = rows["deal"]
        after = _deal_after(before, recorded, event)
    if isinstance(event, TOUCHES):
        after = replace(after, touched_at=recorded.at)
    changed = {**rows, "deal": (after,), "won_customer": _won_customers(after)}
    known = before or after
    acted = _with_acts(changed, recorded, event, known.partner_id, known.attached)
    return {**acted, "activity": _in(after.currency, acted["activity"])}


def _opened(recorded: Recorded, event: o.Opened) -> Deal:
    return Deal(
        opportunity_id=recorded.subject,
        partner_id=event.partner_id,
        attached=[str(event.partner_id)],
        lead_id=event.lead_id,
        opened_at=None if "opened_at" in event.missing else recorded.at,
        engaged_at=recorded.at if event.stage != "prospect" else None,
        status=_status(event.stage),
        probability=event.probability,
        **_money(event.amount),
        product_lines=_lines(event.products),
        customer_keys=sorted(set(event.customer_keys)),
        expected_close_on=event.expected_close_on,
        next_action_due_on=event.next_action.due_on if event.next_action else None,
        touched_at=recorded.at,
        closed_on=None,
        closed_position=None,
    )


def _status(stage: str) -> str:
    return stage if stage in ("won", "lost") else "open"


def _lines(products: Iterable[o.Product]) -> list[str]:
    return list(dict.fromkeys(product.line for product in products))


def _deal_after(row: Deal, recorded: Recorded, event: Event) -> Deal:
    match event:
        case o.StageChanged() | o.Won() | o.Lost() | o.Reopened():
            return _staged(row, recorded, event)
        case o.PartnerAdded():
            return _attached(row, event.partner_id)
        case o.PartnerRemoved():
            return replace(row, attached=[one for one in row.attached if one != str(event.partner_id)])
        case o.PartnerOfRecordChanged():
            return replace(_attached(row, event.partner_id), partner_id=event.partner_id)
        case _:
            return _detailed(row, event)


def _staged(row: Deal, recorded: Recorded, event: o.StageChanged | o.Won | o.Lost | o.Reopened) -> Deal:
    engaged = row.engaged_at or (recorded.at if event.stage not in ("prospect", "lost") else None)
    row = replace(row, status=_status(event.stage), probability=event.probability, engaged_at=engaged)
    match event:
        case o.StageChanged():
            return replace(row, next_action_due_on=event.next_action.due_on) if event.next_action else row
        case o.Won() | o.Lost():
            row = replace(row, next_action_due_on=None, closed_on=event.closed_on, closed_position=recorded.position)
            return replace(row, **_money(event.amount)) if isinstance(event, o.Won) and event.amount else row
        case o.Reopened():
            return replace(row, closed_on=None, closed_position=None)


def _attached(row: Deal, partner_id: UUID) -> Deal:
    return replace(row, attached=sorted({*row.attached, str(partner_id)}))


def _detailed(row: Deal, event: Event) -> Deal:
    match event:
        case o.DetailsChanged():
            lines = _lines(event.products) if "products" in event.changed else row.product_lines
            keys = sorted(set(event.customer_keys)) if "customer" in event.changed else row.customer_keys
            return replace(row, product_lines=lines, customer_keys=keys)
        case o.AmountChanged():
            return replace(row, **_money(event.amount))
        case o.CloseDateChanged():
            return replace(row, expected_close_on=event.expected_close_on)
        case o.NextActionSet():
            return replace(row, next_action_due_on=event.due_on)
        case o.NextActionCompleted():
            return replace(row, next_action_due_on=None)
        case _:
            return row


def _won_customers(deal: Deal) -> tuple[WonCustomer, ...]:
    if deal.status != "won" or deal.closed_on is None or deal.closed_position is None:
        return ()
    return tuple(
        WonCustomer(deal.opportunity_id, key, deal.closed_on, deal.closed_position) for key in deal.customer_keys
    )


# Facts


def facts(rows: Rows) -> list[dict[str, object]]:
    """Give what an aggregate's rows count for in the months of partners: see performance.month.sql."""
    found: list[dict[str, object]] = []
    for lead in rows["lead"]:
        found += _facts_of_lead(lead)
    for offer in rows["offer"]:
        accepted = offer.answer == "accepted"
        which = {"number": offer.number, "at": offer.offered_at, "currency": offer.currency}
        found.append({"kind": "offer", "partner_id": offer.partner_id, "accepted": accepted, **which})
    for deal in rows["deal"]:
        found.append(_fact_of_deal(deal))
    for one in rows["activity"]:
        which = {"day": one.happened_on, "currency": one.currency}
        found.append({"kind": "activity", "partner_id": one.partner_id, "activities": one.activities, **which})
    for goal in rows["goal"]:
        found += _facts_of_goal(goal)
    return found


def _facts_of_lead(lead: Lead) -> Iterator[dict[str, object]]:
    money = {"currency": lead.currency, "amount": lead.amount}
    if lead.registered_for:
        yield {"kind": "registered", "partner_id": lead.registered_for, "at": lead.registered_at, **money}
    if lead.decided_for:
        became = {
            "in_time": lead.within_sla,
            "converted": lead.converted_at is not None,
            "expired": lead.expired_at is not None,
        }
        yield {"kind": lead.decision, "partner_id": lead.decided_for, "at": lead.decided_at, **became, **money}
    if lead.converted_for:
        yield {"kind": "converted", "partner_id": lead.converted_for, "at": lead.converted_at, **money}


def _fact_of_deal(deal: Deal) -> dict[str, object]:
    fact = {"kind": deal.status, "partner_id": deal.partner_id, "currency": deal.currency, "amount": deal.amount}
    if deal.closed_on is None:
        return {**fact, "day": deal.expected_close_on, "probability": deal.probability}
    return {**fact, "day": deal.closed_on, "engaged_at": deal.engaged_at}


_ENOUGH: Final = Decimal("1E-10")  # of a month's share: a third or a twelfth never ends


def _facts_of_goal(goal: Goal) -> Iterator[dict[str, object]]:
    """Give the share of each month in what a goal for the amount won of all product lines asks."""
    if goal.status != "active" or goal.metric != "won_amount" or goal.product_line is not None:
        return
    months = range(goal.first_on.month, goal.last_on.month + 1)
    for month in months:
        share = (
            goal.target * goal.distribution[month - 1] / 100
            if goal.distribution
            else (goal.target / len(months)).quantize(_ENOUGH)
        )
        which = {"goal_id": goal.goal_id, "day": date(goal.first_on.year, month, 1), "currency": goal.currency}
        yield {"kind": "goal", "partner_id": goal.partner_id, "amount": share, **which}


_HELD: Final = ("partner_id", "registered_for", "decided_for", "converted_for")
# What was registered, decided and converted counts for the partner that had the lead then.
_SEEN: Final = f"({' OR '.join(OWN.replace('partner_id', name) for name in _HELD)})"
_OF_DEAL: Final = "EXISTS (SELECT FROM {model}.deal d WHERE d.opportunity_id = won_customer.opportunity_id)"

MODEL = ReadModel(
    name="performance",
    version=8,
    aggregates=("partner", "lead", "opportunity"),
    tables=(
        Table(Lead, ("lead_id",), seen=_SEEN),
        Table(Offer, ("lead_id", "number")),
        Table(Deal, ("opportunity_id",)),
        Table(WonCustomer, ("opportunity_id", "customer_key"), seen=_OF_DEAL),
        Table(Act, ("aggregate_id", "partner_id")),
        Table(Activity, ("aggregate_id", "partner_id", "happened_on")),
        Table(Goal, ("partner_id", "goal_id")),
        partners.TABLE,
    ),
    fold=fold,
    shared_sql=(partners.SQL,),
    views=("partner_scorecard", "partner_performance", "goals"),
    sums=(Sums("month", ("partner_id", "month", "currency"), ("lead", "offer", "deal", "activity", "goal"), facts),),
)
