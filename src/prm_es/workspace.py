"""What a batch knows while it holds the append lock: aggregates as of this point, and the facts of decisions.

Loaded from the log and its guard tables, overlaid with what the batch itself has decided so far, written at the end.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from itertools import islice
from typing import Any, Final
from uuid import UUID

from prm_es.aggregates import catalogue, lead, opportunity, policy
from prm_es.aggregates.base import (
    NONE,
    Aggregate,
    Claim,
    Command,
    Event,
    Facts,
    LiveRegistration,
    Needs,
    UndecidedMatch,
)
from prm_es.aggregates.lead import Lead
from prm_es.aggregates.lead_messages import Convert
from prm_es.aggregates.opportunity import Opportunity
from prm_es.aggregates.partner import Partner, tax_keys_held
from prm_es.aggregates.policy import Policy, PolicyLoaded
from prm_es.messages import Actor, Envelope, Recorded, stored_state
from prm_es.store.guards import Held, KnownGuards, Won, won_of
from prm_es.store.store import Batch, Head, NewEvent, Writes

PARTNER: Final = catalogue.AGGREGATES["partner"]
LEAD: Final = catalogue.AGGREGATES["lead"]
OPPORTUNITY: Final = catalogue.AGGREGATES["opportunity"]


@dataclass(slots=True)
class Loaded:
    """An aggregate as of this point of the batch; `state` is None for a stream that takes no commands."""

    aggregate: Aggregate
    state: Any
    version: int


class Memory:
    """Aggregates as a handler knew them before: what is committed never changes, so only what came since is read.

    Holds what was read from the log under the lock, and what a batch wrote once it is committed. Bounded; the longest
    unused go first. If the log no longer holds the commit that was its end then, another history was restored: nothing
    remembered is true any more.
    """

    def __init__(self, limit: int = 5_000) -> None:
        self._limit = limit
        self._known: dict[UUID, tuple[Aggregate, Any, int]] = {}
        self._head: Head | None = None
        self._sure: set[UUID] = set()  # of these it is known that nobody has written to them since

    def begin(self, batch: Batch) -> None:
        """Forget what is not of this log, and make room."""
        if self._head is not None and not self._head.same_commit(batch.head):
            self._sure.clear()
            if not batch.has_commit(self._head):
                self._known.clear()
        self._head = batch.head
        for subject in list(islice(self._known, max(0, len(self._known) - self._limit))):
            del self._known[subject]
            self._sure.discard(subject)

    def keep(self, loaded: Mapping[UUID, Loaded], end: Head) -> None:
        """Remember the aggregates as a batch left them; only after its transaction is committed."""
        self._head = end
        for subject, one in loaded.items():
            if one.version and one.state is not None:
                self._known[subject] = one.aggregate, one.state, one.version
                self._sure.add(subject)

    def version(self, subject: UUID) -> int:
        """Give up to which version an aggregate is known, 0 if it is not."""
        return self._known[subject][2] if subject in self._known else 0

    def unsure_of(self, subjects: Iterable[UUID]) -> dict[UUID, int]:
        """Give those that the log may have more of, and up to which version each is known."""
        return {one: self.version(one) for one in subjects if one not in self._sure}

    def fold(self, wanted: Aggregate, subject: UUID, since: Sequence[Recorded]) -> Loaded:
        """Give an aggregate from what is known of it and its events since; raises as catalogue.fold does."""
        aggregate, state, version = self._known.pop(subject, (None, None, 0))
        if aggregate is None:
            aggregate = catalogue.AGGREGATES.get(since[0].aggregate) if since else wanted
        if aggregate is None or subject == policy.STREAM:  # a stream of the store's own, which takes no commands
            return Loaded(wanted, None, len(since))
        loaded = Loaded(aggregate, catalogue.fold(aggregate, since, state), version + len(since))
        if loaded.version:
            self._known[subject] = aggregate, loaded.state, loaded.version
            self._sure.add(subject)
        return loaded


@dataclass(slots=True)
class Workspace:
    """The aggregates, policies and guard rows of one batch."""

    batch: Batch
    writes: Writes
    memory: Memory
    loaded: dict[UUID, Loaded] = field(default_factory=dict)
    policies: Sequence[Policy] = ()
    tax_owners: dict[str, UUID | None] = field(default_factory=dict)
    held_before: dict[UUID, Held | None] = field(default_factory=dict)
    held_now: dict[UUID, Held] = field(default_factory=dict)
    stale: set[UUID] = field(default_factory=set)
    undo: list[tuple[Loaded, Aggregate, Any, int]] = field(default_factory=list)
    guards: KnownGuards = field(init=False)

    def __post_init__(self) -> None:
        self.guards = KnownGuards(self.batch.guards)
        self.memory.begin(self.batch)

    # Aggregates

    def load(self, asked: Mapping[UUID, Aggregate]) -> None:
        """Load these aggregates and the policies, in one query."""
        streams = self._since({*asked, policy.STREAM})
        self.policies = [_policy(event.data) for event in streams.get(policy.STREAM, [])]
        for subject, aggregate in asked.items():
            self._fold(aggregate, subject, streams.get(subject, []))

    def look_ahead(self, commands: Iterable[tuple[UUID, Command]], organisations: Iterable[UUID]) -> None:
        """Load what decisions on the aggregates as they are now will need, in one query each.

        What a decision needs beyond it, because the batch itself changed its aggregate, is loaded when it asks.
        """
        asked = [(subject, self.loaded[subject], command) for subject, command in commands]
        needs = [(subject, one.aggregate.needs(one.state, command)) for subject, one, command in asked]
        customer_keys = frozenset[str]().union(*(one.customer_keys for _subject, one in needs))
        self.guards.claims(customer_keys)
        won = self.guards.won(customer_keys)
        self.guards.registrations({it for _subject, one in needs for it in one.registrations_of})
        matches = self.guards.matches(subject for subject, one in needs if one.matches)
        told = {it for _subject, one, command in asked for it in _leads_told(one.state, command)}
        opened = {it for subject, _one, command in asked for it in _opportunities_opened(subject, command)}
        self._load_missing(LEAD, told | {one.earlier_lead_id for one in matches})
        self._load_missing(OPPORTUNITY, opened | {it for _subject, one in needs for it in one.opportunities})
        self._tax_owners(frozenset[str]().union(*(one.tax_keys for _subject, one in needs)))
        named = (it for _subject, one in needs for it in one.partners)
        self.partners({*named, *organisations, *(it.incumbency.partner_id for it in won)})
        people = (it for subject, _one, command in asked for it in self.batch.vault.people(command, subject))
        self.batch.load_keys({*(subject for subject, _one, _command in asked), *opened, *people})

    def get(self, wanted: Aggregate, subject: UUID) -> Loaded | None:
        """Give an aggregate, loaded now if it was not; None if the id belongs to something else."""
        self._load_missing(wanted, (subject,))
        loaded = self.loaded[subject]
        if loaded.aggregate is not wanted and not loaded.version and loaded.state is not None:
            self._remember(loaded)
            loaded.aggregate, loaded.state = wanted, wanted.initial
        return loaded if loaded.aggregate is wanted and loaded.state is not None else None

    def _load_missing(self, wanted: Aggregate, subjects: Iterable[UUID]) -> None:
        if missing := {one for one in subjects if one not in self.loaded}:
            streams = self._since(missing)
            for subject in missing:
                self._fold(wanted, subject, streams.get(subject, []))

    def _since(self, subjects: Iterable[UUID]) -> dict[UUID, list[Recorded]]:
        unsure = self.memory.unsure_of(subjects)
        return self.batch.streams(unsure) if unsure else {}

    def _fold(self, wanted: Aggregate, subject: UUID, since: Sequence[Recorded]) -> None:
        if subject not in self.loaded:
            self.loaded[subject] = self.memory.fold(wanted, subject, since)

    def partners(self, ids: Iterable[UUID]) -> dict[UUID, Partner]:
        """Give those partners that exist, and their parents."""
        wanted = set(ids)
        self._load_missing(PARTNER, wanted)
        found = ((one, self.loaded[one].state) for one in wanted)
        existing = {one: state for one, state in found if isinstance(state, Partner) and state.status != NONE}
        parents = {state.parent for state in existing.values() if state.parent} - wanted
        return existing | self.partners(parents) if parents else existing

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Undo whatever was decided inside if it ends with an exception."""
        start = len(self.writes.events)
        self.undo.clear()
        try:
            yield
        except BaseException:
            del self.writes.events[start:]
            for loaded, aggregate, state, version in reversed(self.undo):
                loaded.aggregate, loaded.state, loaded.version = aggregate, state, version
            self.stale |= self.held_before.keys()
            raise

    def _remember(self, loaded: Loaded) -> None:
        self.undo.append((loaded, loaded.aggregate, loaded.state, loaded.version))

    # Facts

    def facts(self, subject: UUID, actor: Actor, now: datetime, needs: Needs, organisations: Iterable[UUID]) -> Facts:
        """Gather what a decision may know."""
        in_force = policy.in_force(self.policies, now)
        incumbents = self._incumbents(needs.customer_keys)
        return Facts(
            now=now,
            today=in_force.date_of(now),
            actor=actor,
            policy=in_force,
            subject=subject,
            partners=self.partners({*needs.partners, *organisations, *incumbents.values()}),
            tax_owners=self._tax_owners(needs.tax_keys),
            claims=self._claims(needs.customer_keys, now),
            live_registrations=self._registrations(needs.registrations_of),
            matches=self._matches(subject) if needs.matches else (),
            incumbents=incumbents,
            opportunities=self._opportunities(needs.opportunities),
        )

    def _tax_owners(self, tax_keys: frozenset[str]) -> Mapping[str, UUID]:
        if missing := {one for one in tax_keys if one not in self.tax_owners}:
            held = self.batch.tax_owners(missing)
            self.tax_owners |= {tax_key: held.get(tax_key) for tax_key in missing}
        return {tax_key: owner for tax_key in tax_keys if (owner := self.tax_owners[tax_key])}

    def _claims(self, customer_keys: frozenset[str], now: datetime) -> Sequence[Claim]:
        if not customer_keys:
            return ()
        stored = [one for one in self.guards.claims(customer_keys) if one.lead_id not in self.held_before]
        ours = (claim for one in self._held().values() for claim in one.claims)
        found = [*stored, *(one for one in ours if one.customer_key in customer_keys)]
        return [one for one in found if one.until > now]

    def _registrations(self, partner_ids: frozenset[UUID]) -> Sequence[LiveRegistration]:
        if not partner_ids:
            return ()
        stored = [one for one in self.guards.registrations(partner_ids) if one.lead_id not in self.held_before]
        ours = (one.registration for one in self._held().values())
        return [*stored, *(one for one in ours if one and one.partner_id in partner_ids)]

    def _matches(self, subject: UUID) -> Sequence[UndecidedMatch]:
        """Give the undecided matches on either side whose earlier side stands."""
        stored = [one for one in self.guards.matches((subject,)) if one.lead_id not in self.held_before]
        ours = (match for one in self._held().values() for match in one.matches)
        found = [*stored, *(one for one in ours if subject in (one.lead_id, one.other_lead_id))]
        self._load_missing(LEAD, {one.earlier_lead_id for one in found})
        states = ((one, self.loaded[one.earlier_lead_id].state) for one in found)
        return [
            one if isinstance(state, Lead) and state.status != NONE else replace(one, claims=False)
            for one, state in states
            if not self._ended(one.earlier_lead_id, state)
        ]

    def _ended(self, one: UUID, state: object) -> bool:
        match state:
            case Lead(status="none"):  # nobody's stream: a named account, or one that was
                accounts = self.policies[-1].named_accounts if self.policies else ()
                return all(one != account.subject for account in accounts)
            case Lead():
                return lead.ended(state)
            case Opportunity():
                return state.status == "lost"
            case _:
                return True

    def _incumbents(self, customer_keys: frozenset[str]) -> dict[tuple[str, str], UUID]:
        if not customer_keys:
            return {}
        stored = [one for one in self.guards.won(customer_keys) if one.opportunity_id not in self.held_before]
        held = ((subject, one.incumbency) for subject, one in self._held().items() if one.incumbency)
        ours = (one for subject, incumbency in held for one in won_of(subject, incumbency))
        won: list[Won] = [*stored, *(one for one in ours if one.customer_key in customer_keys)]
        latest = sorted(won, key=lambda one: (one.incumbency.won_at, one.opportunity_id))
        return {(one.customer_key, one.product_line): one.incumbency.partner_id for one in latest}

    def _opportunities(self, ids: frozenset[UUID]) -> Mapping[UUID, Opportunity]:
        self._load_missing(OPPORTUNITY, ids)
        states = {one: self.loaded[one].state for one in ids}
        return {one: it for one, it in states.items() if isinstance(it, Opportunity) and it.status != NONE}

    def _held(self) -> Mapping[UUID, Held]:
        """Give what the aggregates that this batch changed hold now; for the others the guard tables speak."""
        for subject in self.stale:
            if held := held_by(subject, self.loaded[subject].state):
                self.held_now[subject] = held
        self.stale.clear()
        return self.held_now

    # Writing

    def append(self, subject: UUID, cause: Envelope, events: Iterable[Event], at: datetime) -> None:
        """Add events to a loaded aggregate and to what the batch will write."""
        loaded = self.loaded[subject]
        if subject not in self.held_before:
            self.held_before[subject] = held_by(subject, loaded.state)
        self.stale.add(subject)
        self._remember(loaded)
        for event in events:
            stored = self.batch.vault.seal(event, subject)
            loaded.state = loaded.aggregate.evolve(loaded.state, stored)
            loaded.version += 1
            data = stored.model_dump_json(exclude_none=True).encode()
            state = stored_state(at, self.batch.head.at, cause, data)
            self.writes.events.append(NewEvent(subject, loaded.version, catalogue.wire_type(stored), state))

    def note_tax_keys(self, subject: UUID, before: frozenset[str]) -> None:
        """Note how a partner's tax keys changed, for the decisions that follow and for the guard table."""
        after = tax_keys(self.loaded[subject].state)
        changes: dict[str, UUID | None] = dict.fromkeys(before - after) | dict.fromkeys(after - before, subject)
        self.writes.tax_keys |= changes
        self.tax_owners |= changes

    def guard(self) -> None:
        """Give the batch the guard rows that it changed."""
        self.writes.held = {
            subject: held for subject, held in self._held().items() if held != self.held_before[subject]
        }


def tax_keys(state: object) -> frozenset[str]:
    """Give the tax keys that an aggregate holds; only partners do."""
    return tax_keys_held(state) if isinstance(state, Partner) else frozenset()


def held_by(subject: UUID, state: object) -> Held | None:
    """Give an aggregate's rows in the guard tables of leads, or None if it is of a kind that has none."""
    match state:
        case Lead():
            return Held(
                claims=lead.claims_held(subject, state),
                registration=lead.live_registration(subject, state),
                matches=lead.undecided_matches(subject, state),
            )
        case Opportunity():
            return Held(incumbency=opportunity.incumbency(state))
        case _:
            return None


def _leads_told(state: object, command: Command) -> Iterator[UUID]:
    """Give the leads that a command to an opportunity implies a command to."""
    if isinstance(command, opportunity.Win | opportunity.Lose) and isinstance(state, Opportunity) and state.lead_id:
        yield state.lead_id
    if isinstance(command, opportunity.Open) and command.lead_id:
        yield command.lead_id


def _opportunities_opened(subject: UUID, command: Command) -> Iterator[UUID]:
    """Give the opportunities that a command to a lead opens."""
    if isinstance(command, Convert) and command.opportunity_id is None:
        yield lead.opportunity_of(subject)


@lru_cache(maxsize=64)
def _policy(data: bytes) -> Policy:
    event = PolicyLoaded.model_validate_json(data)
    return Policy.model_validate(event.document)
