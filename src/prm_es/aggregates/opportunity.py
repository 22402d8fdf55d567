"""A deal in the making, worked by a partner, until it is won or lost.

Exactly one attached partner is the partner of record. Credit of a type adds up to 100.00 among attached partners.
A stage is entered with the fields that it and every stage skipped need; going back needs a reason.
Opening and each step forward name the next action and when it is due.
Probability and forecast category are snapshots at stage entry; an override stands beside them.
Won and lost are closed; the channel manager may reopen within the policy's time, to the last open stage.
Closed, it ends the protection of the lead that it came from.
Without activity or change of stage for the policy's time it is stalled, until the next.
A seller changes only what it owns or opened.
An import may open in any stage, closed ones too, and leave out what others must give: the event names it in `missing`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from functools import reduce
from typing import Annotated, Any, ClassVar, Final, Literal
from uuid import UUID

from pydantic import Field

from prm_es.aggregates.base import (
    NONE,
    Aggregate,
    Command,
    Decision,
    Event,
    Facts,
    FieldError,
    FollowUp,
    Needs,
    Refused,
    acting_partner,
    activity_time,
    check_due,
    check_partner,
    check_product_lines,
    check_state,
    check_visibility,
    invalid,
    on_behalf,
    required,
)
from prm_es.aggregates.fields import (
    BusinessProblem,
    Contact,
    Customer,
    Day,
    Exact,
    FreeText,
    GivenContact,
    GivenCustomer,
    GivenMoney,
    Moment,
    Money,
    Reference,
    SealedText,
    Stored,
    Text,
    customer_keys,
    optional,
)
from prm_es.frozen import replace
from prm_es.messages import PARTNER_ROLES, Actor, Role, utc_text

FULL: Final = 100

# Values

OpenStage = Literal["prospect", "qualified", "technical_validation", "business_validation", "committed"]
Stage = Literal["prospect", "qualified", "technical_validation", "business_validation", "committed", "won", "lost"]
DealType = Literal["new", "expansion", "renewal"]
PartnerRole = Literal["sourcing", "selling", "distributor", "influencing", "implementation", "referral"]
CreditType = Literal["sourcing", "revenue"]
Category = Literal["pipeline", "best_case", "commit", "omitted"]
Visibility = Literal["shared", "internal"]
ActivityKind = Literal["call", "email", "meeting", "visit", "demonstration", "proposal", "message", "other"]
HelpTopic = Literal["technical", "commercial", "legal", "executive", "other"]
LostReason = Literal[
    "competitor",
    "price",
    "no_decision",
    "budget_lost",
    "delayed",
    "no_need",
    "technical_fit",
    "security_or_compliance",
    "legal_or_tax",
    "partner_capability",
    "relationship",
    "customer_deficiency",
    "duplicate",
    "not_given",
    "other",
]


class Product(Stored):
    """A product line with its quantity."""

    line: str
    name: str | None = None
    quantity: Decimal | None = None


class GivenProduct(Product):
    model_config = Command.model_config
    line: Reference
    name: Text | None = None
    quantity: Annotated[Exact, Field(gt=0, max_digits=15, decimal_places=3)] | None = None

    def stored(self) -> Product:
        return Product(line=self.line, name=self.name, quantity=self.quantity)


class PriceProposed(Stored):
    amount: Money
    proposed_on: date | None = None
    reference: str | None = None


class GivenPriceProposed(PriceProposed):
    model_config = Command.model_config
    amount: GivenMoney
    proposed_on: Day | None = None
    reference: Reference | None = None

    def stored(self) -> PriceProposed:
        return PriceProposed(amount=self.amount.stored(), proposed_on=self.proposed_on, reference=self.reference)


class NextAction(Stored):
    text: SealedText
    due_on: date
    owner: str | None = None


class GivenNextAction(NextAction):
    model_config = Command.model_config
    text: Text
    due_on: Day
    owner: Reference | None = None

    def stored(self) -> NextAction:
        return NextAction(text=self.text, due_on=self.due_on, owner=self.owner)


class Share(Stored):
    partner_id: UUID
    percent: Decimal


class GivenShare(Share):
    model_config = Command.model_config
    percent: Annotated[Exact, Field(gt=0, le=100, max_digits=5, decimal_places=2)]


# Commands


class _GivenDetails(Command):
    name: Text | None = None
    external_id: Reference | None = None
    customer: GivenCustomer | None = None
    contact: GivenContact | None = None
    deal_type: DealType | None = None
    products: Annotated[tuple[GivenProduct, ...], Field(max_length=200)] = ()
    amount: GivenMoney | None = None
    expected_close_on: Day | None = None
    business_problem: BusinessProblem | None = None
    price_proposed: GivenPriceProposed | None = None
    contract_in_progress: Reference | None = None
    competitors: Annotated[tuple[Text, ...], Field(max_length=50)] = ()


class Open(_GivenDetails):
    """Stages won and lost, and `closed_on` to `lost_to`, are for imports of what is closed.

    `time_assumed` is for imports whose source has no date: the command's time is then only a stand-in.
    """

    NAME: ClassVar[str] = "opportunity.open"
    partner_id: UUID
    partner_role: PartnerRole = "selling"
    lead_id: UUID | None = None
    owner: Reference | None = None
    next_action: GivenNextAction | None = None
    stage: Stage = "prospect"
    time_assumed: bool = False
    closed_on: Day | None = None
    order_reference: Reference | None = None
    lost_reason: LostReason | None = None
    lost_to: Text | None = None
    note: FreeText | None = None


class ChangeStage(Command):
    NAME: ClassVar[str] = "opportunity.change_stage"
    stage: OpenStage
    reason: FreeText | None = None
    next_action: GivenNextAction | None = None


class ChangeDetails(_GivenDetails):
    """Changes the fields that are given; null or an empty list clears one."""

    NAME: ClassVar[str] = "opportunity.change_details"


class SetNextAction(Command):
    NAME: ClassVar[str] = "opportunity.set_next_action"
    text: Text
    due_on: Day
    owner: Reference | None = None


class CompleteNextAction(Command):
    NAME: ClassVar[str] = "opportunity.complete_next_action"
    note: FreeText | None = None


class OverrideForecast(Command):
    """Sets another forecast category; null goes back to the stage's own."""

    NAME: ClassVar[str] = "opportunity.override_forecast"
    category: Category | None
    reason: FreeText


class LogActivity(Command):
    NAME: ClassVar[str] = "opportunity.log_activity"
    kind: ActivityKind
    summary: FreeText
    happened_on: Day | None = None
    visibility: Visibility = "shared"


class Comment(Command):
    NAME: ClassVar[str] = "opportunity.comment"
    text: FreeText
    visibility: Visibility = "shared"


class RequestHelp(Command):
    NAME: ClassVar[str] = "opportunity.request_help"
    topic: HelpTopic
    note: FreeText


class AssignOwner(Command):
    NAME: ClassVar[str] = "opportunity.assign_owner"
    owner: Reference


class AddPartner(Command):
    NAME: ClassVar[str] = "opportunity.add_partner"
    partner_id: UUID
    role: PartnerRole


class RemovePartner(Command):
    NAME: ClassVar[str] = "opportunity.remove_partner"
    partner_id: UUID


class ChangePartnerOfRecord(Command):
    NAME: ClassVar[str] = "opportunity.change_partner_of_record"
    partner_id: UUID
    reason: FreeText


class SetCreditSplit(Command):
    NAME: ClassVar[str] = "opportunity.set_credit_split"
    type: CreditType
    shares: Annotated[tuple[GivenShare, ...], Field(min_length=1, max_length=20)]


class Win(Command):
    """`closed_on` is today when left out."""

    NAME: ClassVar[str] = "opportunity.win"
    final_amount: GivenMoney | None = None
    order_reference: Reference | None = None
    closed_on: Day | None = None
    note: FreeText | None = None


class Lose(Command):
    """`closed_on` is today when left out."""

    NAME: ClassVar[str] = "opportunity.lose"
    reason: LostReason
    competitor: Text | None = None
    closed_on: Day | None = None
    note: FreeText | None = None


class Reopen(Command):
    NAME: ClassVar[str] = "opportunity.reopen"
    reason: FreeText


class MarkStalled(Command):
    """`due` is the `stalls_at` of the last activity or change of stage."""

    NAME: ClassVar[str] = "opportunity.mark_stalled"
    due: Moment


class EndProtection(Command):
    """The lead's: what winning or losing implies for the lead that the opportunity came from."""

    NAME: ClassVar[str] = "lead.end_protection"
    outcome: Literal["won", "lost"]
    opportunity_id: UUID
    partners: tuple[UUID, ...]


# Events. Stored for ever: fields may be added with a default, never renamed, retyped or dropped.


class _Details(Event):
    name: str | None = None
    external_id: str | None = None
    customer: Customer | None = None
    contact: Contact | None = None
    deal_type: str | None = None
    products: tuple[Product, ...] = ()
    business_problem: SealedText | None = None
    price_proposed: PriceProposed | None = None
    contract_in_progress: str | None = None
    competitors: tuple[str, ...] = ()


class _Snapshot(Event):
    """Probability in percent and forecast category of the stage entered, by this version of the policy."""

    stage: str
    probability: int
    category: str
    policy_version: int


class Opened(_Details, _Snapshot):
    """Without activity or change of stage it stalls at `stalls_at`, which later events move."""

    TYPE: ClassVar[str] = "opportunity.opened.v1"
    partner_id: UUID
    partner_role: str
    opened_by: str
    owner: str | None = None
    lead_id: UUID | None = None
    amount: Money | None = None
    expected_close_on: date | None = None
    next_action: NextAction | None = None
    note: SealedText | None = None
    missing: tuple[str, ...] = ()
    customer_keys: tuple[str, ...] = ()
    stalls_at: datetime | None = None


class StageChanged(_Snapshot):
    TYPE: ClassVar[str] = "opportunity.stage_changed.v1"
    previous: str
    backwards: bool = False
    reason: SealedText | None = None
    next_action: NextAction | None = None
    missing: tuple[str, ...] = ()
    changed_at: datetime | None = None
    stalls_at: datetime | None = None


class DetailsChanged(_Details):
    """`changed` names the fields that changed; those now have the values given here, null or empty included."""

    TYPE: ClassVar[str] = "opportunity.details_changed.v1"
    changed: tuple[str, ...]
    customer_keys: tuple[str, ...] = ()


class AmountChanged(Event):
    TYPE: ClassVar[str] = "opportunity.amount_changed.v1"
    amount: Money | None = None
    previous: Money | None = None


class CloseDateChanged(Event):
    TYPE: ClassVar[str] = "opportunity.close_date_changed.v1"
    expected_close_on: date | None = None
    previous: date | None = None


class NextActionSet(Event):
    TYPE: ClassVar[str] = "opportunity.next_action_set.v1"
    text: SealedText
    due_on: date
    owner: str | None = None


class NextActionCompleted(Event):
    TYPE: ClassVar[str] = "opportunity.next_action_completed.v1"
    due_on: date
    note: SealedText | None = None


class ForecastOverridden(Event):
    """The category set by hand, null when it was lifted; `stage_category` is the stage's own, which stays."""

    TYPE: ClassVar[str] = "opportunity.forecast_overridden.v1"
    category: str | None = None
    stage_category: str
    reason: SealedText


class ActivityLogged(Event):
    TYPE: ClassVar[str] = "opportunity.activity_logged.v1"
    kind: str
    summary: SealedText
    happened_on: date
    visibility: str = "shared"
    happened_at: datetime | None = None
    stalls_at: datetime | None = None


class Commented(Event):
    TYPE: ClassVar[str] = "opportunity.commented.v1"
    text: SealedText
    visibility: str = "shared"


class HelpRequested(Event):
    TYPE: ClassVar[str] = "opportunity.help_requested.v1"
    topic: str
    note: SealedText


class OwnerAssigned(Event):
    TYPE: ClassVar[str] = "opportunity.owner_assigned.v1"
    owner: str
    previous: str | None = None


class PartnerAdded(Event):
    TYPE: ClassVar[str] = "opportunity.partner_added.v1"
    partner_id: UUID
    role: str


class PartnerRemoved(Event):
    TYPE: ClassVar[str] = "opportunity.partner_removed.v1"
    partner_id: UUID


class PartnerOfRecordChanged(Event):
    """A partner that was not attached is attached by this, as `role`; the previous one stays attached."""

    TYPE: ClassVar[str] = "opportunity.partner_of_record_changed.v1"
    partner_id: UUID
    previous: UUID
    role: str = "selling"
    reason: SealedText


class CreditSplitSet(Event):
    TYPE: ClassVar[str] = "opportunity.credit_split_set.v1"
    type: str
    shares: tuple[Share, ...]


class Won(_Snapshot):
    TYPE: ClassVar[str] = "opportunity.won.v1"
    previous: str
    closed_on: date
    closed_at: datetime
    amount: Money | None = None
    order_reference: str | None = None
    note: SealedText | None = None
    missing: tuple[str, ...] = ()


class Lost(_Snapshot):
    TYPE: ClassVar[str] = "opportunity.lost.v1"
    previous: str
    closed_on: date
    closed_at: datetime
    reason: str | None = None
    competitor: str | None = None
    amount: Money | None = None
    note: SealedText | None = None
    missing: tuple[str, ...] = ()


class Reopened(_Snapshot):
    TYPE: ClassVar[str] = "opportunity.reopened.v1"
    previous: str
    reason: SealedText
    stalls_at: datetime | None = None


class Stalled(Event):
    TYPE: ClassVar[str] = "opportunity.stalled.v1"
    stalled_at: datetime
    since: datetime | None = None


# State


@dataclass(frozen=True)
class Opportunity:
    """Holds what later decisions need; of sealed fields only whether they are there."""

    status: str = NONE  # open, won or lost
    stage: str = ""  # the open stage, kept while won or lost
    name: str | None = None
    external_id: str | None = None
    customer: bool = False
    contact: bool = False
    deal_type: str | None = None
    products: tuple[Product, ...] = ()
    amount: Money | None = None
    expected_close_on: date | None = None
    business_problem: bool = False
    price_proposed: PriceProposed | None = None
    contract_in_progress: str | None = None
    competitors: tuple[str, ...] = ()
    lead_id: UUID | None = None
    partner_id: UUID | None = None  # the partner of record
    partners: Mapping[UUID, frozenset[str]] = field(default_factory=dict)
    opened_by: str | None = None
    owner: str | None = None
    next_action_due: date | None = None
    category: str | None = None
    override: str | None = None
    credit: Mapping[str, tuple[Share, ...]] = field(default_factory=dict)
    closed_at: datetime | None = None
    customer_keys: tuple[str, ...] = ()
    moved_at: datetime | None = None  # the last activity or change of stage
    stalls_at: datetime | None = None
    stalled: bool = False


@dataclass(frozen=True)
class Incumbency:
    """Who won this customer, for which product lines, when."""

    partner_id: UUID
    customer_keys: frozenset[str]
    product_lines: frozenset[str]
    won_at: datetime


def incumbency(state: Opportunity) -> Incumbency | None:
    """Give what winning says about later renewals, or None if it is not won."""
    if state.status != "won" or state.partner_id is None or state.closed_at is None:
        return None
    lines = frozenset(product.line for product in state.products)
    return Incumbency(state.partner_id, frozenset(state.customer_keys), lines, state.closed_at)


# Fields that details_changed carries, and those of them that the state knows only as given or not.
_DETAILS: Final = (
    "name",
    "external_id",
    "customer",
    "contact",
    "deal_type",
    "products",
    "business_problem",
    "price_proposed",
    "contract_in_progress",
    "competitors",
)
_SEALED: Final = frozenset({"customer", "contact", "business_problem"})


def evolve(state: Opportunity, event: Event) -> Opportunity:
    """Give the opportunity after the event."""
    match event:
        case Opened():
            return _opened(event)
        case StageChanged():
            due = event.next_action.due_on if event.next_action else state.next_action_due
            state = _moved(state, event.changed_at, event.stalls_at)
            return replace(state, stage=event.stage, category=event.category, next_action_due=due)
        case Won() | Lost():
            return replace(state, status=event.stage, closed_at=event.closed_at, override=None)
        case Reopened():
            state = _moved(state, None, event.stalls_at)
            return replace(state, status="open", category=event.category, closed_at=None)
        case PartnerAdded() | PartnerRemoved() | PartnerOfRecordChanged():
            return _with_partner(state, event)
        case CreditSplitSet():
            return replace(state, credit={**state.credit, event.type: event.shares})
        case _:
            return _with_details(state, event)


def _with_details(state: Opportunity, event: Event) -> Opportunity:
    match event:
        case DetailsChanged():
            keys = event.customer_keys if "customer" in event.changed else state.customer_keys
            return replace(state, **_known(event, event.changed), customer_keys=keys)
        case AmountChanged():
            return replace(state, amount=event.amount)
        case CloseDateChanged():
            return replace(state, expected_close_on=event.expected_close_on)
        case NextActionSet():
            return replace(state, next_action_due=event.due_on)
        case NextActionCompleted():
            return replace(state, next_action_due=None)
        case ForecastOverridden():
            return replace(state, override=event.category)
        case OwnerAssigned():
            return replace(state, owner=event.owner)
        case ActivityLogged():
            return _moved(state, event.happened_at, event.stalls_at)
        case Stalled():
            return replace(state, stalled=True)
        case _:
            return state


def _moved(state: Opportunity, at: datetime | None, stalls_at: datetime | None) -> Opportunity:
    """Give the opportunity after an activity; one that was only logged late moves nothing."""
    if at is not None and (state.moved_at is None or at > state.moved_at):
        state = replace(state, moved_at=at)
    if stalls_at is None or (state.stalls_at is not None and stalls_at <= state.stalls_at):
        return state
    return replace(state, stalls_at=stalls_at, stalled=False)


def _known(event: _Details, names: Iterable[str]) -> dict[str, Any]:
    values = {name: getattr(event, name) for name in _DETAILS if name in names}
    return {name: value is not None if name in _SEALED else value for name, value in values.items()}


def _opened(event: Opened) -> Opportunity:
    return Opportunity(
        status="open",
        stage=event.stage,
        category=event.category,
        lead_id=event.lead_id,
        partner_id=event.partner_id,
        partners={event.partner_id: frozenset({event.partner_role})},
        opened_by=event.opened_by,
        owner=event.owner,
        amount=event.amount,
        expected_close_on=event.expected_close_on,
        next_action_due=event.next_action.due_on if event.next_action else None,
        customer_keys=event.customer_keys,
        stalls_at=event.stalls_at,
        **_known(event, _DETAILS),
    )


def _with_partner(state: Opportunity, event: PartnerAdded | PartnerRemoved | PartnerOfRecordChanged) -> Opportunity:
    held = state.partners.get(event.partner_id, frozenset())
    match event:
        case PartnerAdded():
            return replace(state, partners={**state.partners, event.partner_id: held | {event.role}})
        case PartnerRemoved():
            left = {partner: roles for partner, roles in state.partners.items() if partner != event.partner_id}
            return replace(state, partners=left)
        case PartnerOfRecordChanged():
            partners = {**state.partners, event.partner_id: held or frozenset({event.role})}
            return replace(state, partner_id=event.partner_id, partners=partners)


# Decisions

ANY: Final = ("open", "won", "lost")

TABLE: Final[Mapping[type[Command], Sequence[str]]] = {
    Open: (NONE,),
    ChangeStage: ("open",),
    ChangeDetails: ("open",),
    SetNextAction: ("open",),
    CompleteNextAction: ("open",),
    OverrideForecast: ("open",),
    LogActivity: ANY,
    Comment: ANY,
    RequestHelp: ANY,
    AssignOwner: ("open",),
    AddPartner: ("open",),
    RemovePartner: ("open",),
    ChangePartnerOfRecord: ("open",),
    SetCreditSplit: ("open",),
    Win: ("open",),
    Lose: ("open",),
    Reopen: ("won", "lost"),
    MarkStalled: ("open",),
}


# What a stage needs on entry, in the order of the stages.
ENTRY: Final[Mapping[str, Sequence[str]]] = {
    "prospect": (),
    "qualified": ("contact", "amount", "expected_close_on", "business_problem"),
    "technical_validation": ("products",),
    "business_validation": ("price_proposed",),
    "committed": ("contract_in_progress",),
}
_ORDER: Final = tuple(ENTRY)
_OWNERS_SIDE: Final = (ChangeStage, ChangeDetails, SetNextAction, CompleteNextAction)


def decide(state: Opportunity, command: Command, facts: Facts) -> Decision:
    """Answer a command; who may send it has been checked before, by `authorise`, but for what a seller owns."""
    if refused := _seller_refused(state, command, facts.actor):
        return refused
    if refused := check_state(TABLE, state.status, command):
        return refused
    return _DECISIONS[type(command)](state, command, facts)


def _seller_refused(state: Opportunity, command: Command, actor: Actor) -> Refused | None:
    if (
        actor.role is not Role.SELLER
        or not isinstance(command, _OWNERS_SIDE)
        or actor.id in (state.owner, state.opened_by)
    ):
        return None
    return Refused("actor.forbidden", f"a seller may send {command.NAME} for what it owns or opened only")


# Opening


def _open(_state: Opportunity, command: Open, facts: Facts) -> Decision:
    closed = command.stage in ("won", "lost")
    refused = (
        check_partner(command.partner_id, facts)
        or _closing_refused(command, facts, closed=closed)
        or _given_refused(command, facts, closed=closed)
        or _owner_refused(command.owner, facts)
    )
    if refused:
        return refused
    missing = tuple(name for name in ("name", "customer", "deal_type") if getattr(command, name) is None)
    lacking: tuple[str, ...] = ()
    if not closed:
        missing += ("next_action",) if command.next_action is None else ()
        lacking = _lacking(command, "prospect", command.stage)
    if on_behalf(facts):
        missing += _unknown_to_import(command, facts, closed=closed, lacking=lacking)
    elif missing:
        return required(missing)
    elif lacking:
        return _entry_refused(lacking)
    opened = _as_opened(command, facts, "prospect" if closed else command.stage, missing)
    if not closed:
        return (opened,)
    ended = _protection_ended(command.stage, command.lead_id, (command.partner_id,), facts)
    return (opened, _closed_at_once(command, facts), *ended)


def _unknown_to_import(command: Open, facts: Facts, *, closed: bool, lacking: tuple[str, ...]) -> tuple[str, ...]:
    """Name what an import leaves out beyond what everybody must give: a forecast needs amount and close date."""
    forecast = () if closed else tuple(n for n in ("amount", "expected_close_on") if getattr(command, n) is None)
    owner = () if command.owner or facts.actor.on_behalf_of else ("owner",)
    opened = ("opened_at",) if command.time_assumed else ()
    return (*lacking, *(name for name in forecast if name not in lacking), *owner, *opened)


def _as_opened(command: Open, facts: Facts, stage: str, missing: tuple[str, ...]) -> Opened:
    person = facts.actor.on_behalf_of if on_behalf(facts) else facts.actor.id
    return Opened(
        **_details(command),
        **_snapshot(stage, facts),
        partner_id=command.partner_id,
        partner_role=command.partner_role,
        opened_by=person or facts.actor.id,
        owner=command.owner or person,
        lead_id=command.lead_id,
        amount=command.amount.stored() if command.amount else None,
        expected_close_on=command.expected_close_on,
        next_action=command.next_action.stored() if command.next_action else None,
        note=command.note,
        missing=missing,
        customer_keys=_customer_keys(command, facts),
        stalls_at=_stalls_at(facts.now, facts),
    )


def _customer_keys(given: _GivenDetails, facts: Facts) -> tuple[str, ...]:
    return tuple(sorted(customer_keys(given.customer, facts.policy.lead.match_scope))) if given.customer else ()


def _stalls_at(since: datetime, facts: Facts) -> datetime:
    return since + facts.policy.opportunity.stalled_after


def _closed_at_once(command: Open, facts: Facts) -> Event:
    shared = {
        **_snapshot(command.stage, facts),
        "previous": "prospect",
        "closed_on": command.closed_on or facts.today,
        "closed_at": facts.now,
        "amount": command.amount.stored() if command.amount else None,
    }
    if command.stage == "won":
        needed = ("amount", "order_reference", "closed_on")
        missing = tuple(name for name in needed if getattr(command, name) is None)
        return Won(**shared, order_reference=command.order_reference, missing=missing)
    missing = ("reason",) if command.lost_reason is None else ()
    if command.lost_reason == "competitor" and command.lost_to is None:
        missing = ("competitor",)
    return Lost(**shared, reason=command.lost_reason, competitor=command.lost_to, missing=missing)


def _closing_refused(command: Open, facts: Facts, *, closed: bool) -> Refused | None:
    if closed and not on_behalf(facts):
        return invalid("stage", "closed", "only an import may open what is closed")
    if command.time_assumed and not on_behalf(facts):
        return invalid("time_assumed", "not_import", "is for imports")
    for name in ("closed_on", "order_reference", "lost_reason", "lost_to"):
        if not closed and getattr(command, name) is not None:
            return invalid(name, "not_closed", "is for an import of what is closed")
    return _closed_on_refused(command.closed_on, facts)


# Stages


def _change_stage(state: Opportunity, command: ChangeStage, facts: Facts) -> Decision:
    if command.stage == state.stage:
        return ()
    backwards = _ORDER.index(command.stage) < _ORDER.index(state.stage)
    missing: tuple[str, ...] = ()
    if backwards and command.reason is None:
        missing = ("reason",)
    if not backwards and command.next_action is None:
        missing = ("next_action",)
    lacking = _lacking(state, state.stage, command.stage)
    if on_behalf(facts):
        missing += lacking
    elif missing:
        return required(missing)
    elif lacking:
        return _entry_refused(lacking)
    changed = StageChanged(
        **_snapshot(command.stage, facts),
        previous=state.stage,
        backwards=backwards,
        reason=command.reason,
        next_action=command.next_action.stored() if command.next_action else None,
        missing=missing,
        changed_at=facts.now,
        stalls_at=_stalls_at(facts.now, facts),
    )
    return (changed,)


def _lacking(holder: Opportunity | Open, after: str, until: str) -> tuple[str, ...]:
    """Give the entry fields that are not there, of the stages after one and up to another."""
    stages = _ORDER[_ORDER.index(after) + 1 : _ORDER.index(until) + 1]
    return tuple(name for stage in stages for name in ENTRY[stage] if not _filled(holder, name))


def _filled(holder: Opportunity | Open, name: str) -> bool:
    if name == "products":
        return bool(holder.products) and all(product.quantity is not None for product in holder.products)
    return bool(getattr(holder, name))


def _entry_refused(lacking: tuple[str, ...]) -> Refused:
    errors = tuple(FieldError(name, "missing", "is needed in this stage") for name in lacking)
    return Refused("opportunity.entry_fields_missing", f"the stage needs {', '.join(lacking)}", errors)


def _snapshot(stage: str, facts: Facts) -> dict[str, Any]:
    numbers = facts.policy.opportunity.stages[stage]
    return {
        "stage": stage,
        "probability": numbers.probability,
        "category": numbers.category,
        "policy_version": facts.policy.version,
    }


# Closing


def _win(state: Opportunity, command: Win, facts: Facts) -> Decision:
    missing = tuple(name for name in ("final_amount", "order_reference") if getattr(command, name) is None)
    if missing and not on_behalf(facts):
        return required(missing)
    if refused := _closed_on_refused(command.closed_on, facts):
        return refused
    won = Won(
        **_snapshot("won", facts),
        previous=state.stage,
        closed_on=command.closed_on or facts.today,
        closed_at=facts.now,
        amount=command.final_amount.stored() if command.final_amount else None,
        order_reference=command.order_reference,
        note=command.note,
        missing=missing,
    )
    return (won, *_protection_ended("won", state.lead_id, state.partners, facts))


def _lose(state: Opportunity, command: Lose, facts: Facts) -> Decision:
    missing = ("competitor",) if command.reason == "competitor" and command.competitor is None else ()
    if missing and not on_behalf(facts):
        return required(missing)
    if refused := _closed_on_refused(command.closed_on, facts):
        return refused
    lost = Lost(
        **_snapshot("lost", facts),
        previous=state.stage,
        closed_on=command.closed_on or facts.today,
        closed_at=facts.now,
        reason=command.reason,
        competitor=command.competitor,
        amount=state.amount,
        note=command.note,
        missing=missing,
    )
    return (lost, *_protection_ended("lost", state.lead_id, state.partners, facts))


def _protection_ended(outcome: str, lead_id: UUID | None, partners: Iterable[UUID], facts: Facts) -> Iterator[FollowUp]:
    """Tell the lead, if there is one; what it has to say against it does not keep anybody from winning or losing."""
    if lead_id is not None:
        content = {"outcome": outcome, "opportunity_id": facts.subject, "partners": tuple(sorted(partners))}
        yield FollowUp(lead_id, EndProtection.model_validate(content), required=False)


def _closed_on_refused(closed_on: date | None, facts: Facts) -> Refused | None:
    if closed_on is not None and closed_on > facts.today:
        return invalid("closed_on", "future", "lies in the future")
    return None


def _reopen(state: Opportunity, command: Reopen, facts: Facts) -> Decision:
    if state.closed_at is not None and facts.now > state.closed_at + facts.policy.opportunity.reopen_within:
        return Refused("opportunity.reopen_too_late", f"it was closed at {utc_text(state.closed_at)}")
    reopened = Reopened(
        **_snapshot(state.stage, facts),
        previous=state.status,
        reason=command.reason,
        stalls_at=_stalls_at(facts.now, facts),
    )
    return (reopened,)


def _mark_stalled(state: Opportunity, command: MarkStalled, facts: Facts) -> Decision:
    due = None if state.stalled else state.stalls_at
    if (answer := check_due(due, command.due, facts)) is not None:
        return answer
    return (Stalled(stalled_at=command.due, since=state.moved_at),)


# Details


def _change_details(state: Opportunity, command: ChangeDetails, facts: Facts) -> Decision:
    given = command.model_fields_set
    cleared = tuple(
        name for name in ("name", "customer", "deal_type") if name in given and getattr(command, name) is None
    )
    if cleared:
        return required(cleared)
    if refused := _given_refused(command, facts, closed=False):
        return refused
    events = tuple(_changes(state, command, given, facts))
    lacked = _lacking(state, "prospect", state.stage)
    lacking = tuple(
        name for name in _lacking(reduce(evolve, events, state), "prospect", state.stage) if name not in lacked
    )
    return _entry_refused(lacking) if lacking and not on_behalf(facts) else events


def _changes(state: Opportunity, command: ChangeDetails, given: set[str], facts: Facts) -> Iterator[Event]:
    details = _details(command)
    changed = tuple(name for name in _DETAILS if name in given and _differs(state, name, details[name]))
    if changed:
        keys = _customer_keys(command, facts) if "customer" in changed else ()
        yield DetailsChanged(**{name: details[name] for name in changed}, changed=changed, customer_keys=keys)
    amount = command.amount.stored() if command.amount else None
    if "amount" in given and amount != state.amount:
        yield AmountChanged(amount=amount, previous=state.amount)
    close = command.expected_close_on
    if "expected_close_on" in given and close != state.expected_close_on:
        yield CloseDateChanged(expected_close_on=close, previous=state.expected_close_on)


def _differs(state: Opportunity, name: str, value: object) -> bool:
    """Compare with what is known; what is sealed in the log cannot be compared: given, it counts as changed."""
    if name in _SEALED:
        return value is not None or bool(getattr(state, name))
    return bool(value != getattr(state, name))


def _details(given: _GivenDetails) -> dict[str, Any]:
    return {
        "name": given.name,
        "external_id": given.external_id,
        "customer": given.customer.stored() if given.customer else None,
        "contact": given.contact.stored() if given.contact else None,
        "deal_type": given.deal_type,
        "products": tuple(product.stored() for product in given.products),
        "business_problem": given.business_problem,
        "price_proposed": given.price_proposed.stored() if given.price_proposed else None,
        "contract_in_progress": given.contract_in_progress,
        "competitors": tuple(dict.fromkeys(given.competitors)),
    }


def _given_refused(given: _GivenDetails, facts: Facts, *, closed: bool) -> Refused | None:
    if refused := check_product_lines("products", (product.line for product in given.products), facts):
        return refused
    if given.expected_close_on is not None and given.expected_close_on < facts.today and not closed:
        return invalid("expected_close_on", "past", "lies in the past")
    return None


# Work


def _set_next_action(_state: Opportunity, command: SetNextAction, _facts: Facts) -> Decision:
    return (NextActionSet(text=command.text, due_on=command.due_on, owner=command.owner),)


def _complete_next_action(state: Opportunity, command: CompleteNextAction, _facts: Facts) -> Decision:
    if state.next_action_due is None:
        return ()
    return (NextActionCompleted(due_on=state.next_action_due, note=command.note),)


def _override_forecast(state: Opportunity, command: OverrideForecast, _facts: Facts) -> Decision:
    if command.category == state.override:
        return ()
    own = state.category or ""
    return (ForecastOverridden(category=command.category, stage_category=own, reason=command.reason),)


def _log_activity(_state: Opportunity, command: LogActivity, facts: Facts) -> Decision:
    if refused := check_visibility(command.visibility, facts):
        return refused
    happened_on = command.happened_on or facts.today
    if happened_on > facts.today:
        return invalid("happened_on", "future", "lies in the future")
    happened_at = activity_time(happened_on, facts)
    activity = ActivityLogged(
        kind=command.kind,
        summary=command.summary,
        happened_on=happened_on,
        visibility=command.visibility,
        happened_at=happened_at,
        stalls_at=_stalls_at(happened_at, facts),
    )
    return (activity,)


def _comment(_state: Opportunity, command: Comment, facts: Facts) -> Decision:
    if refused := check_visibility(command.visibility, facts):
        return refused
    return (Commented(text=command.text, visibility=command.visibility),)


def _request_help(_state: Opportunity, command: RequestHelp, _facts: Facts) -> Decision:
    return (HelpRequested(topic=command.topic, note=command.note),)


def _assign_owner(state: Opportunity, command: AssignOwner, facts: Facts) -> Decision:
    if command.owner == state.owner:
        return ()
    if refused := _owner_refused(command.owner, facts):
        return refused
    return (OwnerAssigned(owner=command.owner, previous=state.owner),)


def _owner_refused(owner: str | None, facts: Facts) -> Refused | None:
    """Keep a partner from handing work to people outside its registered users; without any, nothing is known."""
    actor = facts.actor
    if owner is None or owner == actor.id or actor.role not in PARTNER_ROLES:
        return None
    own = acting_partner(facts)
    if own is not None and own.users and not own.has_active_user(owner):
        return Refused("opportunity.owner_outside_organisation", "the owner is not an active user of the partner")
    return None


# Partners and credit


def _add_partner(state: Opportunity, command: AddPartner, facts: Facts) -> Decision:
    if command.role in state.partners.get(command.partner_id, ()):
        return ()
    if refused := check_partner(command.partner_id, facts):
        return refused
    return (PartnerAdded(partner_id=command.partner_id, role=command.role),)


def _remove_partner(state: Opportunity, command: RemovePartner, _facts: Facts) -> Decision:
    partner_id = command.partner_id
    if partner_id == state.partner_id:
        return Refused(
            "opportunity.partner_of_record", "the partner of record cannot be removed before another is named"
        )
    if partner_id not in state.partners:
        return ()
    if any(share.partner_id == partner_id for shares in state.credit.values() for share in shares):
        return Refused("opportunity.partner_has_credit", "the partner holds a share of the credit; set the split first")
    return (PartnerRemoved(partner_id=partner_id),)


def _change_partner_of_record(state: Opportunity, command: ChangePartnerOfRecord, facts: Facts) -> Decision:
    if state.partner_id is None or command.partner_id == state.partner_id:
        return ()
    if refused := check_partner(command.partner_id, facts):
        return refused
    changed = PartnerOfRecordChanged(partner_id=command.partner_id, previous=state.partner_id, reason=command.reason)
    return (changed,)


def _set_credit_split(state: Opportunity, command: SetCreditSplit, _facts: Facts) -> Decision:
    percents = {share.partner_id: share.percent for share in command.shares}
    if len(percents) < len(command.shares):
        return invalid("shares", "duplicate", "each partner may stand once")
    if not percents.keys() <= state.partners.keys():
        return Refused("opportunity.partner_not_attached", "credit is for attached partners only")
    if sum(percents.values()) != FULL:
        return Refused("opportunity.credit_split_sum", "the shares must add up to 100.00")
    if percents == {share.partner_id: share.percent for share in state.credit.get(command.type, ())}:
        return ()
    shares = tuple(Share(partner_id=partner_id, percent=percent) for partner_id, percent in percents.items())
    return (CreditSplitSet(type=command.type, shares=shares),)


_DECISIONS: Final[Mapping[type[Command], Callable[[Opportunity, Any, Facts], Decision]]] = {
    Open: _open,
    ChangeStage: _change_stage,
    ChangeDetails: _change_details,
    SetNextAction: _set_next_action,
    CompleteNextAction: _complete_next_action,
    OverrideForecast: _override_forecast,
    LogActivity: _log_activity,
    Comment: _comment,
    RequestHelp: _request_help,
    AssignOwner: _assign_owner,
    AddPartner: _add_partner,
    RemovePartner: _remove_partner,
    ChangePartnerOfRecord: _change_partner_of_record,
    SetCreditSplit: _set_credit_split,
    Win: _win,
    Lose: _lose,
    Reopen: _reopen,
    MarkStalled: _mark_stalled,
}


def needs(state: Opportunity, command: Command) -> Needs:
    """Give the attached partners and the one that the command names."""
    named = optional(command, "partner_id")
    return Needs(partners=frozenset(state.partners) | (frozenset({named}) if named else frozenset()))


def organisations(state: Opportunity, command: Command, _subject: UUID) -> frozenset[UUID]:
    """Give the partner of record; to talk, any attached partner; to open, the one named."""
    match command:
        case Open():
            return frozenset({command.partner_id})
        case LogActivity() | Comment() | RequestHelp():
            return frozenset(state.partners)
        case _:
            return frozenset({state.partner_id}) if state.partner_id else frozenset()


AGGREGATE: Final = Aggregate(
    name="opportunity",
    initial=Opportunity(),
    table=TABLE,
    events=(
        Opened,
        StageChanged,
        DetailsChanged,
        AmountChanged,
        CloseDateChanged,
        NextActionSet,
        NextActionCompleted,
        ForecastOverridden,
        ActivityLogged,
        Commented,
        HelpRequested,
        OwnerAssigned,
        PartnerAdded,
        PartnerRemoved,
        PartnerOfRecordChanged,
        CreditSplitSet,
        Won,
        Lost,
        Reopened,
        Stalled,
    ),
    evolve=evolve,
    decide=decide,
    needs=needs,
    organisations=organisations,
)
