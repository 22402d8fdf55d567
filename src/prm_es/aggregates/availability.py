"""Is a customer free? Answered from the claims and the registrations that stand now, without saying whose they are.

A customer is asked for by its keys, by its name with what else is known of it, or both. What the keys say goes first;
only if that is free do the leads count that are spelled alike, the likelier before the less likely.

A protection that meets the asked lines goes first: a rival's before the asker's own, for it would refuse an approval.
Then registrations that nobody has decided yet: the asker's own before a rival's, for that says no more than the asker
knows. Otherwise the customer is free. Only the vendor's people are told who holds it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Final, Literal, Self, get_args
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from prm_es.aggregates.base import Claim, Facts, LiveRegistration, Refused, acting_partner, check_product_lines
from prm_es.aggregates.fields import (
    Country,
    Customer,
    Domain,
    GivenTaxId,
    Phone,
    Postcode,
    Reference,
    Text,
    customer_keys,
)
from prm_es.aggregates.lead import lines_meet
from prm_es.aggregates.permissions import ASK_AVAILABILITY
from prm_es.messages import PARTNER_ROLES, Actor

REGISTERED: Final = "registered"
Strength = Literal["probable", "possible"]
STRENGTHS: Final[tuple[Strength, ...]] = get_args(Strength)


class Question(BaseModel):
    """A customer and the product lines it is wanted for; without any, all.

    It is named by tax ids, by the vendor's own ids, or by its name and what else is known: then other spellings answer
    too. The ids of individuals have no key to compare by and cannot be asked for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    tax_ids: Annotated[tuple[GivenTaxId, ...], Field(max_length=10)] = ()
    customer_ids: Annotated[tuple[Reference, ...], Field(max_length=10)] = ()
    product_lines: Annotated[tuple[Reference, ...], Field(max_length=50)] = ()
    name: Text | None = None
    trade_name: Text | None = None
    country: Country | None = None
    city: Text | None = None
    address: Text | None = None
    postcode: Postcode | None = None
    phone: Phone | None = None
    domains: Annotated[tuple[Domain, ...], Field(max_length=20)] = ()

    @model_validator(mode="after")
    def _company(self) -> Self:
        if not self.tax_ids and not self.customer_ids and self.name is None:
            raise PydanticCustomError("missing", "name the customer by a tax id, a customer id or its name")
        if any(tax_id.individual for tax_id in self.tax_ids):
            raise PydanticCustomError(
                "tax_id_individual", "availability cannot be asked for by an individual's tax id, only by a company's"
            )
        return self

    @property
    def customer(self) -> Customer | None:
        """Give the customer as a lead would tell of it, or None if it is asked for without its name."""
        if self.name is None:
            return None
        given = {name: value for name, value in self if name in Customer.model_fields}
        return Customer(**{**given, "tax_ids": tuple(one.stored() for one in self.tax_ids)})

    def keys(self, scope: str) -> frozenset[str]:
        """Give the keys of the customer, as leads have them; `scope` as in fields.customer_keys."""
        named = (customer_keys(Customer(name="", customer_id=one), scope) for one in self.customer_ids)
        taxed = customer_keys(Customer(name="", tax_ids=tuple(one.stored() for one in self.tax_ids)), scope)
        return taxed.union(*named)


@dataclass(frozen=True, slots=True)
class Holder:
    """A partner's lead that an answer rests on; `until` is None for what is under review."""

    partner_id: UUID
    lead_id: UUID
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What holds now. `until` (UTC) is set for "protected"; `holders` stays empty for a partner's people.

    `match` says how sure it is that it is the same customer, where only its spelling says so.
    """

    answer: Literal["free", "protected", "under_review"]
    yours: bool = False
    until: datetime | None = None
    holders: tuple[Holder, ...] = ()
    match: Strength | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """What stands about customers that match the question equally well: by its keys if `match` is None."""

    match: Strength | None
    claims: Sequence[Claim]
    registrations: Sequence[LiveRegistration]


def refusal(question: Question, facts: Facts, asked_today: int) -> Refused | None:
    """Say why this actor gets no answer; `asked_today` counts the answers that the partner got today.

    `facts.partners` holds the actor's partner, if there is one.
    """
    actor, partner = facts.actor, acting_partner(facts)
    if actor.role not in ASK_AVAILABILITY:
        return Refused("actor.forbidden", f"{actor.role} may not ask whether a customer is free")
    if actor.role in PARTNER_ROLES:
        if partner is None or partner.status != "active":
            return Refused("partner.not_active", "only people of an active partner may ask")
        if facts.policy.require_registered_users and partner.users and not partner.has_active_user(actor.id):
            return Refused("actor.unknown_user", "the actor is not an active user of the partner")
    if refused := check_product_lines("product_lines", question.product_lines, facts):
        return refused
    most = facts.policy.lead.availability_questions_per_day
    if actor.role in PARTNER_ROLES and asked_today >= most:
        return Refused(
            "availability.cap_reached", f"the partner has asked {asked_today} times today, {most} are allowed"
        )
    return None


def best_answer(question: Question, actor: Actor, now: datetime, held: Iterable[Held]) -> Answer:
    """Answer from what stands about the customers that match, the best match first."""
    for one in held:
        found = answer(question, actor, now, one.claims, one.registrations)
        if found.answer != "free":
            return replace(found, match=one.match)
    return Answer("free")


def answer(
    question: Question,
    actor: Actor,
    now: datetime,
    claims: Sequence[Claim],
    registrations: Sequence[LiveRegistration],
) -> Answer:
    """Answer from every claim on the customer, ended ones included, and every live registration of it.

    A claim group is the asker's own if the asker holds a claim in it: its members share the customer.
    """
    lines = frozenset(question.product_lines)
    decided = {one.lead_id for one in claims}
    held = [one for one in claims if one.until > now and lines_meet(one.product_lines, lines)]
    pending = [
        one
        for one in registrations
        if one.origin == REGISTERED and one.lead_id not in decided and lines_meet(one.product_lines, lines)
    ]
    if held:
        groups = {one.claim_group for one in held if _own(one, actor)}
        rivals = [one for one in held if one.claim_group not in groups]
        until = max(one.until for one in rivals or filter(lambda one: _own(one, actor), held))
        holders = {Holder(one.partner_id, one.lead_id, one.until) for one in held}
        return Answer("protected", not rivals, until, _shown(holders, actor))
    if pending:
        holders = {Holder(one.partner_id, one.lead_id, None) for one in pending}
        return Answer("under_review", any(_own(one, actor) for one in pending), None, _shown(holders, actor))
    return Answer("free")


def _own(one: Claim | LiveRegistration, actor: Actor) -> bool:
    return actor.role in PARTNER_ROLES and str(one.partner_id) == actor.org


def _shown(holders: set[Holder], actor: Actor) -> tuple[Holder, ...]:
    if actor.role in PARTNER_ROLES:
        return ()
    return tuple(sorted(holders, key=lambda one: (one.partner_id, one.lead_id)))
