"""Whose rows a partner's people see: their own and their children's, in every view and table, whatever is asked."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import psycopg2
import psycopg2.errors
import pytest
from psycopg2 import sql

from prm_es import rebuild
from prm_es.api.database import Database
from prm_es.api.principal import Principal
from prm_es.install import install
from prm_es.messages import Actor, Envelope, Role
from prm_es.projections.ordered import OrderedModel, OrderedProjector
from prm_es.projections.registry import READ_MODELS
from prm_es.projections.runner import schema_of
from prm_es.settings import Settings
from prm_es.store.store import Store
from tests.projections.generations import live
from tests.support import MANAGER, Desk, command, opening, partner, rows, today

SYSTEM = Actor("prm-es", Role.SYSTEM)


@dataclass(frozen=True)
class Side:
    """One of two partners who know nothing of each other, and every id and word of its business."""

    word: str
    partner: UUID
    child: UUID
    ids: frozenset[UUID]
    offered: UUID


def _customer(word: str, number: int) -> dict[str, Any]:
    return {"name": f"{word} customer {number}", "country": "BR", "customer_id": f"{word}-{number}"}


def _registration(word: str, by: UUID, number: int, subject: UUID) -> Envelope:
    data = {
        "partner_id": str(by),
        "customer": _customer(word, number),
        "product_lines": ["scales"],
        "deal_type": "new",
        "amount": {"amount": "5000", "currency": "BRL"},
        "expected_close_on": today(30),
        "business_problem": f"Their stock counts are two weeks old, says {word}.",
    }
    return command("lead.register", subject, data, MANAGER)


def _business(desk: Desk, word: str) -> Side:
    """Let a partner have a child, registrations, deals won and open, a lead in its hands and one that is offered."""
    own, child, deal, won, lead, protected, offered, declined = (uuid4() for _ in range(8))
    authorised = [{"product_line": "scales"}]
    seller = Actor(f"{word}-rep", Role.PARTNER_REP, str(own))
    captured = {"customer": _customer(word, 9), "product_lines": ["scales"]}
    offer = {"partner_id": str(own), "strategy": "manual"}
    desk.accepted(
        partner(own, legal_name=f"{word} Ltda", authorisations=authorised),
        partner(child, legal_name=f"{word} Filha", parent=str(own), authorisations=authorised),
        opening(own, deal, name=f"{word} deal", customer=_customer(word, 1)),
        opening(child, won, name=f"{word} won", customer=_customer(word, 2)),
        command(
            "opportunity.win",
            won,
            {
                "final_amount": {"amount": "900", "currency": "BRL"},
                "order_reference": f"{word}-1",
                "closed_on": today(),
            },
        ),
        _registration(word, own, 3, lead),
        _registration(word, own, 4, protected),
        command("lead.capture", offered, captured),
        command("lead.capture", declined, {**captured, "customer": _customer(word, 8)}),
        command("lead.offer", offered, offer),
        command("lead.offer", declined, offer),
        command("lead.decline", declined, {"reason": "no_capacity"}, seller),
        command("lead.screen", protected, {"version": 1, "matches": []}, SYSTEM),
        command("lead.approve", protected),
        command("lead.log_activity", lead, {"kind": "call", "summary": f"{word} called"}, seller),
        command(
            "partner.set_goal",
            own,
            {"goal_id": str(uuid4()), "metric": "new_customers", "period": today()[:7], "target": "3"},
        ),
    )
    return Side(word, own, child, frozenset({own, child, deal, won, lead, protected, offered, declined}), offered)


@pytest.fixture(scope="module")
def sides(migrated: Settings) -> tuple[Side, Side]:
    install(migrated)
    with Store(migrated) as store:
        desk = Desk(store)
        both = _business(desk, "ACME"), _business(desk, "BETA")
    for model in READ_MODELS.values():
        if isinstance(model, OrderedModel):
            _follow(migrated, model)
        else:
            rebuild.rebuild(migrated, model)
    return both


def _follow(settings: Settings, model: OrderedModel) -> None:
    projector = OrderedProjector(settings, model)
    try:
        while projector.advance().events:
            pass
    finally:
        projector.close()


def _person(side: Side | None, orgs: tuple[UUID, ...] | None = None) -> Principal:
    if side is None:
        return Principal("carla", Role.CHANNEL_MANAGER, "vendor", (), "Carla", "en")
    seen = (side.partner, side.child) if orgs is None else orgs
    return Principal("rep", Role.PARTNER_REP, str(side.partner), seen, "Rep", "en")


Named = Mapping[str, list[dict[str, Any]]]


def _all_rows(settings: Settings, who: Principal) -> Named:
    """Read every view and every table behind them that the database lets this person read, without any condition."""
    database, found = Database(settings), {}
    try:
        for name in _relations(settings):
            query = sql.SQL("SELECT to_jsonb(one)::text FROM {} one").format(sql.Identifier(*name))
            try:
                with database.reading(who) as cursor:
                    cursor.execute(query)
                    found[name[1] if name[0] == settings.read_schema else ".".join(name)] = [
                        json.loads(text) for (text,) in cursor
                    ]
            except psycopg2.errors.InsufficientPrivilege:
                continue
    finally:
        database.close()
    return found


def _relations(settings: Settings) -> list[tuple[str, str]]:
    query = (
        "SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'v') AND (n.nspname = %s OR n.nspname LIKE %s) ORDER BY 1, 2"
    )
    found = rows(settings, query, (settings.read_schema, f"{settings.prefix}%"))
    return [(one["schema"], one["name"]) for one in found]


FOR_PARTNERS = {view for model in READ_MODELS.values() if model.for_partners for view in model.views}


def test_without_any_condition_a_partner_reads_nothing_of_a_rival(sides: tuple[Side, Side], migrated: Settings) -> None:
    for own, rival in (sides, sides[::-1]):
        found = _all_rows(migrated, _person(own))
        assert found.keys() >= FOR_PARTNERS
        assert not any("lead_conflicts" in name or "_conflicts_" in name for name in found)
        leaks = [
            (name, row)
            for name, content in found.items()
            for row in content
            if rival.word in str(row) or any(str(one) in str(row) for one in rival.ids)
        ]
        assert leaks == []


def test_a_partner_reads_its_own_rows_and_its_childrens_in_every_view(
    sides: tuple[Side, Side], migrated: Settings
) -> None:
    own, _rival = sides
    found, everything = _all_rows(migrated, _person(own)), _all_rows(migrated, _person(None))
    seen = {str(own.partner), str(own.child)}
    for view in FOR_PARTNERS - {"funnel", "pipeline"}:
        expected = [
            row
            for row in everything[view]
            if row["partner_id"] in seen and not (view == "leads" and row["lead_id"] == str(own.offered))
        ]
        assert expected, f"the story says nothing to {view}"
        assert len(found[view]) == len(expected), view
    assert {row["partner_id"] for row in found["pipeline"]} == {str(own.partner), str(own.child)}
    assert sum(row["entered"] for row in found["funnel"]) * 2 == sum(row["entered"] for row in everything["funnel"])


def test_who_acts_for_nobody_reads_nothing(sides: tuple[Side, Side], migrated: Settings) -> None:
    found = _all_rows(migrated, _person(sides[0], orgs=()))
    for schema in ("checkpoints", "generations", "published"):
        found = {name: content for name, content in found.items() if not name.endswith(schema)}
    assert {name: content for name, content in found.items() if content} == {}


def test_a_child_does_not_read_its_parents_rows(sides: tuple[Side, Side], migrated: Settings) -> None:
    own, _rival = sides
    found = _all_rows(migrated, _person(own, orgs=(own.child,)))
    assert {row["partner_id"] for row in found["partners"]} == {str(own.child)}
    assert {row["partner_id"] for row in found["opportunities"]} == {str(own.child)}


def test_an_offer_tells_the_customer_only_once_it_is_opened(sides: tuple[Side, Side], migrated: Settings) -> None:
    own, _rival = sides
    (offer,) = (row for row in _all_rows(migrated, _person(own))["offers"] if row["lead_id"] == str(own.offered))
    assert (offer["customer"], offer["country"], offer["product_lines"]) == (None, "BR", ["scales"])
    seller = Actor("rep", Role.PARTNER_REP, str(own.partner))
    with Store(migrated) as store:
        Desk(store, topic=str(uuid4())).accepted(command("lead.open", own.offered, {}, seller))
    rebuild.rebuild(migrated, READ_MODELS["leads"])
    found = _all_rows(migrated, _person(own))
    (offer,) = (row for row in found["offers"] if row["lead_id"] == str(own.offered))
    assert offer["customer"] == f"{own.word} customer 9"
    assert str(own.offered) in {row["lead_id"] for row in found["leads"]}


def test_how_a_partner_stands_among_others_it_is_not_told(sides: tuple[Side, Side], migrated: Settings) -> None:
    own, _rival = sides
    found, everything = _all_rows(migrated, _person(own)), _all_rows(migrated, _person(None))
    assert {row["won_rank"] for row in found["partner_scorecard"]} == {None}
    assert {row["in_conflict"] for row in found["leads"]} == {None}
    assert {row["won_rank"] for row in everything["partner_scorecard"]} > {None}
    assert {row["in_conflict"] for row in everything["leads"]} <= {True, False}


def test_a_partners_figures_are_those_that_the_vendor_sees(sides: tuple[Side, Side], migrated: Settings) -> None:
    own, _rival = sides
    found, everything = _all_rows(migrated, _person(own)), _all_rows(migrated, _person(None))
    seen = {str(own.partner), str(own.child)}
    for view in ("goals", "partner_performance", "partner_scorecard", "registrations", "protected_customers"):
        theirs = [{**row, "won_rank": None} for row in everything[view] if row["partner_id"] in seen]
        ours = [{**row, "won_rank": None} for row in found[view]]
        assert sorted(map(str, ours)) == sorted(map(str, theirs)), view


def test_every_view_asks_with_the_rights_of_who_reads(sides: tuple[Side, Side], migrated: Settings) -> None:
    query = (
        "SELECT c.relname, coalesce(c.reloptions::text, '') LIKE '%%security_invoker=true%%' AS invoker"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'v' AND n.nspname = %s"
    )
    views = {one["relname"]: one["invoker"] for one in rows(migrated, query, (migrated.read_schema,))}
    assert views
    assert all(views.values()), views


def test_every_table_of_a_read_model_has_row_level_security(sides: tuple[Side, Side], migrated: Settings) -> None:
    query = "SELECT relname, relrowsecurity FROM pg_class WHERE relkind = 'r' AND relnamespace = %s::regnamespace"
    for model in READ_MODELS.values():
        schema = schema_of(migrated, model.name, live(migrated, model))
        tables = {one["relname"]: one["relrowsecurity"] for one in rows(migrated, query, (schema,))}
        assert tables.keys() >= {table.name for table in model.tables}
        assert all(tables.values()), (model.name, tables)


def test_nobody_writes_through_the_api(sides: tuple[Side, Side], migrated: Settings) -> None:
    database = Database(migrated)
    try:
        for who in (_person(None), _person(sides[0])):
            with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction), database.reading(who) as cursor:
                cursor.execute("CREATE TEMPORARY TABLE mine (one int)")
    finally:
        database.close()
