"""What always holds of ordered read models: they agree with the aggregates, and the size of a batch changes nothing."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import reduce
from itertools import combinations, count, cycle
from random import Random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from prm_es.aggregates import lead as ld
from prm_es.aggregates import opportunity as o
from prm_es.aggregates.base import Event, Refused
from prm_es.aggregates.catalogue import parse_event, wire_type
from prm_es.aggregates.policy import NamedAccount, Policy, default
from prm_es.matching.keys import key_of
from prm_es.messages import Envelope, Recorded
from prm_es.partitions import partition_of
from prm_es.projections import conflicts, deadlines, ordered, reactions, sides
from prm_es.projections.base import Rows
from prm_es.projections.ordered import OrderedModel, OrderedProjector
from prm_es.screening import Pair, Screening
from prm_es.settings import Settings
from tests.aggregates.cases import CM, DEAL, LEAD, events
from tests.aggregates.test_properties import DEAL_WALKS, PATHS, Step, guided, walk
from tests.projections.generations import Contents, contents, empty_generation, the_log
from tests.projections.ordered import Service, service
from tests.projections.test_ordered import registration
from tests.support import ADMIN, MANAGER, command
from tests.test_golden import GOLDEN

LONG_AGO = datetime(1990, 1, 1, tzinfo=UTC)  # recorded so early, nothing is over when it is set


def recorded(subject: UUID, position: int, event: Event) -> Recorded:
    return Recorded(position, subject, position, wire_type(event), LONG_AGO, LONG_AGO, CM, "tests", "1", None, b"{}")


def folded(model: OrderedModel, subject: UUID, told: Iterable[Event]) -> Rows:
    """Give the rows after what the model reads of these events."""
    numbered = [(recorded(subject, number, event), event) for number, event in enumerate(told, 1)]
    read = [one for one in numbered if isinstance(one[1], model.reads or Event)]
    return reduce(lambda rows, one: model.fold(rows, *one), read, model.empty())


def told_by(path: Any) -> tuple[list[Event], ld.Lead]:
    told, state = [], ld.Lead()
    for _before, _step, decision, after in guided(path):
        told += [] if isinstance(decision, Refused) else events(decision)
        state = after
    return told, state


def standing(state: ld.Lead) -> set[tuple[str, datetime]]:
    """Give what is due by the aggregate's own state."""
    single = {
        deadlines.WARN: state.sla_warn_at,
        deadlines.BREACH: state.sla_due_at,
        deadlines.LAPSE: state.lapse_at,
        deadlines.EXPIRE: state.protected_until,
        deadlines.EXPIRE_OFFER: state.respond_by,
        deadlines.CONTACT: state.contact_by,
        deadlines.RECALL: state.recall_at,
    }
    return {(kind, at) for kind, at in single.items() if at} | {(deadlines.REMIND, at) for at in state.remind_at}


@given(PATHS)
def test_the_deadlines_of_a_lead_are_those_of_its_state(path: Any) -> None:
    told, state = told_by(path)
    rows = folded(deadlines.MODEL, LEAD, told)
    assert {(one.kind, one.due_at) for one in rows["deadline"]} == standing(state)
    assert [one.partner_id for one in rows["holder"]] == [state.partner_id]


@given(DEAL_WALKS)
def test_the_deadline_of_an_opportunity_is_that_of_its_state(steps: list[Step]) -> None:
    states: list[o.Opportunity] = [o.AGGREGATE.initial]
    told = walk(o.AGGREGATE, DEAL, steps, lambda *seen: states.append(seen[-1]))
    if not told:
        return
    state = states[-1]
    rows = folded(deadlines.MODEL, DEAL, told)
    due = [one.due_at for one in rows["deadline"] if not one.done and not rows["holder"][0].closed]
    stands = state.status == "open" and not state.stalled and state.stalls_at is not None
    assert due == ([state.stalls_at] if stands else [])


@examples(deadline=None)  # the first one reads the matcher's tables
@given(PATHS)
def test_what_conflicts_and_reactions_know_of_a_lead_is_what_its_state_says(path: Any) -> None:
    told, state = told_by(path)
    (lead,) = folded(conflicts.MODEL, LEAD, told)["lead"]
    assert (lead.status, lead.partner_id, lead.protected_until) == (
        state.status,
        state.partner_id,
        state.protected_until,
    )
    assert set(lead.customer_keys) == set(state.customer_keys)
    assert tuple(lead.product_lines) == state.product_lines
    assert lead.place == state.place_version
    assert state.identity_version <= lead.version <= state.version  # as which `screen` answers
    keys = {key for key, _lead_id in sides.postings(folded(conflicts.MODEL, LEAD, told))}
    assert keys >= {key_of(one) for one in state.customer_keys} if not ld.ended(state) else not keys
    (held,) = folded(reactions.MODEL, LEAD, told)["held"]
    assert (held.status, held.partner_id, held.protected) == (state.status, state.partner_id, state.protected)


@given(DEAL_WALKS)
def test_what_conflicts_knows_of_an_opportunity_is_what_its_state_says(steps: list[Step]) -> None:
    states: list[o.Opportunity] = [o.AGGREGATE.initial]
    told = walk(o.AGGREGATE, DEAL, steps, lambda *seen: states.append(seen[-1]))
    if not told:
        return
    (deal,) = folded(conflicts.MODEL, DEAL, told)["lead"]
    state = states[-1]
    assert deal.status == state.status
    assert deal.partner_id == state.partner_id
    assert deal.product_lines == [product.line for product in state.products]
    assert (deal.customer is not None) == state.customer
    assert set(deal.customer_keys) == set(state.customer_keys)


def test_an_event_that_conflicts_passes_over_would_change_nothing_but_the_version() -> None:
    came: dict[str, tuple[UUID, Event]] = {
        "lead": (LEAD, told_as("prm.lead.registered.v1")),
        "opportunity": (DEAL, told_as("prm.opportunity.opened.v1")),
    }
    passed = [wire for wire in conflicts.MODEL.passed_over if wire.split(".")[1] in came]
    assert len(passed) > 20
    for wire in passed:
        subject, first = came[wire.split(".")[1]]
        before = folded(conflicts.MODEL, subject, [first])
        event = told_as(wire)
        after = sides.fold(before, recorded(subject, 2, event), event)
        assert _seen(after) == _seen(before), wire


def told_as(wire: str) -> Event:
    return parse_event(wire, GOLDEN[wire])


def _seen(rows: Rows) -> list[Any]:
    """Give what is compared or shown of a lead or an opportunity."""
    return [replace(row, version=0) for row in rows["lead"]]


# A channel in which many want the same customers


@pytest.fixture(scope="module")
def channel(migrated: Settings) -> Iterator[Service]:
    with service(migrated) as prm:
        dice = Random(7)
        sellers = [
            prm.desk.active_partner(legal_name=f"Seller {n}", authorisations=[{"product_line": one} for one in LINES])
            for n in range(5)
        ]
        leads: list[UUID] = []
        for _round in range(14):
            prm.desk.ask(*(_something(dice, sellers, leads) for _ in range(18)))
            if dice.random() < 0.7:  # the worker comes by now and then
                prm.settle()
        prm.settle()
        yield prm


LINES = ("scales", "sensors")


def _customer(dice: Random) -> dict[str, Any]:
    number = dice.randrange(40)
    name = "".join(chr(ord("a") + (number * step) % 26) for step in (3, 5, 7, 9, 11, 13)).capitalize()
    given: dict[str, Any] = {"name": f"{name} {dice.choice(('Comércio', 'Com.', 'Serviços'))} Ltda", "country": "BR"}
    given |= {"customer_id": f"c-{number}"} if dice.random() < 0.6 else {"city": "Pelotas"}
    return given | ({"domains": [f"d{dice.randrange(15)}.com.br"]} if dice.random() < 0.6 else {})


def _something(dice: Random, sellers: Sequence[UUID], leads: list[UUID]) -> Envelope:
    by, lines = dice.choice(sellers), dice.sample(LINES, dice.choice((1, 1, 2)))
    if not leads or dice.random() < 0.45:
        sent = registration(by, _customer(dice), product_lines=lines)
        if dice.random() < 0.2:
            sent = command("lead.capture", None, {"customer": _customer(dice), "product_lines": lines})
        leads.append(sent.subject)
        return sent
    one = dice.choice(leads[-60:])
    other = {"customer": _customer(dice)} if dice.random() < 0.6 else {"product_lines": lines}
    kind, data, actor = dice.choice(
        (
            ("approve", {}, MANAGER),
            ("approve", {}, MANAGER),
            ("reject", {"reason": "not_qualified"}, MANAGER),
            ("revert", {"reason": "a mistake"}, ADMIN),
            ("offer", {"partner_id": str(by)}, MANAGER),
            ("recall", {"reason": "idle"}, MANAGER),
            ("transfer", {"partner_id": str(by), "reason": "a new territory"}, MANAGER),
            ("correct", {**other, "reason": "it was wrong"}, MANAGER),
            ("revoke", {"reason": "so it is"}, MANAGER),
        )
    )
    return command(f"lead.{kind}", one, data, actor)


def _states(prm: Service) -> dict[UUID, ld.Lead]:
    states: dict[UUID, ld.Lead] = {}
    for event in the_log(prm.settings):
        if event.aggregate == "lead":
            before = states.get(event.subject, ld.Lead())
            states[event.subject] = ld.evolve(before, parse_event(event.type, event.data))
    return states


def test_the_open_conflicts_are_all_pairs_of_live_leads_that_match(channel: Service) -> None:
    live = {one: state for one, state in _states(channel).items() if not ld.ended(state)}
    hard, alike = set(), set()
    for (one, state), (other, theirs) in combinations(sorted(live.items()), 2):
        common = set(state.product_lines) & set(theirs.product_lines)
        if state.partner_id == theirs.partner_id or not common:
            continue
        if state.customer_keys & theirs.customer_keys:
            hard.add(frozenset((one, other)))
        elif state.domain_keys & theirs.domain_keys and _word(state) == _word(theirs):
            alike.add(frozenset((one, other)))
    rows = channel.view("SELECT * FROM lead_conflicts WHERE ended_position IS NULL")
    found = {frozenset((row["first_lead_id"], row["second_lead_id"])): row["strength"] for row in rows}
    assert {pair for pair, strength in found.items() if strength == "hard"} == hard
    assert alike <= {pair for pair, strength in found.items() if strength in ("probable", "possible")}
    assert len(hard) > 20
    assert alike
    assert all(row["first_position"] < row["second_position"] for row in rows)
    ended = channel.view("SELECT count(*) AS n FROM lead_conflicts WHERE status = 'past'")
    assert ended[0]["n"] > 5


def _word(state: ld.Lead) -> str:
    return state.customer.name.partition(" ")[0] if state.customer else ""


def test_every_live_lead_is_screened_as_it_is_and_a_later_one_knows_of_every_earlier_rival(channel: Service) -> None:
    states = _states(channel)
    live = {one: state for one, state in states.items() if not ld.ended(state)}
    assert all(state.screened_version >= state.identity_version for state in live.values())
    for row in channel.view("SELECT * FROM lead_conflicts WHERE ended_position IS NULL"):
        known = {match.lead_id for match in live[row["second_lead_id"]].matches}
        assert row["first_lead_id"] in known


_numbers = count(5000)


def _in_batches(prm: Service, model: OrderedModel, *sizes: int, workers: Sequence[int] = (0,)) -> Contents:
    """Give the rows of batches of these sizes, again and again, folded by these workers, who take turns."""
    with empty_generation(prm.settings, next(_numbers), model) as generation, ExitStack() as stack:
        made = [OrderedProjector(prm.settings, model, generation=generation) for _worker in range(max(workers) + 1)]
        for one in made:
            stack.callback(one.close)
        turns = zip(cycle(sizes), cycle(workers), strict=False)
        while made[(turn := next(turns))[1]].advance(limit=turn[0]).events:
            pass
        return contents(prm.settings, generation, model)


@pytest.mark.parametrize("model", [conflicts.MODEL, deadlines.MODEL, reactions.MODEL], ids=lambda model: model.name)
def test_the_sizes_of_batches_and_who_folds_them_change_no_row(channel: Service, model: OrderedModel) -> None:
    whole = _in_batches(channel, model, 100_000)
    assert any(whole.values())

    @examples(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(st.one_of(st.integers(20, 60), st.integers(60, 400)), min_size=1, max_size=6),
        st.lists(st.integers(0, 2), min_size=1, max_size=5),
        st.integers(1, 200),
    )
    def any_sizes(sizes: list[int], workers: list[int], part: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ordered, "PART", part)
            patch.setattr(conflicts, "PART", part)
            assert _in_batches(channel, model, *sizes, workers=workers) == whole

    any_sizes()


def test_of_a_batch_with_an_event_that_cannot_be_folded_only_what_came_before_is_written(
    channel: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ordered, "PART", 3)  # so that much is written when that event comes
    corrected = [one.position for one in the_log(channel.settings) if one.type == "prm.lead.corrected.v1"]
    bad = corrected[len(corrected) // 2]

    def choking(rows: Rows, one: Recorded, event: Event) -> Rows:
        if one.position == bad:
            raise ValueError("no")
        return sides.fold(rows, one, event)

    given = ((replace(conflicts.MODEL, fold=choking), None), (conflicts.MODEL, bad - 1))
    found = []
    for model, upto in given:
        with empty_generation(channel.settings, next(_numbers), model) as generation:
            with closing(OrderedProjector(channel.settings, model, generation=generation)) as projector:
                while projector.advance(upto=upto, limit=100_000).events:
                    pass
                assert projector.advance(upto=upto).parked == (upto is None)
            found.append(contents(channel.settings, generation, model))
    assert found[0] == found[1]


# Any policy over the log


def _listed(pairs: Sequence[Pair]) -> list[tuple[Any, ...]]:
    return [one.row for one in pairs]


def _tried(policy: Policy, batches: Iterable[Sequence[Recorded]]) -> list[tuple[Any, ...]]:
    screening = Screening(policy)
    for batch in batches:
        screening.take(batch)
    return _listed(screening.pairs())


def test_a_policy_tried_on_the_log_gives_the_pairs_that_stand(channel: Service) -> None:
    found = _tried(default(), [the_log(channel.settings)])
    rows = channel.view(
        "SELECT strength, score, sentence, first_kind, first_lead_id, first_partner_id, second_kind, second_lead_id,"
        " second_partner_id, found_position FROM lead_conflicts WHERE ended_position IS NULL"
    )
    assert sorted(map(str, found)) == sorted(str(tuple(row.values())) for row in rows)
    assert len(found) > 20


def test_a_policy_tried_gives_the_same_pairs_for_any_interleaving_of_partitions_and_any_batches(
    channel: Service,
) -> None:
    log = the_log(channel.settings)
    whole = _tried(default(), [log])

    @examples(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.randoms(use_true_random=False), st.integers(1, 300))
    def any_way(dice: Random, size: int) -> None:
        parts: dict[int, list[Recorded]] = {}
        for event in log:
            parts.setdefault(partition_of(event.subject), []).append(event)
        arrived: list[Recorded] = []
        while parts:
            number = dice.choice(sorted(parts))
            arrived.append(parts[number].pop(0))
            if not parts[number]:
                del parts[number]
        ordered = sorted(arrived, key=lambda one: one.position)
        batches = [ordered[start : start + size] for start in range(0, len(ordered), size)]
        assert _tried(default(), batches) == whole

    any_way()


def test_named_accounts_and_scope_of_the_policy_tried_count_and_not_those_loaded(channel: Service) -> None:
    account = NamedAccount(id="a1", name="Adgjmp Serviços SA", customer_id="c-1")
    tried = default().model_copy(update={"named_accounts": (account,)})
    before, after = (_tried(policy, [the_log(channel.settings)]) for policy in (default(), tried))
    more = [row for row in after if row not in before]
    assert more
    assert {row[3] for row in more} == {"named_account"}
