"""What holds after any commands whatever, of anybody, in any order."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from prm_es.aggregates import lead as ld
from prm_es.aggregates import lead_messages as m
from prm_es.aggregates import opportunity as o
from prm_es.aggregates import partner as p
from prm_es.aggregates.base import Aggregate, Command, Decision, Event, Refused
from prm_es.aggregates.catalogue import COMMANDS, EVENTS, UPCASTS, aggregate_of, parse_command, parse_event, wire_type
from prm_es.aggregates.fields import GivenContact, GivenCustomer, GivenMoney, Sealed
from prm_es.aggregates.person import Forgotten
from prm_es.errors import Poison, TooOld, UnknownType, Unreadable
from prm_es.messages import Actor, Role

from .cases import (
    ACME,
    BETA,
    CAPTURE,
    CM,
    CUSTOMER,
    DEAL,
    DEAL_COMMANDS,
    LEAD,
    LEAD_COMMANDS,
    NEXT,
    NOW,
    OPEN,
    PARTNER_COMMANDS,
    PROBLEM,
    REGISTER,
    RIVAL,
    SENDERS,
    TODAY,
    ask,
    events,
    facts,
)

ROLES = st.sampled_from(Role)
PARTNERS = st.sampled_from([ACME, BETA])
ORGS = st.sampled_from(["vendor", str(ACME), str(BETA), "nonsense"])
ACTORS = st.builds(Actor, st.sampled_from(["ana", "bia"]), ROLES, ORGS)
CENTS = st.integers(0, 10**8).map(lambda cents: Decimal(cents) / 100)
MONEY = st.builds(lambda amount: GivenMoney(amount=amount, currency="BRL"), CENTS)
DAYS = st.integers(-40, 200).map(lambda days: TODAY + timedelta(days=days))
PERCENTS = st.sampled_from([Decimal(number) for number in ("25", "33.33", "66.67", "50", "75", "100")])
SHARES = st.lists(st.builds(o.GivenShare, partner_id=PARTNERS, percent=PERCENTS), min_size=1, max_size=3).map(tuple)
QUANTITIES = st.sampled_from([None, Decimal(2)])
PRODUCTS = st.lists(st.builds(o.GivenProduct, line=st.just("scales"), quantity=QUANTITIES), max_size=2).map(tuple)

DETAILS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["Stock", "Shops", None]),
        "contact": st.sampled_from([GivenContact(name="Rita"), None]),
        "products": PRODUCTS,
        "amount": st.none() | MONEY,
        "expected_close_on": st.none() | DAYS,
        "business_problem": st.sampled_from([PROBLEM, None]),
        "contract_in_progress": st.sampled_from(["C-1", None]),
    },
)
STAGES = st.sampled_from(list(o.ENTRY))
DEAL_STEPS: st.SearchStrategy[Command] = st.one_of(
    st.sampled_from(DEAL_COMMANDS),
    st.builds(lambda stage, partner: OPEN.model_copy(update={"stage": stage, "partner_id": partner}),
              st.sampled_from([*o.ENTRY, "won", "lost"]), PARTNERS),
    st.builds(o.ChangeStage, stage=STAGES, reason=st.sampled_from([None, "Why not"]), next_action=st.just(NEXT)),
    DETAILS.map(lambda values: o.ChangeDetails(**values)),
    st.builds(o.AddPartner, partner_id=PARTNERS, role=st.sampled_from(["sourcing", "selling"])),
    st.builds(o.RemovePartner, partner_id=PARTNERS),
    st.builds(o.ChangePartnerOfRecord, partner_id=PARTNERS, reason=st.just("So it is")),
    st.builds(o.SetCreditSplit, type=st.sampled_from(["sourcing", "revenue"]), shares=SHARES),
    st.builds(o.OverrideForecast, category=st.sampled_from([None, "commit"]), reason=st.just("Sure")),
)  # fmt: skip
USERS = st.sampled_from(["ana", "bia"])
GOALS = st.builds(
    p.SetGoal, goal_id=st.integers(1, 4).map(lambda number: UUID(int=number)), metric=st.just("won_count"),
    period=st.sampled_from(["2026", "2026-Q1", "2026-Q2", "2026-03", "2027"]), target=st.just(Decimal(3)),
)  # fmt: skip
PARTNER_STEPS: st.SearchStrategy[Command] = st.one_of(
    st.sampled_from(PARTNER_COMMANDS),
    GOALS,
    st.builds(p.InviteUser, user_id=USERS, role=st.just("partner_rep")),
    st.builds(p.ChangeUserRole, user_id=USERS, role=st.sampled_from(["partner_admin", "partner_rep"])),
    st.builds(p.DeactivateUser, user_id=USERS),
    st.builds(p.Import, legal_name=st.just("Acme"), status=st.sampled_from([*p.LIVE, "terminated"])),
)

HOURS = st.integers(0, 24 * 120).map(lambda hours: NOW + timedelta(hours=hours))
DEADLINES = (
    m.Lapse, m.WarnSla, m.BreachSla, m.RemindProtection, m.Expire, m.ExpireOffer, m.RemindContact,
)  # fmt: skip
OTHERS = st.sampled_from([CUSTOMER, CUSTOMER.model_copy(update={"tax_ids": ()}), GivenCustomer(name="Lojas Norte")])
LEAD_STEPS: st.SearchStrategy[Command] = st.one_of(
    st.sampled_from(LEAD_COMMANDS),
    st.sampled_from(DEADLINES).flatmap(lambda kind: st.builds(kind, due=HOURS)),
    st.builds(m.Recall, reason=st.just("Nothing happens"), due=HOURS),
    st.builds(m.Resubmit, customer=OTHERS, product_lines=st.sampled_from([("scales",), ("scales", "shelves")])),
    st.builds(m.Correct, customer=OTHERS, reason=st.just("So it is")),
    st.builds(m.Correct, product_lines=st.sampled_from([("scales",), ("shelves",)]), reason=st.just("So it is")),
    st.builds(m.Screen, version=st.integers(1, 12), matches=st.sampled_from([
        (), (m.GivenMatch(lead_id=RIVAL, strength="probable"),), (m.GivenMatch(lead_id=RIVAL, strength="hard"),)])),
    st.builds(m.ResolveMatch, other_lead=st.just(RIVAL), outcome=st.just("split"), claim_group=st.uuids()),
    st.builds(m.Offer, partner_id=PARTNERS),
    st.builds(m.Transfer, partner_id=PARTNERS, reason=st.just("So it is")),
)  # fmt: skip

Step = tuple[Command, Actor]


def walk(
    aggregate: Aggregate,
    subject: UUID,
    steps: list[Step],
    check: Callable[[Any, Step, Decision, Any], None],
    pace: timedelta = timedelta(hours=1),
) -> list[Event]:
    state, log = aggregate.initial, []
    for number, (command, actor) in enumerate(steps):
        decision = ask(aggregate, state, command, facts(actor, subject, NOW + number * pace))
        before = state
        for event in () if isinstance(decision, Refused) else events(decision):
            state = aggregate.evolve(state, event)
            log.append(event)
        check(before, (command, actor), decision, state)
    return log


def boss_or(actors: st.SearchStrategy[Actor]) -> st.SearchStrategy[Actor]:
    """Mostly those who may, so that walks get somewhere."""
    return st.one_of(st.just(Actor("ana", Role.CHANNEL_MANAGER)), st.just(Actor("crm", Role.INTEGRATION)), actors)


DEAL_WALKS = st.lists(st.tuples(DEAL_STEPS, boss_or(ACTORS)), max_size=15).map(
    lambda steps: [(OPEN, Actor("ana", Role.CHANNEL_MANAGER)), *steps]
)
PARTNER_WALKS = st.lists(st.tuples(PARTNER_STEPS, boss_or(ACTORS)), max_size=20)
LEAD_WALKS = st.tuples(
    st.sampled_from([REGISTER, CAPTURE]),
    st.lists(
        st.tuples(LEAD_STEPS, st.one_of(boss_or(ACTORS), st.sampled_from([Actor("prm-es", Role.SYSTEM)]))), max_size=25
    ),
).map(lambda walk: [(walk[0], Actor("ana", Role.CHANNEL_MANAGER)), *walk[1]])


EACH = pytest.mark.parametrize(
    ("aggregate", "subject", "walks"),
    [(o.AGGREGATE, DEAL, DEAL_WALKS), (p.AGGREGATE, ACME, PARTNER_WALKS), (ld.AGGREGATE, LEAD, LEAD_WALKS)],
    ids=["opportunity", "partner", "lead"],
)


def sound_deal(before: o.Opportunity, step: Step, decision: Decision, state: o.Opportunity) -> None:
    if before.status in ("won", "lost") and decision and not isinstance(decision, Refused):
        assert isinstance(step[0], o.Reopen | o.Comment | o.LogActivity | o.RequestHelp)
    if state.status == "none":
        return
    assert state.partner_id in state.partners
    for shares in state.credit.values():
        assert sum(share.percent for share in shares) == 100
        assert {share.partner_id for share in shares} <= set(state.partners)
    assert state.stage in o.ENTRY
    assert (state.closed_at is None) == (state.status == "open")


def sound_partner(before: p.Partner, _step: Step, decision: Decision, state: p.Partner) -> None:
    if before.status == "terminated":
        assert isinstance(decision, Refused)
    months = Counter(
        (goal.metric, goal.product_line, month) for goal in state.goals.values() for month in p._months(goal.period)
    )
    assert all(count == 1 for count in months.values())


@given(DEAL_WALKS)
def test_an_opportunity_stays_sound_whatever_is_sent(steps: list[Step]) -> None:
    walk(o.AGGREGATE, DEAL, steps, sound_deal)


@given(PARTNER_WALKS)
def test_a_partner_stays_sound_whatever_is_sent(steps: list[Step]) -> None:
    walk(p.AGGREGATE, ACME, steps, sound_partner)


PROTECTED_BY = (m.Approved, m.Accepted)
UNPROTECTED_BY = (
    m.ProtectionExpired, m.ProtectionRevoked, m.ProtectionEnded, m.DecisionReverted, m.Recalled, m.Disqualified,
)  # fmt: skip


def sound_lead(before: ld.Lead, step: Step, decision: Decision, state: ld.Lead) -> None:
    if before.status in ld.FINAL and decision and not isinstance(decision, Refused):
        assert (before.status, type(step[0])) == ("rejected", m.Revert)
    if state.status == "none":
        return
    assert state.protected == (state.protected_from is not None)
    assert state.protected <= (state.status in ld.HELD)
    if state.status in ("approved", "accepted", "contacted", "working"):
        assert state.protected or isinstance(step[0], o.EndProtection) or not before.protected
    held = ld.claims_held(LEAD, state)
    assert {claim.customer_key for claim in held} == (state.customer_keys if state.protected else set())
    assert all(claim.valid_from < claim.until and claim.lead_id == LEAD for claim in held)
    if state.origin == "captured" and state.status != "disqualified":
        assert (state.partner_id is None) == (state.status in ("new", "qualified"))
        assert state.partner_id not in state.declined_by
    assert (state.respond_by is not None) == (state.status == "offered")
    assert state.identity_version <= state.version
    assert state.screened_version <= state.version
    assert state.extensions <= 1
    registration = ld.live_registration(LEAD, state)
    assert registration is None or registration.partner_id == state.partner_id
    assert not ld.ended(state) or not (registration or ld.undecided_matches(LEAD, state))


DUE: dict[type[Command], Callable[[ld.Lead], Any]] = {
    m.Lapse: lambda state: state.lapse_at,
    m.WarnSla: lambda state: state.sla_warn_at,
    m.BreachSla: lambda state: state.sla_due_at,
    m.RemindProtection: lambda state: min(state.remind_at, default=None),
    m.Expire: lambda state: state.protected_until,
    m.ExpireOffer: lambda state: state.respond_by,
    m.RemindContact: lambda state: state.contact_by,
}
ENDS = (m.Withdraw, m.Reject, m.Lapse, m.Disqualify, m.Revoke, m.Expire, m.ExpireOffer, m.Decline, m.Recall)
CHOICES = st.tuples(st.integers(0, 99), st.sampled_from([0, 0, 1, 5, 30, 200]))
PATHS = st.tuples(st.sampled_from([REGISTER, CAPTURE]), st.lists(CHOICES, min_size=6, max_size=30))
CONFLICT = m.GivenMatch(lead_id=RIVAL, strength="probable", other_first=False)


def guided(path: tuple[Command, list[tuple[int, int]]]) -> Iterator[tuple[ld.Lead, Step, Decision, ld.Lead]]:
    """Walk through what is possible in each state, each command of somebody who may send it, deadlines when due."""
    command, choices = path
    state, now = ld.Lead(), NOW
    for choice, hours in [(0, 0), *choices]:
        before = state
        if state.version:
            command, now = likely(state, choice, now)
        known = facts(SENDERS.get(command.NAME, CM), LEAD, now)
        decision = ask(ld.AGGREGATE, state, command, known)
        for event in () if isinstance(decision, Refused) else events(decision):
            state = ld.evolve(state, event)
        yield before, (command, known.actor), decision, state
        now += timedelta(hours=hours)


def likely(state: ld.Lead, choice: int, now: datetime) -> tuple[Command, datetime]:
    possible = [
        one
        for one in LEAD_COMMANDS
        if state.status in ld.TABLE[type(one)] and (choice > 80 or not isinstance(one, ENDS))
    ] or LEAD_COMMANDS
    command = possible[choice % len(possible)]
    if isinstance(command, m.Screen):
        return m.Screen(version=state.version, matches=(CONFLICT,) if choice % 3 else ()), now
    due = DUE[type(command)](state) if type(command) in DUE else None
    if due is None:
        return command, now
    return command.model_copy(update={"due": due}), max(now, due)


def test_guided_walks_come_by_every_event() -> None:
    dice = Random(1)
    met: set[type[Event]] = set()
    for _ in range(1000):
        path = [(dice.randrange(100), dice.choice([0, 0, 1, 5, 30, 200])) for _ in range(30)]
        for _before, _step, decision, _state in guided((dice.choice([REGISTER, CAPTURE]), path)):
            met.update(map(type, () if isinstance(decision, Refused) else events(decision)))
    assert met == set(m.EVENTS)


@given(PATHS)
def test_a_lead_stays_sound_on_every_path(path: Any) -> None:
    for before, step, decision, state in guided(path):
        sound_lead(before, step, decision, state)


@given(LEAD_WALKS)
def test_a_lead_stays_sound_whatever_is_sent(steps: list[Step]) -> None:
    walk(ld.AGGREGATE, LEAD, steps, sound_lead)


@given(PATHS)
def test_a_protection_begins_ends_and_moves_only_as_it_may(path: Any) -> None:
    for state, _step, decision, _after in guided(path):
        for event in () if isinstance(decision, Refused) else events(decision):
            moves_soundly(state, event, state := ld.evolve(state, event))


def moves_soundly(before: ld.Lead, event: Event, state: ld.Lead) -> None:
    if isinstance(event, m.ProtectionExtended):
        assert state.protected_until == before.protected_until + timedelta(days=30)  # type: ignore[operator]
        assert state.protected_from == before.protected_from
    elif isinstance(event, PROTECTED_BY):
        assert state.protected
        assert not before.protected
    elif isinstance(event, UNPROTECTED_BY):
        assert not state.protected
    else:
        assert state.protected_until == before.protected_until


@given(PATHS)
def test_a_deadline_that_was_met_says_nothing_the_second_time(path: Any) -> None:
    for _before, (command, actor), decision, state in guided(path):
        if type(command) in DUE and not isinstance(decision, Refused):
            again = ask(ld.AGGREGATE, state, command, facts(actor, LEAD, NOW + timedelta(days=9000)))
            lapsed = ld.lapse_first(state, facts(actor, LEAD, NOW + timedelta(days=9000)))
            assert again == lapsed or isinstance(again, Refused)


@given(PATHS)
def test_the_events_of_a_lead_survive_storing_and_its_state_does_not_depend_on_what_is_sealed(path: Any) -> None:
    clear = sealed = ld.Lead()
    for _before, _step, decision, _state in guided(path):
        for event in () if isinstance(decision, Refused) else events(decision):
            assert parse_event(wire_type(event), event.model_dump_json().encode()) == event
            clear, sealed = ld.evolve(clear, event), ld.evolve(sealed, seal(event))
            assert clear == sealed


REPEATABLE = (
    m.Screen, m.ResolveMatch, m.Transfer, m.AssignOwner, m.Open, m.Revoke, o.EndProtection, *DEADLINES,
    o.ChangeStage, o.OverrideForecast, o.AssignOwner, o.AddPartner, o.RemovePartner, o.ChangePartnerOfRecord,
    o.SetCreditSplit, o.CompleteNextAction,
    p.AssignChannelManager, p.SetTerritories, p.SetCapacity, p.ChangeTier, p.GrantAuthorisation, p.RevokeAuthorisation,
    p.PutOnNotice, p.ClearNotice, p.SetGoal, p.WithdrawGoal, p.ChangeUserRole, p.DeactivateUser,
)  # fmt: skip


@EACH
@given(st.data())
def test_the_same_again_changes_nothing(aggregate: Aggregate, subject: UUID, walks: Any, data: st.DataObject) -> None:
    def again(_before: Any, step: Step, decision: Decision, state: Any) -> None:
        command, actor = step
        if isinstance(command, REPEATABLE) and not isinstance(decision, Refused):
            repeated = ask(aggregate, state, command, facts(actor, subject))
            assert repeated == () or isinstance(repeated, Refused)

    walk(aggregate, subject, data.draw(walks), again)


def seal(model: Any) -> Any:
    """Put a token in the place of every sealed text, as the store does."""
    if isinstance(model, tuple):
        return tuple(map(seal, model))
    if not isinstance(model, BaseModel):
        return model
    values = {name: getattr(model, name) for name in type(model).model_fields}
    for name, field in type(model).model_fields.items():
        marked = Sealed.__name__ in f"{field.annotation}{field.metadata}"
        values[name] = "token" if marked and isinstance(values[name], str) else seal(values[name])
    return type(model).model_construct(**values)


@EACH
@given(st.data())
def test_events_survive_storing_and_states_do_not_depend_on_what_is_sealed(
    aggregate: Aggregate, subject: UUID, walks: Any, data: st.DataObject
) -> None:
    def nothing(*_: Any) -> None: ...

    clear = sealed = aggregate.initial
    for event in walk(aggregate, subject, data.draw(walks), nothing):
        assert parse_event(wire_type(event), event.model_dump_json().encode()) == event
        assert parse_event(wire_type(event), event.model_dump(mode="json")) == event
        clear, sealed = aggregate.evolve(clear, event), aggregate.evolve(sealed, seal(event))
        assert clear == sealed


FREE = {"note", "reason", "text", "summary", "business_problem", "evidence", "override_reason"}
CODES = {(event, "reason") for event in (o.Lost, m.Rejected, m.Declined, m.Disqualified, Forgotten)}


@pytest.mark.parametrize("event", EVENTS.values(), ids=lambda event: event.TYPE)
def test_free_text_is_sealed_and_closed_codes_are_not(event: type[Event]) -> None:
    for name, field in event.model_fields.items():
        marked = Sealed.__name__ in f"{field.annotation}{field.metadata}"
        assert marked == (name in FREE and (event, name) not in CODES) or name in ("name", "email")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.sampled_from(sorted(COMMANDS)), st.data())
def test_whatever_the_data_a_command_is_read_refused_or_unreadable(wire: str, data: st.DataObject) -> None:
    names = st.sampled_from(sorted(COMMANDS[wire].model_fields) or ["nothing"])
    content = json.dumps(data.draw(st.dictionaries(names, JSON) | JSON)).encode()
    try:
        answer = parse_command(wire, content)
    except Unreadable:
        return
    assert isinstance(answer, Command | Refused)


def test_every_command_and_event_of_the_catalogue_belongs_to_an_aggregate() -> None:
    assert {aggregate_of(wire) for wire in COMMANDS} == {"partner", "lead", "opportunity"}
    assert aggregate_of("prm.opportunity.won.v1") == "opportunity"
    with pytest.raises(UnknownType):
        aggregate_of("prm.policy.loaded.v1")


def test_an_event_of_an_unknown_type_is_for_a_newer_program() -> None:
    for wire in ("prm.opportunity.won.v2", "prm.nothing.v1"):
        with pytest.raises(TooOld):
            parse_event(wire, b"{}")


def test_an_event_that_does_not_fit_its_type_is_poison_and_its_values_are_not_repeated() -> None:
    with pytest.raises(Poison) as raised:
        parse_event("prm.opportunity.partner_added.v1", {"partner_id": "Zwölfender", "role": 1})
    assert "Zwölfender" not in str(raised.value)
    assert "partner_id" in str(raised.value)


def test_a_stored_event_may_have_fields_of_a_later_version() -> None:
    assert parse_event("prm.partner.activated.v1", b'{"unheard_of": 1}') == p.Activated()


def test_old_events_are_turned_into_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(UPCASTS, "prm.partner.activated.v0", lambda data: {"missing": data["gaps"]})
    assert parse_event("prm.partner.activated.v0", b'{"gaps": ["agreement"]}') == p.Activated(missing=("agreement",))
    assert "prm.partner.activated.v1" in EVENTS
