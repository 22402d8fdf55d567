"""A partner of the channel: from the invitation to the end, with its profile, agreement, users and goals.

A tax id belongs to one partner. A terminated partner, which is final, frees its own.
A rejected applicant may apply again after the policy's time.
Nobody is active without a signed agreement.
Suspended, a partner gets no new business; what runs goes on.
Goals of one metric and product line may not overlap in time. A year's goal may be spread over its twelve months.
An import may leave out what others must give: the event names it in `missing`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Final, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from prm_es.aggregates.base import (
    NONE,
    Aggregate,
    Command,
    Decision,
    Event,
    Facts,
    FieldError,
    Needs,
    Refused,
    check_product_lines,
    check_state,
    invalid,
    on_behalf,
    required,
)
from prm_es.aggregates.fields import (
    Contact,
    Country,
    Currency,
    Day,
    Domain,
    Email,
    Exact,
    FreeText,
    GivenContact,
    GivenTaxId,
    Reference,
    SealedPerson,
    SealedText,
    Stored,
    TaxId,
    Text,
    optional,
)
from prm_es.frozen import replace
from prm_es.messages import utc_text

MONTHS: Final = 12
FULL: Final = 100

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
Count = Annotated[int, Field(strict=True, ge=0, le=1_000_000)]
Percent = Annotated[Exact, Field(ge=0, le=100, max_digits=5, decimal_places=2)]


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
    signed_on: Day
    valid_to: Day | None = None


class Authorisation(Stored):
    """The right to sell a product line, until a date or without end."""

    product_line: str
    valid_to: date | None = None


class GivenAuthorisation(Authorisation):
    model_config = Command.model_config
    product_line: Reference
    valid_to: Day | None = None


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
    valid_to: Day | None = None


class RevokeAuthorisation(Command):
    NAME: ClassVar[str] = "partner.revoke_authorisation"
    product_line: Reference
    note: FreeText | None = None


class SignAgreement(Command):
    NAME: ClassVar[str] = "partner.sign_agreement"
    reference: Reference
    signed_on: Day
    valid_to: Day | None = None


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
    target: Annotated[Exact, Field(gt=0, max_digits=18, decimal_places=4)]
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


# Refusals that need nothing of the case

NO_USER: Final = Refused("partner.user_unknown", "the partner has no user with this user_id")


# State


@dataclass(frozen=True)
class Goal:
    metric: str
    period: str
    target: Decimal
    currency: str | None = None
    product_line: str | None = None
    owner: str | None = None
    distribution: tuple[Decimal, ...] = ()


@dataclass(frozen=True)
class Member:
    """A user without its personal values."""

    role: str
    status: str


@dataclass(frozen=True)
class Partner:
    """Holds what later decisions and the facts of other aggregates need, and no personal value."""

    status: str = NONE
    legal_name: str | None = None
    trade_name: str | None = None
    tax_ids: tuple[TaxId, ...] = ()  # of individuals without the value
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


_STATUS: Final[Mapping[type[Event], str]] = {
    Invited: "invited",
    ApplicationSubmitted: "applied",
    InvitationDeclined: "declined",
    ReviewStarted: "under_review",
    Approved: "approved",
    Rejected: "rejected",
    OnboardingStarted: "onboarding",
    Activated: "active",
    Suspended: "suspended",
    Reinstated: "active",
    Terminated: "terminated",
}
_PROFILE: Final = ("legal_name", "trade_name", "tax_ids", "country", "domains", "types", "parent", "external_id")


def evolve(state: Partner, event: Event) -> Partner:
    """Give the partner after the event."""
    state = replace(state, status=_STATUS.get(type(event), state.status))
    match event:
        case Imported():
            return _imported(_with_profile(state, event, event.channel_manager), event)
        case Invited():
            return _with_profile(state, event, event.channel_manager)
        case _Profile():
            return _with_profile(state, event, state.channel_manager)
        case UserInvited() | UserRoleChanged() | UserDeactivated():
            return replace(state, users=_with_user(state.users, event))
        case GoalSet() | GoalWithdrawn():
            return replace(state, goals=_with_goal(state.goals, event))
        case Rejected():
            return replace(state, rejected_at=event.rejected_at)
        case OnboardingStarted():
            return replace(state, tasks=event.tasks)
        case OnboardingTaskCompleted():
            return replace(state, tasks_done=state.tasks_done | {event.task})
        case _:
            return _with_terms(state, event)


def _with_terms(state: Partner, event: Event) -> Partner:
    match event:
        case ChannelManagerAssigned():
            return replace(state, channel_manager=event.channel_manager)
        case TerritoriesSet():
            return replace(state, territories=event.territories)
        case CapacitySet():
            return replace(state, capacity=Capacity(**event.model_dump()))
        case TierChanged():
            return replace(state, tier=event.tier)
        case AuthorisationGranted():
            return replace(state, authorisations={**state.authorisations, event.product_line: event.valid_to})
        case AuthorisationRevoked():
            left = {line: to for line, to in state.authorisations.items() if line != event.product_line}
            return replace(state, authorisations=left)
        case AgreementSigned():
            return replace(state, agreement=Agreement(**event.model_dump()))
        case PlacedOnNotice() | NoticeCleared():
            return replace(state, on_notice=isinstance(event, PlacedOnNotice))
        case _:
            return state


def _with_profile(state: Partner, event: _Profile, channel_manager: str | None) -> Partner:
    changed = (
        event.changed if isinstance(event, ProfileUpdated) else [name for name in _PROFILE if getattr(event, name)]
    )
    values = {name: getattr(event, name) for name in _PROFILE if name in changed}
    if "tax_ids" in changed:
        values["tax_keys"] = event.tax_keys
        values["tax_ids"] = tuple(
            tax_id.model_copy(update={"value": ""}) if tax_id.individual else tax_id for tax_id in event.tax_ids
        )
    return replace(state, channel_manager=channel_manager, **values)


def _imported(state: Partner, event: Imported) -> Partner:
    return replace(
        state,
        status=event.status,
        rejected_at=event.imported_at if event.status == "rejected" else None,
        territories=event.territories,
        tier=event.tier,
        capacity=event.capacity or Capacity(),
        authorisations={given.product_line: given.valid_to for given in event.authorisations},
        agreement=event.agreement,
        users={user.user_id: Member(user.role, user.status) for user in event.users},
        on_notice=event.on_notice,
    )


def _with_user(
    users: Mapping[str, Member], event: UserInvited | UserRoleChanged | UserDeactivated
) -> Mapping[str, Member]:
    match event:
        case UserInvited():
            user = Member(event.role, "active")
        case UserRoleChanged():
            user = replace(users[event.user_id], role=event.role)
        case UserDeactivated():
            user = replace(users[event.user_id], status="inactive")
    return {**users, event.user_id: user}


def _with_goal(goals: Mapping[UUID, Goal], event: GoalSet | GoalWithdrawn) -> Mapping[UUID, Goal]:
    others = {goal_id: goal for goal_id, goal in goals.items() if goal_id != event.goal_id}
    if isinstance(event, GoalWithdrawn):
        return others
    return {**others, event.goal_id: _goal(event)}


def _goal(goal: GoalSet | SetGoal) -> Goal:
    return Goal(goal.metric, goal.period, goal.target, goal.currency, goal.product_line, goal.owner, goal.distribution)


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
    """Answer a command; who may send it has been checked before, by `authorise`."""
    if refused := check_state(TABLE, state.status, command):
        return refused
    return _DECISIONS[type(command)](state, command, facts)


# Coming in


def _invite(_state: Partner, command: Invite, facts: Facts) -> Decision:
    if refused := _profile_refused(command, facts):
        return refused
    return (Invited(**_profile(command), channel_manager=command.channel_manager, note=command.note),)


def _apply(state: Partner, command: Apply, facts: Facts) -> Decision:
    if state.rejected_at is not None and state.status == "rejected":
        again = state.rejected_at + facts.policy.partner.reapply_after
        if facts.now < again:
            return Refused("partner.reapply_too_early", f"a new application is possible from {utc_text(again)} on")
    if refused := _profile_refused(command, facts):
        return refused
    needed = ("legal_name", "country", "types")
    missing = tuple(name for name in needed if not getattr(command, name) and not getattr(state, name))
    if missing and not on_behalf(facts):
        return required(missing)
    return (ApplicationSubmitted(**_profile(command), note=command.note, missing=missing),)


def _import(_state: Partner, command: Import, facts: Facts) -> Decision:
    if refused := _profile_refused(command, facts):
        return refused
    if len({user.user_id for user in command.users}) < len(command.users):
        return invalid("users", "duplicate", "each user_id may stand once")
    lines = (given.product_line for given in command.authorisations)
    if refused := check_product_lines("authorisations", lines, facts):
        return refused
    missing = [name for name in ("country", "types") if not getattr(command, name)]
    if command.status in ("active", "suspended") and command.agreement is None:
        missing.append("agreement")
    imported = Imported(
        **_profile(command),
        status=command.status,
        imported_at=facts.now,
        territories=command.territories,
        tier=command.tier,
        channel_manager=command.channel_manager,
        capacity=Capacity(**command.capacity.model_dump()) if command.capacity else None,
        authorisations=tuple(Authorisation(**given.model_dump()) for given in command.authorisations),
        agreement=Agreement(**command.agreement.model_dump()) if command.agreement else None,
        users=tuple(User(**user.model_dump()) for user in command.users),
        on_notice=command.on_notice,
        note=command.note,
        missing=tuple(missing),
    )
    return (imported,)


def _profile(given: _GivenProfile) -> dict[str, Any]:
    tax_ids = tuple(dict.fromkeys(tax_id.stored() for tax_id in given.tax_ids))
    return {
        "legal_name": given.legal_name,
        "trade_name": given.trade_name,
        "tax_ids": tax_ids,
        "tax_keys": tuple(tax_id.key for tax_id in tax_ids if not tax_id.individual),
        "country": given.country,
        "domains": tuple(dict.fromkeys(given.domains)),
        "types": tuple(dict.fromkeys(given.types)),
        "parent": given.parent,
        "external_id": given.external_id,
        "contact": given.contact.stored() if given.contact else None,
    }


def _profile_refused(given: _GivenProfile, facts: Facts) -> Refused | None:
    for tax_id in given.tax_ids:
        if facts.tax_owners.get(tax_id.key, facts.subject) != facts.subject:
            return Refused(
                "partner.duplicate",
                "a tax id belongs to another partner",
                (FieldError("tax_ids", "taken", "belongs to another partner"),),
            )
    if given.parent is None:
        return None
    if given.parent == facts.subject:
        return invalid("parent", "circular", "a partner cannot be its own parent")
    parent = facts.partners.get(given.parent)
    # Imports of parent and child may arrive in either order.
    if parent is None and not on_behalf(facts):
        return invalid("parent", "unknown", "there is no partner with this id")
    if parent is not None and parent.parent == facts.subject:
        return invalid("parent", "circular", "that partner is a child of this one")
    return None


def _update_profile(state: Partner, command: UpdateProfile, facts: Facts) -> Decision:
    given = command.model_fields_set
    if "legal_name" in given and command.legal_name is None:
        return required(("legal_name",))
    if refused := _profile_refused(command, facts):
        return refused
    profile = _profile(command)
    # What is sealed in the log cannot be compared: given, it counts as changed.
    sealed = {"contact"} | ({"tax_ids"} if any(tax_id.individual for tax_id in command.tax_ids) else set())
    changed = [
        name
        for name in (*_PROFILE, "contact")
        if name in given and (name in sealed or profile[name] != getattr(state, name))
    ]
    if not changed:
        return ()
    kept = {*changed, "tax_keys"} if "tax_ids" in changed else set(changed)
    return (ProfileUpdated(**{name: profile[name] for name in profile if name in kept}, changed=tuple(changed)),)


# On the way to active


def _reject(_state: Partner, command: Reject, facts: Facts) -> Decision:
    return (Rejected(reason=command.reason, rejected_at=facts.now),)


def _complete_task(state: Partner, command: CompleteTask, _facts: Facts) -> Decision:
    if state.tasks and command.task not in state.tasks:
        return invalid("task", "unknown", "not a task of this onboarding")
    if command.task in state.tasks_done:
        return ()
    return (OnboardingTaskCompleted(task=command.task, note=command.note),)


def _activate(state: Partner, _command: Activate, facts: Facts) -> Decision:
    agreement = state.agreement
    if agreement is not None and (agreement.valid_to is None or agreement.valid_to >= facts.today):
        return (Activated(),)
    if on_behalf(facts):
        return (Activated(missing=("agreement",)),)
    return Refused("partner.agreement_missing", "a signed agreement that is still valid is needed first")


# Terms


def _assign_channel_manager(state: Partner, command: AssignChannelManager, _facts: Facts) -> Decision:
    if command.channel_manager == state.channel_manager:
        return ()
    return (ChannelManagerAssigned(channel_manager=command.channel_manager, previous=state.channel_manager),)


def _set_territories(state: Partner, command: SetTerritories, _facts: Facts) -> Decision:
    territories = tuple(dict.fromkeys(command.territories))
    return () if territories == state.territories else (TerritoriesSet(territories=territories),)


def _set_capacity(state: Partner, command: SetCapacity, _facts: Facts) -> Decision:
    capacity = Capacity(open_leads=command.open_leads, live_registrations=command.live_registrations)
    return () if capacity == state.capacity else (CapacitySet(**capacity.model_dump()),)


def _change_tier(state: Partner, command: ChangeTier, _facts: Facts) -> Decision:
    if command.tier == state.tier:
        return ()
    return (TierChanged(tier=command.tier, previous=state.tier, reason=command.reason),)


def _grant_authorisation(state: Partner, command: GrantAuthorisation, facts: Facts) -> Decision:
    if refused := check_product_lines("product_line", (command.product_line,), facts):
        return refused
    line, held = command.product_line, state.authorisations
    if line in held and held[line] == command.valid_to:
        return ()
    return (AuthorisationGranted(product_line=line, valid_to=command.valid_to),)


def _revoke_authorisation(state: Partner, command: RevokeAuthorisation, _facts: Facts) -> Decision:
    if command.product_line not in state.authorisations:
        return ()
    return (AuthorisationRevoked(product_line=command.product_line, note=command.note),)


def _sign_agreement(state: Partner, command: SignAgreement, facts: Facts) -> Decision:
    if command.signed_on > facts.today:
        return invalid("signed_on", "future", "lies in the future")
    if command.valid_to is not None and command.valid_to < command.signed_on:
        return invalid("valid_to", "order", "lies before signed_on")
    signed = AgreementSigned(reference=command.reference, signed_on=command.signed_on, valid_to=command.valid_to)
    return () if state.agreement == Agreement(**signed.model_dump()) else (signed,)


def _put_on_notice(state: Partner, command: PutOnNotice, _facts: Facts) -> Decision:
    return () if state.on_notice else (PlacedOnNotice(reason=command.reason),)


def _clear_notice(state: Partner, command: ClearNotice, _facts: Facts) -> Decision:
    return (NoticeCleared(note=command.note),) if state.on_notice else ()


# Goals


def _set_goal(state: Partner, command: SetGoal, facts: Facts) -> Decision:
    if refused := _goal_refused(command):
        return refused
    if command.product_line and (refused := check_product_lines("product_line", (command.product_line,), facts)):
        return refused
    goal = _goal(command)
    if state.goals.get(command.goal_id) == goal:
        return ()
    if any(goal_id != command.goal_id and _overlap(goal, other) for goal_id, other in state.goals.items()):
        return Refused("partner.goal_overlaps", f"a goal for {goal.metric} covers part of {goal.period} already")
    return (GoalSet(**command.model_dump()),)


def _goal_refused(command: SetGoal) -> Refused | None:
    if command.metric.endswith("_amount") != (command.currency is not None):
        return invalid("currency", "metric", "is for metrics of an amount, and those need it")
    if command.currency is None and command.target % 1:
        return invalid("target", "whole", "must be a whole number for this metric")
    if not command.distribution:
        return None
    if len(command.period) != len("2026") or len(command.distribution) != MONTHS:
        return invalid("distribution", "months", "is for a year, with one percentage for each of its 12 months")
    if sum(command.distribution) != FULL:
        return invalid("distribution", "sum", "must add up to 100")
    return None


def _overlap(one: Goal, other: Goal) -> bool:
    if (one.metric, one.product_line) != (other.metric, other.product_line):
        return False
    return not set(_months(one.period)).isdisjoint(_months(other.period))


def _months(period: str) -> range:
    """Give the months of a period, counted from the year 0."""
    year, _, part = period.partition("-")
    first = int(year) * MONTHS
    if not part:
        return range(first, first + MONTHS)
    if part.startswith("Q"):
        first += (int(part[1:]) - 1) * 3
        return range(first, first + 3)
    return range(first + int(part) - 1, first + int(part))


def _withdraw_goal(state: Partner, command: WithdrawGoal, _facts: Facts) -> Decision:
    if command.goal_id not in state.goals:
        return ()
    return (GoalWithdrawn(goal_id=command.goal_id, note=command.note),)


# Users


def _invite_user(state: Partner, command: InviteUser, _facts: Facts) -> Decision:
    if state.has_active_user(command.user_id):
        return Refused("partner.user_exists", "the partner has an active user with this user_id")
    return (UserInvited(**command.model_dump()),)


def _change_user_role(state: Partner, command: ChangeUserRole, _facts: Facts) -> Decision:
    user = state.users.get(command.user_id)
    if user is None:
        return NO_USER
    if user.role == command.role:
        return ()
    return (UserRoleChanged(user_id=command.user_id, role=command.role, previous=user.role),)


def _deactivate_user(state: Partner, command: DeactivateUser, _facts: Facts) -> Decision:
    user = state.users.get(command.user_id)
    if user is None:
        return NO_USER
    return (UserDeactivated(user_id=command.user_id),) if user.status == "active" else ()


_DECISIONS: Final[Mapping[type[Command], Callable[[Partner, Any, Facts], Decision]]] = {
    Invite: _invite,
    Apply: _apply,
    Import: _import,
    DeclineInvitation: lambda _state, command, _facts: (InvitationDeclined(note=command.note),),
    StartReview: lambda _state, _command, _facts: (ReviewStarted(),),
    Approve: lambda _state, command, _facts: (Approved(note=command.note),),
    Reject: _reject,
    StartOnboarding: lambda _state, command, _facts: (OnboardingStarted(tasks=tuple(dict.fromkeys(command.tasks))),),
    CompleteTask: _complete_task,
    Activate: _activate,
    Suspend: lambda _state, command, _facts: (Suspended(reason=command.reason),),
    Reinstate: lambda _state, command, _facts: (Reinstated(note=command.note),),
    Terminate: lambda _state, command, _facts: (Terminated(reason=command.reason),),
    UpdateProfile: _update_profile,
    AssignChannelManager: _assign_channel_manager,
    SetTerritories: _set_territories,
    SetCapacity: _set_capacity,
    ChangeTier: _change_tier,
    GrantAuthorisation: _grant_authorisation,
    RevokeAuthorisation: _revoke_authorisation,
    SignAgreement: _sign_agreement,
    PutOnNotice: _put_on_notice,
    ClearNotice: _clear_notice,
    SetGoal: _set_goal,
    WithdrawGoal: _withdraw_goal,
    InviteUser: _invite_user,
    ChangeUserRole: _change_user_role,
    DeactivateUser: _deactivate_user,
}


def needs(state: Partner, command: Command) -> Needs:
    """Give the parents and the tax keys that the decision looks at."""
    given = optional(command, "parent")
    keys = (tax_id.key for tax_id in optional(command, "tax_ids") or () if not tax_id.individual)
    return Needs(partners=frozenset(filter(None, (state.parent, given))), tax_keys=frozenset(keys))


def organisations(state: Partner, _command: Command, subject: UUID) -> frozenset[UUID]:
    """Give the partner itself and its parent, which acts for it."""
    return frozenset({subject, state.parent}) if state.parent else frozenset({subject})


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
