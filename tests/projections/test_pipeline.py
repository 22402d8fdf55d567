"""Read model pipeline, by outcome: what the rows say after some events, and what the views make of the rows."""

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import reduce
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from prm_es import rebuild
from prm_es.aggregates import opportunity as o
from prm_es.aggregates import partner as p
from prm_es.aggregates.base import Event
from prm_es.aggregates.catalogue import wire_type
from prm_es.aggregates.fields import Customer, Money
from prm_es.install import install
from prm_es.messages import Recorded, stored_state
from prm_es.projections.base import Rows
from prm_es.projections.partners import Partner
from prm_es.projections.pipeline import MODEL, Authorisation, Opportunity, fold
from prm_es.projections.registry import READ_MODELS
from prm_es.settings import Settings
from prm_es.store.store import NewEvent, Store, Writes
from tests.aggregates.cases import ACME, BETA, CM, DEAL
from tests.support import command, rows

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
PROBABILITY = {
    "prospect": 10,
    "qualified": 25,
    "technical_validation": 50,
    "business_validation": 70,
    "committed": 90,
    "won": 100,
    "lost": 0,
}


def snapshot(stage: str) -> dict[str, Any]:
    return {"stage": stage, "probability": PROBABILITY[stage], "category": "pipeline", "policy_version": 0}


def opened(stage: str = "prospect", **given: Any) -> o.Opened:
    fixed = {"partner_id": ACME, "partner_role": "selling", "opened_by": "ana", "owner": "ana", "name": "Stock"}
    return o.Opened(**snapshot(stage), **{**fixed, **given})


def moved(stage: str, previous: str, **given: Any) -> o.StageChanged:
    return o.StageChanged(**snapshot(stage), previous=previous, **given)


def won(**given: Any) -> o.Won:
    fixed = {"previous": "prospect", "closed_on": START.date(), "closed_at": START}
    return o.Won(**snapshot("won"), **{**fixed, **given})


def lost(**given: Any) -> o.Lost:
    fixed = {"previous": "prospect", "closed_on": START.date(), "closed_at": START, "reason": "price"}
    return o.Lost(**snapshot("lost"), **{**fixed, **given})


def reopened(stage: str, previous: str) -> o.Reopened:
    return o.Reopened(**snapshot(stage), previous=previous, reason="They called again")


def brl(amount: str) -> Money:
    return Money(amount=Decimal(amount), currency="BRL")


def day(number: int) -> datetime:
    return START + timedelta(days=number)


def folded(*events: Event, subject: UUID = DEAL) -> Rows:
    """Fold the events, one a day."""
    numbered = [_recorded(subject, number, event) for number, event in enumerate(events)]
    return reduce(lambda tables, one: fold(tables, *one), numbered, MODEL.empty())


def _recorded(subject: UUID, number: int, event: Event) -> tuple[Recorded, Event]:
    at = day(number)
    recorded = Recorded(
        position=number + 1,
        subject=subject,
        version=number + 1,
        type=wire_type(event),
        at=at,
        recorded_at=at + timedelta(days=900),
        actor=CM,
        command_source="tests",
        command_id=str(number),
        correlation_id=None,
        data=event.model_dump_json().encode(),
    )
    return recorded, event


def deal(*events: Event) -> Opportunity:
    (row,) = folded(*events)["opportunity"]
    assert isinstance(row, Opportunity)
    return row


def partner(*events: Event) -> Partner:
    (row,) = folded(*events, subject=ACME)["partner"]
    assert isinstance(row, Partner)
    return row


def stays(*events: Event) -> list[tuple[str, int, int | None, str | None]]:
    """Give stage, day of entering, day of leaving and where to."""
    visits = folded(*events)["stage_visit"]
    assert [visit.number for visit in visits] == list(range(1, len(visits) + 1))
    return [
        (
            visit.stage,
            (visit.entered_at - START).days,
            (visit.left_at - START).days if visit.left_at else None,
            visit.left_for,
        )
        for visit in visits
    ]


# Stages


def test_each_stay_in_a_stage_says_how_it_ended() -> None:
    assert stays(
        opened(),
        moved("technical_validation", "prospect"),
        moved("qualified", "technical_validation", backwards=True),
        lost(previous="qualified"),
        reopened("qualified", "lost"),
        won(previous="qualified"),
    ) == [
        ("prospect", 0, 1, "forward"),
        ("technical_validation", 1, 2, "back"),
        ("qualified", 2, 3, "lost"),
        ("lost", 3, 4, "back"),
        ("qualified", 4, 5, "won"),
        ("won", 5, None, None),
    ]


def test_what_changes_no_stage_is_no_stay() -> None:
    events = (opened(), o.Commented(text="~"), o.OwnerAssigned(owner="bia"), o.AmountChanged(amount=brl("5")))
    assert stays(*events) == [("prospect", 0, None, None)]


@pytest.mark.parametrize(
    ("events", "engaged"),
    [
        ((opened(),), None),
        ((opened(), lost()), None),
        ((opened("qualified"),), 0),
        ((opened(), moved("qualified", "prospect"), moved("committed", "qualified")), 1),
        ((opened(), moved("qualified", "prospect"), moved("prospect", "qualified", backwards=True)), 1),
        ((opened(), won()), 1),
    ],
)
def test_an_opportunity_is_engaged_since_it_first_left_prospect_for_an_open_or_won_stage(
    events: tuple[Event, ...], engaged: int | None
) -> None:
    assert deal(*events).engaged_at == (None if engaged is None else day(engaged))


def test_winning_closes_the_row() -> None:
    action = o.NextAction(text="~", due_on=date(2026, 4, 1), owner="ana")
    row = deal(
        opened(amount=brl("900.00"), next_action=action, expected_close_on=date(2026, 5, 1)),
        o.ForecastOverridden(category="commit", stage_category="pipeline", reason="~"),
        won(amount=brl("1000.10"), closed_on=date(2026, 3, 4)),
    )
    assert (row.stage, row.status, row.probability, row.closed_on) == ("won", "won", 100, date(2026, 3, 4))
    assert (row.amount, row.currency) == (Decimal("1000.10"), "BRL")
    assert (row.next_action, row.next_action_due_on, row.next_action_owner) == (None, None, None)
    assert row.forecast_override is None
    assert row.stage_entered_at == day(2)


def test_losing_says_why_and_reopening_takes_it_back() -> None:
    closed = deal(opened(), lost(reason="price"))
    assert (closed.status, closed.lost_reason, closed.closed_on) == ("lost", "price", START.date())
    again = deal(opened(), lost(reason="price"), reopened("prospect", "lost"))
    assert (again.status, again.stage, again.lost_reason, again.closed_on) == ("open", "prospect", None, None)
    assert again.stage_entered_at == day(2)


# Gaps of imports


def test_gaps_of_an_import_vanish_as_they_are_filled() -> None:
    lacking = ("customer", "amount", "expected_close_on", "products", "next_action")
    events: list[Event] = [opened("qualified", missing=lacking)]
    filling: list[tuple[Event, str]] = [
        (o.DetailsChanged(changed=("customer",), customer=Customer(name="Lojas Sul")), "customer"),
        (o.AmountChanged(amount=brl("10")), "amount"),
        (o.CloseDateChanged(expected_close_on=date(2026, 6, 1)), "expected_close_on"),
        (o.DetailsChanged(changed=("products",), products=(o.Product(line="scales"),)), "products"),
        (o.NextActionSet(text="~", due_on=date(2026, 4, 1)), "next_action"),
    ]
    left = set(lacking)
    assert deal(*events).data_gaps == sorted(left)
    for event, name in filling:
        events.append(event)
        left.discard(name)
        assert deal(*events).data_gaps == sorted(left)


def test_a_field_that_is_cleared_fills_no_gap() -> None:
    events = (opened(missing=("amount", "products")), o.AmountChanged(), o.DetailsChanged(changed=("products",)))
    assert deal(*events).data_gaps == ["amount", "products"]


def test_a_stage_entered_without_its_fields_adds_gaps_and_keeps_the_old() -> None:
    row = deal(opened(missing=("customer",)), moved("qualified", "prospect", missing=("amount", "contact")))
    assert row.data_gaps == ["amount", "contact", "customer"]


@pytest.mark.parametrize(
    ("closing", "gaps"),
    [
        (won(amount=brl("1"), missing=()), []),
        (won(missing=("final_amount", "order_reference")), ["amount", "final_amount", "order_reference"]),
        (lost(), ["amount"]),
        (lost(reason="not_given"), ["amount", "lost_reason"]),
        (lost(reason=None, missing=("reason",)), ["amount", "lost_reason"]),
        (lost(reason="competitor", missing=("competitor",)), ["amount", "competitor"]),
    ],
)
def test_a_closing_leaves_the_gaps_that_matter_then(closing: Event, gaps: list[str]) -> None:
    lacking = ("next_action", "expected_close_on", "amount")
    assert deal(opened(missing=lacking), closing).data_gaps == gaps
    assert deal(opened(missing=lacking), closing, reopened("prospect", "lost")).data_gaps == sorted(
        {"amount"} & {*gaps}
    )


# Work


def test_an_override_stands_beside_the_stages_own_category_until_it_is_lifted() -> None:
    events = [opened(), o.ForecastOverridden(category="commit", stage_category="pipeline", reason="~")]
    assert (deal(*events).forecast_override, deal(*events).category) == ("commit", "pipeline")
    assert deal(*events, moved("qualified", "prospect")).forecast_override == "commit"
    lifted = o.ForecastOverridden(category=None, stage_category="pipeline", reason="~")
    assert deal(*events, lifted).forecast_override is None


def test_a_next_action_is_replaced_and_completed() -> None:
    first = o.NextAction(text="a", due_on=date(2026, 4, 1), owner="ana")
    events: list[Event] = [opened(next_action=first), o.NextActionSet(text="b", due_on=date(2026, 5, 1))]
    row = deal(*events)
    assert (row.next_action, row.next_action_due_on, row.next_action_owner) == ("b", date(2026, 5, 1), None)
    row = deal(*events, o.NextActionCompleted(due_on=date(2026, 5, 1)))
    assert (row.next_action, row.next_action_due_on) == (None, None)
    row = deal(*events, moved("qualified", "prospect", next_action=first))
    assert (row.next_action, row.next_action_owner) == ("a", "ana")


def test_the_partner_of_record_and_the_owner_are_those_of_now() -> None:
    handed = o.PartnerOfRecordChanged(partner_id=BETA, previous=ACME, reason="~")
    row = deal(
        opened(), handed, o.OwnerAssigned(owner="bia", previous="ana"), o.PartnerAdded(partner_id=ACME, role="x")
    )
    assert (row.partner_id, row.owner) == (BETA, "bia")


def test_only_work_on_a_deal_keeps_it_from_stalling() -> None:
    def touched(event: Event) -> bool:
        return deal(opened(), event).touched_at == day(1)

    assert touched(o.ActivityLogged(kind="call", summary="~", happened_on=START.date()))
    assert touched(o.NextActionSet(text="~", due_on=START.date()))
    assert touched(moved("qualified", "prospect"))
    assert not touched(o.AmountChanged(amount=brl("1")))
    assert not touched(o.OwnerAssigned(owner="bia"))
    assert not touched(o.ForecastOverridden(category="commit", stage_category="pipeline", reason="~"))


def test_a_stalled_deal_is_stalled_until_it_moves_again() -> None:
    def activity(happened: int) -> o.ActivityLogged:
        return o.ActivityLogged(
            kind="call",
            summary="~",
            happened_on=day(happened).date(),
            happened_at=day(happened),
            stalls_at=day(happened + 30),
        )

    told = (opened(stalls_at=day(30)), o.Stalled(stalled_at=day(30), since=START))
    assert (deal(*told).stalled_at, deal(*told[:1]).stalled_at) == (day(30), None)
    assert deal(*told, activity(31)).stalled_at is None
    assert deal(*told, moved("qualified", "prospect", stalls_at=day(61))).stalled_at is None
    assert deal(*told, lost(), reopened("prospect", "lost")).stalled_at == day(30)
    assert deal(*told, activity(0)).stalled_at == day(30)  # logged late, and known before
    for other in (o.Commented(text="~"), o.AmountChanged(amount=brl("1")), o.HelpRequested(topic="x", note="~")):
        assert deal(*told, other).stalled_at == day(30)
    again = o.Stalled(stalled_at=day(61), since=day(31))
    assert deal(*told, activity(31), again).stalled_at == day(61)


def test_every_event_moves_the_position_of_the_row_alone() -> None:
    before, after = deal(opened()), deal(opened(), o.CreditSplitSet(type="revenue", shares=()))
    assert after == replace(before, updated_position=2)


# Partners

IMPORTED = p.Imported(
    status="active", imported_at=START, legal_name="Acme Ltda", country="BR", types=("reseller",), external_id="A-1"
)


def test_a_partner_goes_by_its_trade_name_while_it_has_one() -> None:
    traded = p.ProfileUpdated(changed=("trade_name",), trade_name="Acme")
    renamed = p.ProfileUpdated(changed=("legal_name",), legal_name="Acme SA")
    cleared = p.ProfileUpdated(changed=("trade_name",))

    def names(*events: Event) -> tuple[str | None, str | None]:
        row = partner(IMPORTED, *events)
        return row.name, row.legal_name

    assert names() == ("Acme Ltda", "Acme Ltda")
    assert names(renamed) == ("Acme SA", "Acme SA")
    assert names(traded) == ("Acme", "Acme Ltda")
    assert names(traded, renamed) == ("Acme", "Acme SA")
    assert names(traded, renamed, cleared) == ("Acme SA", "Acme SA")


def test_a_profile_update_changes_what_it_names_and_nothing_else() -> None:
    update = p.ProfileUpdated(changed=("country", "parent", "types"), country="PT", parent=BETA, types=())
    row = partner(IMPORTED, update)
    assert (row.country, row.parent_id, row.types) == ("PT", BETA, [])
    assert (row.name, row.external_id) == ("Acme Ltda", "A-1")


def test_a_partners_status_follows_its_life() -> None:
    life: list[tuple[Event, str]] = [
        (p.Invited(legal_name="Acme", channel_manager="carla"), "invited"),
        (p.ApplicationSubmitted(legal_name="Acme Ltda", country="BR", types=("reseller",)), "applied"),
        (p.ReviewStarted(), "under_review"),
        (p.Approved(), "approved"),
        (p.OnboardingStarted(), "onboarding"),
        (p.OnboardingTaskCompleted(task="training"), "onboarding"),
        (p.Activated(), "active"),
        (p.Suspended(reason="~"), "suspended"),
        (p.Reinstated(), "active"),
        (p.Terminated(reason="~"), "terminated"),
    ]
    for count in range(1, len(life) + 1):
        row = partner(*(event for event, _status in life[:count]))
        assert row.status == life[count - 1][1]
        assert (row.since, row.updated_position, row.channel_manager) == (START, count, "carla")
    assert partner(p.Invited(legal_name="Acme"), p.InvitationDeclined()).status == "declined"


def test_a_partners_traits_are_those_of_now() -> None:
    row = partner(
        IMPORTED,
        p.TerritoriesSet(territories=("BR-RS", "BR-SC")),
        p.TierChanged(tier="gold", reason="~"),
        p.ChannelManagerAssigned(channel_manager="carla"),
        p.PlacedOnNotice(reason="~"),
    )
    assert (row.territories, row.tier, row.channel_manager) == (["BR-RS", "BR-SC"], "gold", "carla")
    assert row.on_notice
    assert not partner(IMPORTED, p.PlacedOnNotice(reason="~"), p.NoticeCleared()).on_notice


def test_a_partners_gaps_vanish_as_they_are_filled() -> None:
    lacking = IMPORTED.model_copy(update={"missing": ("agreement", "country", "types")})
    update = p.ProfileUpdated(changed=("country", "types"), country="BR")
    signed = p.AgreementSigned(reference="A", signed_on=START.date())
    assert partner(lacking).data_gaps == ["agreement", "country", "types"]
    assert partner(lacking, update).data_gaps == ["agreement", "types"]
    assert partner(lacking, update, signed).data_gaps == ["types"]
    assert partner(IMPORTED, p.Activated(missing=("agreement",))).data_gaps == ["agreement"]


def test_what_a_partner_may_sell_is_what_was_granted_last_and_not_revoked() -> None:
    given = (p.Authorisation(product_line="scales"), p.Authorisation(product_line="cables"))
    held = folded(
        IMPORTED.model_copy(update={"authorisations": given}),
        p.AuthorisationGranted(product_line="scales", valid_to=date(2027, 1, 31)),
        p.AuthorisationGranted(product_line="printers"),
        p.AuthorisationRevoked(product_line="cables"),
        subject=ACME,
    )["authorisation"]
    assert held == (Authorisation(ACME, "printers", None), Authorisation(ACME, "scales", date(2027, 1, 31)))


# Views


class World:
    """A store that is written event by event, at times of one's own, and the views over it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.today = rows(settings, "SELECT now()::date AS today")[0]["today"]

    def at(self, days: int) -> datetime:
        return datetime.combine(self.today + timedelta(days=days), time(9), UTC)

    def tell(self, subject: UUID, *story: tuple[int, Event]) -> UUID:
        """Append events, each so many days from today, and fold the log anew."""
        with Store(self._settings) as store, store.batch() as batch:
            new = [
                NewEvent(subject, version, wire_type(event), self._state(days, event))
                for version, (days, event) in enumerate(story, 1)
            ]
            batch.write(Writes(events=new))
        return subject

    def _state(self, days: int, event: Event) -> bytes:
        at = self.at(days)
        return stored_state(at, at, command("tests.tell"), event.model_dump_json(exclude_none=True).encode())

    def view(self, name: str, condition: str = "true", *values: object) -> list[dict[str, Any]]:
        return rows(self._settings, f"SELECT * FROM {self._settings.read_schema}.{name} WHERE {condition}", values)

    def deal(self, subject: UUID) -> dict[str, Any]:
        (row,) = self.view("opportunities", "opportunity_id = %s", subject)
        return row


@pytest.fixture(scope="module")
def world(migrated: Settings) -> World:
    install(migrated)
    return World(migrated)


@pytest.fixture(scope="module")
def told(world: World, migrated: Settings) -> dict[str, UUID]:
    """Tell a few deals of two partners, and give their ids by name."""
    territories = p.TerritoriesSet(territories=("South", "West"))
    lines = {"scales": None, "printers": world.today, "cables": world.today - timedelta(days=1)}
    granted = [(-70, p.AuthorisationGranted(product_line=line, valid_to=until)) for line, until in lines.items()]
    acme = world.tell(uuid4(), (-90, IMPORTED), (-80, territories), *granted)
    beta = world.tell(uuid4(), (-90, IMPORTED.model_copy(update={"legal_name": "Beta", "parent": acme})))
    action = o.NextAction(text="Call", due_on=world.today)
    stalled = o.Stalled(stalled_at=world.at(-1))
    late = action.model_copy(update={"due_on": world.today - timedelta(days=1)})
    in_may = date(2031, 5, 17)
    ids = {
        "acme": acme,
        "beta": beta,
        "plain": world.tell(
            uuid4(),
            (
                -10,
                opened(partner_id=acme, amount=brl("333.33"), next_action=action, expected_close_on=in_may),
            ),
            (-4, moved("qualified", "prospect")),
        ),
        "same month": world.tell(
            uuid4(),
            (-9, opened(partner_id=acme, amount=brl("0.01"), expected_close_on=date(2031, 5, 2))),
            (-3, moved("qualified", "prospect")),
        ),
        "huge": world.tell(
            uuid4(), (-40, opened(partner_id=beta, amount=Money(amount=HUGE, currency="JPY"))), (-1, stalled)
        ),
        "late": world.tell(uuid4(), (-31, opened(partner_id=beta, next_action=late)), (-1, stalled)),
        "overran": world.tell(
            uuid4(), (-29, opened(partner_id=beta, expected_close_on=world.today - timedelta(days=1)))
        ),
        "overridden": world.tell(
            uuid4(),
            (-5, opened(partner_id=beta, expected_close_on=world.today)),
            (-5, o.ForecastOverridden(category="commit", stage_category="pipeline", reason="~")),
        ),
        "won": world.tell(
            uuid4(),
            (-60, opened(partner_id=acme, next_action=late, expected_close_on=world.today - timedelta(days=30))),
            (-50, moved("qualified", "prospect")),
            (-40, stalled),
            (-35, won(amount=brl("1000.10"), closed_on=world.today - timedelta(days=35), previous="qualified")),
        ),
        "orphan": world.tell(uuid4(), (-1, opened(partner_id=uuid4()))),
    }
    rebuild.rebuild(migrated, MODEL)
    return ids


HUGE = Decimal(999999999999999999)


def test_an_opportunity_shows_its_partner_as_it_is_now(world: World, told: dict[str, UUID]) -> None:
    assert (world.deal(told["plain"])["partner"], world.deal(told["plain"])["territory"]) == (
        "Acme Ltda",
        "South, West",
    )
    assert (world.deal(told["late"])["partner"], world.deal(told["late"])["territory"]) == ("Beta", "")
    assert (world.deal(told["orphan"])["partner"], world.deal(told["orphan"])["territory"]) == (None, None)
    (beta,) = world.view("partners", "partner_id = %s", told["beta"])
    assert (beta["parent_id"], beta["parent"]) == (told["acme"], "Acme Ltda")


def test_a_partner_shows_the_product_lines_that_it_may_sell_today(world: World, told: dict[str, UUID]) -> None:
    lines = {
        name: world.view("partners", "partner_id = %s", told[name])[0]["product_lines"] for name in ("acme", "beta")
    }
    assert lines == {"acme": ["printers", "scales"], "beta": []}


def test_days_count_to_today_while_open_and_stop_when_closed(world: World, told: dict[str, UUID]) -> None:
    row = world.deal(told["plain"])
    assert (row["days_in_stage"], row["age_days"]) == (4, 10)
    assert row["engaged_on"] == world.today - timedelta(days=4)
    row = world.deal(told["won"])
    assert (row["days_in_stage"], row["age_days"]) == (None, 25)
    assert row["closed_on"] - row["engaged_on"] == timedelta(days=15)


def test_overdue_is_what_is_open_and_was_due_before_today(world: World, told: dict[str, UUID]) -> None:
    assert {name for name in told if name not in {"acme", "beta"} and world.deal(told[name])["overdue"]} == {
        "late",
        "overran",
    }


def test_stalled_is_what_was_noted_so_and_is_open(world: World, told: dict[str, UUID]) -> None:
    deals = {name: world.deal(one) for name, one in told.items() if name not in {"acme", "beta"}}
    assert {name for name, row in deals.items() if row["stalled"]} == {"huge", "late"}
    assert {name for name, row in deals.items() if row["stalled_at"] == world.at(-1)} == {"huge", "late"}
    assert {name for name, row in deals.items() if row["stalled_at"] is None} == deals.keys() - {"huge", "late"}


def test_the_weighted_amount_is_exact(world: World, told: dict[str, UUID]) -> None:
    assert world.deal(told["plain"])["weighted_amount"] == Decimal("83.3325")
    assert world.deal(told["same month"])["weighted_amount"] == Decimal("0.0025")
    assert world.deal(told["huge"])["weighted_amount"] == Decimal("99999999999999999.9")
    assert world.deal(told["won"])["weighted_amount"] == Decimal("1000.10")
    assert world.deal(told["late"])["weighted_amount"] is None


def test_the_pipeline_counts_and_sums_without_mixing_currencies(world: World, told: dict[str, UUID]) -> None:
    (row,) = world.view("pipeline", "stage = 'qualified' AND partner_id = %s", told["acme"])
    assert (row["opportunities"], row["amount"], row["currency"]) == (2, Decimal("333.34"), "BRL")
    assert row["weighted_amount"] == Decimal("83.3350")
    assert row["expected_close_month"] == date(2031, 5, 1)
    open_of_beta = world.view("pipeline", "status = 'open' AND partner_id = %s", told["beta"])
    assert sum(row["opportunities"] for row in open_of_beta) == 4
    assert {row["currency"] for row in open_of_beta} == {"JPY", None}
    assert {row["forecast_category"] for row in open_of_beta} == {"pipeline", "commit"}


def test_the_funnel_says_what_became_of_each_stay(world: World, told: dict[str, UUID]) -> None:
    funnel = {row.pop("stage"): row for row in world.view("funnel")}
    counts = {stage: tuple(row.values()) for stage, row in funnel.items()}
    #   entered, forward, back, won, lost, still in, median days
    assert counts == {
        "prospect": (8, 3, 0, 0, 0, 5, 6),
        "qualified": (3, 0, 0, 1, 0, 2, 15),
        "won": (1, 0, 0, 0, 0, 1, None),
    }


def test_who_sees_the_deals_of_some_partners_has_the_same_funnel_of_them(
    world: World, told: dict[str, UUID], migrated: Settings
) -> None:
    # Who may see everything in the tables, but is taken for somebody who acts for a partner: counted stay by stay.
    options = f"-c search_path={migrated.read_schema} -c prm.orgs={{{told['beta']}}}"
    with psycopg.connect(migrated.postgres, options=options, row_factory=dict_row) as connection:
        counted = connection.execute("SELECT * FROM funnel").fetchall()
    assert sorted(counted, key=str) == sorted(world.view("funnel"), key=str)


ALL_VIEWS = {view for model in READ_MODELS.values() for view in model.views}


def test_every_view_and_column_says_what_it_means(world: World, migrated: Settings) -> None:
    query = (
        "SELECT c.relname AS view, a.attname AS name, col_description(c.oid, a.attnum) AS meaning,"
        " obj_description(c.oid, 'pg_class') AS whole FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = %s"
        " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
    )
    columns = rows(migrated, query, [migrated.read_schema])
    assert {one["view"] for one in columns} == ALL_VIEWS
    assert not [one for one in columns if not one["meaning"] or not one["whole"]]


PROMISED = """
    opportunity_id external_id name partner_id partner territory customer product_lines stage status probability
    forecast_category amount currency weighted_amount owner opened_at engaged_on expected_close_on closed_on lost_reason
    stage_entered_at days_in_stage age_days next_action next_action_due_on overdue stalled data_gaps updated_position
"""


def test_opportunities_have_the_columns_that_were_promised(world: World, told: dict[str, UUID]) -> None:
    assert set(PROMISED.split()) <= world.deal(told["plain"]).keys()


def test_views_run_with_the_rights_of_who_asks(world: World, migrated: Settings) -> None:
    query = "SELECT relname, reloptions FROM pg_class WHERE relnamespace = %s::regnamespace"
    options = {row["relname"]: row["reloptions"] for row in rows(migrated, query, [migrated.read_schema])}
    assert options == {view: ["security_invoker=true"] for view in ALL_VIEWS}
