"""A deal in the making, worked by a partner, until it is won or lost.

Exactly one attached partner is the partner of record. Credit of a type adds up to 100.00 among attached partners.
A stage is entered with the fields that it and every stage skipped need; going back needs a reason.
Opening and each step forward name the next action and when it is due.
Probability and forecast category are snapshots at stage entry; an override stands beside them.
Won and lost are closed; the channel manager may reopen within the policy's time, to the last open stage.
A seller changes only what it owns or opened.
An import may open in any stage, closed ones too, and leave out what others must give: the event names it in `missing`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, ClassVar, Final, Literal
from uuid import UUID

from pydantic import Field

from prm_es.aggregates.base import NONE, Aggregate, Command, Decision, Event, Facts, Needs
from prm_es.aggregates.fields import (
    BusinessProblem,
    Contact,
    Customer,
    FreeText,
    GivenContact,
    GivenCustomer,
    GivenMoney,
    Money,
    Reference,
    SealedText,
    Stored,
    Text,
)

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
    quantity: Annotated[Decimal, Field(gt=0, max_digits=15, decimal_places=3, allow_inf_nan=False)] | None = None

    def stored(self) -> Product:
        return Product(line=self.line, name=self.name, quantity=self.quantity)


class PriceProposed(Stored):
    amount: Money
    proposed_on: date | None = None
    reference: str | None = None


class GivenPriceProposed(PriceProposed):
    model_config = Command.model_config
    amount: GivenMoney
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
    owner: Reference | None = None

    def stored(self) -> NextAction:
        return NextAction(text=self.text, due_on=self.due_on, owner=self.owner)


class Share(Stored):
    partner_id: UUID
    percent: Decimal


class GivenShare(Share):
    model_config = Command.model_config
    percent: Annotated[Decimal, Field(gt=0, le=100, max_digits=5, decimal_places=2, allow_inf_nan=False)]


# Commands


class _GivenDetails(Command):
    name: Text | None = None
    external_id: Reference | None = None
    customer: GivenCustomer | None = None
    contact: GivenContact | None = None
    deal_type: DealType | None = None
    products: Annotated[tuple[GivenProduct, ...], Field(max_length=200)] = ()
    amount: GivenMoney | None = None
    expected_close_on: date | None = None
    business_problem: BusinessProblem | None = None
    price_proposed: GivenPriceProposed | None = None
    contract_in_progress: Reference | None = None
    competitors: Annotated[tuple[Text, ...], Field(max_length=50)] = ()


class Open(_GivenDetails):
    """The last five fields are for imports of closed opportunities: stage won or lost."""

    NAME: ClassVar[str] = "opportunity.open"
    partner_id: UUID
    partner_role: PartnerRole = "selling"
    lead_id: UUID | None = None
    owner: Reference | None = None
    next_action: GivenNextAction | None = None
    stage: Stage = "prospect"
    closed_on: date | None = None
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
    due_on: date
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
    happened_on: date | None = None
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
    closed_on: date | None = None
    note: FreeText | None = None


class Lose(Command):
    """`closed_on` is today when left out."""

    NAME: ClassVar[str] = "opportunity.lose"
    reason: LostReason
    competitor: Text | None = None
    closed_on: date | None = None
    note: FreeText | None = None


class Reopen(Command):
    NAME: ClassVar[str] = "opportunity.reopen"
    reason: FreeText


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


class StageChanged(_Snapshot):
    TYPE: ClassVar[str] = "opportunity.stage_changed.v1"
    previous: str
    backwards: bool = False
    reason: SealedText | None = None
    next_action: NextAction | None = None
    missing: tuple[str, ...] = ()


class DetailsChanged(_Details):
    """`changed` names the fields that changed; those now have the values given here, null or empty included."""

    TYPE: ClassVar[str] = "opportunity.details_changed.v1"
    changed: tuple[str, ...]


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


# State


@dataclass(frozen=True, slots=True)
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


# EVOLVE


def evolve(state: Opportunity, event: Event) -> Opportunity:
    raise NotImplementedError


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
}


def decide(state: Opportunity, command: Command, facts: Facts) -> Decision:
    raise NotImplementedError


def needs(state: Opportunity, command: Command) -> Needs:
    """Give the attached partners and the one that the command names."""
    named = getattr(command, "partner_id", None)
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
    ),
    evolve=evolve,
    decide=decide,
    needs=needs,
    organisations=organisations,
)
