"""Read model performance, by outcome: what the views say of a partner after some events, figures worked out by hand."""

import calendar
import random
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from threading import Barrier, BrokenBarrierError, Thread
from typing import Any
from uuid import UUID, uuid4

import psycopg2
import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import given as examples_of
from hypothesis import settings as examples
from hypothesis import strategies as st

from prm_es import rebuild
from prm_es.aggregates import lead_messages as m
from prm_es.aggregates import opportunity as o
from prm_es.aggregates import partner as p
from prm_es.aggregates.base import Event
from prm_es.aggregates.catalogue import wire_type
from prm_es.aggregates.fields import Money
from prm_es.api.show import Filters, goals, performance, scorecard
from prm_es.errors import Usage
from prm_es.install import install
from prm_es.messages import Actor, Role, stored_state
from prm_es.projections.performance import MODEL, Offer, days_of
from prm_es.projections.rows import Changes, save
from prm_es.projections.runner import Projector, schema_of
from prm_es.settings import Settings
from prm_es.store.store import NewEvent, Store, Writes
from tests.projections.generations import (
    as_published,
    checkpoints,
    contents,
    empty_generation,
    live,
    note_published,
    one_pass,
    parked,
    the_log,
)
from tests.projections.test_runner import Given, _deliveries, _fill, fresh
from tests.support import ADMIN, IMPORTER, MANAGER, command, rows

Step = tuple[datetime, Event] | tuple[datetime, Event, Actor]
MARCH = date(2025, 3, 1)


def at(text: str) -> datetime:
    """Give a time in 2025: month-day hour:minute."""
    return datetime.fromisoformat(f"2025-{text}").replace(tzinfo=UTC)


def eur(amount: str) -> Money:
    return Money(amount=Decimal(amount), currency="EUR")


def usd(amount: str) -> Money:
    return Money(amount=Decimal(amount), currency="USD")


def rep(partner_id: UUID) -> Actor:
    return Actor("rita", Role.PARTNER_REP, str(partner_id))


# Events


def registered(by: UUID, due: datetime | None = None, amount: Money | None = None, **given: Any) -> m.Registered:
    return m.Registered(
        partner_id=by, submitted_by="rita", sla_due_at=due, policy_version=0, amount=amount or eur("100"), **given
    )


def approved(start: datetime) -> m.Approved:
    return m.Approved(protected_from=start, protected_until=start + timedelta(days=90), policy_version=0)


def asked(left: timedelta | None) -> m.InformationRequested:
    some = at("01-01 00:00")
    return m.InformationRequested(note="~", place_until=some, lapse_at=some, sla_left=left, policy_version=0)


def resubmitted(due: datetime | None) -> m.Resubmitted:
    return m.Resubmitted(keeps_place=True, sla_due_at=due, policy_version=0)


def reverted(previous: str, due: datetime) -> m.DecisionReverted:
    return m.DecisionReverted(previous=previous, reason="~", sla_due_at=due, policy_version=0)


def expired(status: str, when: datetime) -> m.ProtectionExpired:
    return m.ProtectionExpired(status=status, expired_at=when)


def offered(to: UUID, when: datetime) -> m.Offered:
    return m.Offered(partner_id=to, respond_by=when + timedelta(days=1), policy_version=0)


def accepted(when: datetime) -> m.Accepted:
    return m.Accepted(
        protected_from=when, protected_until=when, policy_version=0, contact_by=when, recall_at=when, accepted_at=when
    )


def captured(amount: Money | None = None) -> m.Captured:
    return m.Captured(captured_by="carla", amount=amount)


def snapshot(stage: str) -> dict[str, Any]:
    chance = {"prospect": 10, "qualified": 25, "won": 100, "lost": 0}[stage]
    return {"stage": stage, "probability": chance, "category": "pipeline", "policy_version": 0}


def opened(by: UUID, amount: Money | None = None, stage: str = "prospect", **given: Any) -> o.Opened:
    return o.Opened(**snapshot(stage), partner_id=by, partner_role="selling", opened_by="ana", amount=amount, **given)


def moved(stage: str = "qualified", previous: str = "prospect") -> o.StageChanged:
    return o.StageChanged(**snapshot(stage), previous=previous)


def won(on: date, amount: Money | None = None) -> o.Won:
    return o.Won(**snapshot("won"), previous="prospect", closed_on=on, closed_at=at("01-01 00:00"), amount=amount)


def lost(on: date) -> o.Lost:
    return o.Lost(**snapshot("lost"), previous="prospect", closed_on=on, closed_at=at("01-01 00:00"), reason="price")


def reopened(previous: str) -> o.Reopened:
    return o.Reopened(**snapshot("prospect"), previous=previous, reason="~")


def handed(to: UUID, previous: UUID) -> o.PartnerOfRecordChanged:
    return o.PartnerOfRecordChanged(partner_id=to, previous=previous, reason="~")


def activity(on: date) -> o.ActivityLogged:
    when = datetime(on.year, on.month, on.day, tzinfo=UTC)
    return o.ActivityLogged(kind="call", summary="~", happened_on=on, happened_at=when)


def goal(metric: str, period: str, target: str, **given: Any) -> p.GoalSet:
    return p.GoalSet(goal_id=uuid4(), metric=metric, period=period, target=Decimal(target), **given)


class World:
    """A store that is written event by event, at times of one's own; what was told is in the views at once."""

    def __init__(self, settings: Settings, projector: Projector) -> None:
        self.settings, self._projector = settings, projector
        self._position = 0
        self._versions: dict[UUID, int] = {}
        self.today: date = rows(settings, "SELECT (now() AT TIME ZONE 'UTC')::date AS today")[0]["today"]

    def days_ago(self, days: int) -> datetime:
        return datetime.combine(self.today, datetime.min.time(), UTC) - timedelta(days=days)

    def tell(self, subject: UUID | None, *story: Step) -> UUID:
        subject = subject or uuid4()
        events = []
        for step in story:
            when, event = step[:2]
            actor = step[2] if len(step) == 3 else MANAGER
            version = self._versions[subject] = self._versions.get(subject, 0) + 1
            content = event.model_dump_json(exclude_none=True).encode()
            state = stored_state(when, when, command("tests.tell", actor=actor), content)
            events.append(NewEvent(subject, version, wire_type(event), state))
        with Store(self.settings) as store, store.batch() as batch:
            batch.write(Writes(events=events))
        while (reached := self._projector.catch_up(self._position)) > self._position:
            self._position = reached
        return subject

    def partner(self, name: str = "Acme", *more: Step, status: str = "active") -> UUID:
        imported = p.Imported(status=status, imported_at=at("01-01 00:00"), legal_name=name)
        return self.tell(None, (at("01-01 00:00"), imported, IMPORTER), *more)

    def view(self, name: str, partner_id: UUID) -> list[dict[str, Any]]:
        query = f"SELECT * FROM {self.settings.read_schema}.{name} WHERE partner_id = %s"
        return rows(self.settings, query, [partner_id])

    def month(self, partner_id: UUID, month: date = MARCH, currency: str | None = "EUR") -> dict[str, Any]:
        found = [
            row
            for row in self.view("partner_performance", partner_id)
            if (row["month"], row["currency"]) == (month, currency)
        ]
        (row,) = found
        return row

    def months(self, partner_id: UUID) -> set[tuple[date, str | None]]:
        found = [(row["month"], row["currency"]) for row in self.view("partner_performance", partner_id)]
        assert len(found) == len(set(found))
        return set(found)

    def card(self, partner_id: UUID, currency: str | None = "EUR") -> dict[str, Any]:
        (row,) = [row for row in self.view("partner_scorecard", partner_id) if row["currency"] == currency]
        return row

    def goal(self, partner_id: UUID) -> dict[str, Any]:
        (row,) = self.view("goals", partner_id)
        return row


@pytest.fixture(scope="module")
def world(migrated: Settings) -> Iterator[World]:
    install(migrated)
    with closing(Projector(migrated, MODEL)) as projector:
        yield World(migrated, projector)


def some(row: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


# Registrations


def test_registrations_are_counted_decided_and_timed(world: World) -> None:
    acme = world.partner()
    start = at("03-03 09:00")
    hours = [2, 4, 9]
    for waited in hours:
        world.tell(
            None,
            (start, registered(acme, start + timedelta(hours=8))),
            (start + timedelta(hours=waited), approved(start)),
        )
    world.tell(
        None,
        (start, registered(acme, start + timedelta(hours=8), eur("50"))),
        (start + timedelta(hours=6), m.Rejected(reason="existing_customer")),
    )
    world.tell(None, (start, registered(acme, start)), (start, m.Withdrawn()))
    row = world.month(acme)
    assert some(row, "registered", "registered_amount", "approved", "rejected", "decided") == (
        5,
        Decimal(450),
        3,
        1,
        4,
    )
    assert row["rejected_by_reason"] == {"existing_customer": 1}
    assert row["approval_rate"] == Decimal("0.75")
    assert row["decision_hours_median"] == Decimal("5.00")  # of 2, 4, 6, 9
    assert row["decision_hours_p90"] == Decimal("9.00")
    assert row["within_sla_share"] == Decimal("0.75")  # all but 9 of 8 hours


def test_the_clock_stands_still_while_the_partner_is_asked(world: World) -> None:
    acme = world.partner()
    due = at("03-03 13:00")
    world.tell(
        None,
        (at("03-03 09:00"), registered(acme, due)),
        (at("03-03 10:00"), asked(timedelta(hours=3))),
        (at("03-08 09:00"), resubmitted(at("03-08 12:00"))),
        (at("03-08 11:00"), approved(due)),
    )
    world.tell(  # decided while asked: within its time, which stood still
        None,
        (at("03-03 09:00"), registered(acme, due)),
        (at("03-03 12:00"), asked(timedelta(hours=1))),
        (at("03-20 09:00"), m.Rejected(reason="other")),
    )
    row = world.month(acme)
    assert row["decision_hours_median"] == Decimal("3.00")
    assert row["within_sla_share"] == 1


def test_what_was_late_when_the_partner_was_asked_stays_late(world: World) -> None:
    acme = world.partner()
    due = at("03-03 13:00")
    late: list[Event] = [asked(None), asked(timedelta(0))]
    for event in late:
        world.tell(
            None,
            (at("03-03 09:00"), registered(acme, due)),
            (at("03-03 14:00"), event),
            (at("03-03 15:00"), m.Rejected(reason="other")),
        )
    world.tell(
        None,
        (at("03-03 09:00"), registered(acme, due)),
        (due, m.SlaBreached(breached_at=due)),
        (at("03-03 16:00"), asked(None)),
        (at("03-04 09:00"), resubmitted(None)),
        (at("03-04 10:00"), approved(due)),
    )
    assert world.month(acme)["within_sla_share"] == 0


def test_a_reverted_decision_counts_no_more_and_the_next_one_is_timed_without_it(world: World) -> None:
    acme = world.partner()
    lead = world.tell(
        None,
        (at("03-03 09:00"), registered(acme, at("03-05 09:00"))),
        (at("03-03 12:00"), approved(at("03-03 12:00"))),
    )
    assert world.month(acme)["approved"] == 1
    world.tell(lead, (at("03-10 12:00"), reverted("approved", at("03-12 12:00")), ADMIN))
    row = world.month(acme)
    assert some(row, "registered", "approved", "decided", "approval_rate", "decision_hours_median") == (
        1,
        0,
        0,
        None,
        None,
    )
    assert world.card(acme, None)["live_registrations"] == 1
    world.tell(lead, (at("04-10 12:00"), m.Rejected(reason="duplicate_registration")))
    row = world.month(acme, date(2025, 4, 1))
    assert some(row, "approved", "rejected", "within_sla_share") == (0, 1, 0)
    assert row["decision_hours_median"] == 3 + 31 * 24
    assert world.month(acme)["rejected"] == 0


def test_a_transfer_moves_what_comes_after_it_and_nothing_before(world: World) -> None:
    acme, beta = world.partner(), world.partner("Beta")
    start = at("03-03 09:00")
    lead = world.tell(
        None,
        (start, registered(acme, start)),
        (start, m.Transferred(partner_id=beta, previous=acme, reason="~")),
        (start, approved(start)),
    )
    assert some(world.month(acme), "registered", "approved") == (1, 0)
    assert some(world.month(beta), "registered", "approved", "converted") == (0, 1, 0)
    assert (world.card(acme, None)["live_registrations"], world.card(beta, None)["live_registrations"]) == (0, 1)
    world.tell(
        lead,
        (start, m.Transferred(partner_id=acme, previous=beta, reason="~")),
        (start, m.Converted(opportunity_id=uuid4(), previous="approved")),
    )
    assert some(world.month(acme), "approved", "converted") == (0, 1)
    assert some(world.month(beta), "approved", "converted", "approved_converted") == (1, 0, 1)
    assert world.card(acme, None)["live_registrations"] == 0


def test_expired_and_converted_are_shares_of_what_was_approved_in_the_month(world: World) -> None:
    acme = world.partner()
    start, later = at("03-03 09:00"), at("06-01 09:00")
    endings: list[list[Event]] = [
        [expired("expired", later)],
        [m.Converted(opportunity_id=uuid4(), previous="approved"), expired("converted", later)],
        [m.ProtectionRevoked(status="revoked", reason="~")],
        [],
    ]
    for ending in endings:
        steps = [(later, event) for event in ending]
        world.tell(None, (start, registered(acme, start)), (start, approved(start)), *steps)
    row = world.month(acme)
    assert some(row, "approved", "approved_expired", "approved_converted") == (4, 1, 1)
    assert some(row, "expired_share", "converted_share") == (Decimal("0.25"), Decimal("0.25"))
    assert world.month(acme, date(2025, 6, 1))["converted"] == 1
    assert world.card(acme, None)["live_registrations"] == 1


# Offers


def test_offers_are_counted_where_they_were_made_with_what_became_of_them(world: World) -> None:
    acme, beta = world.partner(), world.partner("Beta")
    start = at("03-31 22:00")
    for hours in (1, 3):
        when = start + timedelta(hours=hours)
        world.tell(
            None,
            (start, captured(eur("10"))),
            (start, offered(acme, start)),
            (when, accepted(when)),
            (when, m.Recalled(partner_id=acme, previous="accepted", reason="~")),
        )
    world.tell(
        None,
        (start, captured(eur("10"))),
        (start, offered(acme, start)),
        (start, m.Declined(partner_id=acme, reason="no_capacity")),
        (start, offered(beta, start)),
    )
    world.tell(
        None,
        (start, captured(eur("10"))),
        (start, offered(acme, start)),
        (start + timedelta(hours=5), m.Transferred(partner_id=beta, previous=acme, reason="~")),
        (start + timedelta(hours=7), accepted(start + timedelta(hours=7))),
    )
    row = world.month(acme)
    assert some(row, "offers", "offers_accepted", "accept_rate", "accept_hours_median") == (4, 2, Decimal("0.5"), 2)
    assert some(world.month(beta), "offers", "offers_accepted", "accept_rate", "accept_hours_median") == (1, 0, 0, None)
    row = world.month(beta, date(2025, 4, 1))
    assert some(row, "offers", "offers_accepted", "accept_rate", "accept_hours_median") == (1, 1, 1, 2)


# Deals


def test_deals_closed_are_counted_and_valued(world: World) -> None:
    acme = world.partner()
    start = at("03-01 09:00")
    for days, amount in ((10, "300"), (20, "100.50"), (13, "100")):
        closed = date(2025, 3, 1) + timedelta(days=days)
        world.tell(
            None,
            (start, opened(acme, eur("1"))),
            (start + timedelta(days=days - 5), moved()),
            (start + timedelta(days=days), won(closed, eur(amount))),
        )
    world.tell(None, (start, opened(acme, eur("99.50"), "qualified")), (start, lost(date(2025, 3, 4))))
    world.tell(None, (start, opened(acme, eur("400"))), (start, lost(date(2025, 3, 9))))
    row = world.month(acme)
    assert some(row, "won", "lost", "won_amount", "lost_amount") == (3, 2, Decimal("500.50"), Decimal("499.50"))
    assert some(row, "win_rate", "win_rate_by_value") == (Decimal("0.6"), Decimal("0.5005"))
    assert row["average_deal"] == Decimal("166.83")
    assert row["cycle_days_median_won"] == 13
    assert row["cycle_days_mean_closed"] == Decimal("4.500")  # 5, 5, 5 and 3; the last was never engaged


def test_the_cycle_leaves_out_a_day_of_opening_that_nobody_knows(world: World) -> None:
    acme = world.partner()
    for missing, day in ((("opened_at",), 2), ((), 11), ((), 20)):
        opening = opened(acme, eur("1"), missing=missing)
        world.tell(None, (at("03-01 09:00"), opening), (at("03-29 09:00"), won(date(2025, 3, day))))
    assert world.month(acme)["cycle_days_median_won"] == Decimal("14.5")


def test_a_closing_that_was_reopened_counts_no_more(world: World) -> None:
    acme = world.partner()
    deal = world.tell(None, (at("03-01 09:00"), opened(acme)), (at("03-02 09:00"), won(date(2025, 3, 2), eur("70"))))
    assert some(world.month(acme), "won", "won_amount") == (1, 70)
    world.tell(deal, (at("03-05 09:00"), reopened("won")))
    assert not world.months(acme)
    assert some(world.card(acme), "open_deals", "open_amount", "weighted_amount") == (1, 70, 7)
    world.tell(deal, (at("05-05 09:00"), lost(date(2025, 5, 5))))
    assert world.months(acme) == {(date(2025, 5, 1), "EUR")}
    assert some(world.month(acme, date(2025, 5, 1)), "won", "lost", "lost_amount") == (0, 1, 70)


def test_a_deal_counts_for_the_partner_of_record_at_closing(world: World) -> None:
    acme, beta = world.partner(), world.partner("Beta")
    world.tell(
        None,
        (at("03-01 09:00"), opened(acme, eur("70"))),
        (at("03-02 09:00"), handed(beta, acme)),
        (at("03-03 09:00"), won(date(2025, 3, 3))),
    )
    assert not world.months(acme)
    assert some(world.month(beta), "won", "won_amount") == (1, 70)


def test_currencies_have_rows_of_their_own_and_what_has_no_amount_another(world: World) -> None:
    acme = world.partner()
    for amount in (eur("10"), usd("20"), None):
        world.tell(None, (at("03-01 09:00"), opened(acme, amount)), (at("03-02 09:00"), won(date(2025, 3, 2))))
    assert world.months(acme) == {(MARCH, "EUR"), (MARCH, "USD"), (MARCH, None)}
    figures = {row["currency"]: some(row, "won", "won_amount", "average_deal") for row in
               world.view("partner_performance", acme)}  # fmt: skip
    assert figures == {"EUR": (1, 10, 10), "USD": (1, 20, 20), None: (1, None, None)}


def test_a_ratio_of_nothing_is_null(world: World) -> None:
    acme = world.partner()
    world.tell(None, (at("03-03 09:00"), registered(acme)))
    row = world.month(acme)
    ratios = (
        "approval_rate", "within_sla_share", "converted_share", "expired_share", "accept_rate", "win_rate",
        "win_rate_by_value", "average_deal", "attainment_percent", "pace_percent", "coverage",
    )  # fmt: skip
    assert some(row, *ratios) == (None,) * len(ratios)
    assert row["rejected_by_reason"] == {}
    card = world.card(acme, None)
    of_card = ("win_rate", "win_rate_by_value", "average_deal", "approval_rate", "attainment_percent", "coverage")
    assert some(card, *of_card) == (None,) * len(of_card)
    assert card["goals"] == []


# Acts


def test_activities_are_those_of_the_partners_side_by_the_day_they_happened(world: World) -> None:
    acme, beta = world.partner(), world.partner("Beta")
    deal = world.tell(None, (at("03-01 09:00"), opened(acme, eur("10"))))
    world.tell(
        deal,
        (at("04-02 09:00"), activity(date(2025, 3, 31)), rep(acme)),
        (at("04-02 09:00"), activity(date(2025, 3, 31)), rep(acme)),
        (at("04-02 09:00"), activity(date(2025, 4, 2)), IMPORTER),
        (at("04-02 09:00"), activity(date(2025, 4, 2)), MANAGER),
        (at("04-03 09:00"), o.PartnerAdded(partner_id=beta, role="implementation")),
        (at("04-04 09:00"), activity(date(2025, 4, 4)), rep(beta)),
        (at("04-04 09:00"), activity(date(2025, 4, 4)), rep(uuid4())),  # a parent speaks for the partner of record
    )
    assert world.month(acme)["activities"] == 2
    assert world.month(acme, date(2025, 4, 1))["activities"] == 2
    assert world.month(beta, date(2025, 4, 1))["activities"] == 1
    assert world.card(beta, None)["last_act_at"] == at("04-04 00:00")


def test_the_last_act_is_the_partners_own(world: World) -> None:
    acme = world.partner()
    assert world.card(acme, None)["last_act_at"] is None
    lead = world.tell(None, (at("03-01 09:00"), registered(acme), IMPORTER))
    assert world.card(acme, None)["last_act_at"] == at("03-01 09:00")
    world.tell(lead, (at("03-02 09:00"), m.ReviewStarted()), (at("03-03 09:00"), approved(MARCHED), IMPORTER))
    assert world.card(acme, None)["last_act_at"] == at("03-01 09:00")
    world.tell(acme, (at("03-04 09:00"), p.UserDeactivated(user_id="rui"), rep(acme)))
    assert world.card(acme, None)["last_act_at"] == at("03-04 09:00")
    late = m.ActivityLogged(kind="call", summary="~", happened_on=MARCH, happened_at=at("03-01 00:00"))
    world.tell(lead, (at("03-09 09:00"), late, rep(acme)))
    assert world.card(acme, None)["last_act_at"] == at("03-04 09:00")


MARCHED = at("03-01 00:00")


@pytest.mark.parametrize(
    ("days", "status", "flags"),
    [
        (89, "active", (False, False)),
        (91, "active", (True, False)),
        (181, "active", (True, True)),
        (181, "suspended", (False, False)),
        (None, "active", (True, True)),
    ],
)
def test_active_partners_that_do_nothing_are_at_risk_and_then_dormant(
    world: World, days: int | None, status: str, flags: tuple[bool, bool]
) -> None:
    acme = world.partner(status=status)
    if days is not None:
        world.tell(None, (world.days_ago(days), opened(acme), rep(acme)))
    assert some(world.card(acme, None), "at_risk", "dormant") == flags


# Scorecard


def test_the_scorecard_shows_the_pipeline_as_it_is_now(world: World) -> None:
    acme = world.partner("Acme", (at("01-02 00:00"), p.TierChanged(tier="gold", reason="~")))
    now, before = world.days_ago(0), world.days_ago(31)
    yesterday, tomorrow = world.today - timedelta(days=1), world.today + timedelta(days=1)
    world.tell(None, (now, opened(acme, eur("1000"), "qualified", expected_close_on=tomorrow)))
    world.tell(None, (now, opened(acme, usd("50"), expected_close_on=yesterday)))
    due = o.NextAction(text="~", due_on=yesterday)
    world.tell(None, (before, opened(acme, eur("500"), next_action=due)))
    world.tell(None, (before, opened(acme)), (now, moved()))
    card = world.card(acme)
    assert some(card, "status", "tier", "open_deals", "overdue", "stalled") == ("active", "gold", 4, 2, 1)
    assert some(card, "open_amount", "weighted_amount") == (1500, 300)
    other = world.card(acme, "USD")
    assert some(other, "open_deals", "overdue", "stalled", "open_amount", "weighted_amount") == (4, 2, 1, 50, 5)
    assert len(world.view("partner_scorecard", acme)) == 2


def test_running_periods_and_the_last_twelve_months_end_today(world: World) -> None:
    acme = world.partner()
    today = world.today
    month = today.replace(day=1)
    quarter = date(today.year, 3 * ((today.month - 1) // 3) + 1, 1)
    last = calendar.monthrange(today.year - 1, today.month)[1]
    year_ago = date(today.year - 1, today.month, min(today.day, last))
    started = datetime(2020, 1, 1, tzinfo=UTC)
    closings = {
        today: "1", month: "2", month - timedelta(days=1): "4", quarter: "8", quarter - timedelta(days=1): "16",
        year_ago + timedelta(days=1): "32", year_ago: "64",
    }  # fmt: skip
    deals = [(today, "1"), *((day, amount) for day, amount in closings.items() if day != today)]
    for day, amount in deals:
        world.tell(None, (started, opened(acme, eur(amount))), (started, won(day)))
        world.tell(None, (started, opened(acme, eur(amount))), (started, lost(day)))

    def total(first: date) -> Decimal:
        return sum((Decimal(amount) for day, amount in deals if day >= first), Decimal(0))

    def number(first: date) -> int:
        return sum(day >= first for day, _amount in deals)

    card = world.card(acme)
    for period, first in (("month", month), ("quarter", quarter), ("12_months", year_ago + timedelta(days=1))):
        names = (f"won_{period}", f"lost_{period}", f"won_amount_{period}", f"lost_amount_{period}")
        assert some(card, *names) == (number(first), number(first), total(first), total(first))
    assert some(card, "win_rate", "win_rate_by_value") == (Decimal("0.5"), Decimal("0.5"))
    wanted = (total(year_ago + timedelta(days=1)) / number(year_ago + timedelta(days=1))).quantize(Decimal("0.01"))
    assert card["average_deal"] == wanted


def test_a_currency_in_which_nothing_happened_for_a_year_has_no_scorecard(world: World) -> None:
    acme, long_ago = world.partner(), world.days_ago(400)
    for money in (eur("7"), usd("9")):
        world.tell(None, (long_ago, opened(acme, money)), (long_ago, won(long_ago.date())))
    assert [row["currency"] for row in world.view("partner_scorecard", acme)] == [None]
    world.tell(None, (long_ago, opened(acme, usd("3"))))
    (row,) = world.view("partner_scorecard", acme)
    assert some(row, "currency", "open_amount", "won_amount_12_months") == ("USD", 3, None)


def test_partners_are_ranked_within_a_currency(world: World) -> None:
    day, currency = world.today, "CHF"
    ids = []
    for amount in ("10", "30", "10", "5"):
        ids.append(world.partner())
        money = Money(amount=Decimal(amount), currency=currency)
        world.tell(None, (world.days_ago(3), opened(ids[-1], money)), (world.days_ago(0), won(day)))
    world.tell(None, (world.days_ago(3), opened(ids[-1], eur("999"))), (world.days_ago(0), won(day)))
    assert [world.card(one, currency)["won_rank"] for one in ids] == [2, 1, 2, 4]


def test_the_approval_rate_is_of_what_was_decided_in_twelve_months(world: World) -> None:
    acme = world.partner()
    for days, event in ((10, approved(MARCHED)), (20, m.Rejected(reason="other")), (400, m.Rejected(reason="other"))):
        world.tell(None, (world.days_ago(days), registered(acme)), (world.days_ago(days), event))
    assert some(world.card(acme, None), "decided_12_months", "approval_rate") == (2, Decimal("0.5"))


# Goals


@pytest.mark.parametrize(
    ("period", "first", "last"),
    [
        ("2024-02", date(2024, 2, 1), date(2024, 2, 29)),
        ("2025-12", date(2025, 12, 1), date(2025, 12, 31)),
        ("2025-Q1", date(2025, 1, 1), date(2025, 3, 31)),
        ("2025-Q4", date(2025, 10, 1), date(2025, 12, 31)),
        ("2025", date(2025, 1, 1), date(2025, 12, 31)),
    ],
)
def test_a_period_has_a_first_and_a_last_day(period: str, first: date, last: date) -> None:
    assert days_of(period) == (first, last)


def test_every_metric_counts_what_it_says_in_its_period(world: World) -> None:
    acme = world.partner()
    beta = world.partner("Beta")
    lead = registered(acme, amount=eur("40"), product_lines=("scales",))
    world.tell(None, (at("03-01 00:00"), lead), (at("03-20 00:00"), m.Rejected(reason="other")))
    world.tell(None, (at("02-28 23:59"), lead))
    world.tell(None, (at("03-31 23:59"), registered(acme, amount=usd("7"))))
    scales = (o.Product(line="scales"),)
    stories: list[tuple[UUID, date, str, tuple[str, ...]]] = [
        (beta, date(2025, 2, 1), "1", ("id:old",)),
        (acme, date(2025, 3, 2), "200", ("id:new", "tax:1")),
        (acme, date(2025, 3, 3), "300", ("tax:1", "id:other")),
        (acme, date(2025, 3, 31), "50", ("id:old",)),
        (acme, date(2025, 3, 31), "25", ()),
        (acme, date(2025, 4, 1), "1000", ("id:later",)),
    ]
    for seller, day, amount, keys in stories:
        deal = opened(seller, eur(amount), customer_keys=keys, products=scales if amount == "200" else ())
        last = world.tell(None, (at("01-01 00:00"), deal), (at("01-02 00:00"), won(day)))
    world.tell(
        last,
        (at("03-09 00:00"), activity(date(2025, 3, 1)), rep(acme)),
        (at("03-09 00:00"), activity(date(2025, 3, 31)), rep(acme)),
        (at("03-09 00:00"), activity(date(2025, 4, 1)), rep(acme)),
    )
    wanted = [
        (goal("won_amount", "2025-03", "1150", currency="EUR"), "575"),
        (goal("won_amount", "2025-03", "400", currency="EUR", product_line="scales"), "200"),
        (goal("won_amount", "2025-Q2", "500", currency="EUR"), "1000"),
        (goal("won_count", "2025-03", "8"), "4"),
        (goal("registered_amount", "2025-03", "80", currency="EUR"), "40"),
        (goal("registered_count", "2025-03", "4"), "2"),
        (goal("registered_count", "2025", "12", product_line="scales"), "2"),
        (goal("new_customers", "2025-03", "2"), "1"),
        (goal("activities", "2025-03", "3"), "2"),
    ]
    world.tell(acme, *((at("01-03 00:00"), one) for one, _actual in wanted))
    found = {row["goal_id"]: row for row in world.view("goals", acme)}
    assert len(found) == len(wanted)
    for one, actual in wanted:
        row = found[one.goal_id]
        assert some(row, "metric", "actual") == (one.metric, Decimal(actual))
        assert row["attainment_percent"] == round(100 * Decimal(actual) / one.target, 2) == row["pace_percent"]
        assert some(row, "elapsed_share", "gap", "coverage") == (1, one.target - Decimal(actual), None)


def test_reopening_makes_the_next_deal_the_customers_first(world: World) -> None:
    acme = world.partner("Acme", (at("01-03 00:00"), goal("new_customers", "2025-03", "2")))
    key = f"id:{uuid4()}"
    ids = [
        world.tell(None, (at("01-01 00:00"), opened(acme, customer_keys=(key,))), (at("01-02 00:00"), won(MARCH)))
        for _number in range(2)
    ]
    assert world.goal(acme)["actual"] == 1
    world.tell(ids[0], (at("04-01 00:00"), reopened("won")))
    assert world.goal(acme)["actual"] == 1
    world.tell(ids[1], (at("04-01 00:00"), reopened("won")))
    assert world.goal(acme)["actual"] == 0


def test_a_reopened_deal_covers_what_is_left_of_a_goal(world: World) -> None:
    given = goal("won_amount", f"{world.today:%Y-%m}", "140", currency="EUR")
    acme = world.partner("Acme", (at("01-03 00:00"), given))
    deal = opened(acme, eur("70"), expected_close_on=world.today)
    world.tell(
        None, (at("03-01 09:00"), deal), (at("03-02 09:00"), won(world.today)), (at("03-03 09:00"), reopened("won"))
    )
    assert some(world.goal(acme), "actual", "coverage") == (0, Decimal("0.5"))
    assert world.month(acme, world.today.replace(day=1))["coverage"] == Decimal("0.5")


def part(today: date, month: int) -> Decimal:
    """Give the share of a month of this year that is over, today included."""
    if month != today.month:
        return Decimal(month < today.month)
    return Decimal(today.day) / calendar.monthrange(today.year, month)[1]


UNEVEN = [Decimal(percent) for percent in (2, 3, 5, 7, 8, 10, 10, 15, 10, 10, 10, 10)]


def test_pace_measures_what_was_reached_against_the_part_of_the_period_that_is_over(world: World) -> None:
    today = world.today
    months = [part(today, month) for month in range(1, 13)]
    third = (today.month - 1) // 3
    shares = {
        f"{today:%Y-%m}": months[today.month - 1],
        f"{today.year}-Q{third + 1}": sum(months[3 * third : 3 * third + 3]) / 3,
        f"{today.year}": sum(months) / 12,
        "uneven": sum(a * b for a, b in zip(months, UNEVEN, strict=True)) / 100,
    }
    for name, share in shares.items():
        period = str(today.year) if name == "uneven" else name
        spread = {"distribution": tuple(UNEVEN)} if name == "uneven" else {}
        given = goal("won_amount", period, "1200", currency="EUR", **spread)
        acme = world.partner("Acme", (at("01-03 00:00"), given))
        world.tell(None, (at("01-04 00:00"), opened(acme, eur("300"))), (at("01-05 00:00"), won(today)))
        world.tell(None, (world.days_ago(0), opened(acme, eur("1800"), expected_close_on=today)))
        row = world.goal(acme)
        assert some(row, "actual", "attainment_percent", "gap", "coverage") == (300, 25, 900, 2)
        assert row["elapsed_share"] == round(share, 6)
        assert row["pace_percent"] == round(100 * 300 / (1200 * share), 2)
        names = ("attainment_percent", "pace_percent", "gap", "coverage")
        card = world.card(acme)
        assert some(card, *names) == some(row, *names)
        assert some(card, "goal_period", "goal", "goal_actual") == (period, 1200, 300)
        (listed,) = card["goals"]
        assert (listed["metric"], listed["actual"], listed["attainment_percent"]) == ("won_amount", 300, 25)


def test_a_goal_to_come_has_no_pace_and_one_that_is_over_no_coverage(world: World) -> None:
    for period, share in (("2099-Q1", 0), ("2020", 1)):
        acme = world.partner("Acme", (at("01-03 00:00"), goal("won_count", period, "2")))
        row = world.goal(acme)
        assert row["elapsed_share"] == share
        assert row["pace_percent"] == (0 if share else None)
        assert (row["coverage"] is None) == bool(share)
        assert not row["current"]


@pytest.mark.parametrize(
    ("period", "distribution", "wanted"),
    [
        ("2025-03", (), {3: "1200"}),
        ("2025-Q1", (), {1: "400", 2: "400", 3: "400"}),
        ("2025", (), dict.fromkeys(range(1, 13), "100")),
        ("2025", tuple(UNEVEN), {month: str(12 * percent) for month, percent in enumerate(UNEVEN, 1)}),
    ],
)
def test_a_goal_is_spread_over_its_months(
    world: World, period: str, distribution: tuple[Decimal, ...], wanted: dict[int, str]
) -> None:
    given = goal("won_amount", period, "1200", currency="EUR", distribution=distribution)
    acme = world.partner("Acme", (at("01-03 00:00"), given))
    world.tell(None, (at("01-01 00:00"), opened(acme, eur("30"))), (at("01-02 00:00"), won(date(2025, 3, 9))))
    spread = {row["month"].month: row["goal"] for row in world.view("partner_performance", acme)}
    assert spread == {month: Decimal(share) for month, share in wanted.items()}
    row, share = world.month(acme), Decimal(wanted[3])
    assert some(row, "gap", "coverage") == (share - 30, None)
    assert some(row, "attainment_percent", "pace_percent") == (round(3000 / share, 2), round(3000 / share, 2))


def test_the_running_month_has_pace_and_coverage(world: World) -> None:
    today = world.today
    given = goal("won_amount", f"{today.year}", "12000", currency="EUR")
    acme = world.partner("Acme", (at("01-03 00:00"), given))
    world.tell(None, (at("01-01 00:00"), opened(acme, eur("250"))), (at("01-02 00:00"), won(today)))
    world.tell(None, (world.days_ago(0), opened(acme, eur("1500"), expected_close_on=today)))
    row = world.month(acme, today.replace(day=1))
    assert some(row, "goal", "attainment_percent", "gap", "coverage") == (1000, 25, 750, 2)
    assert row["pace_percent"] == round(25 / part(today, today.month), 2)


def test_goals_of_a_product_line_and_withdrawn_ones_are_no_goals_of_the_partner_as_a_whole(world: World) -> None:
    period = str(world.today.year)
    line = goal("won_amount", period, "10", currency="EUR", product_line="scales")
    gone = goal("won_amount", period, "10", currency="EUR")
    withdrawn = p.GoalWithdrawn(goal_id=gone.goal_id)
    acme = world.partner("Acme", *((at("01-03 00:00"), one) for one in (line, gone, withdrawn)))
    assert not world.months(acme)
    card = world.card(acme, None)
    assert card["goal"] is None
    assert [one["product_line"] for one in card["goals"]] == ["scales"]
    found = {row["product_line"]: some(row, "status", "current") for row in world.view("goals", acme)}
    assert found == {"scales": ("active", True), None: ("withdrawn", False)}


def test_a_goal_that_is_set_again_is_the_same_goal(world: World) -> None:
    first = goal("won_count", "2025-03", "10")
    acme = world.partner("Acme", (at("01-03 00:00"), first))
    world.tell(acme, (at("01-04 00:00"), first.model_copy(update={"target": Decimal(20)})))
    assert world.goal(acme)["target"] == 20


# Periods and rights


def test_months_are_cut_in_the_report_time_zone(world: World, migrated: Settings) -> None:
    acme = world.partner()
    world.tell(
        None,
        (at("04-01 02:30"), registered(acme, amount=eur("1"))),
        (at("04-01 03:30"), approved(MARCHED)),
    )
    rebuild.rebuild(migrated.model_copy(update={"report_tz": "America/Sao_Paulo"}), MODEL)
    found = {row["month"]: (row["registered"], row["approved"]) for row in world.view("partner_performance", acme)}
    rebuild.rebuild(migrated, MODEL)
    assert found == {date(2025, 3, 1): (1, 0), date(2025, 4, 1): (0, 1)}
    assert world.months(acme) == {(date(2025, 4, 1), "EUR")}


# Determinism


def test_workers_that_count_for_the_same_partners_wait_for_each_other_and_never_in_a_circle(
    migrated: Settings,
) -> None:
    sellers, rounds, failed = [UUID(int=number) for number in range(200)], 20, []
    together = Barrier(2)
    with empty_generation(migrated, 900, MODEL) as generation:
        schema = schema_of(migrated, MODEL.name, generation)

        def work(seed: int) -> None:
            chance = random.Random(seed)
            try:
                with closing(psycopg2.connect(migrated.dsn("owner"))) as connection:
                    for _round in range(rounds):
                        changes: Changes = {
                            lead: (MODEL.empty(), {**MODEL.empty(), "offer": (_offer(lead, seller),)})
                            for seller in chance.sample(sellers, len(sellers))
                            for lead in (uuid4(),)
                        }
                        together.wait(timeout=60)
                        with connection, connection.cursor() as cursor:
                            save(cursor, MODEL, schema, changes)
            except (psycopg2.Error, BrokenBarrierError) as error:
                failed.append(error)
                together.abort()

        threads = [Thread(target=work, args=(seed,)) for seed in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed
        assert [one["offers"] for one in rows(migrated, f"SELECT offers FROM {schema}.month")] == [2 * rounds] * 200


def _offer(lead: UUID, seller: UUID) -> Offer:
    return Offer(lead, 1, seller, at("03-03 09:00"), None, None, None)


def _lead_story(chance: random.Random, sellers: list[UUID]) -> list[Event]:
    """Give a lead's life: reviewed, asked, reverted and transferred, or handed out, as chance will have it."""
    seller, other = chance.sample(sellers, 2)
    start = at("03-03 09:00")
    if chance.random() < 0.4:
        answers: list[Event] = [
            m.Declined(partner_id=seller, reason="other"),
            m.OfferExpired(partner_id=seller, expired_at=start),
            m.Transferred(partner_id=other, previous=seller, reason="~"),
            accepted(start),
        ]
        return [captured(eur("5")), offered(seller, start), chance.choice(answers), captured_activity()]
    story: list[Event] = [registered(seller, start + timedelta(days=1))]
    parts: list[list[Event]] = [
        [asked(timedelta(hours=1)), resubmitted(start + timedelta(days=2))],
        [approved(start), reverted("approved", start + timedelta(days=9))],
        [m.Transferred(partner_id=other, previous=seller, reason="~")],
        [m.Corrected(changed=("amount",), amount=usd("7"), reason="~")],
        [captured_activity()],
    ]
    for part in chance.sample(parts, chance.randint(0, len(parts))):
        story += part
    endings: list[list[Event]] = [
        [],
        [m.Rejected(reason="other")],
        [approved(start), m.Converted(opportunity_id=uuid4(), previous="approved")],
        [approved(start), expired("expired", start + timedelta(days=90))],
    ]
    return story + chance.choice(endings)


def captured_activity() -> m.ActivityLogged:
    return m.ActivityLogged(kind="call", summary="~", happened_on=MARCH, happened_at=at("03-01 00:00"))


def _deal_story(chance: random.Random, sellers: list[UUID]) -> list[Event]:
    seller, other = chance.sample(sellers, 2)
    story: list[Event] = [opened(seller, eur("9.90"), customer_keys=(f"id:{chance.randint(1, 9)}", "tax:1"))]
    parts: list[list[Event]] = [
        [won(MARCH), reopened("won")],
        [handed(other, seller), o.PartnerRemoved(partner_id=seller)],
        [moved(), activity(MARCH), activity(MARCH)],
        [o.AmountChanged(amount=usd("3")), o.CloseDateChanged(expected_close_on=MARCH)],
        [o.DetailsChanged(changed=("products",), products=(o.Product(line='a \\ "b"'),))],
    ]
    for part in chance.sample(parts, chance.randint(0, len(parts))):
        story += part
    return story + chance.choice([[], [won(MARCH, eur("12"))], [lost(MARCH)]])


@pytest.fixture(scope="module")
def given_log(world: World, migrated: Settings) -> Given:
    chance = random.Random(7)
    goals_of = [
        goal("won_amount", "2025", "10.50", currency="EUR", distribution=tuple(UNEVEN)),
        goal("won_count", "2025", "3"),
    ]
    gone = p.GoalWithdrawn(goal_id=goals_of[1].goal_id)
    steps = [(at("01-03 00:00"), one) for one in (*goals_of, gone)]
    sellers = [world.partner(f"Seller {number}", *steps) for number in range(5)]
    for number in range(60):
        tell = _lead_story if number % 2 else _deal_story
        who = [MANAGER, IMPORTER, *map(rep, sellers)]
        hours = (at("03-03 09:00") + timedelta(hours=hour) for hour in range(99))
        world.tell(
            None,
            *((when, event, chance.choice(who)) for when, event in zip(hours, tell(chance, sellers), strict=False)),
        )
    log = the_log(migrated)
    topics = as_published(migrated, log, MODEL)
    note_published(migrated, topics)
    found = one_pass(migrated, MODEL)
    assert not parked(migrated, live(migrated, MODEL))
    return Given(migrated, MODEL, log, topics, found)


@examples(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@examples_of(
    seed=st.integers(0, 2**32),
    batch=st.sampled_from([1, 7, 60]),
    lost_share=st.sampled_from([0.0, 0.05, 0.5]),
    again=st.sampled_from([0.0, 0.3]),
)
def test_any_interleaving_batches_holes_and_duplicates_give_the_rows_of_one_pass(
    given_log: Given, seed: int, batch: int, lost_share: float, again: float
) -> None:
    chance = random.Random(seed)
    assert all(given_log.rows[table.name] for table in MODEL.tables)
    with fresh(given_log, MODEL) as (generation, projector):
        for items in _deliveries(chance, given_log, batch, lost_share, again):
            projector.apply(items)
        _fill(projector, set(given_log.topics))
        assert contents(given_log.settings, generation, MODEL) == given_log.rows
        ends = {place: records[-1].event.position for place, records in given_log.topics.items() if records}
        assert checkpoints(given_log.settings, generation, MODEL).items() >= ends.items()


def test_a_rebuild_finds_no_difference(given_log: Given) -> None:
    assert set(rebuild.compare(given_log.settings, MODEL).differs.values()) == {0}


# Questions


def test_the_command_lines_questions_filter_and_sort(world: World) -> None:
    name = f"Quest {uuid4()}"
    given = goal("won_amount", "2025-Q1", "90", currency="EUR")
    acme = world.partner(name, (at("01-03 00:00"), given))
    for day, amount in ((date(2025, 2, 2), "10"), (date(2025, 3, 3), "20")):
        world.tell(None, (at("01-04 00:00"), opened(acme, eur(amount))), (at("01-05 00:00"), won(day)))

    def column(answer: Any, name: str) -> list[Any]:
        return [row[answer.columns.index(name)] for row in answer.rows]

    settings = world.settings
    shown = performance(settings, Filters(partner=name, sort="-won_amount", limit=2))
    assert column(shown, "won_amount") == [20, 10]
    assert column(performance(settings, Filters(partner=str(acme), period="2025-02")), "won_amount") == [10]
    assert column(performance(settings, Filters(partner=name)), "month") == [date(2025, n, 1) for n in (3, 2, 1)]
    assert column(scorecard(settings, Filters(partner=name, status="active")), "partner_id") == [acme]
    assert not scorecard(settings, Filters(partner=name, status="suspended")).rows
    assert column(goals(settings, Filters(partner=name, period="2025-03")), "actual") == [30]
    assert not goals(settings, Filters(partner=name, period="2025-Q2")).rows
    for ask, wrong in (
        (performance, Filters(sort="luck")),
        (performance, Filters(stage="won")),
        (scorecard, Filters(period="2025")),
        (goals, Filters(stage="won")),
    ):
        with pytest.raises(Usage):
            ask(settings, wrong)
