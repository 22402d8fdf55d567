"""A partner of the channel: from the invitation to the end, with its profile, agreement, users and goals.

A tax id belongs to one partner. A terminated partner, which is final, frees its own.
A rejected applicant may apply again after the policy's time.
Nobody is active without a signed agreement.
Suspended, a partner gets no new business; what runs goes on.
Goals of one metric and product line may not overlap in time. A year's goal may be spread over its twelve months.
An import may leave out what others must give: the event names it in `missing`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, ClassVar, Final, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from prm_es.aggregates.base import NONE, Aggregate, Command, Decision, Event, Facts, Needs
from prm_es.aggregates.fields import (
    Contact,
    Country,
    Currency,
    Domain,
    Email,
    FreeText,
    GivenContact,
    GivenTaxId,
    Reference,
    SealedPerson,
    SealedText,
    Stored,
    TaxId,
    Text,
)

# Values

PartnerType = Literal[
    "reseller", "retailer", "consultant", "service_provider", "integrator", "isv", "distributor", "referral"
]
Status = Literal[
    "invited",
    "declined",
    "applied",
    "under_review",
    "rejected",
    "approved",
    "onboarding",
    "active",
    "suspended",
    "terminated",
]
UserRole = Literal["partner_admin", "partner_rep"]
Metric = Literal["won_amount", "won_count", "registered_amount", "registered_count", "new_customers", "activities"]
Period = Annotated[str, StringConstraints(pattern=r"^20[0-9]{2}(-Q[1-4]|-(0[1-9]|1[0-2]))?$")]
Count = Annotated[int, Field(ge=0, le=1_000_000)]
Percent = Annotated[Decimal, Field(ge=0, le=100, max_digits=5, decimal_places=2, allow_inf_nan=False)]


class Capacity(Stored):
    """How many open leads and live registrations the partner takes; none given means the policy's number."""

    open_leads: int | None = None
    live_registrations: int | None = None


class GivenCapacity(Capacity):
    model_config = Command.model_config
    open_leads: Count | None = None
    live_registrations: Count | None = None


class Agreement(Stored):
    reference: str
    signed_on: date
    valid_to: date | None = None


class GivenAgreement(Agreement):
    model_config = Command.model_config
    reference: Reference


class Authorisation(Stored):
    """The right to sell a product line, until a date or without end."""

    product_line: str
    valid_to: date | None = None


class GivenAuthorisation(Authorisation):
    model_config = Command.model_config
    product_line: Reference


class User(Stored):
    """A person who acts for the partner; `user_id` is the actor id of its commands."""

    user_id: str
    role: str
    status: str = "active"
    person_id: UUID | None = None
    name: SealedPerson | None = None
    email: SealedPerson | None = None


class GivenUser(User):
    model_config = Command.model_config
    user_id: Reference
    role: UserRole
    status: Literal["active", "inactive"] = "active"
    name: Text | None = None
    email: Email | None = None


# Commands


class _GivenProfile(Command):
    legal_name: Text | None = None
    trade_name: Text | None = None
    tax_ids: Annotated[tuple[GivenTaxId, ...], Field(max_length=10)] = ()
    country: Country | None = None
    domains: Annotated[tuple[Domain, ...], Field(max_length=20)] = ()
    types: Annotated[tuple[PartnerType, ...], Field(max_length=8)] = ()
    parent: UUID | None = None
    external_id: Reference | None = None
    contact: GivenContact | None = None


class Invite(_GivenProfile):
    NAME: ClassVar[str] = "partner.invite"
    legal_name: Text
    channel_manager: Reference | None = None
    note: FreeText | None = None


class Apply(_GivenProfile):
    NAME: ClassVar[str] = "partner.apply"
    note: FreeText | None = None


class Import(_GivenProfile):
    NAME: ClassVar[str] = "partner.import"
    legal_name: Text
    status: Status
    territories: Annotated[tuple[Text, ...], Field(max_length=200)] = ()
    tier: Reference | None = None
    channel_manager: Reference | None = None
    capacity: GivenCapacity | None = None
    authorisations: Annotated[tuple[GivenAuthorisation, ...], Field(max_length=200)] = ()
    agreement: GivenAgreement | None = None
    users: Annotated[tuple[GivenUser, ...], Field(max_length=500)] = ()
    on_notice: bool = False
    note: FreeText | None = None


class DeclineInvitation(Command):
    NAME: ClassVar[str] = "partner.decline_invitation"
    note: FreeText | None = None


class StartReview(Command):
    NAME: ClassVar[str] = "partner.start_review"


class Approve(Command):
    NAME: ClassVar[str] = "partner.approve"
    note: FreeText | None = None


class Reject(Command):
    NAME: ClassVar[str] = "partner.reject"
    reason: FreeText


class StartOnboarding(Command):
    NAME: ClassVar[str] = "partner.start_onboarding"
    tasks: Annotated[tuple[Reference, ...], Field(max_length=50)] = ()


class CompleteTask(Command):
    NAME: ClassVar[str] = "partner.complete_task"
    task: Reference
    note: FreeText | None = None


class Activate(Command):
    NAME: ClassVar[str] = "partner.activate"


class Suspend(Command):
    NAME: ClassVar[str] = "partner.suspend"
    reason: FreeText


class Reinstate(Command):
    NAME: ClassVar[str] = "partner.reinstate"
    note: FreeText | None = None


class Terminate(Command):
    NAME: ClassVar[str] = "partner.terminate"
    reason: FreeText


class UpdateProfile(_GivenProfile):
    """Changes the fields that are given; null or an empty list clears one."""

    NAME: ClassVar[str] = "partner.update_profile"


class AssignChannelManager(Command):
    NAME: ClassVar[str] = "partner.assign_channel_manager"
    channel_manager: Reference


class SetTerritories(Command):
    NAME: ClassVar[str] = "partner.set_territories"
    territories: Annotated[tuple[Text, ...], Field(max_length=200)]


class SetCapacity(Command):
    NAME: ClassVar[str] = "partner.set_capacity"
    open_leads: Count | None = None
    live_registrations: Count | None = None


class ChangeTier(Command):
    NAME: ClassVar[str] = "partner.change_tier"
    tier: Reference
    reason: FreeText


class GrantAuthorisation(Command):
    NAME: ClassVar[str] = "partner.grant_authorisation"
    product_line: Reference
    valid_to: date | None = None


class RevokeAuthorisation(Command):
    NAME: ClassVar[str] = "partner.revoke_authorisation"
    product_line: Reference
    note: FreeText | None = None


class SignAgreement(Command):
    NAME: ClassVar[str] = "partner.sign_agreement"
    reference: Reference
    signed_on: date
    valid_to: date | None = None


class PutOnNotice(Command):
    NAME: ClassVar[str] = "partner.put_on_notice"
    reason: FreeText


class ClearNotice(Command):
    NAME: ClassVar[str] = "partner.clear_notice"
    note: FreeText | None = None


class SetGoal(Command):
    """Sets a goal, or changes the one with this id. `distribution` gives the percent of each month of a year."""

    NAME: ClassVar[str] = "partner.set_goal"
    goal_id: UUID
    metric: Metric
    period: Period
    target: Annotated[Decimal, Field(gt=0, max_digits=18, decimal_places=4, allow_inf_nan=False)]
    currency: Currency | None = None
    product_line: Reference | None = None
    owner: Reference | None = None
    distribution: tuple[Percent, ...] = ()


class WithdrawGoal(Command):
    NAME: ClassVar[str] = "partner.withdraw_goal"
    goal_id: UUID
    note: FreeText | None = None


class InviteUser(Command):
    NAME: ClassVar[str] = "partner.invite_user"
    user_id: Reference
    role: UserRole
    person_id: UUID | None = None
    name: Text | None = None
    email: Email | None = None


class ChangeUserRole(Command):
    NAME: ClassVar[str] = "partner.change_user_role"
    user_id: Reference
    role: UserRole


class DeactivateUser(Command):
    NAME: ClassVar[str] = "partner.deactivate_user"
    user_id: Reference


# Events. Stored for ever: fields may be added with a default, never renamed, retyped or dropped.


class _Profile(Event):
    """`tax_keys` leaves out the ids of individuals, whose key is a keyed digest that only the edge can make."""

    legal_name: str | None = None
    trade_name: str | None = None
    tax_ids: tuple[TaxId, ...] = ()
    tax_keys: tuple[str, ...] = ()
    country: str | None = None
    domains: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    parent: UUID | None = None
    external_id: str | None = None
    contact: Contact | None = None


class Invited(_Profile):
    TYPE: ClassVar[str] = "partner.invited.v1"
    channel_manager: str | None = None
    note: SealedText | None = None


class ApplicationSubmitted(_Profile):
    """Carries what the application says; a field that it leaves out keeps what was known before."""

    TYPE: ClassVar[str] = "partner.application_submitted.v1"
    note: SealedText | None = None
    missing: tuple[str, ...] = ()


class Imported(_Profile):
    TYPE: ClassVar[str] = "partner.imported.v1"
    status: str
    imported_at: datetime
    territories: tuple[str, ...] = ()
    tier: str | None = None
    channel_manager: str | None = None
    capacity: Capacity | None = None
    authorisations: tuple[Authorisation, ...] = ()
    agreement: Agreement | None = None
    users: tuple[User, ...] = ()
    on_notice: bool = False
    note: SealedText | None = None
    missing: tuple[str, ...] = ()


class InvitationDeclined(Event):
    TYPE: ClassVar[str] = "partner.invitation_declined.v1"
    note: SealedText | None = None


class ReviewStarted(Event):
    TYPE: ClassVar[str] = "partner.review_started.v1"


class Approved(Event):
    TYPE: ClassVar[str] = "partner.approved.v1"
    note: SealedText | None = None


class Rejected(Event):
    TYPE: ClassVar[str] = "partner.rejected.v1"
    reason: SealedText
    rejected_at: datetime


class OnboardingStarted(Event):
    TYPE: ClassVar[str] = "partner.onboarding_started.v1"
    tasks: tuple[str, ...] = ()


class OnboardingTaskCompleted(Event):
    TYPE: ClassVar[str] = "partner.onboarding_task_completed.v1"
    task: str
    note: SealedText | None = None


class Activated(Event):
    TYPE: ClassVar[str] = "partner.activated.v1"
    missing: tuple[str, ...] = ()


class Suspended(Event):
    TYPE: ClassVar[str] = "partner.suspended.v1"
    reason: SealedText


class Reinstated(Event):
    TYPE: ClassVar[str] = "partner.reinstated.v1"
    note: SealedText | None = None


class Terminated(Event):
    TYPE: ClassVar[str] = "partner.terminated.v1"
    reason: SealedText


class ProfileUpdated(_Profile):
    """`changed` names the fields that changed; those now have the values given here, null or empty included."""

    TYPE: ClassVar[str] = "partner.profile_updated.v1"
    changed: tuple[str, ...]


class ChannelManagerAssigned(Event):
    TYPE: ClassVar[str] = "partner.channel_manager_assigned.v1"
    channel_manager: str
    previous: str | None = None


class TerritoriesSet(Event):
    TYPE: ClassVar[str] = "partner.territories_set.v1"
    territories: tuple[str, ...]


class CapacitySet(Event):
    TYPE: ClassVar[str] = "partner.capacity_set.v1"
    open_leads: int | None = None
    live_registrations: int | None = None


class TierChanged(Event):
    TYPE: ClassVar[str] = "partner.tier_changed.v1"
    tier: str
    previous: str | None = None
    reason: SealedText


class AuthorisationGranted(Event):
    TYPE: ClassVar[str] = "partner.authorisation_granted.v1"
    product_line: str
    valid_to: date | None = None


class AuthorisationRevoked(Event):
    TYPE: ClassVar[str] = "partner.authorisation_revoked.v1"
    product_line: str
    note: SealedText | None = None


class AgreementSigned(Event):
    TYPE: ClassVar[str] = "partner.agreement_signed.v1"
    reference: str
    signed_on: date
    valid_to: date | None = None


class PlacedOnNotice(Event):
    TYPE: ClassVar[str] = "partner.put_on_notice.v1"
    reason: SealedText


class NoticeCleared(Event):
    TYPE: ClassVar[str] = "partner.notice_cleared.v1"
    note: SealedText | None = None


class GoalSet(Event):
    TYPE: ClassVar[str] = "partner.goal_set.v1"
    goal_id: UUID
    metric: str
    period: str
    target: Decimal
    currency: str | None = None
    product_line: str | None = None
    owner: str | None = None
    distribution: tuple[Decimal, ...] = ()


class GoalWithdrawn(Event):
    TYPE: ClassVar[str] = "partner.goal_withdrawn.v1"
    goal_id: UUID
    note: SealedText | None = None


class UserInvited(Event):
    TYPE: ClassVar[str] = "partner.user_invited.v1"
    user_id: str
    role: str
    person_id: UUID | None = None
    name: SealedPerson | None = None
    email: SealedPerson | None = None


class UserRoleChanged(Event):
    TYPE: ClassVar[str] = "partner.user_role_changed.v1"
    user_id: str
    role: str
    previous: str


class UserDeactivated(Event):
    TYPE: ClassVar[str] = "partner.user_deactivated.v1"
    user_id: str


# State


@dataclass(frozen=True, slots=True)
class Goal:
    metric: str
    period: str
    target: Decimal
    currency: str | None = None
    product_line: str | None = None
    owner: str | None = None
    distribution: tuple[Decimal, ...] = ()


@dataclass(frozen=True, slots=True)
class Member:
    """A user without its personal values."""

    role: str
    status: str


@dataclass(frozen=True, slots=True)
class Partner:
    """Holds what later decisions and the facts of other aggregates need, and no personal value."""

    status: str = NONE
    legal_name: str | None = None
    trade_name: str | None = None
    tax_ids: tuple[TaxId, ...] = ()
    tax_keys: tuple[str, ...] = ()
    country: str | None = None
    domains: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    parent: UUID | None = None
    external_id: str | None = None
    territories: tuple[str, ...] = ()
    tier: str | None = None
    channel_manager: str | None = None
    capacity: Capacity = field(default_factory=Capacity)
    authorisations: Mapping[str, date | None] = field(default_factory=dict)
    agreement: Agreement | None = None
    users: Mapping[str, Member] = field(default_factory=dict)
    goals: Mapping[UUID, Goal] = field(default_factory=dict)
    on_notice: bool = False
    rejected_at: datetime | None = None
    tasks: tuple[str, ...] = ()
    tasks_done: frozenset[str] = frozenset()

    def has_active_user(self, user_id: str) -> bool:
        """Tell whether this actor is an active user of the partner."""
        user = self.users.get(user_id)
        return user is not None and user.status == "active"


def tax_keys_held(state: Partner) -> frozenset[str]:
    """Give the tax keys that no other partner may have; a terminated partner has freed its own."""
    return frozenset() if state.status in (NONE, "terminated") else frozenset(state.tax_keys)


# EVOLVE


def evolve(state: Partner, event: Event) -> Partner:
    raise NotImplementedError


# Decisions

LIVE: Final = (
    "invited",
    "declined",
    "applied",
    "under_review",
    "rejected",
    "approved",
    "onboarding",
    "active",
    "suspended",
)

TABLE: Final[Mapping[type[Command], Sequence[str]]] = {
    Invite: (NONE,),
    Apply: (NONE, "invited", "declined", "rejected"),
    Import: (NONE,),
    DeclineInvitation: ("invited",),
    StartReview: ("applied",),
    Approve: ("applied", "under_review"),
    Reject: ("applied", "under_review"),
    StartOnboarding: ("approved",),
    CompleteTask: ("approved", "onboarding"),
    Activate: ("approved", "onboarding"),
    Suspend: ("active",),
    Reinstate: ("suspended",),
    Terminate: ("approved", "onboarding", "active", "suspended"),
    UpdateProfile: LIVE,
    AssignChannelManager: LIVE,
    SetTerritories: LIVE,
    SetCapacity: LIVE,
    ChangeTier: LIVE,
    GrantAuthorisation: LIVE,
    RevokeAuthorisation: LIVE,
    SignAgreement: LIVE,
    PutOnNotice: LIVE,
    ClearNotice: LIVE,
    SetGoal: LIVE,
    WithdrawGoal: LIVE,
    InviteUser: LIVE,
    ChangeUserRole: LIVE,
    DeactivateUser: LIVE,
}


def decide(state: Partner, command: Command, facts: Facts) -> Decision:
    raise NotImplementedError


def needs(state: Partner, command: Command) -> Needs:
    """Give the parents and the tax keys that the decision looks at."""
    given = getattr(command, "parent", None)
    keys = (tax_id.key for tax_id in getattr(command, "tax_ids", ()) if not tax_id.individual)
    return Needs(partners=frozenset(filter(None, (state.parent, given))), tax_keys=frozenset(keys))


def organisations(state: Partner, _command: Command, subject: UUID) -> frozenset[UUID]:
    """Give the partner itself and its parent, which acts for it."""
    return frozenset({subject, state.parent} - {None}) if state.parent else frozenset({subject})


AGGREGATE: Final = Aggregate(
    name="partner",
    initial=Partner(),
    table=TABLE,
    events=(
        Invited,
        ApplicationSubmitted,
        Imported,
        InvitationDeclined,
        ReviewStarted,
        Approved,
        Rejected,
        OnboardingStarted,
        OnboardingTaskCompleted,
        Activated,
        Suspended,
        Reinstated,
        Terminated,
        ProfileUpdated,
        ChannelManagerAssigned,
        TerritoriesSet,
        CapacitySet,
        TierChanged,
        AuthorisationGranted,
        AuthorisationRevoked,
        AgreementSigned,
        PlacedOnNotice,
        NoticeCleared,
        GoalSet,
        GoalWithdrawn,
        UserInvited,
        UserRoleChanged,
        UserDeactivated,
    ),
    evolve=evolve,
    decide=decide,
    needs=needs,
    organisations=organisations,
)
