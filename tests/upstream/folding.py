"""Decides commands in memory, in the order given, as the service would: for tests of what senders make."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from prm_es.aggregates import catalogue, policy
from prm_es.aggregates.base import (
    NONE,
    Aggregate,
    Claim,
    Command,
    Event,
    Facts,
    FollowUp,
    Refused,
    authorise,
    decide_follow_up,
)
from prm_es.aggregates.lead import Lead, claims_held
from prm_es.aggregates.opportunity import Opportunity
from prm_es.aggregates.partner import Partner, tax_keys_held
from prm_es.messages import Envelope


class _ImpliedRefusedError(Exception):
    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.code)
        self.refused = refused


class Fold:
    """Every aggregate's state and events after the commands so far, and what was refused."""

    def __init__(self) -> None:
        self.states: dict[UUID, Any] = {}
        self.events: dict[UUID, list[Event]] = {}
        self.claims: dict[str, dict[UUID, Claim]] = {}  # by customer key and lead
        self.held: dict[UUID, frozenset[Claim]] = {}
        self.accepted = 0
        self.refused: list[tuple[Envelope, Refused]] = []

    def take(self, commands: Iterable[Envelope]) -> "Fold":
        for sent in commands:
            outcome = self._outcome(sent)
            if isinstance(outcome, Refused):
                self.refused.append((sent, outcome))
            else:
                self.accepted += 1
        return self

    def of(self, kind: type[Any]) -> dict[UUID, Any]:
        return {one: state for one, state in self.states.items() if isinstance(state, kind)}

    def _outcome(self, sent: Envelope) -> Refused | None:
        command = catalogue.parse_command(sent.type, sent.data)
        if isinstance(command, Refused):
            return command
        aggregate = catalogue.AGGREGATES[catalogue.aggregate_of(sent.type)]
        state = self.states.get(sent.subject, aggregate.initial)
        facts = self._facts(sent, sent.subject, aggregate, command)
        decision = authorise(aggregate, state, command, facts) or aggregate.decide(state, command, facts)
        if isinstance(decision, Refused):
            return decision
        try:
            planned = self._planned(sent, sent.subject, aggregate, decision)
        except _ImpliedRefusedError as implied:
            return implied.refused
        for subject, of, event in planned:
            self._append(subject, of, event)
        return None

    def _planned(
        self, sent: Envelope, subject: UUID, aggregate: Aggregate, decided: Iterable[Event | FollowUp]
    ) -> list[tuple[UUID, Aggregate, Event]]:
        planned: list[tuple[UUID, Aggregate, Event]] = []
        for one in decided:
            if isinstance(one, Event):
                planned.append((subject, aggregate, one))
                continue
            other = catalogue.AGGREGATES[catalogue.aggregate_of(catalogue.wire_type(one.command))]
            state = self.states.get(one.subject, other.initial)
            facts = self._facts(sent, one.subject, other, one.command)
            implied = decide_follow_up(other, state, one.command, facts)
            if not isinstance(implied, Refused):
                planned += self._planned(sent, one.subject, other, implied)
            elif one.required:
                raise _ImpliedRefusedError(implied)
        return planned

    def _append(self, subject: UUID, aggregate: Aggregate, event: Event) -> None:
        self.states[subject] = aggregate.evolve(self.states.get(subject, aggregate.initial), event)
        self.events.setdefault(subject, []).append(event)
        state = self.states[subject]
        if not isinstance(state, Lead):
            return
        held = claims_held(subject, state)
        if held == self.held.get(subject, frozenset()):
            return
        for claim in self.held.get(subject, ()):
            self.claims[claim.customer_key].pop(subject)
        self.held[subject] = held
        for claim in held:
            self.claims.setdefault(claim.customer_key, {})[subject] = claim

    def _facts(self, sent: Envelope, subject: UUID, aggregate: Aggregate, command: Command) -> Facts:
        needs = aggregate.needs(self.states.get(subject, aggregate.initial), command)
        partners = {one: state for one in needs.partners if isinstance(state := self.states.get(one), Partner)}
        owners = {}
        if needs.tax_keys:
            owners = {key: one for one, state in self.of(Partner).items() for key in tax_keys_held(state)}
        claims = [claim for key in needs.customer_keys for claim in self.claims.get(key, {}).values()]
        opportunities = {
            one: state for one in needs.opportunities if isinstance(state := self.states.get(one), Opportunity)
        }
        assert sent.time is not None
        return Facts(
            now=sent.time,
            today=sent.time.date(),
            actor=sent.actor,
            policy=policy.default(),
            subject=subject,
            partners={one: state for one, state in partners.items() if state.status != NONE},
            tax_owners={key: owners[key] for key in needs.tax_keys if key in owners},
            claims=sorted((c for c in claims if c.until > sent.time), key=lambda c: (c.customer_key, c.lead_id)),
            opportunities=opportunities,
        )
