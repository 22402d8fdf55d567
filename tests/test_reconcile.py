"""What follows from the log is compared with the log, and each row that does not is named."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from prm_es import rebuild, reconcile
from prm_es.errors import Usage
from prm_es.install import install
from prm_es.projections.pipeline import MODEL
from prm_es.projections.runner import schema_of
from prm_es.reconcile import GUARDS, Reconciled
from prm_es.settings import Settings
from prm_es.store.store import Store
from tests.projections.generations import live
from tests.support import Desk, command, opening, rows
from tests.test_cli import environment, in_process
from tests.test_leads import registered, registration, screened, seller

TAX = {"country": "BR", "value": "11222333000181"}


class World:
    """A log with a row in every guard table."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        with Store(settings) as store:
            desk = Desk(store)
            self.mine, self.rival = seller(desk), seller(desk, "Beta Ltda")
            self.taxed = desk.active_partner(legal_name="Gama Ltda", tax_ids=[TAX])
            self.held = registered(desk, self.mine, "C-1")
            desk.accepted(command("lead.approve", self.held))
            self.other = registration(self.rival, "C-1").subject
            desk.accepted(registration(self.rival, "C-1", self.other))
            match = {"lead_id": str(self.held), "strength": "hard", "other_first": True}
            screened(desk, self.other, matches=[match])
            customer = {"name": "Lojas Sul", "customer_id": "C-2"}
            self.won = uuid4()
            desk.accepted(opening(self.mine, self.won, customer=customer))
            amount = {"amount": "10", "currency": "BRL"}
            desk.accepted(command("opportunity.win", self.won, {"final_amount": amount, "order_reference": "PO-1"}))

    def change(self, statement: str, *parameters: object) -> None:
        """Do as the superuser what nobody should."""
        options = f"-c search_path={self.settings.store_schema}"
        with psycopg.connect(self.settings.postgres, options=options) as connection:
            assert connection.execute(statement.encode(), parameters).rowcount > 0

    def guards(self, limit: int = 50) -> Reconciled:
        return reconcile.reconcile(self.settings, GUARDS, limit)


@pytest.fixture(scope="module")
def world(migrated: Settings) -> World:
    install(migrated)
    made = World(migrated)
    rebuild.rebuild(migrated, MODEL)
    for table in made.guards().differs:
        assert rows(migrated, f"SELECT 1 FROM {table}"), table
    return made


@pytest.fixture(autouse=True)
def whole(world: World) -> Iterator[None]:
    """Begin and end each test with nothing that differs."""
    yield
    reconcile.repair_guards(world.settings, world.guards().owners)
    assert world.guards().total == 0


def test_nothing_differs_in_what_the_service_wrote(world: World) -> None:
    found = world.guards()
    assert (found.total, list(found.shown)) == (0, [])
    assert found.events == len(rows(world.settings, "SELECT 1 FROM events WHERE topic NOT LIKE 'prm.policy.%%'"))
    assert reconcile.reconcile(world.settings, "pipeline", 50).total == 0


UNTIL = datetime(2031, 1, 1, tzinfo=UTC)


def test_every_changed_column_is_named_with_both_sides(world: World) -> None:
    (before,) = rows(world.settings, "SELECT upper(during) AS until FROM claims WHERE lead_id = %s", (world.held,))
    world.change("UPDATE claims SET during = tstzrange(lower(during), %s), partner_id = %s", UNTIL, world.rival)
    (one,) = world.guards().shown
    assert (one.table, one.key) == (
        "claims",
        {"lead_id": world.held, "customer_key": "id:C-1", "product_line": "scales"},
    )
    assert one.stands == {"partner_id": world.rival, "until": UNTIL}
    assert one.follows == {"partner_id": world.mine, "until": before["until"]}


@pytest.mark.parametrize(
    ("change", "table"),
    [
        ("UPDATE claims SET product_lines = '(,)'", "claims"),
        ("UPDATE claims SET claim_group = gen_random_uuid()", "claims"),
        ("UPDATE live_registrations SET customer_keys = customer_keys || 'id:C-7'::text", "live_registrations"),
        ("UPDATE live_registrations SET product_lines = '{}'", "live_registrations"),
        ("UPDATE undecided_matches SET strength = 'probable'", "undecided_matches"),
        ("UPDATE undecided_matches SET earlier_lead_id = lead_id", "undecided_matches"),
        ("UPDATE incumbencies SET won_at = won_at + interval '1 microsecond'", "incumbencies"),
        ("UPDATE incumbencies SET partner_id = gen_random_uuid()", "incumbencies"),
        ("UPDATE partner_identifiers SET partner_id = gen_random_uuid()", "partner_identifiers"),
        ("DELETE FROM claims", "claims"),
        ("DELETE FROM live_registrations", "live_registrations"),
        ("DELETE FROM undecided_matches", "undecided_matches"),
        ("DELETE FROM incumbencies", "incumbencies"),
        ("DELETE FROM partner_identifiers", "partner_identifiers"),
    ],
)
def test_no_change_of_a_guard_table_goes_unseen(world: World, change: str, table: str) -> None:
    world.change(change)
    found = world.guards()
    assert {name for name, count in found.differs.items() if count} == {table}
    assert {one.table for one in found.shown} == {table}


def test_a_row_that_the_log_knows_nothing_of_is_named(world: World) -> None:
    lead = uuid4()
    world.change("INSERT INTO live_registrations VALUES (%s, %s, 'registered', '{id:X}', '{}')", lead, world.mine)
    (one,) = world.guards().shown
    assert (one.key, one.follows) == ({"lead_id": lead}, None)
    assert one.stands is not None
    assert one.stands["customer_keys"] == ["id:X"]


def test_a_wrong_row_in_the_place_of_a_right_one_is_repaired(world: World) -> None:
    lead = UUID(int=1)
    world.change("UPDATE claims SET lead_id = %s, claim_group = %s, product_lines = '(,)'", lead, lead)
    found = world.guards()
    assert found.owners == {lead, world.held}
    reconcile.repair_guards(world.settings, found.owners)
    assert world.guards().total == 0


def test_no_more_than_the_limit_is_named_and_all_are_counted(world: World) -> None:
    world.change("DELETE FROM live_registrations")
    found = world.guards(1)
    assert (found.total, len(found.shown)) == (2, 1)
    assert any("1 more not shown" in line for line in reconcile.in_words(found))


def test_writers_go_on_while_the_guards_are_compared(world: World) -> None:
    """The comparison sees one moment: what is committed in the middle of it is on neither side."""
    written = False

    def write(_done: int, _total: int) -> None:
        nonlocal written
        if not written:
            with Store(world.settings) as store:
                desk = Desk(store, topic=str(uuid4()))
                desk.accepted(command("lead.approve", registered(desk, world.mine, str(uuid4()))))
            written = True

    assert reconcile.reconcile(world.settings, GUARDS, 50, write).total == 0
    assert written


def test_a_read_model_s_row_that_does_not_follow_is_named_without_personal_values(world: World) -> None:
    schema = schema_of(world.settings, MODEL.name, live(world.settings))
    world.change(f"UPDATE {schema}.opportunity SET stage = 'committed', name = name || '!'")
    world.change(f"INSERT INTO {schema}.personal VALUES (%s, %s, 'contact_name', 'Rita Prado')", uuid4(), world.won)
    found = reconcile.reconcile(world.settings, "pipeline", 50)
    named = {one.table: one for one in found.shown}
    assert {name: count for name, count in found.differs.items() if count} == {"opportunity": 1, "personal": 1}
    assert named["opportunity"].stands is not None
    assert named["opportunity"].stands["stage"] == "committed"
    assert "contact_name" in named["personal"].key.values()
    assert named["personal"].follows is None
    assert "Rita" not in str(found)
    rebuild.rebuild(world.settings, MODEL)
    assert reconcile.reconcile(world.settings, "pipeline", 50).total == 0


def test_the_command_line_names_differences_and_says_what_to_do(world: World) -> None:
    def prm(*arguments: str) -> Any:
        return in_process(environment(world.settings), "reconcile", *arguments)

    same = prm("--format", "json")
    assert (same.code, json.loads(same.out)) == (0, [])
    world.change("DELETE FROM claims WHERE lead_id = %s", world.held)
    table = prm("guards")
    assert table.code == 1
    assert "claims: 1 row differs from the log" in table.err
    assert "no such row" in table.out
    (one,) = json.loads(prm("guards", "--format", "json").out)
    assert one["key"] == f"lead_id={world.held}, customer_key=id:C-1, product_line=scales"
    assert prm("guards", "--repair-guards").code == 1
    assert prm("guards").code == 0
    schema = schema_of(world.settings, MODEL.name, live(world.settings))
    world.change(f"DELETE FROM {schema}.opportunity")
    assert "prm-es rebuild pipeline" in prm("pipeline").err
    rebuild.rebuild(world.settings, MODEL)
    assert prm("nothing").code == 2
    with pytest.raises(Usage):
        reconcile.chosen(["guards", "nothing"])
