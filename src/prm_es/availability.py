"""Asking whether a customer is free: decided on the guard tables as they stand, counted and logged in one transaction.

Never asked of a read model. A question holds no lock that writers wait for; one of a partner's people waits for those
that are being answered, so that the day's count is exact.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from pydantic import ValidationError

from prm_es.aggregates import availability, catalogue, policy
from prm_es.aggregates.availability import Answer, Question
from prm_es.aggregates.base import Facts, Refused
from prm_es.aggregates.partner import Partner
from prm_es.errors import Usage
from prm_es.messages import PARTNER_ROLES, Actor, Recorded, utc_text
from prm_es.policies import versions
from prm_es.store.store import AskedRow, Asking, Store

_FLAGS: Final = {"tax_ids": "--tax-id", "customer_ids": "--customer-id", "product_lines": "--product-line"}
_NOBODY: Final = UUID(int=0)


def question_of(tax_ids: Sequence[str], customer_ids: Sequence[str], product_lines: Sequence[str]) -> Question:
    """Read a question from the command line, a tax id as COUNTRY:NUMBER; raises Usage that repeats no value."""
    parts = [one.partition(":") for one in tax_ids]
    if not all(country and colon and number for country, colon, number in parts):
        raise Usage("--tax-id: write COUNTRY:NUMBER, as BR:11222333000181")
    given = [{"country": country.upper(), "value": number} for country, _colon, number in parts]
    try:
        return Question.model_validate(
            {"tax_ids": given, "customer_ids": tuple(customer_ids), "product_lines": tuple(product_lines)}
        )
    except ValidationError as error:
        raise Usage("; ".join(_mistakes(error))) from None


def _mistakes(error: ValidationError) -> Iterator[str]:
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        flag = _FLAGS.get(str(detail["loc"][0])) if detail["loc"] else None
        if flag is None:
            flag = "--tax-id" if detail["type"] == "tax_id_individual" else "--tax-id or --customer-id"
        yield f"{flag}: {detail['msg']}"


def ask(store: Store, question: Question, actor: Actor) -> Answer | Refused:
    """Answer a question as of now, and log it; the store must be open as the writer."""
    partner_side = actor.role in PARTNER_ROLES
    with store.asking(alone=partner_side) as asking:
        facts = _facts(asking, actor)
        keys = question.keys(facts.policy.lead.match_scope)
        asked = asking.answered(actor.org, facts.policy.start_of(facts.today)) if partner_side else 0
        done = availability.refusal(question, facts, asked) or _answer(asking, question, keys, facts)
        asking.log(_row(question, keys, facts, done))
        return done


def _answer(asking: Asking, question: Question, keys: frozenset[str], facts: Facts) -> Answer:
    claims, registrations = asking.guards.claims(keys), asking.guards.registrations_with(keys)
    return availability.answer(question, facts.actor, facts.now, claims, registrations)


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


def _row(question: Question, keys: frozenset[str], facts: Facts, done: Answer | Refused) -> AskedRow:
    actor = facts.actor
    return AskedRow(
        actor=actor.id,
        actor_role=actor.role.value,
        actor_org=actor.org,
        customer_keys=sorted(keys),
        product_lines=sorted(set(question.product_lines)),
        policy_version=facts.policy.version,
        answer="refused" if isinstance(done, Refused) else done.answer,
        yours=not isinstance(done, Refused) and done.yours,
        until=None if isinstance(done, Refused) else done.until,
        code=done.code if isinstance(done, Refused) else None,
    )


# Saying it


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
    for one in done.holders:
        until_text = f", until {utc_text(one.until)}" if one.until else ""
        yield f"  partner {one.partner_id}, lead {one.lead_id}{until_text}"


def as_json(done: Answer | Refused) -> dict[str, Any]:
    """Give the answer for programs; `holders` is there for the vendor's people only."""
    if isinstance(done, Refused):
        errors = [{"field": e.field, "code": e.code, "message": e.message} for e in done.errors]
        return {"answer": "refused", "code": done.code, "message": done.sentence, "errors": errors}
    content: dict[str, Any] = {"answer": done.answer, "yours": done.yours, "until": _text(done.until)}
    if done.holders:
        content["holders"] = [
            {"partner_id": str(one.partner_id), "lead_id": str(one.lead_id), "until": _text(one.until)}
            for one in done.holders
        ]
    return content


def _text(at: datetime | None) -> str | None:
    return utc_text(at) if at else None
