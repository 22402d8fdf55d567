"""The made-up channel: fixed by its seed and date, readable, and what is refused of it is refused on purpose."""

from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from random import Random
from uuid import UUID

import orjson
import pytest

from prm_es.aggregates import catalogue
from prm_es.aggregates.base import Refused
from prm_es.aggregates.lead import Lead
from prm_es.aggregates.lead_messages import Approved, ProtectionEnded, ProtectionExpired, Registered
from prm_es.aggregates.opportunity import Opportunity
from prm_es.aggregates.partner import Partner
from prm_es.messages import Envelope, Role
from prm_es.upstream.demo import scenario, world
from prm_es.upstream.demo.world import World
from prm_es.upstream.lines import outgoing

from .folding import Fold
from .ordering import by_chance, rounds

UNTIL = date(2026, 6, 30)
END = datetime(2026, 6, 30, tzinfo=UTC)
MEANT = {
    "aggregate.already_exists",
    "command.invalid",
    "lead.already_protected",
    "lead.extension_limit",
    "lead.partner_declined_before",
    "opportunity.credit_split_sum",
    "opportunity.reopen_too_late",
    "partner.duplicate",
    "partner.goal_overlaps",
    "partner.reapply_too_early",
    "state.not_allowed",
}


@pytest.fixture(scope="module")
def made() -> World:
    return world(7, UNTIL)


@pytest.fixture(scope="module")
def commands(made: World) -> list[Envelope]:
    return made.told()


@pytest.fixture(scope="module")
def decided(commands: list[Envelope]) -> Fold:
    return Fold().take(commands[place] for level in _rounds(commands) for place in level)


def _rounds(commands: list[Envelope]) -> list[list[int]]:
    return rounds([outgoing(command).node for command in commands])


def _registered(decided: Fold) -> dict[UUID, Registered]:
    return {one: first for one, events in decided.events.items() if isinstance(first := events[0], Registered)}


def test_seed_and_date_fix_every_byte(commands: list[Envelope]) -> None:
    assert scenario(7, UNTIL) == commands
    assert scenario(8, UNTIL) != commands
    assert scenario(7, date(2026, 6, 29)) != commands


def test_every_command_can_be_read_and_every_id_stands_once(commands: list[Envelope]) -> None:
    assert not [c for c in commands if isinstance(catalogue.parse_command(c.type, c.data), Refused)]
    assert len({(command.source, command.id) for command in commands}) == len(commands)
    assert len(commands) < 30_500


def test_all_of_it_lies_in_the_two_years_before_and_each_aggregate_moves_forward(commands: list[Envelope]) -> None:
    last: dict[object, datetime] = {}
    for command in commands:
        assert command.time is not None
        assert END - timedelta(days=730) <= command.time < END
        assert last.get(command.subject, command.time) <= command.time
        last[command.subject] = command.time
        assert command.actor.role is Role.INTEGRATION
        assert command.actor.on_behalf_of


@pytest.mark.parametrize(
    ("seed", "until"), [(7, UNTIL), (1, UNTIL), (2, date(2028, 2, 29)), (3, date(2027, 1, 1)), (4, date(2026, 3, 2))]
)
def test_what_is_refused_is_what_is_meant_and_partitions_change_nothing(seed: int, until: date) -> None:
    made = world(seed, until)
    commands = made.told()
    order = _rounds(commands)
    forwards = Fold().take(commands[place] for level in order for place in level)
    assert {sent.id: refused.code for sent, refused in forwards.refused} == made.meant
    assert set(made.meant.values()) == MEANT
    assert 60 < len(made.meant) < len(commands) / 150
    # Whatever the partitions and the handlers' pace: decided in any order that the schedule allows, they are the same.
    for chance in range(3):
        nodes = [outgoing(command).node for command in commands]
        mixed = Fold().take(commands[place] for place in by_chance(nodes, Random(chance), window=5_000))
        assert {sent.id: refused.code for sent, refused in mixed.refused} == made.meant
        assert mixed.events == forwards.events
    assert len(order) < 25


def test_without_the_causes_rivals_would_be_decided_by_chance(made: World, commands: list[Envelope]) -> None:
    nodes = [outgoing(command).node._replace(cause=None) for command in commands]
    mixed = Fold()
    for level in rounds(nodes):
        mixed.take(sorted((commands[place] for place in level), key=lambda one: one.subject, reverse=True))
    assert {sent.id: refused.code for sent, refused in mixed.refused} != made.meant


def test_what_is_told_of_a_customer_waits_for_what_was_told_before(commands: list[Envelope]) -> None:
    at = {command.id: command.time for command in commands}
    caused = [command for command in commands if command.causation_id]
    assert len(caused) > 1500
    for command in caused:
        assert command.causation_id is not None
        assert command.time is not None
        before = at[command.causation_id]
        assert before is not None
        assert before <= command.time


def test_who_is_in_it(decided: Fold) -> None:
    partners = decided.of(Partner).values()
    assert len(partners) == 50
    assert {kind for partner in partners for kind in partner.types} == {
        "reseller", "retailer", "consultant", "service_provider", "integrator", "isv", "distributor", "referral",
    }  # fmt: skip
    assert {partner.country for partner in partners} == {"US", "BR", "DE", "FR", "ES", None}
    active = [partner for partner in partners if partner.status == "active"]
    assert len(active) > 35
    assert all(partner.authorisations and partner.territories and partner.channel_manager for partner in active)
    assert len({partner.tier for partner in active}) == 4


def test_what_becomes_of_leads(decided: Fold) -> None:
    leads = decided.of(Lead)
    assert 1900 < len(leads) < 2100
    registered = Counter(lead.status for lead in leads.values() if lead.origin == "registered")
    captured = Counter(lead.status for lead in leads.values() if lead.origin == "captured")
    assert 1300 < registered.total() < 1500
    assert captured.total() == 600
    assert {name: registered[name] > 5 for name in ("rejected", "withdrawn", "revoked", "converted", "approved")} == {
        "rejected": True, "withdrawn": True, "revoked": True, "converted": True, "approved": True,
    }  # fmt: skip
    assert min(captured["converted"], captured["disqualified"]) > 150
    happened = Counter(type(event).TYPE for one in leads for event in decided.events[one])
    kinds = {
        "resubmitted", "protection_extended", "corrected", "transferred", "owner_assigned", "commented",
        "activity_logged", "opened", "declined", "offer_expired", "recalled", "contacted", "work_started",
    }  # fmt: skip
    assert not [kind for kind in kinds if happened[f"lead.{kind}.v1"] < 5]
    reasons = {event.reason for one in leads for event in decided.events[one] if hasattr(event, "reason")}
    assert {"already_registered_other_partner", "duplicate_registration", "no_capacity", "not_reachable"} <= reasons


def test_the_inbox_is_full_of_what_came_in_lately(decided: Fold) -> None:
    leads = decided.of(Lead)
    answerable = ("submitted", "in_review", "action_required", "new", "qualified", "offered", "accepted", "working")
    statuses = Counter(lead.status for lead in leads.values())
    assert not [status for status in answerable if statuses[status] == 0]
    assert min(statuses["submitted"], statuses["in_review"], statuses["offered"]) >= 10
    waiting = [lead for lead in leads.values() if lead.status in ("submitted", "in_review") and lead.sla_due_at]
    assert sum(lead.sla_due_at > END - timedelta(days=7) for lead in waiting) > 0.8 * len(waiting)
    assert sum(lead.respond_by is not None and lead.respond_by > END for lead in leads.values()) >= 10


def test_protections_run_out_are_ended_by_the_deal_or_still_run(decided: Fold) -> None:
    leads = decided.of(Lead)
    approved = [one for one in leads if any(isinstance(event, Approved) for event in decided.events[one])]
    left = [one for one in approved if leads[one].status == "approved" and (leads[one].protected_until or END) < END]
    assert 0.03 < len(left) / len(approved) < 0.12
    running = [one for one in leads if (leads[one].protected_until or END) > END]
    assert len(running) > 80
    kinds = Counter(type(event) for one in leads for event in decided.events[one])
    assert kinds[ProtectionEnded] > 300
    assert kinds[ProtectionExpired] > 100


def test_rivals_bring_the_same_customers_by_tax_id_of_another_establishment_by_number_and_by_domain(
    decided: Fold, made: World, commands: list[Envelope]
) -> None:
    registered = _registered(decided)
    leads = decided.of(Lead)
    at = {command.subject: command.time for command in commands if command.type == "prm.lead.register"}
    by_key: dict[str, set[UUID]] = defaultdict(set)
    for one, event in registered.items():
        for key in (*event.customer_keys, *event.domain_keys):
            by_key[key].add(one)
    rivals: set[UUID] = set()
    how: Counter[str] = Counter()
    for key, found in by_key.items():
        for earlier, later in pairwise(sorted(found, key=lambda one: at[one] or END)):
            near = (at[later] or END) - (at[earlier] or END) < timedelta(days=27)
            common = set(leads[earlier].product_lines) & set(leads[later].product_lines)
            if near and common and registered[earlier].partner_id != registered[later].partner_id:
                rivals.add(later)
                how[key.partition(":")[0]] += 1
    assert 0.05 < len(rivals) / len(registered) < 0.11
    assert min(how["tax"], how["id"], how["domain"]) > 5
    roots: dict[str, set[str]] = defaultdict(set)
    for event in registered.values():
        for tax in event.customer.tax_ids if event.customer else ():
            roots[tax.key[:-6] if tax.kind == "cnpj" else tax.key].add(tax.value)
    assert sum(len(values) > 1 for values in roots.values()) > 5
    outcomes = Counter(leads[one].status for one in rivals)
    assert outcomes["rejected"] > 20
    assert outcomes["approved"] + outcomes["converted"] > 10
    assert outcomes["submitted"] + outcomes["in_review"] + outcomes["action_required"] > 5
    assert Counter(made.meant.values())["lead.already_protected"] > 10
    assert any(event.held_until for event in registered.values())


def test_what_becomes_of_opportunities(decided: Fold) -> None:
    opportunities = decided.of(Opportunity).values()
    assert len(opportunities) == 1500
    assert 900 < sum(one.lead_id is not None for one in opportunities) < 1100
    assert {one.amount.currency for one in opportunities if one.amount} == {"USD", "EUR", "BRL"}
    statuses = Counter(one.status for one in opportunities)
    assert min(statuses["won"], statuses["lost"]) > 400
    assert statuses["open"] > 200
    assert sum(one.next_action_due is not None and one.next_action_due < UNTIL for one in opportunities) > 50


def test_tax_ids_with_letters_and_individuals_are_among_them(commands: list[Envelope]) -> None:
    found = [orjson.loads(command.data).get("customer") or {} for command in commands]
    brazilian = {t["value"] for customer in found for t in customer.get("tax_ids", ()) if t["country"] == "BR"}
    assert any(any(character.isalpha() for character in value) for value in brazilian)
    assert any(sum(character.isdigit() for character in value) == 11 and "/" not in value for value in brazilian)
    assert {t["country"] for customer in found for t in customer.get("tax_ids", ())} == {"US", "BR", "DE", "FR", "ES"}


def test_goals_by_month_are_of_a_size_that_is_reached_more_or_less(decided: Fold, made: World) -> None:
    goals = [(one, goal) for one, partner in decided.of(Partner).items() for goal in partner.goals.values()]
    kinds = Counter((goal.metric, len(goal.period)) for _one, goal in goals)
    assert set(kinds) == {("won_amount", 7), ("won_amount", 4), ("registered_count", 7)}
    assert min(kinds.values()) > 30
    years = [(one, goal) for one, goal in goals if goal.distribution]
    assert all(sum(goal.distribution) == 100 for _one, goal in years)
    won: dict[tuple[UUID, str], Decimal] = defaultdict(Decimal)
    for one, day, amount in made.wins:
        won[one, str(day.year)] += amount
    whole = [(one, goal) for one, goal in years if goal.period == "2025" and won[one, "2025"] > 0]
    reached = [won[one, "2025"] / goal.target for one, goal in whole]
    assert len(reached) > 10
    assert all(Decimal("0.5") < part < Decimal("1.4") for part in reached)
    assert min(reached) < Decimal("0.85")
    assert max(reached) > Decimal("1.05")
    monthly = {one for one, goal in goals if goal.period == "2025-11" and goal.metric == "won_amount"}
    assert len(monthly) > 8
    per_month: dict[UUID, Decimal] = defaultdict(Decimal)
    for one, goal in goals:
        if one in monthly and goal.metric == "won_amount" and goal.period.startswith("2025-"):
            per_month[one] += goal.target
    parts = [won[one, "2025"] / target for one, target in per_month.items() if won[one, "2025"]]
    assert all(Decimal("0.45") < part < Decimal("1.5") for part in parts)
