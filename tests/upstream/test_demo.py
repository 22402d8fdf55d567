"""The made-up channel: fixed by its seed and date, readable, and nearly all of it accepted."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta

import orjson
import pytest

from prm_es.aggregates import catalogue
from prm_es.aggregates.base import Refused
from prm_es.aggregates.partner import Partner
from prm_es.messages import Envelope, Role
from prm_es.upstream.demo import scenario
from prm_es.upstream.levels import Node, levels
from prm_es.upstream.lines import outgoing

from .folding import Fold

UNTIL = date(2026, 6, 30)
EXPECTED_REFUSALS = {
    "aggregate.already_exists",
    "command.invalid",
    "opportunity.credit_split_sum",
    "opportunity.reopen_too_late",
    "partner.duplicate",
    "partner.goal_overlaps",
    "partner.reapply_too_early",
    "state.not_allowed",
}


@pytest.fixture(scope="module")
def commands() -> list[Envelope]:
    return scenario(7, UNTIL)


@pytest.fixture(scope="module")
def decided(commands: list[Envelope]) -> Fold:
    nodes = [Node(str(command.subject), outgoing(command).texts) for command in commands]
    return Fold().take(commands[place] for level in levels(nodes) for place in level)


def test_seed_and_date_fix_every_byte(commands: list[Envelope]) -> None:
    assert scenario(7, UNTIL) == commands
    assert scenario(8, UNTIL) != commands
    assert scenario(7, date(2026, 6, 29)) != commands


def test_every_command_can_be_read_and_every_id_stands_once(commands: list[Envelope]) -> None:
    assert not [c for c in commands if isinstance(catalogue.parse_command(c.type, c.data), Refused)]
    assert len({(command.source, command.id) for command in commands}) == len(commands)


def test_all_of_it_lies_in_the_two_years_before_and_each_aggregate_moves_forward(commands: list[Envelope]) -> None:
    end = datetime(UNTIL.year, UNTIL.month, UNTIL.day, tzinfo=UTC)
    last: dict[object, datetime] = {}
    for command in commands:
        assert command.time is not None
        assert end - timedelta(days=730) <= command.time < end
        assert last.get(command.subject, command.time) <= command.time
        last[command.subject] = command.time
        assert command.actor.role is Role.INTEGRATION
        assert command.actor.on_behalf_of


@pytest.mark.parametrize("seed", [7, 1, 2])
def test_nearly_all_is_accepted_and_the_refusals_are_the_ones_meant(seed: int) -> None:
    commands = scenario(seed, UNTIL)
    nodes = [Node(str(command.subject), outgoing(command).texts) for command in commands]
    order = levels(nodes)
    forwards = Fold().take(commands[place] for level in order for place in level)
    assert {refused.code for _sent, refused in forwards.refused} <= EXPECTED_REFUSALS
    assert 20 < len(forwards.refused) < len(commands) / 200
    # Whatever the partitions: within a level, aggregates in another order have the same outcomes.
    backwards = Fold()
    for level in order:
        by_subject = sorted((commands[place] for place in level), key=lambda command: command.subject, reverse=True)
        backwards.take(by_subject)
    assert {sent.id for sent, _ in forwards.refused} == {sent.id for sent, _ in backwards.refused}


def test_the_refusals_are_of_every_kind_meant(decided: Fold) -> None:
    assert {refused.code for _sent, refused in decided.refused} == EXPECTED_REFUSALS


def test_what_becomes_of_it(decided: Fold) -> None:
    partners = [state for state in decided.states.values() if isinstance(state, Partner)]
    opportunities = [state for state in decided.states.values() if not isinstance(state, Partner)]
    assert len(partners) == 50
    assert {kind for partner in partners for kind in partner.types} == {
        "reseller", "retailer", "consultant", "service_provider", "integrator", "isv", "distributor", "referral",
    }  # fmt: skip
    assert {partner.country for partner in partners} == {"US", "BR", "DE", "FR", "ES", None}
    assert len(opportunities) == 1500
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
