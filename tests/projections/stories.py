"""Histories of leads for the tests: events at times of one's own, and random walks in which every event comes up."""

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from prm_es.aggregates import lead as ld
from prm_es.aggregates import lead_messages as m
from prm_es.aggregates import opportunity as o
from prm_es.aggregates.base import Command, Event, Refused
from prm_es.aggregates.catalogue import wire_type
from prm_es.aggregates.fields import GivenCustomer
from prm_es.messages import Actor, Recorded, stored_state
from prm_es.settings import Settings
from prm_es.store.store import NewEvent, Store, Writes
from tests.aggregates.cases import (
    ACME,
    CAPTURE,
    CM,
    CUSTOMER,
    IMPORT,
    LEAD_COMMANDS,
    NOW,
    REGISTER,
    SENDERS,
    ask,
    events,
    facts,
)
from tests.support import command

Told = tuple[datetime, Event]  # business time, what happened
LEADS: Final = tuple(UUID(int=number) for number in range(0xA00, 0xA80))


def tell(settings: Settings, subject: UUID, told: Sequence[Told]) -> UUID:
    """Write a whole stream as it is, without any command."""
    with Store(settings) as store, store.batch() as batch:
        new = [
            NewEvent(subject, version, wire_type(event), _state(at, event))
            for version, (at, event) in enumerate(told, 1)
        ]
        batch.write(Writes(events=new))
    return subject


def _state(at: datetime, event: Event) -> bytes:
    return stored_state(at, at, command("tests.tell"), event.model_dump_json(exclude_none=True).encode())


def as_recorded(subject: UUID, told: Sequence[Told], after: int = 0) -> list[tuple[Recorded, Event]]:
    """Give the events as the log would hold them, from a position on."""
    return [
        (
            Recorded(
                position=after + version,
                subject=subject,
                version=version,
                type=wire_type(event),
                at=at,
                recorded_at=at + timedelta(days=900),
                actor=CM,
                command_source="tests",
                command_id=str(version),
                correlation_id=None,
                data=event.model_dump_json().encode(),
            ),
            event,
        )
        for version, (at, event) in enumerate(told, 1)
    ]


# Random walks

_DUE: Final[Mapping[type[m.Deadline], Callable[[ld.Lead], datetime | None]]] = {
    m.WarnSla: lambda lead: lead.sla_warn_at,
    m.BreachSla: lambda lead: lead.sla_due_at,
    m.Lapse: lambda lead: lead.lapse_at,
    m.Expire: lambda lead: lead.protected_until,
    m.ExpireOffer: lambda lead: lead.respond_by,
    m.RemindProtection: lambda lead: min(lead.remind_at, default=None),
    m.RemindContact: lambda lead: lead.contact_by,
}
_COMING_IN: Final[Sequence[tuple[Command, Actor]]] = (
    (REGISTER, CM),
    (CAPTURE, CM),
    (m.Register(partner_id=ACME, time_assumed=True), IMPORT),
)
_RARE: Final = (
    m.Reject,
    m.Withdraw,
    m.Disqualify,
    m.Revoke,
    m.Revert,
    m.Comment,
    m.AssignOwner,
    m.LogActivity,
    m.Transfer,
)
_OTHERS: Final = (CUSTOMER, GivenCustomer(name="Lojas Norte", customer_id="N-1", country="PT"))


def walked(seed: int, subject: UUID, tries: int = 80) -> list[Told]:
    """Give what comes of many commands in no sensible order, some of which are refused."""
    chance = random.Random(seed)
    told: list[Told] = []
    state, now = ld.Lead(), NOW
    first, actor = chance.choice(_COMING_IN)
    for attempt in range(tries):
        if attempt:
            first, actor = _next(chance, state, subject)
            now += chance.choice((timedelta(), timedelta(hours=1), timedelta(hours=1), timedelta(days=1)))
        if due := getattr(first, "due", None):
            now = max(now, due)
        decision = ask(ld.AGGREGATE, state, first, facts(actor, subject, now))
        for event in () if isinstance(decision, Refused) else events(decision):
            state = ld.evolve(state, event)
            told.append((now, event))
    return told


def _next(chance: random.Random, state: ld.Lead, subject: UUID) -> tuple[Command, Actor]:
    others = [one for one in LEADS if one != subject]
    ending = o.EndProtection(
        outcome="lost", opportunity_id=state.opportunity_id or subject, partners=(state.partner_id or ACME,)
    )
    given: list[Command] = [
        m.Screen(version=state.version, matches=_found(chance, others)),
        m.Screen(version=state.version),
        m.ResolveMatch(other_lead=chance.choice(others), outcome="not_a_conflict"),
        m.Resubmit(customer=chance.choice(_OTHERS)),
        m.Correct(customer=chance.choice(_OTHERS), reason="So it is"),
        m.Correct(product_lines=("scales", "shelves"), reason="So it is"),
        ending,
    ]
    due: list[Command] = [kind(due=at) for kind, due_of in _DUE.items() if (at := due_of(state)) is not None]
    if state.recall_at is not None:
        due.append(m.Recall(reason="Nothing happens", due=state.recall_at))
    possible = [
        one
        for one in LEAD_COMMANDS
        if state.status in ld.TABLE[type(one)] and (type(one) not in _RARE or chance.random() < 0.1)
    ]
    (kind_of,) = chance.choices((possible or given, given, due or given), weights=(12, 3, 1))
    choice = chance.choice(kind_of)
    if isinstance(choice, m.Approve) and chance.random() < 0.3:
        return choice, IMPORT
    return choice, SENDERS.get(choice.NAME, CM)


def _found(chance: random.Random, others: Sequence[UUID]) -> tuple[m.GivenMatch, ...]:
    """Give some matches, the same lead twice now and then."""
    return tuple(
        m.GivenMatch(
            lead_id=other,
            strength=chance.choice(("hard", "probable")),
            matched_keys=(f"domain:{chance.randint(1, 3)}.example",),
            other_first=chance.random() < 0.5,
        )
        for other in chance.choices(others, k=chance.randint(1, 3))
    )
