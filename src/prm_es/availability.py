"""Asking whether a customer is free: decided on the guard tables as they stand, counted and logged in one transaction.

Never asked of a read model. A question holds no lock that writers wait for; one of a partner's people waits for those
that are being answered, so that the day's count is exact.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import psycopg2
from pydantic import ValidationError

from prm_es.aggregates import availability, catalogue, policy
from prm_es.aggregates.availability import STRENGTHS, Answer, Held, Question, Strength
from prm_es.aggregates.base import Claim, Facts, Refused
from prm_es.aggregates.partner import Partner
from prm_es.errors import Usage
from prm_es.messages import PARTNER_ROLES, Actor, Recorded, utc_text
from prm_es.policies import versions
from prm_es.projections import conflicts
from prm_es.projections.runner import live_generation, schema_of
from prm_es.settings import Settings
from prm_es.store.store import AskedRow, Asking, Store

_FLAGS: Final = {
    "tax_ids": "--tax-id",
    "customer_ids": "--customer-id",
    "product_lines": "--product-line",
    "trade_name": "--trade-name",
    "domains": "--domain",
}
_NOBODY: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Spelled:
    """A live lead about a customer that is spelled like the one asked for; one without a key takes no claim."""

    lead_id: UUID
    partner_id: UUID | None
    product_lines: frozenset[str]
    protected_until: datetime | None

    def claim(self, now: datetime) -> Claim | None:
        """Give what the lead holds by its name alone."""
        if self.partner_id is None or self.protected_until is None:
            return None
        group = self.lead_id
        return Claim("", self.product_lines, group, self.lead_id, self.partner_id, now, self.protected_until)


Alike = Callable[[Question], Mapping[str, Sequence[Spelled]]]  # by strength


def question_of(
    tax_ids: Sequence[str], customer_ids: Sequence[str], product_lines: Sequence[str], **spelling: object
) -> Question:
    """Read a question from the command line, a tax id as COUNTRY:NUMBER; raises Usage that repeats no value.

    `spelling` are the other fields of a question, as far as they are known.
    """
    parts = [one.partition(":") for one in tax_ids]
    if not all(country and colon and number for country, colon, number in parts):
        raise Usage("--tax-id: write COUNTRY:NUMBER, as BR:11222333000181")
    given = [{"country": country.upper(), "value": number} for country, _colon, number in parts]
    known = {name: value for name, value in spelling.items() if value is not None}
    keys = {"tax_ids": given, "customer_ids": tuple(customer_ids), "product_lines": tuple(product_lines)}
    try:
        return Question.model_validate({**keys, **known})
    except ValidationError as error:
        raise Usage("; ".join(_mistakes(error))) from None


def _mistakes(error: ValidationError) -> Iterator[str]:
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        name = str(detail["loc"][0]) if detail["loc"] else ""
        flag = _FLAGS.get(name, f"--{name}")
        if not name:
            flag = "--tax-id" if detail["type"] == "tax_id_individual" else "--tax-id, --customer-id or --name"
        yield f"{flag}: {detail['msg']}"


class Spellings:
    """Finds other spellings of a customer in the rows of the conflict worker, through one connection."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: Any = None

    def close(self) -> None:
        """Give the connection back, if there was a question for it."""
        if self._connection is not None:
            self._connection.close()

    def __call__(self, question: Question) -> Mapping[str, Sequence[Spelled]]:
        """Give the live leads about customers spelled alike, by strength; raises SchemaMismatch, psycopg2 errors."""
        customer = question.customer
        if customer is None:
            return {}
        if self._connection is None:
            self._connection = psycopg2.connect(self._settings.dsn("projector"))
        with self._connection, self._connection.cursor() as cursor:
            generation = live_generation(cursor, self._settings, conflicts.MODEL)
            schema = schema_of(self._settings, conflicts.MODEL.name, generation)
            found = conflicts.spelled_alike(cursor, schema, customer, question.product_lines)
        return {
            strength: [
                Spelled(one.lead_id, one.partner_id, frozenset(one.product_lines), one.protected_until) for one in leads
            ]
            for strength, leads in found.items()
        }


def _nobody_alike(_question: Question) -> Mapping[str, Sequence[Spelled]]:
    return {}


def ask(store: Store, question: Question, actor: Actor, alike: Alike = _nobody_alike) -> Answer | Refused:
    """Answer a question as of now, and log it; the store must be open as the writer.

    `alike` finds other spellings of the customer. It may lag behind by what the conflict worker has not seen yet; what
    then holds of the leads that it finds is read here.
    """
    partner_side = actor.role in PARTNER_ROLES
    with store.asking(alone=partner_side) as asking:
        facts = _facts(asking, actor)
        keys = question.keys(facts.policy.lead.match_scope)
        asked = asking.answered(actor.org, facts.policy.start_of(facts.today)) if partner_side else 0
        done = availability.refusal(question, facts, asked) or _answer(asking, question, keys, facts, alike)
        asking.log(_row(question, _logged(asking, question, keys), facts, done))
        return done


def _answer(asking: Asking, question: Question, keys: frozenset[str], facts: Facts, alike: Alike) -> Answer:
    held = _held(asking, question, keys, alike)
    return availability.best_answer(question, facts.actor, facts.now, held)


def _held(asking: Asking, question: Question, keys: frozenset[str], alike: Alike) -> Iterator[Held]:
    """Give what stands, the best match first; other spellings are looked for only if the keys say nothing."""
    if keys:
        yield Held(None, asking.guards.claims(keys), asking.guards.registrations_with(keys))
    found = alike(question) if question.customer else {}
    for match in STRENGTHS:
        if leads := found.get(match):
            yield _held_by(asking, match, leads)


def _held_by(asking: Asking, match: Strength, leads: Sequence[Spelled]) -> Held:
    ids = [one.lead_id for one in leads]
    claims = asking.guards.claims_of(ids)
    claimed = {one.lead_id for one in claims}
    by_name = (one.claim(asking.now) for one in leads if one.lead_id not in claimed)
    return Held(match, [*claims, *filter(None, by_name)], asking.guards.registrations_of(ids))


def _facts(asking: Asking, actor: Actor) -> Facts:
    partner_id = _organisation(actor)
    streams = asking.streams({policy.STREAM, *partner_id})
    in_force = policy.in_force(versions(streams.get(policy.STREAM, [])), asking.now)
    return Facts(
        now=asking.now,
        today=in_force.date_of(asking.now),
        actor=actor,
        policy=in_force,
        subject=_NOBODY,
        partners={one: state for one in partner_id if (state := _partner(streams.get(one, [])))},
    )


def _organisation(actor: Actor) -> tuple[UUID, ...]:
    try:
        return (UUID(actor.org),) if actor.role in PARTNER_ROLES else ()
    except ValueError:
        return ()


def _partner(events: Sequence[Recorded]) -> Partner | None:
    if not events or events[0].aggregate != "partner":
        return None
    state: Partner = catalogue.fold(catalogue.AGGREGATES["partner"], events)
    return state


def _logged(asking: Asking, question: Question, keys: frozenset[str]) -> list[str]:
    """Give what is kept of whom was asked for: its keys, and of a spelling a keyed digest, for it may name a person."""
    spelled = question.model_dump_json(exclude={"tax_ids", "customer_ids", "product_lines"}, exclude_none=True)
    return [*sorted(keys), *([f"spelling:{asking.digest(spelled.encode()).hex()[:32]}"] if question.customer else [])]


def _row(question: Question, keys: Sequence[str], facts: Facts, done: Answer | Refused) -> AskedRow:
    actor = facts.actor
    return AskedRow(
        actor=actor.id,
        actor_role=actor.role.value,
        actor_org=actor.org,
        customer_keys=keys,
        product_lines=sorted(set(question.product_lines)),
        policy_version=facts.policy.version,
        answer="refused" if isinstance(done, Refused) else done.answer,
        yours=not isinstance(done, Refused) and done.yours,
        until=None if isinstance(done, Refused) else done.until,
        code=done.code if isinstance(done, Refused) else None,
    )


# Saying it


_SURE: Final[Mapping[Strength, str]] = {"probable": "probably", "possible": "possibly"}


def in_words(done: Answer | Refused) -> Iterator[str]:
    """Say the answer, and to the vendor's people who holds the customer, a line each."""
    if isinstance(done, Refused):
        yield f"refused: {done.sentence} ({done.code})"
        return
    match done.answer, done.yours, done.until:
        case "protected", yours, datetime() as until:
            yield f"protected {'for you ' if yours else ''}until {utc_text(until)}"
        case "under_review", True, _:
            yield "under review: your own registration is not decided yet"
        case "under_review", False, _:
            yield "under review: a registration of this customer is not decided yet"
        case _:
            yield "free"
    if done.match:
        yield f"  by its spelling it is {_SURE[done.match]} the same customer"
    for one in done.holders:
        until_text = f", until {utc_text(one.until)}" if one.until else ""
        yield f"  partner {one.partner_id}, lead {one.lead_id}{until_text}"


def as_json(done: Answer | Refused) -> dict[str, Any]:
    """Give the answer for programs; `holders` is there for the vendor's people only."""
    if isinstance(done, Refused):
        errors = [{"field": e.field, "code": e.code, "message": e.message} for e in done.errors]
        return {"answer": "refused", "code": done.code, "message": done.sentence, "errors": errors}
    content: dict[str, Any] = {
        "answer": done.answer,
        "yours": done.yours,
        "until": _text(done.until),
    }
    if done.match:
        content["match"] = done.match
    if done.holders:
        content["holders"] = [
            {"partner_id": str(one.partner_id), "lead_id": str(one.lead_id), "until": _text(one.until)}
            for one in done.holders
        ]
    return content


def _text(at: datetime | None) -> str | None:
    return utc_text(at) if at else None
