"""What every aggregate is made of: messages, refusals, facts, and the checks that all commands share."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from prm_es.aggregates.permissions import may
from prm_es.messages import PARTNER_ROLES, Actor, Role, utc_text

if TYPE_CHECKING:
    from prm_es.aggregates.opportunity import Opportunity
    from prm_es.aggregates.partner import Partner
    from prm_es.aggregates.policy import Policy

# Messages


class Command(BaseModel):
    """Strict at the door: unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    NAME: ClassVar[str]


class Event(BaseModel):
    """Tolerant of history: unknown fields are ignored, and every later field has a default."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    TYPE: ClassVar[str]


# Refusals


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with one field; `field` is a dotted path into the command's data."""

    field: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Refused:
    """An answer, not an error: recorded with who asked, because a refusal is evidence."""

    code: str
    sentence: str
    errors: tuple[FieldError, ...] = ()


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A command that a decision implies for another aggregate, decided in the same commit with facts of its own.

    It is checked for existence and decided, not authorised: who may send the first may cause the second. If the second
    is refused, the first is refused with its reason; one that is not `required` is then only left out.
    """

    subject: UUID
    command: Command
    required: bool = True


Decision = tuple[Event | FollowUp, ...] | Refused


def invalid(field_name: str, code: str, message: str) -> Refused:
    """Refuse a command whose field is well formed but wrong in this situation."""
    return Refused("command.invalid", f"{field_name}: {message}", (FieldError(field_name, code, message),))


def required(names: Iterable[str]) -> Refused:
    """Refuse a command that leaves out what its sender must give here."""
    errors = tuple(FieldError(name, "missing", "is required") for name in names)
    return Refused("command.invalid", f"missing: {', '.join(error.field for error in errors)}", errors)


# Facts


@dataclass(frozen=True, slots=True)
class Claim:
    """A partner's protection of one customer key for some product lines, of every line if none is named.

    Claims of one key and line may overlap in time within one claim group only.
    """

    customer_key: str
    product_lines: frozenset[str]
    claim_group: UUID
    lead_id: UUID
    partner_id: UUID
    valid_from: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class LiveRegistration:
    """A lead that counts against its partner: a registration up to its approval, or a captured lead in its hands."""

    lead_id: UUID
    partner_id: UUID
    origin: str
    customer_keys: frozenset[str]
    product_lines: frozenset[str]


@dataclass(frozen=True, slots=True)
class UndecidedMatch:
    """Two leads that may be about the same customer, as the screening of `lead_id` found it; nobody has decided yet.

    The earlier may be an opportunity or a named account, which take no claims: `claims` is false then.
    """

    lead_id: UUID
    other_lead_id: UUID
    strength: str
    earlier_lead_id: UUID  # by store position
    claims: bool = True


@dataclass(frozen=True, slots=True)
class Needs:
    """What a decision must know beyond its own aggregate; dispatch loads it under the append lock.

    `matches` asks for the undecided matches that concern the subject; what is found for the others is told by Facts.
    """

    partners: frozenset[UUID] = frozenset()
    tax_keys: frozenset[str] = frozenset()
    customer_keys: frozenset[str] = frozenset()
    registrations_of: frozenset[UUID] = frozenset()
    opportunities: frozenset[UUID] = frozenset()
    matches: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What a decision may know beyond its own aggregate, read from the store under the append lock.

    `now` is the business time of the decision (UTC), `today` its date in the policy's zone, `subject` the id of the
    aggregate that the command is for.
    `partners` holds every partner named in Needs that exists, those of `incumbents`, and the parents of all these;
    `tax_owners` the partner that holds a tax key of Needs; `opportunities` those of Needs that exist.
    `claims` holds those on a customer key of Needs that end after `now`; `live_registrations` those of the partners
    that Needs asks for; `matches` the undecided ones of the subject, on either side, whose earlier side has not ended;
    `incumbents` the partner of the last won opportunity by customer key and product line, "" if it named no line.
    """

    now: datetime
    today: date
    actor: Actor
    policy: "Policy"
    subject: UUID
    partners: Mapping[UUID, "Partner"] = field(default_factory=dict)
    tax_owners: Mapping[str, UUID] = field(default_factory=dict)
    claims: Sequence[Claim] = ()
    live_registrations: Sequence[LiveRegistration] = ()
    matches: Sequence[UndecidedMatch] = ()
    incumbents: Mapping[tuple[str, str], UUID] = field(default_factory=dict)
    opportunities: Mapping[UUID, "Opportunity"] = field(default_factory=dict)


# Aggregates

NONE: Final = "none"  # the status of an aggregate that does not exist yet


class State(Protocol):
    """What dispatch and the shared checks ask of any aggregate's state."""

    @property
    def status(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One aggregate's parts, as dispatch uses them.

    `table` says in which states a command is possible; `needs(state, command)` what else to load;
    `organisations(state, command, subject)` which partners' people the command concerns. Dispatch asks `authorise`,
    then compares the expected version, then asks `decide`.
    """

    name: str
    initial: Any
    table: Mapping[type[Command], Sequence[str]]
    events: Sequence[type[Event]]
    evolve: Callable[[Any, Event], Any]
    decide: Callable[[Any, Any, Facts], Decision]
    needs: Callable[[Any, Any], Needs]
    organisations: Callable[[Any, Any, UUID], frozenset[UUID]]


def authorise(aggregate: Aggregate, state: State, command: Command, facts: Facts) -> Refused | None:
    """Say why this actor may not send this command here: by role, then existence, then organisation."""
    role = facts.actor.role
    if not may(role, command.NAME):
        return Refused("actor.forbidden", f"{role} may not send {command.NAME}")
    if refused := check_existence(aggregate, state.status, command):
        return refused
    return check_organisation(aggregate.organisations(state, command, facts.subject), command, facts)


def check_existence(aggregate: Aggregate, status: str, command: Command) -> Refused | None:
    """Say why a command cannot meet this aggregate: it is not there yet, or it is there already."""
    allowed = aggregate.table[type(command)]
    if status == NONE and NONE not in allowed:
        return Refused("aggregate.not_found", f"there is no {aggregate.name} with this id")
    if status != NONE and set(allowed) == {NONE}:
        return Refused("aggregate.already_exists", f"a {aggregate.name} with this id exists already")
    return None


def decide_follow_up(aggregate: Aggregate, state: State, command: Command, facts: Facts) -> Decision:
    """Decide what another aggregate's decision implies for this one; who may was answered there."""
    return check_existence(aggregate, state.status, command) or aggregate.decide(state, command, facts)


def check_state(table: Mapping[type[Command], Sequence[str]], status: str, command: Command) -> Refused | None:
    """Say why the command is not possible in this state, or None if it is."""
    if status in table[type(command)]:
        return None
    return Refused("state.not_allowed", f"{command.NAME} is not possible while {status}")


def check_organisation(concerned: frozenset[UUID], command: Command, facts: Facts) -> Refused | None:
    """Say why this partner-side actor may not touch these partners' rows; a parent acts for its children."""
    actor = facts.actor
    if actor.role not in PARTNER_ROLES:
        return None
    own = next((partner for partner in concerned if _acts_for(actor, partner, facts)), None)
    if own is None:
        return Refused("actor.forbidden", f"{actor.role} may send {command.NAME} for the own organisation only")
    acting = acting_partner(facts)
    if facts.policy.require_registered_users and acting and acting.users and not acting.has_active_user(actor.id):
        return Refused("actor.unknown_user", "the actor is not an active user of the partner")
    return None


def _acts_for(actor: Actor, partner_id: UUID, facts: Facts) -> bool:
    if actor.org == str(partner_id):
        return True
    partner = facts.partners.get(partner_id)
    return partner is not None and partner.parent is not None and str(partner.parent) == actor.org


def acting_partner(facts: Facts) -> "Partner | None":
    """Give the partner whose people speak, if it is known."""
    return next((partner for partner_id, partner in facts.partners.items() if str(partner_id) == facts.actor.org), None)


def on_behalf(facts: Facts) -> bool:
    """Tell whether an import speaks: it may leave out what others must give."""
    return facts.actor.role is Role.INTEGRATION


def check_product_lines(field_name: str, lines: Iterable[str], facts: Facts) -> Refused | None:
    """Say which product line the policy does not know; a policy without any knows all."""
    known = facts.policy.product_lines
    if known and not set(lines) <= set(known):
        return invalid(field_name, "unknown_product_line", "not a product line of the policy")
    return None


def check_partner(partner_id: UUID, facts: Facts) -> Refused | None:
    """Say why no new business may begin with this partner; an import may speak of those that are not active."""
    partner = facts.partners.get(partner_id)
    if partner is None or partner.status == NONE:
        return Refused("partner.not_found", "there is no partner with this id")
    if partner.status != "active" and not on_behalf(facts):
        return Refused("partner.not_active", f"the partner is {partner.status}")
    return None


def check_visibility(visibility: str, facts: Facts) -> Refused | None:
    """Say that a partner's people cannot write what they could not read."""
    if visibility == "internal" and facts.actor.role in PARTNER_ROLES:
        return invalid("visibility", "vendor_only", "internal is for the vendor's own people")
    return None


def check_due(due: datetime | None, command_due: datetime, facts: Facts) -> Decision | None:
    """Answer a deadline that moved or ended (nothing happens) or is early, or None if its time has come."""
    if due is None or command_due != due:
        return ()
    if facts.now < due:
        return Refused("deadline.early", f"it is due at {utc_text(due)}")
    return None


def activity_time(happened_on: date | None, facts: Facts) -> datetime:
    """Give the time of an activity: now, or the beginning of the earlier day that was named."""
    return facts.now if happened_on in (None, facts.today) else facts.policy.start_of(happened_on or facts.today)
