"""A lead: registered by a partner that asks for protection, or captured by the vendor and handed out.

Whoever registers is recorded, also for a customer that a rival holds; only the approval is refused then.
An approval needs a screening of the lead as it is, no probable match with an earlier lead, and a customer that is free.
Protection keeps rivals from the customer's keys and the lead's product lines until its time, an end by hand, or the
opportunity's end. It is extended a limited number of times, and only where something happens.
What is overdue when a command comes, a protection or an offer, first expires, dated at its time.
A partner that has declined a lead is never offered it again.
Deadlines are commands of the system that name the time they were set to; the event that set it holds that time.
An import may leave out what others must give, and is not held to limits and screenings: the event names gaps in
`missing`. No import may break a protection.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import reduce
from typing import Any, Final
from uuid import UUID, uuid5

from prm_es.aggregates.base import (
    NONE,
    Aggregate,
    Claim,
    Command,
    Decision,
    Event,
    Facts,
    FieldError,
    FollowUp,
    LiveRegistration,
    Needs,
    Refused,
    UndecidedMatch,
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
    Contact,
    Customer,
    GivenMoney,
    Money,
    contact_again,
    customer_again,
    customer_keys,
    domain_keys,
    optional,
)
from prm_es.aggregates.lead_messages import (
    EVENTS,
    Accept,
    Accepted,
    ActivityLogged,
    Approve,
    Approved,
    AssignOwner,
    BreachSla,
    Capture,
    Captured,
    Comment,
    Commented,
    Contacted,
    ContactOverdue,
    Convert,
    Converted,
    Correct,
    Corrected,
    DecisionReverted,
    Decline,
    Declined,
    Details,
    Disqualified,
    Disqualify,
    Expire,
    ExpireOffer,
    Extend,
    ExtensionRequested,
    GivenDetails,
    Incoming,
    InformationRequested,
    Lapse,
    Lapsed,
    LogActivity,
    Match,
    MatchResolved,
    Offer,
    Offered,
    OfferExpired,
    Open,
    Opened,
    OwnerAssigned,
    Protection,
    ProtectionEnded,
    ProtectionExpired,
    ProtectionExpiring,
    ProtectionExtended,
    ProtectionRevoked,
    Qualified,
    Qualify,
    Reaction,
    Recall,
    Recalled,
    RecordContact,
    Register,
    Registered,
    Reject,
    Rejected,
    RemindContact,
    RemindProtection,
    RequestExtension,
    RequestInformation,
    ResolveMatch,
    Resubmit,
    Resubmitted,
    Revert,
    ReviewStarted,
    Revoke,
    Screen,
    Screened,
    SlaBreached,
    SlaWarned,
    StartReview,
    StartWork,
    Transfer,
    Transferred,
    WarnSla,
    Withdraw,
    Withdrawn,
    WorkStarted,
)
from prm_es.aggregates.opportunity import EndProtection, GivenProduct
from prm_es.aggregates.opportunity import Open as OpenOpportunity
from prm_es.aggregates.partner import Partner
from prm_es.aggregates.policy import LeadNumbers
from prm_es.aggregates.working_time import due_after_working, working_between, working_time
from prm_es.frozen import replace
from prm_es.messages import NAMESPACE, PARTNER_ROLES, Role, utc_text

# State


@dataclass(frozen=True)
class Lead:
    """Holds what later decisions need. What may be sealed is carried to the opportunity and never decided upon."""

    status: str = NONE
    origin: str = ""  # registered or captured
    version: int = 0  # the number of its events
    identity_version: int = 0  # the version of the last change of what it is about: it is screened again after that
    screened_version: int = 0  # the version that the last screening looked at
    place_version: int = 0  # the version whose position is the lead's place in the queue
    partner_id: UUID | None = None
    owner: str | None = None
    external_id: str | None = None
    customer: Customer | None = field(default=None, compare=False)
    customer_keys: frozenset[str] = frozenset()
    domain_keys: frozenset[str] = frozenset()
    country: str | None = None
    contact: Contact | None = field(default=None, compare=False)
    product_lines: tuple[str, ...] = ()
    deal_type: str | None = None
    amount: Money | None = None
    expected_close_on: date | None = None
    business_problem: str | None = field(default=None, compare=False)
    competitors: tuple[str, ...] = ()
    evidence: bool = False
    matches: tuple[Match, ...] = ()
    resolved: Mapping[UUID, MatchResolved] = field(default_factory=dict, compare=False)
    decided: frozenset[UUID] = frozenset()  # the other leads of `resolved`
    claim_group: UUID | None = None  # the lead's own id if None
    protected_from: datetime | None = None
    protected_until: datetime | None = None
    remind_at: tuple[datetime, ...] = ()  # still to come
    extensions: int = 0
    sla_warn_at: datetime | None = None
    sla_due_at: datetime | None = None
    sla_warn_left: timedelta | None = None
    sla_left: timedelta | None = None
    place_until: datetime | None = None
    lapse_at: datetime | None = None
    declined_by: frozenset[UUID] = frozenset()
    respond_by: datetime | None = None
    opened: bool = False
    contact_by: datetime | None = None
    recall_at: datetime | None = None
    active_at: datetime | None = None  # the last activity
    opportunity_id: UUID | None = None

    @property
    def protected(self) -> bool:
        """Tell whether the lead holds a protection."""
        return self.protected_until is not None


FINAL: Final = ("rejected", "withdrawn", "lapsed", "expired", "revoked", "disqualified")
IN_HANDS: Final = ("offered", "accepted", "contacted", "working")  # of a partner, captured and not yet converted


def claims_held(lead_id: UUID, state: Lead) -> frozenset[Claim]:
    """Give the claims that the lead's protection takes: one for each customer key, all or none."""
    if state.protected_from is None or state.protected_until is None or state.partner_id is None:
        return frozenset()
    lines, group = frozenset(state.product_lines), state.claim_group or lead_id
    return frozenset(
        Claim(key, lines, group, lead_id, state.partner_id, state.protected_from, state.protected_until)
        for key in state.customer_keys
    )


def live_registration(lead_id: UUID, state: Lead) -> LiveRegistration | None:
    """Give what the lead counts against its partner, or None."""
    live = state.status in ("submitted", "in_review", "action_required", *IN_HANDS)
    if state.partner_id is None or not (live or (state.status == "approved" and state.protected)):
        return None
    lines = frozenset(state.product_lines)
    return LiveRegistration(lead_id, state.partner_id, state.origin, state.customer_keys, lines)


def undecided_matches(lead_id: UUID, state: Lead) -> frozenset[UndecidedMatch]:
    """Give the matches that the lead's last screening found and nobody has decided; none once it has ended."""
    if ended(state):
        return frozenset()
    return frozenset(
        UndecidedMatch(lead_id, one.lead_id, one.strength, one.lead_id if one.other_first else lead_id)
        for one in state.matches
        if one.lead_id not in state.decided
    )


def ended(state: Lead) -> bool:
    """Tell whether the lead no longer stands in the way of a later one."""
    return state.status in (NONE, *FINAL) or (state.status == "converted" and not state.protected)


def opportunity_of(lead_id: UUID) -> UUID:
    """Give the id of the opportunity that converting the lead opens."""
    return uuid5(NAMESPACE, f"opportunity\nlead\n{lead_id}")


# The fields that a lead's sender gives, and those of them that the state cannot compare.
_DETAILS: Final = tuple(GivenDetails.model_fields)
_SEALED: Final = frozenset({"customer", "contact", "business_problem", "evidence"})
IDENTITY: Final = frozenset({"customer", "product_lines"})

STATUS_AFTER: Final[Mapping[type[Event], str]] = {
    Registered: "submitted",
    Captured: "new",
    ReviewStarted: "in_review",
    InformationRequested: "action_required",
    Resubmitted: "submitted",
    Approved: "approved",
    Rejected: "rejected",
    Withdrawn: "withdrawn",
    Lapsed: "lapsed",
    DecisionReverted: "in_review",
    Converted: "converted",
    Qualified: "qualified",
    Offered: "offered",
    Accepted: "accepted",
    Declined: "qualified",
    OfferExpired: "qualified",
    Recalled: "qualified",
    Contacted: "contacted",
    WorkStarted: "working",
    Disqualified: "disqualified",
}
_UNPROTECTED: Final[Mapping[str, Any]] = {"protected_from": None, "protected_until": None, "remind_at": ()}
_IDLE: Final[Mapping[str, Any]] = {"respond_by": None, "contact_by": None, "recall_at": None}
_UNASSIGNED: Final[Mapping[str, Any]] = {
    **_UNPROTECTED,
    **_IDLE,
    "partner_id": None,
    "owner": None,
    "opened": False,
    "claim_group": None,
}
_NO_CLOCK: Final[Mapping[str, Any]] = dict.fromkeys(
    ("sla_warn_at", "sla_due_at", "sla_warn_left", "sla_left", "place_until", "lapse_at")
)


def evolve(state: Lead, event: Event) -> Lead:
    """Give the lead after the event."""
    state = replace(state, version=state.version + 1, status=STATUS_AFTER.get(type(event), state.status))
    match event:
        case Registered() | Captured():
            return _came_in(state, event)
        case Resubmitted() | Corrected():
            return _with_changes(state, event)
        case Screened():
            return replace(state, screened_version=event.version, matches=event.matches)
        case MatchResolved():
            return _with_resolved(state, event)
        case InformationRequested() | DecisionReverted() | SlaWarned() | SlaBreached():
            return _with_clock(state, event)
        case Rejected() | Withdrawn() | Lapsed():
            return replace(state, **_NO_CLOCK)
        case Protection() | ProtectionExpiring() | ProtectionEnded() | ProtectionExpired() | ProtectionRevoked():
            return _with_protection(state, event)
        case _:
            return _with_work(state, event)


def _came_in(state: Lead, event: Registered | Captured) -> Lead:
    state = replace(
        state,
        **_known(event, _DETAILS),
        owner=event.owner,
        identity_version=state.version,
        place_version=state.version,
    )
    if isinstance(event, Captured):
        return replace(state, origin="captured")
    return replace(
        state,
        origin="registered",
        partner_id=event.partner_id,
        sla_warn_at=event.sla_warn_at,
        sla_due_at=event.sla_due_at,
    )


def _with_changes(state: Lead, event: Resubmitted | Corrected) -> Lead:
    state = replace(state, **_known(event, event.changed))
    if isinstance(event, Resubmitted) or not IDENTITY.isdisjoint(event.changed):
        state = replace(state, identity_version=state.version)
    if not IDENTITY.isdisjoint(event.changed):
        state = replace(state, resolved={}, decided=frozenset())
    if isinstance(event, Corrected):
        return state
    place = state.place_version if event.keeps_place else state.version
    clock = {**_NO_CLOCK, "sla_warn_at": event.sla_warn_at, "sla_due_at": event.sla_due_at}
    return replace(state, place_version=place, **clock)


def _known(event: Details, names: Iterable[str]) -> dict[str, Any]:
    values = {name: getattr(event, name) for name in _DETAILS if name in names}
    if "evidence" in values:
        values["evidence"] = values["evidence"] is not None
    if "customer" in values:
        values["customer_keys"] = frozenset(event.customer_keys)
        values["domain_keys"] = frozenset(event.domain_keys)
        values["country"] = event.customer.country if event.customer else None
    return values


def _with_resolved(state: Lead, event: MatchResolved) -> Lead:
    resolved = {**state.resolved, event.other_lead: event}
    group = event.claim_group or state.claim_group
    return replace(state, resolved=resolved, decided=frozenset(resolved), claim_group=group)


def _with_clock(state: Lead, event: InformationRequested | DecisionReverted | SlaWarned | SlaBreached) -> Lead:
    match event:
        case SlaWarned():
            return replace(state, sla_warn_at=None)
        case SlaBreached():
            return replace(state, sla_warn_at=None, sla_due_at=None)
        case InformationRequested():
            stopped: dict[str, Any] = {
                "sla_warn_left": event.sla_warn_left,
                "sla_left": event.sla_left,
                "place_until": event.place_until,
                "lapse_at": event.lapse_at,
            }
            return replace(state, **{**_NO_CLOCK, **stopped})
        case DecisionReverted():
            clock: dict[str, Any] = {"sla_warn_at": event.sla_warn_at, "sla_due_at": event.sla_due_at}
            return replace(state, **_UNPROTECTED, **clock, identity_version=state.version)


def _with_protection(
    state: Lead,
    event: Protection | ProtectionExpiring | ProtectionEnded | ProtectionExpired | ProtectionRevoked,
) -> Lead:
    match event:
        case Protection():
            return _protected(state, event)
        case ProtectionExpiring():
            return replace(state, remind_at=tuple(at for at in state.remind_at if at > event.remind_at))
        case ProtectionEnded():
            return replace(state, **_UNPROTECTED)
        case ProtectionExpired() | ProtectionRevoked():
            left = _UNASSIGNED if event.status == "qualified" else _UNPROTECTED
            return replace(state, status=event.status, **left)


def _protected(state: Lead, event: Protection) -> Lead:
    state = replace(
        state,
        protected_from=event.protected_from,
        protected_until=event.protected_until,
        remind_at=event.remind_at,
        extensions=state.extensions + 1 if isinstance(event, ProtectionExtended) else 0,
    )
    match event:
        case Approved():
            return replace(state, **_NO_CLOCK)
        case Accepted():
            times: dict[str, Any] = {
                "contact_by": event.contact_by,
                "recall_at": event.recall_at,
                "active_at": event.accepted_at,
            }
            return replace(state, respond_by=None, **times)
        case _:
            return state


def _with_work(state: Lead, event: Event) -> Lead:
    match event:
        case Transferred():
            return replace(state, partner_id=event.partner_id, owner=None, opened=False)
        case OwnerAssigned():
            return replace(state, owner=event.owner)
        case Converted():
            return replace(state, **_IDLE, opportunity_id=event.opportunity_id)
        case ActivityLogged():
            return _active(state, event.happened_at, event.recall_at or state.recall_at)
        case Contacted():
            return replace(_active(state, event.contacted_at, event.recall_at), contact_by=None)
        case WorkStarted():
            return _active(state, event.started_at, event.recall_at)
        case ContactOverdue():
            return replace(state, contact_by=None)
        case _:
            return _with_offer(state, event)


def _with_offer(state: Lead, event: Event) -> Lead:
    match event:
        case Offered():
            return replace(state, partner_id=event.partner_id, respond_by=event.respond_by, owner=None)
        case Opened():
            return replace(state, opened=True)
        case Declined():
            return replace(state, **_UNASSIGNED, declined_by=state.declined_by | {event.partner_id})
        case OfferExpired() | Recalled():
            return replace(state, **_UNASSIGNED)
        case Disqualified():
            return replace(state, **_UNPROTECTED, **_IDLE)
        case _:
            return state


def _active(state: Lead, at: datetime, recall_at: datetime | None) -> Lead:
    return replace(state, active_at=max(at, state.active_at or at), recall_at=recall_at)


# Decisions

REGISTERED: Final = ("submitted", "in_review", "action_required", "approved", "converted")
LIVE: Final = (*REGISTERED, "new", "qualified", *IN_HANDS)
HELD: Final = ("approved", "converted", "accepted", "contacted", "working")  # where there may be a protection

# Where both origins share a status, `converted`, a row is for both unless it stands in ORIGINS.
TABLE: Final[Mapping[type[Command], Sequence[str]]] = {
    Register: (NONE,),
    Capture: (NONE,),
    Screen: LIVE,
    ResolveMatch: LIVE,
    StartReview: ("submitted",),
    RequestInformation: ("submitted", "in_review"),
    Resubmit: ("action_required",),
    Approve: ("submitted", "in_review"),
    Reject: ("submitted", "in_review", "action_required"),
    Withdraw: ("submitted", "in_review", "action_required"),
    Lapse: ("action_required",),
    RequestExtension: ("approved", "converted"),
    Extend: HELD,
    Correct: ("approved", "converted", "new", "qualified", *IN_HANDS),
    Transfer: LIVE,
    AssignOwner: LIVE,
    WarnSla: ("submitted", "in_review"),
    BreachSla: ("submitted", "in_review"),
    RemindProtection: HELD,
    EndProtection: HELD,
    Convert: ("approved", "accepted", "contacted", "working"),
    Expire: HELD,
    Revoke: HELD,
    Revert: ("approved", "rejected"),
    LogActivity: LIVE,
    Comment: LIVE,
    Qualify: ("new",),
    Offer: ("new", "qualified"),
    Open: ("offered",),
    Accept: ("offered",),
    Decline: ("offered",),
    ExpireOffer: ("offered",),
    Recall: IN_HANDS,
    RecordContact: ("accepted",),
    StartWork: ("contacted",),
    Disqualify: ("new", "qualified", "accepted", "contacted", "working"),
    RemindContact: ("accepted",),
}
ORIGINS: Final[Mapping[type[Command], str]] = {RequestExtension: "registered"}


def decide(state: Lead, command: Command, facts: Facts) -> Decision:
    """Answer a command; who may send it has been checked before, by `authorise`.

    What is overdue expires first, and the answer is that of the state after it. Not so before a screening, which
    depends on no time: in an import of the past it comes before the rest of the lead's own history.
    """
    if refused := _reaction_refused(command, facts):
        return refused
    lapsed = () if isinstance(command, Screen) else lapse_first(state, facts)
    if isinstance(command, Expire | ExpireOffer) and lapsed:
        return _state_refused(state, command) or lapsed
    current = reduce(evolve, lapsed, state)
    if refused := _state_refused(current, command):
        return refused
    decision = _DECISIONS[type(command)](current, command, facts)
    return decision if isinstance(decision, Refused) else (*lapsed, *decision)


def lapse_first(state: Lead, facts: Facts) -> tuple[Event, ...]:
    """Give the expiry of a protection or an offer whose time is over, dated at that time."""
    if state.protected_until is not None and facts.now >= state.protected_until:
        return (ProtectionExpired(status=_without_protection(state, "expired"), expired_at=state.protected_until),)
    if state.respond_by is not None and state.partner_id is not None and facts.now >= state.respond_by:
        return (OfferExpired(partner_id=state.partner_id, expired_at=state.respond_by),)
    return ()


def _without_protection(state: Lead, registered: str) -> str:
    """Give the status after a protection that expired or was revoked."""
    if state.status == "converted":
        return "converted"
    return registered if state.origin == "registered" else "qualified"


def _state_refused(state: Lead, command: Command) -> Refused | None:
    origin = ORIGINS.get(type(command), state.origin)
    if state.origin != origin and state.status in TABLE[type(command)]:
        return Refused(
            "state.not_allowed", f"{command.NAME} is not possible for a {state.origin} lead ({state.status})"
        )
    return check_state(TABLE, state.status, command)


def _reaction_refused(command: Command, facts: Facts) -> Refused | None:
    """Keep the system from deciding by itself: it says who decided, and by which event."""
    if facts.actor.role is not Role.SYSTEM or not isinstance(command, Reaction):
        return None
    if isinstance(command, Recall) and command.due is not None:
        return None
    said = {"deciding_event": command.deciding_event, "onbehalfof": facts.actor.on_behalf_of}
    lacking = [name for name, value in said.items() if not value]
    return required(lacking) if lacking else None


# Coming in

_NEEDED: Final[Mapping[str, Sequence[str]]] = {
    "registered": (
        "customer",
        "product_lines",
        "deal_type",
        "amount",
        "expected_close_on",
        "business_problem",
    ),
    "captured": ("customer", "product_lines"),
}


# Who registers for itself, and then owns the lead if nobody else is named.
_OWNERS: Final = PARTNER_ROLES | {Role.INTEGRATION}


def _register(_state: Lead, command: Register, facts: Facts) -> Decision:
    details = _details(command, facts)
    wanted = replace(_wanted(details), origin="registered", partner_id=command.partner_id)
    missing = _missing(command, "registered", facts)
    if missing and not on_behalf(facts):
        return required(missing)
    refused = (
        _given_refused(command, facts)
        or _partner_refused(wanted, facts)
        or _cap_refused(command.partner_id, facts)
        or _amount_refused(wanted.amount, facts)
        or _duplicate_refused(wanted, facts)
        or _owner_refused(command.owner, command.partner_id, facts)
    )
    if refused:
        return refused
    person = _person(facts)
    registered = Registered(
        **details,
        **_clock(facts),
        partner_id=command.partner_id,
        submitted_by=person or facts.actor.id,
        owner=command.owner or (person if facts.actor.role in _OWNERS else None),
        held_until=_held_until(wanted, facts, facts.now, facts.now + timedelta.resolution),
        note=command.note,
        missing=missing,
    )
    return (registered,)


def _capture(_state: Lead, command: Capture, facts: Facts) -> Decision:
    missing = _missing(command, "captured", facts)
    if missing and not on_behalf(facts):
        return required(missing)
    if refused := _given_refused(command, facts):
        return refused
    captured = Captured(
        **_details(command, facts),
        captured_by=_person(facts) or facts.actor.id,
        owner=command.owner,
        source=command.source,
        note=command.note,
        missing=missing,
    )
    return (captured,)


def _person(facts: Facts) -> str | None:
    """Give who acts: for an import the one who did it then, if it says."""
    return facts.actor.on_behalf_of if on_behalf(facts) else facts.actor.id


def _missing(command: Incoming, origin: str, facts: Facts) -> tuple[str, ...]:
    lacking = tuple(name for name in _NEEDED[origin] if not getattr(command, name))
    return (*lacking, "came_in_at") if command.time_assumed and on_behalf(facts) else lacking


def _details(given: GivenDetails, facts: Facts) -> dict[str, Any]:
    customer = given.customer.stored() if given.customer else None
    scope = facts.policy.lead.match_scope
    return {
        "external_id": given.external_id,
        "customer": customer,
        "customer_keys": tuple(sorted(customer_keys(customer, scope))) if customer else (),
        "domain_keys": tuple(sorted(domain_keys(customer))) if customer else (),
        "contact": given.contact.stored() if given.contact else None,
        "product_lines": tuple(dict.fromkeys(given.product_lines)),
        "deal_type": given.deal_type,
        "amount": given.amount.stored() if given.amount else None,
        "expected_close_on": given.expected_close_on,
        "business_problem": given.business_problem,
        "competitors": tuple(dict.fromkeys(given.competitors)),
        "evidence": given.evidence,
    }


def _wanted(details: Mapping[str, Any]) -> Lead:
    """Give a lead with these details, for the checks."""
    customer: Customer | None = details["customer"]
    return Lead(
        customer_keys=frozenset(details["customer_keys"]),
        country=customer.country if customer else None,
        product_lines=details["product_lines"],
        amount=details["amount"],
    )


def _given_refused(given: GivenDetails, facts: Facts) -> Refused | None:
    if getattr(given, "time_assumed", False) and not on_behalf(facts):
        return invalid("time_assumed", "not_import", "is for imports")
    if refused := check_product_lines("product_lines", given.product_lines, facts):
        return refused
    close = given.expected_close_on
    if close is not None and close < facts.today and not on_behalf(facts):
        return invalid("expected_close_on", "past", "lies in the past")
    return None


def _clock(facts: Facts) -> dict[str, Any]:
    calendar = facts.policy.working_calendar
    working = working_time(calendar, facts.policy.lead.approve_within)
    return {
        "sla_warn_at": due_after_working(calendar, facts.now, working / 2),
        "sla_due_at": due_after_working(calendar, facts.now, working),
        "policy_version": facts.policy.version,
    }


def _holder(state: Lead) -> UUID:
    if state.partner_id is None:
        raise AssertionError("a lead in this state has a partner")
    return state.partner_id


# Whether a partner may have the lead


def _partner_refused(wanted: Lead, facts: Facts) -> Refused | None:
    """Say why its partner may not have this lead: inactive, not authorised or, for a registration, outside."""
    if wanted.partner_id is None:
        return None
    if refused := check_partner(wanted.partner_id, facts):
        return refused
    if on_behalf(facts):
        return None
    numbers, partner = facts.policy.lead, facts.partners[wanted.partner_id]
    if numbers.require_authorisation and (line := _unauthorised(partner, wanted.product_lines, facts.today)):
        return Refused(
            "partner.not_authorised",
            "the partner is not authorised for a product line",
            (FieldError("product_lines", "not_authorised", f"not authorised: {line}"),),
        )
    if wanted.origin == "registered" and numbers.check_territories and not _inside(partner, wanted.country):
        return Refused("lead.outside_territory", "the customer lies outside the partner's territories")
    return None


def _unauthorised(partner: Partner, lines: Sequence[str], today: date) -> str | None:
    """Give the first product line that the partner is not, or no longer, authorised for."""
    return next((line for line in lines if not _authorised(partner, line, today)), None)


def _authorised(partner: Partner, line: str, today: date) -> bool:
    valid_to = partner.authorisations.get(line)
    return line in partner.authorisations and (valid_to is None or valid_to >= today)


def _inside(partner: Partner, country: str | None) -> bool:
    """Tell whether the customer's country is in a territory; a territory is a country or a part of one, as BR-RS."""
    territories = {territory.upper().partition("-")[0] for territory in partner.territories}
    return country is None or not territories or country.upper() in territories


def _cap_refused(partner_id: UUID, facts: Facts) -> Refused | None:
    if on_behalf(facts):
        return None
    cap = registration_cap(facts.partners[partner_id], facts.policy.lead)
    live = _live(partner_id, "registered", facts)
    if live >= cap:
        return Refused("lead.cap_reached", f"the partner has {live} live registrations of {cap}")
    return None


def registration_cap(partner: Partner, numbers: LeadNumbers) -> int:
    """Give how many live registrations the partner may have."""
    if partner.capacity.live_registrations is not None:
        return partner.capacity.live_registrations
    return int(numbers.live_registrations * numbers.tier_factors.get(partner.tier or "", 1))


def _live(partner_id: UUID, origin: str, facts: Facts) -> int:
    return sum(
        one.partner_id == partner_id and one.origin == origin and one.lead_id != facts.subject
        for one in facts.live_registrations
    )


def _capacity_refused(partner_id: UUID, facts: Facts) -> Refused | None:
    own = facts.partners[partner_id].capacity.open_leads
    most = facts.policy.lead.open_leads if own is None else own
    if _live(partner_id, "captured", facts) >= most:
        return Refused("lead.partner_at_capacity", f"the partner has {most} open leads, and takes no more")
    return None


def _amount_refused(amount: Money | None, facts: Facts) -> Refused | None:
    if amount is None or on_behalf(facts):
        return None
    least = facts.policy.lead.minimum_amounts.get(amount.currency)
    if least is not None and amount.amount < least:
        return Refused("lead.below_minimum", f"a registration needs at least {least} {amount.currency}")
    return None


def _duplicate_refused(wanted: Lead, facts: Facts) -> Refused | None:
    if on_behalf(facts):
        return None
    for one in facts.live_registrations:
        if (
            (one.partner_id, one.origin) == (wanted.partner_id, "registered")
            and one.lead_id != facts.subject
            and not one.customer_keys.isdisjoint(wanted.customer_keys)
            and lines_meet(one.product_lines, wanted.product_lines)
        ):
            return Refused("lead.duplicate_registration", f"the partner registered this before: lead {one.lead_id}")
    return None


def lines_meet(one: frozenset[str], other: Iterable[str]) -> bool:
    """Tell whether two leads share a product line; one without any stands for all."""
    lines = frozenset(other)
    return not one or not lines or not one.isdisjoint(lines)


def _owner_refused(owner: str | None, partner_id: UUID | None, facts: Facts) -> Refused | None:
    """Keep the lead with an active user of its partner; of a partner without users, nothing is known."""
    partner = facts.partners.get(partner_id) if partner_id else None
    if owner is None or owner == facts.actor.id or on_behalf(facts) or partner is None:
        return None
    if partner.users and not partner.has_active_user(owner):
        return Refused("lead.owner_outside_organisation", "the owner is not an active user of the partner")
    return None


def _held_until(wanted: Lead, facts: Facts, start: datetime, end: datetime) -> datetime | None:
    """Give until when another claim group holds the customer within a time, or None if it is free."""
    group = wanted.claim_group or facts.subject
    held = (
        claim.until
        for claim in facts.claims
        if claim.customer_key in wanted.customer_keys
        and lines_meet(claim.product_lines, wanted.product_lines)
        and claim.claim_group != group
        and claim.lead_id != facts.subject
        and claim.valid_from < end
        and start < claim.until
    )
    return max(held, default=None)


def _rival_refused(wanted: Lead, facts: Facts, start: datetime, end: datetime) -> Refused | None:
    """Say until when the customer is protected, and not for whom."""
    until = _held_until(wanted, facts, start, end)
    return Refused("lead.already_protected", f"already protected until {utc_text(until)}") if until else None


# Matches


def _screen(state: Lead, command: Screen, _facts: Facts) -> Decision:
    if command.version > state.version:
        return invalid("version", "future", "the lead has no such version yet")
    if command.version < state.identity_version:
        return Refused("lead.screen_stale", f"the lead has changed at version {state.identity_version}")
    matches = tuple(given.stored() for given in command.matches)
    if (command.version, matches) == (state.screened_version, state.matches):
        return ()
    return (Screened(version=command.version, clear=not matches, matches=matches),)


def _resolve_match(state: Lead, command: ResolveMatch, facts: Facts) -> Decision:
    if command.other_lead == facts.subject:
        return invalid("other_lead", "circular", "is the lead itself")
    if (command.outcome == "split") != (command.claim_group is not None):
        return invalid("claim_group", "split", "is what the leads of a split share, and those need it")
    if command.share is not None and command.outcome != "split":
        return invalid("share", "split", "is for a split")
    resolved = MatchResolved(**command.model_dump())
    known = state.resolved.get(command.other_lead)
    if known and known.model_copy(update={"note": None}) == resolved.model_copy(update={"note": None}):
        return ()
    after = _with_resolved(state, resolved)
    if state.protected_from and state.protected_until:
        refused = _rival_refused(after, facts, state.protected_from, state.protected_until)
        if refused:
            return refused
    return (resolved,)


# Review


def _request_information(state: Lead, command: RequestInformation, facts: Facts) -> Decision:
    numbers, calendar = facts.policy.lead, facts.policy.working_calendar
    asked = InformationRequested(
        fields=tuple(dict.fromkeys(command.fields)),
        note=command.note,
        place_until=facts.now + numbers.keep_place_within,
        lapse_at=facts.now + numbers.lapse_after,
        sla_warn_left=working_between(calendar, facts.now, state.sla_warn_at) if state.sla_warn_at else None,
        sla_left=working_between(calendar, facts.now, state.sla_due_at) if state.sla_due_at else None,
        policy_version=facts.policy.version,
    )
    return (asked,)


def _resubmit(state: Lead, command: Resubmit, facts: Facts) -> Decision:
    details = _details(command, facts)
    changed = _changed(state, command, details)
    after = replace(state, **_known(Details(**details), changed))
    refused = (
        _cleared_refused(state, command, facts)
        or _given_refused(command, facts)
        or (_partner_refused(after, facts) if "product_lines" in changed or "customer" in changed else None)
        or (_amount_refused(after.amount, facts) if "amount" in changed else None)
        or _duplicate_refused(after, facts)
    )
    if refused:
        return refused
    identified = ("customer_keys", "domain_keys")
    same = all(getattr(after, name) == getattr(state, name) for name in identified)
    individual = command.customer is not None and command.customer.individual
    resubmitted = Resubmitted(
        **_only(details, changed),
        **_clock_again(state, facts),
        changed=changed,
        keeps_place=same and not individual and state.place_until is not None and facts.now <= state.place_until,
        note=command.note,
    )
    return (resubmitted,)


def _clock_again(state: Lead, facts: Facts) -> dict[str, Any]:
    """Let the clock run again with what was left; what was warned of or breached is not again."""
    calendar, warn, left = facts.policy.working_calendar, state.sla_warn_left, state.sla_left
    return {
        "sla_warn_at": None if warn is None else due_after_working(calendar, facts.now, warn),
        "sla_due_at": None if left is None else due_after_working(calendar, facts.now, left),
        "policy_version": facts.policy.version,
    }


def _changed(state: Lead, command: GivenDetails, details: Mapping[str, Any]) -> tuple[str, ...]:
    given = command.model_fields_set
    return tuple(name for name in _DETAILS if name in given and _differs(state, name, details[name]))


def _differs(state: Lead, name: str, value: object) -> bool:
    """Compare with what is known; what is sealed in the log cannot be compared: given, it counts as changed."""
    if name in _SEALED:
        return value is not None or bool(getattr(state, name))
    return bool(value != getattr(state, name))


def _only(details: Mapping[str, Any], changed: Iterable[str]) -> dict[str, Any]:
    kept = {*changed, *(("customer_keys", "domain_keys") if "customer" in changed else ())}
    return {name: value for name, value in details.items() if name in kept}


def _cleared_refused(state: Lead, command: GivenDetails, facts: Facts) -> Refused | None:
    given = command.model_fields_set
    cleared = [name for name in _NEEDED[state.origin] if name in given and not getattr(command, name)]
    return required(cleared) if cleared and not on_behalf(facts) else None


def _approve(state: Lead, command: Approve, facts: Facts) -> Decision:
    partner_id = _holder(state)
    partner = facts.partners.get(partner_id)
    until = facts.now + _window(partner, facts.policy.lead)
    refused = (
        _screening_refused(state, facts)
        or _rival_refused(state, facts, facts.now, until)
        or check_partner(partner_id, facts)
        or _incumbent_refused(state, command, facts)
    )
    if refused:
        return refused
    screened = state.screened_version >= state.identity_version
    approved = Approved(
        **_protection(facts.now, until, facts),
        note=command.note,
        override_reason=command.override_reason,
        deciding_event=command.deciding_event,
        missing=() if screened else ("screening",),
    )
    return (approved,)


def _window(partner: Partner | None, numbers: LeadNumbers) -> timedelta:
    return numbers.tier_protection.get((partner.tier if partner else None) or "", numbers.protection)


def _screening_refused(state: Lead, facts: Facts) -> Refused | None:
    if on_behalf(facts):
        return None
    if state.screened_version < state.identity_version:
        return Refused("lead.not_screened", "the lead has not been screened yet as it is now; try again in a moment")
    if any(_blocks(one, facts.subject) for one in facts.matches):
        return Refused("lead.in_conflict", "the customer may be another's already; the match is not decided yet")
    return None


def _blocks(match: UndecidedMatch, lead_id: UUID) -> bool:
    """Tell whether a match blocks the lead: it is the later one. A hard match blocks by the claim, if one is taken."""
    concerned = lead_id in (match.lead_id, match.other_lead_id)
    strong = match.strength == "probable" or (match.strength == "hard" and not match.claims)
    return concerned and strong and match.earlier_lead_id != lead_id


def _incumbent_refused(state: Lead, command: Approve, facts: Facts) -> Refused | None:
    if state.deal_type != "renewal" or not facts.policy.lead.incumbents_renew:
        return None
    if command.override_reason or on_behalf(facts) or not _incumbents(state, facts):
        return None
    return Refused("lead.incumbent_renewal", "a renewal is for the partner that won this customer last")


def _incumbents(state: Lead, facts: Facts) -> set[UUID]:
    """Give the active partners, other than the lead's, that won this customer last for a line of the lead."""
    found = (
        partner_id
        for (key, line), partner_id in facts.incumbents.items()
        if key in state.customer_keys and (not line or not state.product_lines or line in state.product_lines)
    )
    known = {one: facts.partners.get(one) for one in found if one != state.partner_id}
    return {one for one, partner in known.items() if partner is not None and partner.status == "active"}


def _protection(start: datetime, until: datetime, facts: Facts) -> dict[str, Any]:
    reminders = {until - before for before in facts.policy.lead.reminders}
    return {
        "protected_from": start,
        "protected_until": until,
        "remind_at": tuple(sorted(at for at in reminders if at > facts.now)),
        "policy_version": facts.policy.version,
    }


def _reject(_state: Lead, command: Reject, _facts: Facts) -> Decision:
    return (Rejected(reason=command.reason, note=command.note, deciding_event=command.deciding_event),)


def _lapse(state: Lead, command: Lapse, facts: Facts) -> Decision:
    if (answer := check_due(state.lapse_at, command.due, facts)) is not None:
        return answer
    return (Lapsed(lapsed_at=command.due),)


def _warn_sla(state: Lead, command: WarnSla, facts: Facts) -> Decision:
    if (answer := check_due(state.sla_warn_at, command.due, facts)) is not None:
        return answer
    return (SlaWarned(warned_at=command.due, sla_due_at=state.sla_due_at or command.due),)


def _breach_sla(state: Lead, command: BreachSla, facts: Facts) -> Decision:
    if (answer := check_due(state.sla_due_at, command.due, facts)) is not None:
        return answer
    return (SlaBreached(breached_at=command.due),)


def _revert(state: Lead, command: Revert, facts: Facts) -> Decision:
    partner_id = _holder(state)
    partner = facts.partners.get(partner_id)
    refused = (_cap_refused(partner_id, facts) if partner else None) or _duplicate_refused(state, facts)
    if refused:
        return refused
    reverted = DecisionReverted(
        **_clock(facts), previous=state.status, reason=command.reason, deciding_event=command.deciding_event
    )
    return (reverted,)


# Protection

NOT_PROTECTED: Final = Refused("lead.not_protected", "the lead has no protection any more")


def _request_extension(state: Lead, command: RequestExtension, facts: Facts) -> Decision:
    if refused := _limit_refused(state, facts):
        return refused
    return (ExtensionRequested(evidence=command.evidence),)


def _limit_refused(state: Lead, facts: Facts) -> Refused | None:
    if not state.protected:
        return NOT_PROTECTED
    if state.extensions >= facts.policy.lead.extensions:
        return Refused("lead.extension_limit", f"it was extended before: {state.extensions} of {state.extensions}")
    return None


def _extend(state: Lead, command: Extend, facts: Facts) -> Decision:
    if refused := _limit_refused(state, facts):
        return refused
    start, end = state.protected_from, state.protected_until
    if start is None or end is None:
        return NOT_PROTECTED
    recent = _recently_active(state, facts)
    if not recent and not on_behalf(facts):
        return Refused("lead.no_recent_activity", "neither the lead nor its opportunity had an activity lately")
    until = end + facts.policy.lead.extend_by
    if refused := _rival_refused(state, facts, start, until):
        return refused
    extended = ProtectionExtended(
        **_protection(start, until, facts),
        previous_until=end,
        evidence=command.evidence,
        missing=() if recent else ("activity",),
    )
    return (extended,)


def _recently_active(state: Lead, facts: Facts) -> bool:
    opportunity = facts.opportunities.get(state.opportunity_id) if state.opportunity_id else None
    times = (state.active_at, opportunity.moved_at if opportunity else None)
    since = facts.now - facts.policy.lead.extend_activity_within
    return any(at is not None and at >= since for at in times)


def _remind_protection(state: Lead, command: RemindProtection, facts: Facts) -> Decision:
    known = command.due if command.due in state.remind_at else None
    if (answer := check_due(known, command.due, facts)) is not None:
        return answer
    until = state.protected_until or command.due
    return (ProtectionExpiring(days=(until - command.due).days, remind_at=command.due, protected_until=until),)


def _end_protection(state: Lead, command: EndProtection, _facts: Facts) -> Decision:
    """End it if the opportunity is the lead's own, or at least its partner's: it said itself where it came from."""
    own = state.opportunity_id in (None, command.opportunity_id) and state.partner_id in command.partners
    if state.protected_until is None or not own:
        return ()
    ended_now = ProtectionEnded(
        outcome=command.outcome, opportunity_id=command.opportunity_id, protected_until=state.protected_until
    )
    return (ended_now,)


def _expire(state: Lead, command: Expire, facts: Facts) -> Decision:
    """Answer what is not due; what is has expired before, in `lapse_first`."""
    return check_due(state.protected_until, command.due, facts) or ()


def _revoke(state: Lead, command: Revoke, _facts: Facts) -> Decision:
    if not state.protected:
        return ()
    status = _without_protection(state, "revoked")
    return (ProtectionRevoked(status=status, reason=command.reason, deciding_event=command.deciding_event),)


def _correct(state: Lead, command: Correct, facts: Facts) -> Decision:
    details = _details(command, facts)
    changed = _changed(state, command, details)
    refused = _cleared_refused(state, command, facts) or _given_refused(command, facts)
    if refused:
        return refused
    if not changed:
        return ()
    after = replace(state, **_known(Details(**details), changed))
    if state.protected_from and state.protected_until:
        refused = _rival_refused(after, facts, state.protected_from, state.protected_until)
        if refused:
            return refused
    return (Corrected(**_only(details, changed), changed=changed, reason=command.reason),)


def _transfer(state: Lead, command: Transfer, facts: Facts) -> Decision:
    if state.partner_id is None:
        return Refused("lead.not_assigned", "the lead has no partner yet; offer it to one")
    if command.partner_id == state.partner_id:
        return ()
    after = replace(state, partner_id=command.partner_id)
    if refused := _partner_refused(after, facts) or _transfer_refused(after, command.partner_id, facts):
        return refused
    return (Transferred(partner_id=command.partner_id, previous=state.partner_id, reason=command.reason),)


def _transfer_refused(after: Lead, partner_id: UUID, facts: Facts) -> Refused | None:
    if after.origin == "registered":
        return (
            _cap_refused(partner_id, facts) or _amount_refused(after.amount, facts) or _duplicate_refused(after, facts)
        )
    if partner_id in after.declined_by:
        return DECLINED_BEFORE
    return None if on_behalf(facts) else _capacity_refused(partner_id, facts)


def _convert(state: Lead, command: Convert, facts: Facts) -> Decision:
    if command.opportunity_id is None:
        opportunity_id = opportunity_of(facts.subject)
        opening = FollowUp(opportunity_id, _opening(state, command, facts))
        return (Converted(opportunity_id=opportunity_id, previous=state.status), opening)
    if not on_behalf(facts):
        return invalid("opportunity_id", "not_import", "is for imports")
    return (Converted(opportunity_id=command.opportunity_id, previous=state.status),)


def _opening(state: Lead, command: Convert, facts: Facts) -> OpenOpportunity:
    """Give the command that opens the opportunity; what is sealed goes over as it is."""
    close = command.expected_close_on or state.expected_close_on
    if close is not None and close < facts.today and on_behalf(facts):
        close = None
    amount = command.amount or (GivenMoney.model_construct(**dict(state.amount)) if state.amount else None)
    content: dict[str, Any] = {
        "name": command.name,
        "external_id": None,
        "customer": customer_again(state.customer) if state.customer else None,
        "contact": contact_again(state.contact) if state.contact else None,
        "deal_type": command.deal_type or state.deal_type,
        "products": tuple(GivenProduct(line=line) for line in state.product_lines),
        "amount": amount,
        "expected_close_on": close,
        "business_problem": state.business_problem,
        "competitors": state.competitors,
        "partner_id": state.partner_id,
        "partner_role": command.partner_role,
        "lead_id": facts.subject,
        "owner": command.owner or state.owner,
        "next_action": command.next_action,
        "note": command.note,
    }
    return OpenOpportunity.model_construct(**content)


# Handing out

DECLINED_BEFORE: Final = Refused("lead.partner_declined_before", "the partner declined this lead before")


def _offer(state: Lead, command: Offer, facts: Facts) -> Decision:
    numbers = facts.policy.lead
    respond_by = command.respond_by or facts.now + numbers.answer_within
    if respond_by <= facts.now:
        return invalid("respond_by", "past", "lies in the past")
    after = replace(state, partner_id=command.partner_id)
    if refused := _partner_refused(after, facts) or _offer_refused(after, command.partner_id, facts):
        return refused
    offered = Offered(
        partner_id=command.partner_id,
        respond_by=respond_by,
        strategy=command.strategy,
        candidates=tuple(candidate.stored() for candidate in command.candidates),
        policy_version=facts.policy.version,
    )
    return (offered,)


def _offer_refused(after: Lead, partner_id: UUID, facts: Facts) -> Refused | None:
    if partner_id in after.declined_by:
        return DECLINED_BEFORE
    if on_behalf(facts):
        return None
    until = facts.now + facts.policy.lead.captured_protection
    return _capacity_refused(partner_id, facts) or _rival_refused(after, facts, facts.now, until)


def _open(state: Lead, _command: Open, _facts: Facts) -> Decision:
    return () if state.opened else (Opened(),)


def _accept(state: Lead, command: Accept, facts: Facts) -> Decision:
    missing = ("next_action",) if command.next_action is None else ()
    if missing and not on_behalf(facts):
        return required(missing)
    partner_id = _holder(state)
    numbers = facts.policy.lead
    until = facts.now + numbers.captured_protection
    refused = check_partner(partner_id, facts) or _rival_refused(state, facts, facts.now, until)
    if refused:
        return refused
    accepted = Accepted(
        **_protection(facts.now, until, facts),
        next_action=command.next_action.stored() if command.next_action else None,
        contact_by=facts.now + numbers.contact_within,
        recall_at=facts.now + numbers.recall_after,
        accepted_at=facts.now,
        missing=missing,
    )
    return (accepted,)


def _decline(state: Lead, command: Decline, _facts: Facts) -> Decision:
    return (Declined(partner_id=_holder(state), reason=command.reason, note=command.note),)


def _expire_offer(state: Lead, command: ExpireOffer, facts: Facts) -> Decision:
    """Answer what is not due; what is has expired before, in `lapse_first`."""
    return check_due(state.respond_by, command.due, facts) or ()


def _recall(state: Lead, command: Recall, facts: Facts) -> Decision:
    if command.due is not None and (answer := check_due(state.recall_at, command.due, facts)) is not None:
        return answer
    recalled = Recalled(
        partner_id=_holder(state),
        previous=state.status,
        reason=command.reason,
        due=command.due,
        deciding_event=command.deciding_event,
    )
    return (recalled,)


def _record_contact(_state: Lead, command: RecordContact, facts: Facts) -> Decision:
    recall_at = facts.now + facts.policy.lead.recall_after
    return (Contacted(kind=command.kind, contacted_at=facts.now, recall_at=recall_at, note=command.note),)


def _start_work(_state: Lead, command: StartWork, facts: Facts) -> Decision:
    recall_at = facts.now + facts.policy.lead.recall_after
    return (WorkStarted(started_at=facts.now, recall_at=recall_at, note=command.note),)


def _disqualify(state: Lead, command: Disqualify, _facts: Facts) -> Decision:
    return (Disqualified(reason=command.reason, previous=state.status, note=command.note),)


def _remind_contact(state: Lead, command: RemindContact, facts: Facts) -> Decision:
    if (answer := check_due(state.contact_by, command.due, facts)) is not None:
        return answer
    return (ContactOverdue(contact_by=command.due),)


# Work


def _assign_owner(state: Lead, command: AssignOwner, facts: Facts) -> Decision:
    if command.owner == state.owner:
        return ()
    if refused := _owner_refused(command.owner, state.partner_id, facts):
        return refused
    return (OwnerAssigned(owner=command.owner, previous=state.owner),)


def _log_activity(state: Lead, command: LogActivity, facts: Facts) -> Decision:
    if refused := check_visibility(command.visibility, facts):
        return refused
    happened_on = command.happened_on or facts.today
    if happened_on > facts.today:
        return invalid("happened_on", "future", "lies in the future")
    partners_own = facts.actor.role in PARTNER_ROLES or on_behalf(facts)
    recall_at = facts.now + facts.policy.lead.recall_after if state.recall_at and partners_own else None
    activity = ActivityLogged(
        kind=command.kind,
        summary=command.summary,
        happened_on=happened_on,
        happened_at=activity_time(happened_on, facts),
        visibility=command.visibility,
        recall_at=recall_at,
    )
    return (activity,)


def _comment(_state: Lead, command: Comment, facts: Facts) -> Decision:
    if refused := check_visibility(command.visibility, facts):
        return refused
    return (Commented(text=command.text, visibility=command.visibility),)


_DECISIONS: Final[Mapping[type[Command], Callable[[Lead, Any, Facts], Decision]]] = {
    Register: _register,
    Capture: _capture,
    Screen: _screen,
    ResolveMatch: _resolve_match,
    StartReview: lambda _state, _command, _facts: (ReviewStarted(),),
    RequestInformation: _request_information,
    Resubmit: _resubmit,
    Approve: _approve,
    Reject: _reject,
    Withdraw: lambda _state, command, _facts: (Withdrawn(note=command.note),),
    Lapse: _lapse,
    RequestExtension: _request_extension,
    Extend: _extend,
    Correct: _correct,
    Transfer: _transfer,
    AssignOwner: _assign_owner,
    WarnSla: _warn_sla,
    BreachSla: _breach_sla,
    RemindProtection: _remind_protection,
    EndProtection: _end_protection,
    Convert: _convert,
    Expire: _expire,
    Revoke: _revoke,
    Revert: _revert,
    LogActivity: _log_activity,
    Comment: _comment,
    Qualify: lambda _state, command, _facts: (Qualified(score=command.score, note=command.note),),
    Offer: _offer,
    Open: _open,
    Accept: _accept,
    Decline: _decline,
    ExpireOffer: _expire_offer,
    Recall: _recall,
    RecordContact: _record_contact,
    StartWork: _start_work,
    Disqualify: _disqualify,
    RemindContact: _remind_contact,
}

# Commands whose answer depends on who holds the customer, and on what its partner has already.
_ASK_CLAIMS: Final = (Register, Approve, Extend, Correct, ResolveMatch, Offer, Accept)
_ASK_REGISTRATIONS: Final = (Register, Resubmit, Revert, Transfer, Offer)


def needs(state: Lead, command: Command) -> Needs:
    """Give what the decision looks at: the partners, who holds the customer, and what is undecided."""
    partners = frozenset(filter(None, (state.partner_id, optional(command, "partner_id"))))
    given: Customer | None = optional(command, "customer")
    new = customer_keys(given, "root") | customer_keys(given, "establishment") if given else frozenset()
    extending = isinstance(command, Extend) and state.opportunity_id is not None
    return Needs(
        partners=partners,
        customer_keys=state.customer_keys | new if isinstance(command, _ASK_CLAIMS) else frozenset(),
        registrations_of=partners if isinstance(command, _ASK_REGISTRATIONS) else frozenset(),
        opportunities=frozenset(filter(None, (state.opportunity_id,))) if extending else frozenset(),
        matches=isinstance(command, Approve),
    )


def organisations(state: Lead, command: Command, _subject: UUID) -> frozenset[UUID]:
    """Give the partner that has the lead or is offered it; to register, the one named."""
    if isinstance(command, Register):
        return frozenset({command.partner_id})
    return frozenset({state.partner_id}) if state.partner_id else frozenset()


AGGREGATE: Final = Aggregate(
    name="lead",
    initial=Lead(),
    table=TABLE,
    events=EVENTS,
    evolve=evolve,
    decide=decide,
    needs=needs,
    organisations=organisations,
)
