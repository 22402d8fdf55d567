"""Decides commands in memory, in the order given, as the service would: for tests of what senders make."""

from collections.abc import Iterable
from functools import reduce
from typing import Any
from uuid import UUID

from prm_es.aggregates import catalogue, policy
from prm_es.aggregates.base import NONE, Command, Event, Facts, Refused, authorise
from prm_es.aggregates.partner import Partner, tax_keys_held
from prm_es.messages import Envelope


class Fold:
    """Every aggregate's state after the commands so far, and what was refused."""

    def __init__(self) -> None:
        self.states: dict[UUID, Any] = {}
        self.partners: dict[UUID, Partner] = {}
        self.accepted = 0
        self.refused: list[tuple[Envelope, Refused]] = []

    def take(self, commands: Iterable[Envelope]) -> "Fold":
        for sent in commands:
            outcome = self._decide(sent)
            if isinstance(outcome, Refused):
                self.refused.append((sent, outcome))
            else:
                self.accepted += 1
        return self

    def _decide(self, sent: Envelope) -> Refused | None:
        command = catalogue.parse_command(sent.type, sent.data)
        if isinstance(command, Refused):
            return command
        aggregate = catalogue.AGGREGATES[catalogue.aggregate_of(sent.type)]
        state = self.states.get(sent.subject, aggregate.initial)
        facts = self._facts(sent, command, state)
        decision = authorise(aggregate, state, command, facts) or aggregate.decide(state, command, facts)
        if isinstance(decision, Refused):
            return decision
        events = [one for one in decision if isinstance(one, Event)]
        self.states[sent.subject] = reduce(aggregate.evolve, events, state)
        if aggregate.name == "partner":
            self.partners[sent.subject] = self.states[sent.subject]
        return None

    def _facts(self, sent: Envelope, command: Command, state: Any) -> Facts:
        aggregate = catalogue.AGGREGATES[catalogue.aggregate_of(sent.type)]
        needs = aggregate.needs(state, command)
        partners = self.partners
        owners = {key: one for one, state in partners.items() for key in tax_keys_held(state)} if needs.tax_keys else {}
        assert sent.time is not None
        return Facts(
            now=sent.time,
            today=sent.time.date(),
            actor=sent.actor,
            policy=policy.default(),
            subject=sent.subject,
            partners={one: partners[one] for one in needs.partners if one in partners and partners[one].status != NONE},
            tax_owners={key: owners[key] for key in needs.tax_keys if key in owners},
        )
