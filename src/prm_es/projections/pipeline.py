"""Read model pipeline: every opportunity as it stands, each stay in a stage, the partners and what each may sell."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

from prm_es.aggregates import opportunity as o
from prm_es.aggregates import partner as p
from prm_es.aggregates.base import Event
from prm_es.frozen import replace
from prm_es.messages import Recorded
from prm_es.partitions import partition_of
from prm_es.projections import partners
from prm_es.projections.base import NONE_OF_IT, ReadModel, Row, Rows, Sums, Table
from prm_es.projections.partners import fold_partner, without

_ORDER = ("prospect", "qualified", "technical_validation", "business_validation", "committed", "won")
_CLOSED = ("won", "lost")
_TO_CLOSE = ("lost_reason", "competitor", "final_amount", "order_reference", "closed_on")  # gaps of a closing


@dataclass(frozen=True)
class Opportunity:
    """One opportunity. `customer` and `next_action` may be tokens of personal data.

    Without activity or change of stage it stalls at `stalls_at`; it does since `stalled_at`.
    """

    opportunity_id: UUID
    external_id: str | None
    name: str | None
    partner_id: UUID
    lead_id: UUID | None
    customer: str | None
    product_lines: list[str]
    deal_type: str | None
    stage: str
    status: str
    probability: int
    category: str
    forecast_override: str | None
    amount: Decimal | None
    currency: str | None
    owner: str | None
    opened_at: datetime
    engaged_at: datetime | None
    expected_close_on: date | None
    closed_on: date | None
    lost_reason: str | None
    stage_entered_at: datetime
    touched_at: datetime
    stalls_at: datetime | None
    stalled_at: datetime | None
    next_action: str | None
    next_action_due_on: date | None
    next_action_owner: str | None
    data_gaps: list[str]
    updated_position: int


@dataclass(frozen=True)
class StageVisit:
    """One stay of an opportunity in a stage; `left_for` is forward, back, won or lost, null while it stays."""

    opportunity_id: UUID
    number: int
    stage: str
    entered_at: datetime
    left_at: datetime | None
    left_for: str | None


@dataclass(frozen=True)
class Authorisation:
    """A product line that a partner may sell, until a day or without end."""

    partner_id: UUID
    product_line: str
    valid_to: date | None


def fold(rows: Rows, recorded: Recorded, event: Event) -> Rows:
    """Give the aggregate's rows after the event."""
    if recorded.aggregate == "partner":
        return _authorised(fold_partner(rows, recorded, event), recorded.subject, event)
    if recorded.aggregate == "opportunity":
        return _fold_opportunity(rows, recorded, event)
    return rows


def _authorised(rows: Rows, partner_id: UUID, event: Event) -> Rows:
    held = {row.product_line: row for row in rows["authorisation"]}
    match event:
        case p.Imported():
            given = event.authorisations
            held = {one.product_line: Authorisation(partner_id, one.product_line, one.valid_to) for one in given}
        case p.AuthorisationGranted():
            held[event.product_line] = Authorisation(partner_id, event.product_line, event.valid_to)
        case p.AuthorisationRevoked():
            held.pop(event.product_line, None)
        case _:
            return rows
    return {**rows, "authorisation": tuple(held[line] for line in sorted(held))}


# Opportunities


def _fold_opportunity(rows: Rows, recorded: Recorded, event: Event) -> Rows:
    if isinstance(event, o.Opened):
        return {**rows, "opportunity": (_opened(recorded, event),), "stage_visit": _first_visits(recorded, event)}
    (row,) = rows["opportunity"]
    changed = _changed(row, recorded, event)
    visits = rows["stage_visit"]
    if isinstance(event, o.StageChanged | o.Won | o.Lost | o.Reopened):
        visits = _moved(visits, recorded, row.stage, event.stage)
    touched = recorded.at if isinstance(event, TOUCHES) else row.touched_at
    changed = replace(_stalled(changed, event), touched_at=touched, updated_position=recorded.position)
    return {**rows, "opportunity": (changed,), "stage_visit": visits}


TOUCHES = (
    o.StageChanged,
    o.ActivityLogged,
    o.Commented,
    o.HelpRequested,
    o.NextActionSet,
    o.NextActionCompleted,
    o.Won,
    o.Lost,
    o.Reopened,
)


def _stalled(row: Opportunity, event: Event) -> Opportunity:
    """Mark a stalled opportunity until it moves again; an activity that was only logged late moves nothing."""
    if isinstance(event, o.Stalled):
        return replace(row, stalled_at=event.stalled_at)
    if not isinstance(event, o.StageChanged | o.ActivityLogged | o.Reopened):
        return row
    moved = event.stalls_at is not None and (row.stalls_at is None or event.stalls_at > row.stalls_at)
    return replace(row, stalls_at=event.stalls_at, stalled_at=None) if moved else row


def _opened(recorded: Recorded, event: o.Opened) -> Opportunity:
    action = event.next_action
    return Opportunity(
        opportunity_id=recorded.subject,
        external_id=event.external_id,
        name=event.name,
        partner_id=event.partner_id,
        lead_id=event.lead_id,
        customer=event.customer.name if event.customer else None,
        product_lines=_lines(event.products),
        deal_type=event.deal_type,
        stage=event.stage,
        status=_status(event.stage),
        probability=event.probability,
        category=event.category,
        forecast_override=None,
        amount=event.amount.amount if event.amount else None,
        currency=event.amount.currency if event.amount else None,
        owner=event.owner,
        opened_at=recorded.at,
        engaged_at=recorded.at if event.stage != "prospect" else None,
        expected_close_on=event.expected_close_on,
        closed_on=None,
        lost_reason=None,
        stage_entered_at=recorded.at,
        touched_at=recorded.at,
        stalls_at=event.stalls_at,
        stalled_at=None,
        next_action=action.text if action else None,
        next_action_due_on=action.due_on if action else None,
        next_action_owner=action.owner if action else None,
        data_gaps=sorted(event.missing),
        updated_position=recorded.position,
    )


def _lines(products: Iterable[o.Product]) -> list[str]:
    return list(dict.fromkeys(product.line for product in products))


def _status(stage: str) -> str:
    return stage if stage in _CLOSED else "open"


def _changed(row: Opportunity, recorded: Recorded, event: Event) -> Opportunity:  # noqa: C901
    match event:
        case o.StageChanged():
            return _with_action(_entered(row, recorded, event, event.missing), event.next_action)
        case o.Won() | o.Lost():
            return _closed(row, recorded, event)
        case o.Reopened():
            reopened = _entered(row, recorded, event, ())
            return replace(reopened, closed_on=None, lost_reason=None, data_gaps=without(row.data_gaps, *_TO_CLOSE))
        case o.DetailsChanged():
            return _details(row, event)
        case o.AmountChanged():
            amount = event.amount
            gaps = without(row.data_gaps, "amount") if amount else row.data_gaps
            return replace(
                row,
                amount=amount.amount if amount else None,
                currency=amount.currency if amount else None,
                data_gaps=gaps,
            )
        case o.CloseDateChanged():
            gaps = without(row.data_gaps, "expected_close_on") if event.expected_close_on else row.data_gaps
            return replace(row, expected_close_on=event.expected_close_on, data_gaps=gaps)
        case o.NextActionSet():
            gaps = without(row.data_gaps, "next_action")
            return replace(
                row,
                next_action=event.text,
                next_action_due_on=event.due_on,
                next_action_owner=event.owner,
                data_gaps=gaps,
            )
        case o.NextActionCompleted():
            return replace(row, next_action=None, next_action_due_on=None, next_action_owner=None)
        case o.ForecastOverridden():
            return replace(row, forecast_override=event.category)
        case o.OwnerAssigned():
            return replace(row, owner=event.owner)
        case o.PartnerOfRecordChanged():
            return replace(row, partner_id=event.partner_id)
        case _:
            return row


def _entered(
    row: Opportunity, recorded: Recorded, event: o.StageChanged | o.Won | o.Lost | o.Reopened, missing: Iterable[str]
) -> Opportunity:
    engaged = row.engaged_at or (recorded.at if event.stage not in ("prospect", "lost") else None)
    return replace(
        row,
        stage=event.stage,
        status=_status(event.stage),
        probability=event.probability,
        category=event.category,
        engaged_at=engaged,
        stage_entered_at=recorded.at,
        data_gaps=sorted({*row.data_gaps, *missing}),
    )


def _with_action(row: Opportunity, action: o.NextAction | None) -> Opportunity:
    if action is None:
        return row
    return replace(
        row,
        next_action=action.text,
        next_action_due_on=action.due_on,
        next_action_owner=action.owner,
        data_gaps=without(row.data_gaps, "next_action"),
    )


_CLOSING_GAPS = {"reason": "lost_reason", "final_amount": "amount"}


def _closed(row: Opportunity, recorded: Recorded, event: o.Won | o.Lost) -> Opportunity:
    """Close a deal: it has no next action, and what was only needed to close it is no gap any more."""
    entered = _entered(row, recorded, event, ())
    missing = {_CLOSING_GAPS.get(name, name) for name in event.missing}
    gaps = sorted({*without(row.data_gaps, "next_action", "expected_close_on"), *missing})
    closed = replace(
        entered,
        closed_on=event.closed_on,
        next_action=None,
        next_action_due_on=None,
        next_action_owner=None,
        forecast_override=None,
        data_gaps=gaps,
    )
    missing = {"lost_reason" if name == "reason" else name for name in event.missing}
    if isinstance(event, o.Lost):
        unknown = {"lost_reason"} if event.reason == "not_given" else set()
        return replace(closed, lost_reason=event.reason, data_gaps=sorted({*gaps, *missing, *unknown}))
    amount = event.amount
    return replace(
        closed,
        amount=amount.amount if amount else row.amount,
        currency=amount.currency if amount else row.currency,
        data_gaps=sorted({*without(gaps, *(("amount",) if amount else ())), *missing}),
    )


def _details(row: Opportunity, event: o.DetailsChanged) -> Opportunity:
    changed = set(event.changed)
    return replace(
        row,
        name=event.name if "name" in changed else row.name,
        external_id=event.external_id if "external_id" in changed else row.external_id,
        customer=(event.customer.name if event.customer else None) if "customer" in changed else row.customer,
        product_lines=_lines(event.products) if "products" in changed else row.product_lines,
        deal_type=event.deal_type if "deal_type" in changed else row.deal_type,
        data_gaps=without(row.data_gaps, *(name for name in changed if getattr(event, name, None))),
    )


def _first_visits(recorded: Recorded, event: o.Opened) -> tuple[StageVisit, ...]:
    return (StageVisit(recorded.subject, 1, event.stage, recorded.at, None, None),)


def _moved(visits: tuple[Row, ...], recorded: Recorded, before: str, after: str) -> tuple[Row, ...]:
    *earlier, last = visits
    left = replace(last, left_at=recorded.at, left_for=_direction(before, after))
    entered = StageVisit(recorded.subject, last.number + 1, after, recorded.at, None, None)
    return (*earlier, left, entered)


def _direction(before: str, after: str) -> str:
    if after in _CLOSED:
        return after
    if before in _CLOSED:
        return "back"
    return "forward" if _ORDER.index(after) > _ORDER.index(before) else "back"


def stays(rows: Rows) -> list[dict[str, object]]:
    """Give what an opportunity's stays in stages count for in the funnel, by length in whole days once they ended.

    With the partition of its events, so that each sum has one writer.
    """
    counted = Counter(
        (visit.stage, visit.left_for or "", (visit.left_at - visit.entered_at).days if visit.left_at else 0)
        for visit in rows["stage_visit"]
    )
    if not counted:
        return []
    partition = partition_of(rows["stage_visit"][0].opportunity_id)
    return [
        {"partition": partition, "stage": stage, "left_for": left_for, "days": days, "stays": number}
        for (stage, left_for, days), number in counted.items()
    ]


_OF_OPPORTUNITY: Final = "EXISTS (SELECT FROM {{model}}.opportunity o WHERE o.opportunity_id = {})"

MODEL = ReadModel(
    name="pipeline",
    version=8,
    aggregates=("partner", "opportunity"),
    tables=(
        Table(Opportunity, ("opportunity_id",), sealed=("customer", "next_action")),
        Table(StageVisit, ("opportunity_id", "number"), seen=_OF_OPPORTUNITY.format("stage_visit.opportunity_id")),
        Table(Authorisation, ("partner_id", "product_line")),
        partners.TABLE,
    ),
    fold=fold,
    shared_sql=(partners.SQL,),
    views=("funnel", "pipeline", "opportunities", "partners"),
    sums=(Sums("stay", ("partition", "stage", "left_for", "days"), ("stage_visit",), stays, seen=NONE_OF_IT),),
    personal_seen=_OF_OPPORTUNITY.format("personal.aggregate_id"),
)
