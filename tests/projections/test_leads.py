"""Read model leads, by outcome: what the rows say after some events, and what the views make of the rows."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import reduce
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm_es import rebuild
from prm_es.aggregates import lead as ld
from prm_es.aggregates import lead_messages as m
from prm_es.aggregates import partner as p
from prm_es.aggregates.base import Event
from prm_es.aggregates.fields import Customer, Money
from prm_es.api import show
from prm_es.api.show import SHOWN, Filters
from prm_es.errors import Usage
from prm_es.install import install
from prm_es.projections.base import Rows
from prm_es.projections.leads import MODEL, Lead, LeadMatch, Offer, fold
from prm_es.projections.pipeline import MODEL as PIPELINE
from prm_es.settings import Settings
from tests.aggregates.cases import ACME, BETA, KEY, LEAD, RIVAL
from tests.projections.generations import contents, live
from tests.projections.stories import LEADS, Told, as_recorded, tell, walked
from tests.support import partner, rows
from tests.test_leads import registration
from tests.workers import write

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
CUSTOMER = Customer(name="Lojas Sul", country="BR")


def registered(start: datetime = START, **values: Any) -> m.Registered:
    fixed: dict[str, Any] = {
        "partner_id": ACME,
        "submitted_by": "ana",
        "owner": "ana",
        "customer": CUSTOMER,
        "customer_keys": (KEY,),
        "product_lines": ("scales",),
        "amount": Money(amount=Decimal("5000.10"), currency="BRL"),
        "sla_warn_at": start + DAY,
        "sla_due_at": start + 2 * DAY,
        "policy_version": 0,
    }
    return m.Registered(**{**fixed, **values})


def captured(**values: Any) -> m.Captured:
    fixed: dict[str, Any] = {
        "captured_by": "carla",
        "customer": CUSTOMER,
        "customer_keys": (KEY,),
        "product_lines": ("scales",),
        "source": "fair",
    }
    return m.Captured(**{**fixed, **values})


def protection(start: datetime = START, days: int = 90) -> dict[str, Any]:
    until = start + days * DAY
    return {
        "protected_from": start,
        "protected_until": until,
        "remind_at": (until - 7 * DAY, until - DAY),
        "policy_version": 0,
    }


def offered(partner_id: UUID = ACME, respond_by: datetime = START + DAY) -> m.Offered:
    return m.Offered(partner_id=partner_id, respond_by=respond_by, strategy="manual", policy_version=0)


def accepted(at: datetime = START, **values: Any) -> m.Accepted:
    fixed = {**protection(at, 30), "contact_by": at + 3 * DAY, "recall_at": at + 7 * DAY, "accepted_at": at}
    return m.Accepted(**{**fixed, **values})


def asked(at: datetime = START, **values: Any) -> m.InformationRequested:
    fixed: dict[str, Any] = {
        "fields": ("contact",),
        "note": "~",
        "place_until": at + 5 * DAY,
        "lapse_at": at + 30 * DAY,
        "sla_warn_left": 3 * HOUR,
        "sla_left": 11 * HOUR,
        "policy_version": 0,
    }
    return m.InformationRequested(**{**fixed, **values})


def resubmitted(**values: Any) -> m.Resubmitted:
    fixed: dict[str, Any] = {"keeps_place": True, "policy_version": 0, "sla_due_at": START + 9 * DAY}
    return m.Resubmitted(**{**fixed, **values})


def found(*others: UUID, version: int = 1, strength: str = "probable", **values: Any) -> m.Screened:
    matches = tuple(m.Match(lead_id=other, strength=strength, matched_keys=("domain:a",), **values) for other in others)
    return m.Screened(version=version, clear=not matches, matches=matches)


CLEAR = m.Screened(version=1, clear=True)


def folded(*told: Event) -> Rows:
    """Fold the events, one a day."""
    numbered = as_recorded(LEAD, [(START + number * DAY, event) for number, event in enumerate(told)], after=100)
    return reduce(lambda tables, one: fold(tables, *one), numbered, MODEL.empty())


def lead(*told: Event) -> Lead:
    (row,) = folded(*told)["lead"]
    assert isinstance(row, Lead)
    return row


def offers(*told: Event) -> list[tuple[UUID, str, str | None]]:
    found: tuple[Offer, ...] = folded(*told)["offer"]
    assert [one.number for one in found] == list(range(1, len(found) + 1))
    return [(one.partner_id, one.answer, one.reason) for one in found]


def matches(*told: Event) -> dict[UUID, tuple[str | None, str | None]]:
    """Give strength and outcome by the other lead."""
    found: tuple[LeadMatch, ...] = folded(*told)["lead_match"]
    return {one.other_lead_id: (one.strength, one.outcome) for one in found}


# The rows and the aggregate


def agree(row: Lead, held: tuple[LeadMatch, ...], state: ld.Lead) -> None:
    """Compare what both know: a row must not say otherwise than what is decided upon."""
    same = (
        "status", "origin", "partner_id", "owner", "external_id", "country", "identity_version", "screened_version",
        "protected_from", "protected_until", "extensions", "sla_warn_at", "sla_due_at", "sla_warn_left", "sla_left",
        "place_until", "lapse_at", "respond_by", "contact_by", "recall_at", "opportunity_id", "deal_type",
        "expected_close_on",
    )  # fmt: skip
    assert {name: getattr(row, name) for name in same} == {name: getattr(state, name) for name in same}
    assert set(row.customer_keys) == state.customer_keys
    assert (row.product_lines, row.remind_at) == (list(state.product_lines), list(state.remind_at))
    assert row.ended == ld.ended(state)
    assert (row.ended_at is not None) == (state.status in ld.FINAL)
    assert (row.status in ("submitted", "in_review", "action_required")) <= (row.decision is None)
    undecided = {one.other_lead_id for one in held if one.strength and not one.outcome}
    live = undecided if not row.ended else set()
    assert live == {one.other_lead_id for one in ld.undecided_matches(row.lead_id, state)}
    assert {one.partner_id for one in held} <= {state.partner_id}


@given(st.integers(0, 2**32))
def test_rows_never_say_otherwise_than_the_aggregate(seed: int) -> None:
    state, tables, place = ld.Lead(), MODEL.empty(), 0
    for recorded, event in as_recorded(LEADS[0], walked(seed, LEADS[0]), after=seed % 1000):
        state, tables = ld.evolve(state, event), fold(tables, recorded, event)
        place = recorded.position if state.place_version == recorded.version else place
        (row,) = tables["lead"]
        agree(row, tables["lead_match"], state)
        assert (row.place_position, row.updated_position) == (place, recorded.position)
        open_offers = [one for one in tables["offer"] if one.answer == "open"]
        running = [(state.partner_id, state.respond_by)] if state.respond_by else []
        assert [(one.partner_id, one.respond_by) for one in open_offers] == running
        assert all((one.answered_at is None) == (one.answer == "open") for one in tables["offer"])


def test_the_walks_take_in_every_event_there_is() -> None:
    met = {type(event) for seed, subject in enumerate(LEADS) for _at, event in walked(seed, subject)}
    assert met == set(m.EVENTS)


# Review


def test_a_registration_comes_in_with_its_clock_and_its_place() -> None:
    row = lead(registered(held_until=START + 9 * DAY, missing=("contact", "amount")))
    assert (row.origin, row.status, row.partner_id, row.submitted_by) == ("registered", "submitted", ACME, "ana")
    assert (row.came_in_at, row.place_position, row.held_until) == (START, 101, START + 9 * DAY)
    assert (row.sla_warn_at, row.sla_due_at) == (START + DAY, START + 2 * DAY)
    assert (row.amount, row.currency) == (Decimal("5000.10"), "BRL")
    assert row.data_gaps == ["amount", "contact"]


def test_a_decision_stands_until_it_is_reverted() -> None:
    told = (registered(), CLEAR, m.Approved(**protection(START + 2 * DAY)))
    row = lead(*told)
    assert (row.status, row.decision, row.decided_at) == ("approved", "approved", START + 2 * DAY)
    assert (row.protected_until, row.sla_due_at) == (START + 92 * DAY, None)
    again = m.DecisionReverted(
        previous="approved", reason="~", policy_version=0, sla_warn_at=START + 5 * DAY, sla_due_at=START + 6 * DAY
    )
    row = lead(*told, again)
    assert (row.status, row.decision, row.decided_at, row.protected_until) == ("in_review", None, None, None)
    assert (row.unprotected_by, row.unprotected_at, row.sla_due_at) == ("reverted", START + 3 * DAY, START + 6 * DAY)
    assert row.identity_version > row.screened_version
    row = lead(*told, again, m.Rejected(reason="named_account"))
    assert (row.decision, row.decided_at, row.reject_reason) == ("rejected", START + 4 * DAY, "named_account")
    assert (row.ended, row.ended_at, row.sla_due_at) == (True, START + 4 * DAY, None)


def test_a_clock_that_is_stopped_keeps_what_is_left_and_runs_on() -> None:
    row = lead(registered(), asked())
    assert (row.sla_due_at, row.sla_left, row.sla_warn_left) == (None, 11 * HOUR, 3 * HOUR)
    assert (row.sla_stopped_at, row.lapse_at, row.asked_for) == (START + DAY, START + 30 * DAY, ["contact"])
    row = lead(registered(), asked(), resubmitted())
    assert (row.sla_due_at, row.sla_left, row.sla_stopped_at) == (START + 9 * DAY, None, None)
    assert (row.lapse_at, row.asked_for, row.status) == (None, [], "submitted")


def test_what_was_warned_of_or_breached_stays_marked_and_a_reverted_decision_begins_anew() -> None:
    told: tuple[Event, ...] = (registered(), m.SlaWarned(warned_at=START + DAY, sla_due_at=START + 2 * DAY))
    assert (lead(*told).sla_warned_at, lead(*told).sla_warn_at) == (START + DAY, None)
    told = (*told, m.SlaBreached(breached_at=START + 2 * DAY), asked(), resubmitted(sla_due_at=None))
    assert (lead(*told).sla_breached_at, lead(*told).sla_due_at) == (START + 2 * DAY, None)
    told = (*told, m.Rejected(reason="other"), m.DecisionReverted(previous="rejected", reason="~", policy_version=0))
    assert (lead(*told).sla_warned_at, lead(*told).sla_breached_at) == (None, None)


def test_a_late_or_other_resubmission_loses_its_place() -> None:
    assert lead(registered(), asked(), resubmitted()).place_position == 101
    assert lead(registered(), asked(), resubmitted(keeps_place=False)).place_position == 103


def test_a_change_of_the_customer_asks_for_another_screening_and_another_does_not() -> None:
    told = (registered(held_until=START + DAY), CLEAR)
    row = lead(*told, m.Corrected(changed=("external_id",), external_id="R-1", reason="~"))
    assert (row.external_id, row.identity_version, row.held_until) == ("R-1", 1, START + DAY)
    other = Customer(name="Lojas Norte", country="PT")
    row = lead(*told, m.Corrected(changed=("customer",), customer=other, customer_keys=("id:1",), reason="~"))
    assert (row.customer, row.country, row.customer_keys) == ("Lojas Norte", "PT", ["id:1"])
    assert (row.identity_version, row.screened_version, row.held_until) == (3, 1, None)


def test_gaps_vanish_as_they_are_filled() -> None:
    told: tuple[Event, ...] = (registered(missing=("deal_type", "amount", "came_in_at")),)
    told = (*told, m.Approved(**protection(), missing=("screening",)))
    assert lead(*told).data_gaps == ["amount", "came_in_at", "deal_type", "screening"]
    told = (*told, m.Corrected(changed=("deal_type", "amount"), deal_type="new", reason="~"))
    assert lead(*told).data_gaps == ["amount", "came_in_at", "screening"]
    assert lead(*told, CLEAR).data_gaps == ["amount", "came_in_at"]


def test_a_lapse_and_an_expiry_are_dated_when_they_were_due() -> None:
    assert lead(registered(), asked(), m.Lapsed(lapsed_at=START + HOUR)).ended_at == START + HOUR
    row = lead(registered(), m.Approved(**protection()), m.ProtectionExpired(status="expired", expired_at=START + HOUR))
    assert (row.ended_at, row.unprotected_at, row.unprotected_by) == (START + HOUR, START + HOUR, "expired")


def test_only_what_people_do_counts_as_touching() -> None:
    machines = (CLEAR, m.SlaWarned(warned_at=START, sla_due_at=START), m.SlaBreached(breached_at=START))
    assert lead(registered(), *machines).touched_at == START
    assert lead(registered(), m.Commented(text="~")).touched_at == START + DAY
    call = m.ActivityLogged(kind="call", summary="~", happened_on=START.date(), happened_at=START + HOUR)
    assert lead(registered(), call).touched_at == START + HOUR
    assert lead(registered(), m.ReviewStarted(), call).touched_at == START + DAY


# Protection


def test_a_protection_is_asked_for_extended_and_reminded_of() -> None:
    told: tuple[Event, ...] = (registered(), m.Approved(**protection()), m.ExtensionRequested(evidence="~"))
    assert (lead(*told).extension_requested_at, lead(*told).extensions) == (START + 2 * DAY, 0)
    longer = m.ProtectionExtended(**protection(days=120), previous_until=START + 90 * DAY)
    row = lead(*told, longer)
    assert (row.extension_requested_at, row.extensions, row.protected_until) == (None, 1, START + 120 * DAY)
    due = START + 113 * DAY
    row = lead(*told, longer, m.ProtectionExpiring(days=7, remind_at=due, protected_until=START + 120 * DAY))
    assert row.remind_at == [START + 119 * DAY]


def test_a_converted_lead_ends_with_its_protection_and_stays_converted() -> None:
    told = (registered(), m.Approved(**protection()), m.Converted(opportunity_id=RIVAL, previous="approved"))
    row = lead(*told)
    assert (row.status, row.opportunity_id, row.converted_at, row.ended) == ("converted", RIVAL, START + 2 * DAY, False)
    over = m.ProtectionEnded(outcome="won", opportunity_id=RIVAL, protected_until=START + 90 * DAY)
    row = lead(*told, over)
    assert (row.status, row.unprotected_by, row.ended, row.ended_at) == ("converted", "won", True, None)


# Handing out


def test_each_offer_says_what_became_of_it() -> None:
    declined = m.Declined(partner_id=ACME, reason="no_capacity")
    expired = m.OfferExpired(partner_id=BETA, expired_at=START + 3 * DAY)
    recalled = m.Recalled(partner_id=ACME, previous="offered", reason="~")
    told = (captured(), offered(), declined, offered(BETA), expired, offered(), recalled, offered(BETA), accepted())
    assert offers(*told) == [
        (ACME, "declined", "no_capacity"),
        (BETA, "expired", None),
        (ACME, "recalled", None),
        (BETA, "accepted", None),
    ]
    assert (lead(*told).status, lead(*told).partner_id, lead(*told).respond_by) == ("accepted", BETA, None)
    assert offers(*told, m.Recalled(partner_id=BETA, previous="accepted", reason="~"))[-1] == (BETA, "accepted", None)


def test_an_offer_that_is_transferred_runs_on_with_the_other_partner() -> None:
    handed = m.Transferred(partner_id=BETA, previous=ACME, reason="~")
    told = (captured(), offered(), m.Opened(), handed)
    assert offers(*told) == [(ACME, "transferred", None), (BETA, "open", None)]
    first, second = folded(*told)["offer"]
    assert (first.opened_at, second.opened_at, second.respond_by) == (START + 2 * DAY, None, START + DAY)
    assert len(offers(captured(), offered(), accepted(), handed)) == 1


def test_a_recalled_lead_is_with_nobody_and_its_times_are_gone() -> None:
    told = (captured(), offered(), accepted(missing=("next_action",)))
    assert (lead(*told).recall_at, lead(*told).data_gaps) == (START + 7 * DAY, ["next_action"])
    row = lead(*told, m.Recalled(partner_id=ACME, previous="accepted", reason="~"))
    assert (row.status, row.partner_id, row.owner, row.recall_at, row.contact_by) == (
        "qualified",
        None,
        None,
        None,
        None,
    )
    assert (row.protected_until, row.unprotected_by, row.data_gaps) == (None, "recalled", [])


def test_a_first_contact_is_overdue_until_it_is_made() -> None:
    told = (captured(), offered(), accepted(), m.ContactOverdue(contact_by=START + 3 * DAY))
    assert (lead(*told).contact_by, lead(*told).contact_overdue_at) == (None, START + 3 * DAY)
    met = m.Contacted(kind="call", contacted_at=START + 4 * DAY, recall_at=START + 11 * DAY)
    row = lead(*told, met)
    assert (row.status, row.contact_overdue_at, row.recall_at) == ("contacted", None, START + 11 * DAY)


# Matches


def test_a_match_is_undecided_until_it_is_resolved_and_what_is_not_found_again_is_gone() -> None:
    one, other = LEADS[:2]
    assert matches(registered(), found(one, other)) == {one: ("probable", None), other: ("probable", None)}
    resolved = m.MatchResolved(other_lead=one, outcome="not_a_conflict")
    told = (registered(), found(one, other), resolved)
    assert matches(*told)[one] == ("probable", "not_a_conflict")
    assert matches(*told, found(one, strength="hard")) == {one: ("hard", "not_a_conflict")}
    assert matches(*told, CLEAR) == {one: (None, "not_a_conflict")}
    assert matches(*told, CLEAR, found(one)) == {one: ("probable", "not_a_conflict")}


def test_another_customer_makes_decided_matches_undecided() -> None:
    one = LEADS[0]
    told = (registered(), found(one), m.MatchResolved(other_lead=one, outcome="award"))
    other = m.Corrected(changed=("customer",), customer=CUSTOMER, reason="~")
    assert matches(*told, other) == {one: ("probable", None)}
    assert matches(registered(), *told[2:], other) == {}  # decided, and never found
    assert matches(*told, m.Corrected(changed=("amount",), reason="~")) == {one: ("probable", "award")}


def test_a_lead_that_is_found_twice_is_one_match_by_the_stronger() -> None:
    twice = (
        m.Match(lead_id=RIVAL, strength="hard", matched_keys=("id:1",), other_first=False),
        m.Match(lead_id=RIVAL, strength="probable", matched_keys=("domain:a",)),
    )
    (match,) = folded(registered(), m.Screened(version=1, clear=False, matches=twice))["lead_match"]
    assert (match.strength, match.matched_keys, match.other_first) == ("hard", ["domain:a", "id:1"], True)


# Views

IMPORTED = p.Imported(
    status="active", imported_at=START, legal_name="Acme Ltda", country="BR", types=("reseller",),
    territories=("South", "West"), channel_manager="carla",
)  # fmt: skip


class World:
    """A store with leads told at times from now, in hours, and the views over it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.ids: dict[str, UUID] = {}

    def at(self, hours: float) -> datetime:
        return self.now + hours * HOUR

    def tell(self, name: str, *story: tuple[float, Event]) -> UUID:
        told: list[Told] = [(self.at(hours), event) for hours, event in story]
        self.ids[name] = tell(self.settings, self.ids.get(name) or uuid4(), told)
        return self.ids[name]

    def view(self, name: str, condition: str = "true", *values: object) -> list[dict[str, Any]]:
        return rows(self.settings, f"SELECT * FROM {self.settings.read_schema}.{name} WHERE {condition}", values)

    def one(self, view: str, name: str) -> dict[str, Any]:
        (row,) = self.view(view, "lead_id = %s", self.ids[name])
        return row

    def named(self, view: str, condition: str) -> set[str]:
        """Give the names of the leads that a view has with this condition."""
        known = {subject: name for name, subject in self.ids.items()}
        return {known[row["lead_id"]] for row in self.view(view, condition)}


@pytest.fixture(scope="module")
def world(migrated: Settings) -> World:
    """Tell leads in every situation that a view knows."""
    install(migrated)
    world = World(migrated)
    at = world.at
    acme = world.tell("acme", (-9000, IMPORTED))
    gone = world.tell(
        "gone",
        (-9000, IMPORTED.model_copy(update={"legal_name": "Gone", "territories": ()})),
        (-1, p.Terminated(reason="~")),
    )
    for name in ("later", "earlier", "found only", "ended rival", "resolved rival", "maybe"):
        world.ids[name] = uuid4()

    def submitted(due: float = 24, **values: Any) -> m.Registered:
        fixed = {"partner_id": acme, "sla_warn_at": at(due - 12), "sla_due_at": at(due)}
        return registered(**{**fixed, **values})

    breached = m.SlaBreached(breached_at=at(-2))
    world.tell("green", (-48, submitted(held_until=at(100))), (-47, CLEAR))
    world.tell("amber by time", (-10, submitted(2, held_until=at(-1))))
    world.tell("amber", (-10, submitted(20)), (-1, m.SlaWarned(warned_at=at(-1), sla_due_at=at(20))))
    world.tell("red by time", (-20, submitted(-1)))
    world.tell("red", (-20, submitted(-2)), (-2, breached), (-1, m.ReviewStarted()))
    world.tell("grey", (-20, submitted()), (-1, asked(at(-1))))
    world.tell("grey, late", (-900, submitted()), (-800, asked(at(-800))))
    world.tell(
        "approved",
        (-72, submitted()),
        (-48, m.Approved(**protection(at(-48)))),
        (-1, m.ExtensionRequested(evidence="~")),
    )
    world.tell("past", (-3000, submitted()), (-2900, m.Approved(**protection(at(-2900)))))
    rejected = m.Rejected(reason="named_account")
    world.tell("rejected", (-30, submitted(-4)), (-4, m.SlaBreached(breached_at=at(-4))), (-3, rejected))
    converted = m.Converted(opportunity_id=RIVAL, previous="approved")
    world.tell("converted", (-80, submitted()), (-60, m.Approved(**protection(at(-60)))), (-50, converted))
    world.tell("orphan", (-5, submitted(partner_id=gone)))
    world.tell("closed orphan", (-5, submitted(partner_id=gone)), (-4, m.Withdrawn()))
    world.tell("new", (-100, captured()))
    declined = m.Declined(partner_id=gone, reason="outside_territory")
    world.tell(
        "offered", (-60, captured()), (-50, offered(gone, at(-30))), (-40, declined), (-5, offered(acme, at(19)))
    )
    world.tell("offered, late", (-60, captured()), (-50, offered(acme, at(-1))), (-49, m.Opened()))
    world.tell("accepted", (-60, captured()), (-50, offered(acme, at(-26))), (-48, accepted(at(-48))))
    overdue = m.ContactOverdue(contact_by=at(-28))
    world.tell(
        "no contact", (-110, captured()), (-101, offered(acme, at(-80))), (-100, accepted(at(-100))), (-28, overdue)
    )
    ids = world.ids
    world.tell("later", (-9, submitted()), (-8, found(ids["earlier"], ids["ended rival"])))
    world.tell("earlier", (-10, submitted()))
    world.tell("found only", (-9, submitted()), (-8, found(ids["ended rival"])))
    world.tell("ended rival", (-11, submitted()), (-1, m.Withdrawn()))
    world.tell("maybe", (-9, submitted()), (-8, found(ids["green"], strength="possible")))
    settled = m.MatchResolved(other_lead=ids["earlier"], outcome="not_a_conflict")
    world.tell("resolved rival", (-9, submitted()), (-8, found(ids["earlier"])), (-7, settled))
    for model in (MODEL, PIPELINE):  # partners are found by what the pipeline knows of them
        rebuild.rebuild(migrated, model)
    return world


def test_the_clock_of_a_decision_has_a_colour(world: World) -> None:
    colours = {"green": "green", "amber": "amber", "amber by time": "amber", "red": "red", "red by time": "red"}
    colours |= {"grey": "grey", "grey, late": "grey"}
    assert {name: world.one("leads", name)["sla_colour"] for name in colours} == colours
    for name in ("approved", "rejected", "converted", "new", "offered", "accepted", "closed orphan"):
        assert world.one("leads", name)["sla_colour"] is None
    assert world.named("leads", "sla_breached") == {"red", "rejected"}


def test_what_is_left_of_the_clock_runs_and_stands_still(world: World) -> None:
    running = world.one("leads", "green")["sla_left"]
    assert 23 * HOUR < running < 24 * HOUR
    assert -3 * HOUR < world.one("leads", "red")["sla_left"] < -2 * HOUR
    assert world.one("leads", "red")["sla_due_at"] == world.at(-2)
    assert world.one("leads", "grey")["sla_left"] == 11 * HOUR
    assert world.one("leads", "approved")["sla_left"] is None


@pytest.mark.parametrize(
    ("name", "kind", "hours"),
    [
        ("green", "decide", 24),
        ("red", "decide", -2),
        ("grey", "resubmit", 119),
        ("grey, late", "lapse", -80),
        ("approved", "expire", 2112),
        ("past", "expire", -740),
        ("offered", "answer", 19),
        ("offered, late", "answer", -1),
        ("accepted", "contact", 24),
        ("no contact", "contact", -28),
        ("new", None, None),
        ("rejected", None, None),
    ],
)
def test_the_next_deadline_is_the_earliest_that_runs(
    world: World, name: str, kind: str | None, hours: int | None
) -> None:
    row = world.one("leads", name)
    at = None if hours is None else world.at(hours)
    assert (row["next_deadline"], row["next_deadline_at"]) == (kind, at)
    assert row["overdue"] == (hours is not None and hours < 0)


def test_a_lead_is_in_conflict_by_either_sides_screening_until_that_is_decided_or_one_ends(world: World) -> None:
    assert world.named("leads", "in_conflict") == {"later", "earlier"}


def test_the_inbox_names_partner_age_and_what_is_missing(world: World) -> None:
    row = world.one("leads", "green")
    assert (row["partner"], row["territory"], row["channel_manager"]) == ("Acme Ltda", "South, West", "carla")
    assert (row["customer"], row["amount"], row["age_days"]) == ("Lojas Sul", Decimal("5000.10"), 2)
    assert row["held_until"] == world.at(100)
    assert world.one("leads", "amber by time")["held_until"] is None
    assert world.one("leads", "converted")["age_days"] == (world.at(-50).date() - world.at(-80).date()).days
    assert world.named("leads", "orphaned") == {"orphan"}
    assert world.named("leads", "screened") == {"green", "later", "found only", "resolved rival", "maybe"}
    assert world.one("leads", "new")["partner"] is None


def test_registrations_show_their_course(world: World) -> None:
    assert "new" not in world.named("registrations", "true")
    row = world.one("registrations", "approved")
    assert (row["decision"], row["decided_in"], row["days_left"]) == ("approved", DAY, 88)
    assert (row["converted"], row["extension_requested_at"]) == (False, world.at(-1))
    row = world.one("registrations", "rejected")
    assert (row["decision"], row["reject_reason"], row["sla_breached"]) == ("rejected", "named_account", True)
    assert (row["protected_until"], row["days_left"]) == (None, None)
    row = world.one("registrations", "converted")
    assert (row["converted"], row["converted_at"], row["opportunity_id"]) == (True, world.at(-50), RIVAL)


def test_the_book_has_what_is_protected_now(world: World) -> None:
    assert world.named("protected_customers", "true") == {"approved", "converted", "accepted", "no contact"}
    row = world.one("protected_customers", "approved")
    assert (row["partner"], row["customer"], row["customer_keys"]) == ("Acme Ltda", "Lojas Sul", [KEY])
    assert (row["product_lines"], row["protected_until"], row["days_left"]) == (["scales"], world.at(2112), 88)
    assert row["next_reminder_at"] == world.at(2112) - 7 * DAY


def test_offers_show_who_answered_what_and_the_customer_once_opened(world: World) -> None:
    first, second = sorted(world.view("offers", "lead_id = %s", world.ids["offered"]), key=lambda row: row["number"])
    assert (first["partner"], first["answer"], first["reason"]) == ("Gone", "declined", "outside_territory")
    assert (first["answered_in"], first["time_left"], first["customer"]) == (10 * HOUR, None, None)
    assert (second["answer"], second["overdue"], second["customer"]) == ("open", False, None)
    assert 18 * HOUR < second["time_left"] < 19 * HOUR
    late = world.one("offers", "offered, late")
    assert (late["overdue"], late["customer"]) == (True, "Lojas Sul")
    assert world.one("offers", "accepted")["customer"] == "Lojas Sul"


# Shown


def shown(world: World, what: str, **filters: Any) -> set[str]:
    known = {subject: name for name, subject in world.ids.items()}
    answer = SHOWN[what](world.settings, Filters(**filters))
    place = answer.columns.index("lead_id")
    return {known[row[place]] for row in answer.rows}


def test_leads_are_shown_to_who_has_no_sql(world: World) -> None:
    assert shown(world, "leads", status="in_review") == {"red"}
    assert shown(world, "leads", partner="gone") == {"orphan", "closed orphan"}
    assert shown(world, "leads", territory="South", status="approved") == {"approved", "past"}
    assert shown(world, "registrations", partner=str(world.ids["acme"]), status="rejected") == {"rejected"}
    assert shown(world, "protected-customers", status="accepted") == {"accepted", "no contact"}
    assert shown(world, "offers", status="open") == {"offered", "offered, late"}
    assert shown(world, "offers", status="declined", partner="Gone") == {"offered"}


def test_a_period_is_that_of_what_the_view_is_about(world: World) -> None:
    day = world.at(-3000).date()
    period = f"{day}..{day}"
    assert shown(world, "leads", period=period) == {"past"}
    assert shown(world, "registrations", period=period) == {"past"}
    assert shown(world, "protected-customers", period=period) == set()
    ends = world.at(2112).date()
    assert shown(world, "protected-customers", period=f"{ends}..{ends}") >= {"approved"}
    assert shown(world, "offers", period=str(date.max.year)) == set()


def test_what_is_due_first_is_on_top_and_any_column_sorts(world: World) -> None:
    answer = show.leads(world.settings, Filters(limit=3))
    place = answer.columns.index("next_deadline_at")
    assert [row[place] for row in answer.rows] == [world.at(hours) for hours in (-740, -80, -28)]
    for what in ("leads", "registrations", "protected-customers", "offers"):
        for column in SHOWN[what](world.settings, Filters(limit=1)).columns:
            assert SHOWN[what](world.settings, Filters(sort=f"-{column}", limit=1)).rows
        for wrong in (Filters(sort="colour"), Filters(stage="won"), Filters(period="soon")):
            with pytest.raises(Usage):
                SHOWN[what](world.settings, wrong)


# Personal values


def test_a_customer_who_is_a_person_stands_in_the_personal_table_alone(world: World, migrated: Settings) -> None:
    name = "Joana Prado"
    person = {"name": name, "country": "BR", "tax_ids": [{"country": "BR", "value": "111.444.777-35"}]}
    seller = partner(authorisations=[{"product_line": "scales"}])
    sent = registration(seller.subject, "", customer=person)
    write(migrated, [seller, sent])
    rebuild.rebuild(migrated, MODEL)
    world.ids["person"] = sent.subject
    assert world.one("leads", "person")["customer"] == name
    assert world.one("registrations", "person")["customer"] == name
    found = "strpos(searched, 'joana prado') > 0"
    assert world.named("leads", found) == world.named("registrations", found) == {"person"}
    tables = contents(migrated, live(migrated, MODEL), MODEL)
    assert [table for table, texts in tables.items() if any(name in text for text in texts)] == ["personal"]
    schema = f"{migrated.prefix}_{MODEL.name}_{live(migrated, MODEL)}"
    (row,) = rows(migrated, f"DELETE FROM {schema}.personal WHERE value = %s RETURNING 1 AS gone", [name])
    assert row["gone"]
    assert world.one("leads", "person")["customer"] is None
    assert world.named("leads", found) == world.named("leads", "strpos(searched, '~1.') > 0") == set()
