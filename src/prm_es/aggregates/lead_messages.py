"""What a lead is told and what then happened: its values, commands and events. The rules are in `lead`."""

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, ClassVar, Final, Literal
from uuid import UUID

from pydantic import Field

from prm_es.aggregates.base import Command, Event
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
)
from prm_es.aggregates.opportunity import (
    ActivityKind,
    DealType,
    GivenNextAction,
    NextAction,
    PartnerRole,
    Visibility,
)

# Values

Origin = Literal["registered", "captured"]
Strength = Literal["hard", "probable", "possible", "related"]
Kind = Literal["lead", "opportunity", "customer", "named_account"]
Outcome = Literal["award", "split", "second_place_benefit", "reject_all", "vendor_direct", "not_a_conflict"]
DetailName = Literal[
    "external_id",
    "customer",
    "contact",
    "product_lines",
    "deal_type",
    "amount",
    "expected_close_on",
    "business_problem",
    "competitors",
    "evidence",
]
RejectReason = Literal[
    "duplicate_registration",
    "already_registered_other_partner",
    "active_direct_opportunity",
    "existing_customer",
    "named_account",
    "outside_territory",
    "outside_authorisation",
    "below_minimum_value",
    "not_qualified",
    "no_verifiable_relationship",
    "insufficient_information",
    "rfp_excluded",
    "partner_not_active",
    "capacity_exceeded",
    "other",
]
DeclineReason = Literal[
    "problem_unclear",
    "next_steps_unclear",
    "unable_to_support",
    "duplicate",
    "no_capacity",
    "outside_territory",
    "conflict_of_interest",
    "other",
]
DisqualifyReason = Literal[
    "no_need", "no_budget", "no_authority", "wrong_timing", "not_reachable", "spam", "duplicate", "competitor", "other"
]
Version = Annotated[int, Field(strict=True, ge=1)]
Score = Annotated[int, Field(strict=True, ge=0, le=100)]
Likeness = Annotated[Exact, Field(ge=0, le=1, max_digits=4, decimal_places=3)]
Percent = Annotated[Exact, Field(gt=0, le=100, max_digits=5, decimal_places=2)]


class Match(Stored):
    """Another lead, open opportunity, customer won or named account that may be the same customer, and why.

    `lead_id` is the id of what `kind` says. No personal values.
    """

    lead_id: UUID
    strength: str
    matched_keys: tuple[str, ...] = ()
    sentence: str | None = None
    other_first: bool = True
    kind: str = "lead"
    score: Decimal | None = None


class GivenMatch(Match):
    """`other_first` says whether the other was first, by store position; `score` how like the two are, up to 1."""

    model_config = Command.model_config
    strength: Strength
    matched_keys: Annotated[tuple[Reference, ...], Field(max_length=50)] = ()
    sentence: Text | None = None
    kind: Kind = "lead"
    score: Likeness | None = None

    def stored(self) -> Match:
        return Match(**dict(self))


class Candidate(Stored):
    """A partner that was considered for an offer, with what spoke for or against it."""

    partner_id: UUID
    score: Decimal | None = None
    reasons: tuple[str, ...] = ()


class GivenCandidate(Candidate):
    model_config = Command.model_config
    score: Annotated[Exact, Field(max_digits=12, decimal_places=4)] | None = None
    reasons: Annotated[tuple[Reference, ...], Field(max_length=20)] = ()

    def stored(self) -> Candidate:
        return Candidate(**dict(self))


# Commands


class GivenDetails(Command):
    external_id: Reference | None = None
    customer: GivenCustomer | None = None
    contact: GivenContact | None = None
    product_lines: Annotated[tuple[Reference, ...], Field(max_length=50)] = ()
    deal_type: DealType | None = None
    amount: GivenMoney | None = None
    expected_close_on: Day | None = None
    business_problem: BusinessProblem | None = None
    competitors: Annotated[tuple[Text, ...], Field(max_length=50)] = ()
    evidence: FreeText | None = None


class Incoming(GivenDetails):
    """`time_assumed` is for imports whose source has no date: the command's time is then only a stand-in."""

    owner: Reference | None = None
    note: FreeText | None = None
    time_assumed: bool = False


class Reaction(Command):
    """The system sends this only on behalf of who decided elsewhere, and names the event of that decision."""

    deciding_event: Reference | None = None


class Deadline(Command):
    """`due` is the time that the deadline was set to: one that moved or ended since does nothing."""

    due: Moment


class Register(Incoming):
    NAME: ClassVar[str] = "lead.register"
    partner_id: UUID


class Capture(Incoming):
    """`source` is where the lead came from, such as a web form or a fair."""

    NAME: ClassVar[str] = "lead.capture"
    source: Reference | None = None


class Screen(Command):
    """`version` is the lead's version that was looked at; no matches: clear."""

    NAME: ClassVar[str] = "lead.screen"
    version: Version
    matches: Annotated[tuple[GivenMatch, ...], Field(max_length=200)] = ()


class ResolveMatch(Reaction):
    NAME: ClassVar[str] = "lead.resolve_match"
    other_lead: UUID
    outcome: Outcome
    claim_group: UUID | None = None
    share: Percent | None = None
    benefit: Reference | None = None
    case: UUID | None = None
    note: FreeText | None = None


class StartReview(Command):
    NAME: ClassVar[str] = "lead.start_review"


class RequestInformation(Command):
    NAME: ClassVar[str] = "lead.request_information"
    fields: Annotated[tuple[DetailName, ...], Field(max_length=10)] = ()
    note: FreeText


class Resubmit(GivenDetails):
    """Changes the fields that are given; null or an empty list clears one."""

    NAME: ClassVar[str] = "lead.resubmit"
    note: FreeText | None = None


class Approve(Reaction):
    """`override_reason` approves a renewal that is not the incumbent's."""

    NAME: ClassVar[str] = "lead.approve"
    note: FreeText | None = None
    override_reason: FreeText | None = None


class Reject(Reaction):
    NAME: ClassVar[str] = "lead.reject"
    reason: RejectReason
    note: FreeText | None = None


class Withdraw(Command):
    NAME: ClassVar[str] = "lead.withdraw"
    note: FreeText | None = None


class Lapse(Deadline):
    NAME: ClassVar[str] = "lead.lapse"


class RequestExtension(Command):
    NAME: ClassVar[str] = "lead.request_extension"
    evidence: FreeText


class Extend(Command):
    NAME: ClassVar[str] = "lead.extend"
    evidence: FreeText | None = None


class Correct(GivenDetails):
    """Changes the fields that are given; null or an empty list clears one."""

    NAME: ClassVar[str] = "lead.correct"
    reason: FreeText


class Transfer(Command):
    NAME: ClassVar[str] = "lead.transfer"
    partner_id: UUID
    reason: FreeText


class AssignOwner(Command):
    NAME: ClassVar[str] = "lead.assign_owner"
    owner: Reference


class WarnSla(Deadline):
    NAME: ClassVar[str] = "lead.warn_sla"


class BreachSla(Deadline):
    NAME: ClassVar[str] = "lead.breach_sla"


class RemindProtection(Deadline):
    NAME: ClassVar[str] = "lead.remind_protection"


class Convert(Command):
    """Opens the opportunity in the same commit; what is left out comes from the lead.

    `opportunity_id` is for imports whose opportunity is there already.
    """

    NAME: ClassVar[str] = "lead.convert"
    name: Text | None = None
    next_action: GivenNextAction | None = None
    partner_role: PartnerRole = "selling"
    deal_type: DealType | None = None
    owner: Reference | None = None
    amount: GivenMoney | None = None
    expected_close_on: Day | None = None
    opportunity_id: UUID | None = None
    note: FreeText | None = None


class Expire(Deadline):
    NAME: ClassVar[str] = "lead.expire"


class Revoke(Reaction):
    NAME: ClassVar[str] = "lead.revoke"
    reason: FreeText


class Revert(Reaction):
    NAME: ClassVar[str] = "lead.revert"
    reason: FreeText


class LogActivity(Command):
    NAME: ClassVar[str] = "lead.log_activity"
    kind: ActivityKind
    summary: FreeText
    happened_on: Day | None = None
    visibility: Visibility = "shared"


class Comment(Command):
    NAME: ClassVar[str] = "lead.comment"
    text: FreeText
    visibility: Visibility = "shared"


class Qualify(Command):
    NAME: ClassVar[str] = "lead.qualify"
    score: Score | None = None
    note: FreeText | None = None


class Offer(Command):
    """`respond_by` is the policy's time from now when left out; `candidates` are the partners that were considered."""

    NAME: ClassVar[str] = "lead.offer"
    partner_id: UUID
    respond_by: Moment | None = None
    strategy: Reference | None = None
    candidates: Annotated[tuple[GivenCandidate, ...], Field(max_length=200)] = ()


class Open(Command):
    NAME: ClassVar[str] = "lead.open"


class Accept(Command):
    NAME: ClassVar[str] = "lead.accept"
    next_action: GivenNextAction | None = None


class Decline(Command):
    NAME: ClassVar[str] = "lead.decline"
    reason: DeclineReason
    note: FreeText | None = None


class ExpireOffer(Deadline):
    NAME: ClassVar[str] = "lead.expire_offer"


class Recall(Reaction):
    """With `due` it is the system's, for a lead on which its partner has done nothing."""

    NAME: ClassVar[str] = "lead.recall"
    reason: FreeText
    due: Moment | None = None


class RecordContact(Command):
    NAME: ClassVar[str] = "lead.record_contact"
    kind: ActivityKind
    note: FreeText | None = None


class StartWork(Command):
    NAME: ClassVar[str] = "lead.start_work"
    note: FreeText | None = None


class Disqualify(Command):
    NAME: ClassVar[str] = "lead.disqualify"
    reason: DisqualifyReason
    note: FreeText | None = None


class RemindContact(Deadline):
    NAME: ClassVar[str] = "lead.remind_contact"


# Events. Stored for ever: fields may be added with a default, never renamed, retyped or dropped.


class Details(Event):
    """`customer_keys` leaves out tax ids of individuals, whose key is a keyed digest that only the edge can make."""

    external_id: str | None = None
    customer: Customer | None = None
    customer_keys: tuple[str, ...] = ()
    domain_keys: tuple[str, ...] = ()
    contact: Contact | None = None
    product_lines: tuple[str, ...] = ()
    deal_type: str | None = None
    amount: Money | None = None
    expected_close_on: date | None = None
    business_problem: SealedText | None = None
    competitors: tuple[str, ...] = ()
    evidence: SealedText | None = None


class Clock(Event):
    """Decide by `sla_due_at`, after working time of the vendor's calendar, by this version of the policy.

    A time that is left out was reached before.
    """

    sla_warn_at: datetime | None = None
    sla_due_at: datetime | None = None
    policy_version: int


class Protection(Event):
    """The protection, with the times of its reminders, by this version of the policy."""

    protected_from: datetime
    protected_until: datetime
    remind_at: tuple[datetime, ...] = ()
    policy_version: int


class Registered(Details, Clock):
    """`held_until` is when the protection of another lead for this customer ends, if there is one."""

    TYPE: ClassVar[str] = "lead.registered.v1"
    partner_id: UUID
    submitted_by: str
    owner: str | None = None
    held_until: datetime | None = None
    note: SealedText | None = None
    missing: tuple[str, ...] = ()


class Captured(Details):
    TYPE: ClassVar[str] = "lead.captured.v1"
    captured_by: str
    owner: str | None = None
    source: str | None = None
    note: SealedText | None = None
    missing: tuple[str, ...] = ()


class Screened(Event):
    TYPE: ClassVar[str] = "lead.screened.v1"
    version: int
    clear: bool
    matches: tuple[Match, ...] = ()


class MatchResolved(Event):
    TYPE: ClassVar[str] = "lead.match_resolved.v1"
    other_lead: UUID
    outcome: str
    claim_group: UUID | None = None
    share: Decimal | None = None
    benefit: str | None = None
    case: UUID | None = None
    deciding_event: str | None = None
    note: SealedText | None = None


class ReviewStarted(Event):
    TYPE: ClassVar[str] = "lead.review_started.v1"


class InformationRequested(Event):
    """The clock stands still with this much working time left; the lead keeps its place until `place_until`."""

    TYPE: ClassVar[str] = "lead.information_requested.v1"
    fields: tuple[str, ...] = ()
    note: SealedText
    place_until: datetime
    lapse_at: datetime
    sla_warn_left: timedelta | None = None
    sla_left: timedelta | None = None
    policy_version: int


class Resubmitted(Details, Clock):
    """`changed` names the fields that changed; those now have the values given here, null or empty included."""

    TYPE: ClassVar[str] = "lead.resubmitted.v1"
    changed: tuple[str, ...] = ()
    keeps_place: bool
    note: SealedText | None = None


class Approved(Protection):
    TYPE: ClassVar[str] = "lead.approved.v1"
    note: SealedText | None = None
    override_reason: SealedText | None = None
    deciding_event: str | None = None
    missing: tuple[str, ...] = ()


class Rejected(Event):
    TYPE: ClassVar[str] = "lead.rejected.v1"
    reason: str
    note: SealedText | None = None
    deciding_event: str | None = None


class Withdrawn(Event):
    TYPE: ClassVar[str] = "lead.withdrawn.v1"
    note: SealedText | None = None


class Lapsed(Event):
    TYPE: ClassVar[str] = "lead.lapsed.v1"
    lapsed_at: datetime


class ExtensionRequested(Event):
    TYPE: ClassVar[str] = "lead.extension_requested.v1"
    evidence: SealedText


class ProtectionExtended(Protection):
    TYPE: ClassVar[str] = "lead.protection_extended.v1"
    previous_until: datetime
    evidence: SealedText | None = None
    missing: tuple[str, ...] = ()


class Corrected(Details):
    """`changed` names the fields that changed; those now have the values given here, null or empty included."""

    TYPE: ClassVar[str] = "lead.corrected.v1"
    changed: tuple[str, ...]
    reason: SealedText


class Transferred(Event):
    """The new partner's protection is the old one's, with what is left of it."""

    TYPE: ClassVar[str] = "lead.transferred.v1"
    partner_id: UUID
    previous: UUID
    reason: SealedText


class OwnerAssigned(Event):
    TYPE: ClassVar[str] = "lead.owner_assigned.v1"
    owner: str
    previous: str | None = None


class SlaWarned(Event):
    TYPE: ClassVar[str] = "lead.sla_warned.v1"
    warned_at: datetime
    sla_due_at: datetime


class SlaBreached(Event):
    TYPE: ClassVar[str] = "lead.sla_breached.v1"
    breached_at: datetime


class ProtectionExpiring(Event):
    TYPE: ClassVar[str] = "lead.protection_expiring.v1"
    days: int
    remind_at: datetime
    protected_until: datetime


class ProtectionEnded(Event):
    """The opportunity was won or lost; the status stays."""

    TYPE: ClassVar[str] = "lead.protection_ended.v1"
    outcome: str
    opportunity_id: UUID
    protected_until: datetime


class Converted(Event):
    TYPE: ClassVar[str] = "lead.converted.v1"
    opportunity_id: UUID
    previous: str


class ProtectionExpired(Event):
    """`status` is the lead's status from then on; `expired_at` is when it was due, however late that was noted."""

    TYPE: ClassVar[str] = "lead.protection_expired.v1"
    status: str
    expired_at: datetime


class ProtectionRevoked(Event):
    TYPE: ClassVar[str] = "lead.protection_revoked.v1"
    status: str
    reason: SealedText
    deciding_event: str | None = None


class DecisionReverted(Clock):
    TYPE: ClassVar[str] = "lead.decision_reverted.v1"
    previous: str
    reason: SealedText
    deciding_event: str | None = None


class ActivityLogged(Event):
    """`recall_at` is when an idle partner loses the lead, moved by what it does."""

    TYPE: ClassVar[str] = "lead.activity_logged.v1"
    kind: str
    summary: SealedText
    happened_on: date
    happened_at: datetime
    visibility: str = "shared"
    recall_at: datetime | None = None


class Commented(Event):
    TYPE: ClassVar[str] = "lead.commented.v1"
    text: SealedText
    visibility: str = "shared"


class Qualified(Event):
    TYPE: ClassVar[str] = "lead.qualified.v1"
    score: int | None = None
    note: SealedText | None = None


class Offered(Event):
    TYPE: ClassVar[str] = "lead.offered.v1"
    partner_id: UUID
    respond_by: datetime
    strategy: str | None = None
    candidates: tuple[Candidate, ...] = ()
    policy_version: int


class Opened(Event):
    """From here on the partner sees the customer's details."""

    TYPE: ClassVar[str] = "lead.opened.v1"


class Accepted(Protection):
    TYPE: ClassVar[str] = "lead.accepted.v1"
    next_action: NextAction | None = None
    contact_by: datetime
    recall_at: datetime
    accepted_at: datetime
    missing: tuple[str, ...] = ()


class Declined(Event):
    TYPE: ClassVar[str] = "lead.declined.v1"
    partner_id: UUID
    reason: str
    note: SealedText | None = None


class OfferExpired(Event):
    TYPE: ClassVar[str] = "lead.offer_expired.v1"
    partner_id: UUID
    expired_at: datetime


class Recalled(Event):
    TYPE: ClassVar[str] = "lead.recalled.v1"
    partner_id: UUID
    previous: str
    reason: SealedText
    due: datetime | None = None
    deciding_event: str | None = None


class Contacted(Event):
    TYPE: ClassVar[str] = "lead.contacted.v1"
    kind: str
    contacted_at: datetime
    recall_at: datetime
    note: SealedText | None = None


class WorkStarted(Event):
    TYPE: ClassVar[str] = "lead.work_started.v1"
    started_at: datetime
    recall_at: datetime
    note: SealedText | None = None


class Disqualified(Event):
    TYPE: ClassVar[str] = "lead.disqualified.v1"
    reason: str
    previous: str
    note: SealedText | None = None


class ContactOverdue(Event):
    TYPE: ClassVar[str] = "lead.contact_overdue.v1"
    contact_by: datetime


EVENTS: Final[tuple[type[Event], ...]] = (
    Registered,
    Captured,
    Screened,
    MatchResolved,
    ReviewStarted,
    InformationRequested,
    Resubmitted,
    Approved,
    Rejected,
    Withdrawn,
    Lapsed,
    ExtensionRequested,
    ProtectionExtended,
    Corrected,
    Transferred,
    OwnerAssigned,
    SlaWarned,
    SlaBreached,
    ProtectionExpiring,
    ProtectionEnded,
    Converted,
    ProtectionExpired,
    ProtectionRevoked,
    DecisionReverted,
    ActivityLogged,
    Commented,
    Qualified,
    Offered,
    Opened,
    Accepted,
    Declined,
    OfferExpired,
    Recalled,
    Contacted,
    WorkStarted,
    Disqualified,
    ContactOverdue,
)
