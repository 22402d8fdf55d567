"""Leads through the store: what two partners cannot both have, and what follows in the same commit."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from typing import Any
from uuid import UUID, uuid4

import pytest

from prm_es import workspace
from prm_es.aggregates import catalogue, lead
from prm_es.messages import Actor, Envelope, Role
from prm_es.settings import Settings
from prm_es.store.guards import Guards, Held
from prm_es.store.store import Store
from tests.support import PROBLEM, Desk, check_log, command, refusal, rows, today

SYSTEM = Actor("prm-es", Role.SYSTEM)
LINES = ["scales"]


@pytest.fixture
def desk(migrated: Settings) -> Iterator[Desk]:
    with Store(migrated) as store:
        yield Desk(store, topic=str(uuid4()))
    check_log(migrated)
    guards_equal_their_fold(migrated)


def seller(desk: Desk, name: str = "Acme Ltda") -> UUID:
    authorised = [{"product_line": line} for line in LINES]
    return desk.active_partner(legal_name=name, authorisations=authorised)


def registration(by: UUID, customer_id: str, subject: UUID | None = None, **data: Any) -> Envelope:
    given = {
        "partner_id": str(by),
        "customer": {"name": "Lojas Sul", "customer_id": customer_id, "country": "BR"},
        "contact": {"name": "Rita Prado", "email": "rita@sul.example"},
        "product_lines": LINES,
        "deal_type": "new",
        "amount": {"amount": "5000", "currency": "BRL"},
        "expected_close_on": today(60),
        "business_problem": PROBLEM,
        **data,
    }
    return command("lead.register", subject, given)


def screened(desk: Desk, *leads: UUID, matches: list[dict[str, Any]] | None = None) -> None:
    for one in leads:
        version = len(desk.store.stream(one))
        desk.accepted(command("lead.screen", one, {"version": version, "matches": matches or []}, SYSTEM))


def registered(desk: Desk, by: UUID, customer_id: str) -> UUID:
    sent = registration(by, customer_id)
    desk.accepted(sent)
    screened(desk, sent.subject)
    return sent.subject


def guards_equal_their_fold(settings: Settings) -> None:
    """Fold every lead and opportunity from the log and compare what they hold with the guard tables."""
    with Store(settings, "auditor") as store, store.reading() as connection:
        guards, found = Guards(connection), {}
        for row in connection.execute("SELECT DISTINCT originator_id FROM events").fetchall():
            events = store.stream(row["originator_id"])
            aggregate = catalogue.AGGREGATES.get(events[0].aggregate)
            if aggregate:
                parsed = (catalogue.parse_event(event.type, event.data) for event in events)
                state = reduce(aggregate.evolve, parsed, aggregate.initial)
                found[row["originator_id"]] = workspace.held_by(row["originator_id"], state)
        held = [one for one in found.values() if one]
        claims = {claim for one in held for claim in one.claims}
        assert set(guards.claims({claim.customer_key for claim in claims})) == claims
        assert _count(connection, "SELECT count(DISTINCT (lead_id, customer_key)) AS n FROM claims") == len(claims)
        live = {one.registration for one in held if one.registration}
        assert set(guards.registrations({one.partner_id for one in live})) == live
        assert _count(connection, "SELECT count(*) AS n FROM live_registrations") == len(live)
        matches = {match for one in held for match in one.matches}
        assert set(guards.matches({match.lead_id for match in matches})) == matches
        assert _count(connection, "SELECT count(*) AS n FROM undecided_matches") == len(matches)
        won = sum(len(one.incumbency.customer_keys) for one in held if one.incumbency)
        assert _count(connection, "SELECT count(DISTINCT (opportunity_id, customer_key)) AS n FROM incumbencies") == won


def _count(connection: Any, query: str) -> int:
    return int(connection.execute(query).fetchone()["n"])


def test_a_rivals_customer_is_registered_but_not_approved_and_the_date_is_all_that_is_told(desk: Desk) -> None:
    first = registered(desk, seller(desk, "Acme Ltda"), "c-1")
    desk.accepted(command("lead.approve", first))
    second = registered(desk, seller(desk, "Beta SA"), "c-1")
    answer = desk.one(command("lead.approve", second))
    assert refusal(answer)[0] == "lead.already_protected"
    assert answer["message"].startswith("already protected until 2")
    assert "Acme" not in str(answer)
    assert str(first) not in str(answer)


def test_two_approvals_in_one_batch_give_one_protection(desk: Desk) -> None:
    leads = [registered(desk, seller(desk, name), "c-2") for name in ("Acme", "Beta")]
    answers = desk.ask(*(command("lead.approve", one) for one in leads))
    assert [answer.get("code", "accepted") for answer in answers] == ["accepted", "lead.already_protected"]


def test_two_handlers_at_once_never_protect_one_customer_twice(desk: Desk, migrated: Settings) -> None:
    sellers = [seller(desk, name) for name in ("Acme", "Beta")]
    pairs = [[registered(desk, one, f"race-{number}") for one in sellers] for number in range(15)]
    answers: list[list[dict[str, Any]]] = [[], []]

    def approve(place: int) -> None:
        with Store(migrated) as store:
            own = Desk(store, topic=f"{desk.topic}-{place}")
            answers[place] = [own.one(command("lead.approve", pair[place])) for pair in pairs]

    threads = [threading.Thread(target=approve, args=(place,)) for place in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(*answers, strict=True):
        assert sorted(answer.get("code", "accepted") for answer in (one, other)) == [
            "accepted",
            "lead.already_protected",
        ]
    double = rows(
        migrated,
        "SELECT 1 FROM claims a JOIN claims b ON a.customer_key = b.customer_key AND a.lead_id < b.lead_id"
        " AND a.product_lines && b.product_lines AND a.during && b.during AND a.claim_group <> b.claim_group",
    )
    assert double == []


def test_the_same_partner_twice_is_a_duplicate_that_names_the_earlier_lead(desk: Desk) -> None:
    acme = seller(desk)
    first = registered(desk, acme, "c-3")
    answer = desk.one(registration(acme, "c-3"))
    assert refusal(answer)[0] == "lead.duplicate_registration"
    assert str(first) in answer["message"]


def test_converting_opens_the_opportunity_in_the_same_commit(desk: Desk, migrated: Settings) -> None:
    one = registered(desk, seller(desk), "c-4")
    desk.accepted(command("lead.approve", one))
    action = {"text": "Call the buyer", "due_on": today(3)}
    (answer,) = desk.accepted(command("lead.convert", one, {"name": "Scales for Lojas Sul", "next_action": action}))
    assert [event["type"] for event in answer["events"]] == ["prm.lead.converted.v1", "prm.opportunity.opened.v1"]
    assert {UUID(event["subject"]) for event in answer["events"]} == {one, lead.opportunity_of(one)}
    positions = [event["position"] for event in answer["events"]]
    (commit,) = rows(
        migrated, "SELECT * FROM commits WHERE %s BETWEEN first_position AND last_position", (positions[0],)
    )
    assert commit["last_position"] >= positions[1]


def test_converting_is_refused_with_the_opportunitys_reason_and_leaves_nothing(desk: Desk) -> None:
    acme = seller(desk)
    one = registered(desk, acme, "c-5")
    desk.accepted(command("lead.approve", one), command("partner.suspend", acme, {"reason": "an audit"}))
    version = len(desk.store.stream(one))
    action = {"text": "Call the buyer", "due_on": today(3)}
    answer = desk.one(command("lead.convert", one, {"name": "Scales", "next_action": action}))
    assert refusal(answer)[0] == "partner.not_active"
    assert len(desk.store.stream(one)) == version
    assert desk.store.stream(lead.opportunity_of(one)) == []


def test_losing_the_opportunity_frees_the_customer_for_the_rival(desk: Desk) -> None:
    first = registered(desk, seller(desk, "Acme"), "c-6")
    rival = registered(desk, seller(desk, "Beta"), "c-6")
    desk.accepted(command("lead.approve", first))
    action = {"text": "Call the buyer", "due_on": today(3)}
    desk.accepted(command("lead.convert", first, {"name": "Scales", "next_action": action}))
    assert refusal(desk.one(command("lead.approve", rival)))[0] == "lead.already_protected"
    (lost,) = desk.accepted(command("opportunity.lose", lead.opportunity_of(first), {"reason": "price"}))
    assert [event["type"] for event in lost["events"]] == ["prm.opportunity.lost.v1", "prm.lead.protection_ended.v1"]
    desk.accepted(command("lead.approve", rival))


def test_a_probable_match_blocks_the_later_lead_until_it_is_resolved_or_the_earlier_one_ends(desk: Desk) -> None:
    earlier = registered(desk, seller(desk, "Acme"), "c-7")
    sent = registration(seller(desk, "Beta"), "c-8")
    desk.accepted(sent)
    later = sent.subject
    match = {"lead_id": str(earlier), "strength": "probable", "matched_keys": ["domain:sul.example"]}
    screened(desk, later, matches=[match])
    assert refusal(desk.one(command("lead.approve", later)))[0] == "lead.in_conflict"
    desk.accepted(command("lead.reject", earlier, {"reason": "not_qualified"}))
    desk.accepted(command("lead.approve", later))


def test_a_lead_is_not_approved_before_it_is_screened_as_it_is_now(desk: Desk) -> None:
    sent = registration(seller(desk), "c-9")
    desk.accepted(sent)
    assert refusal(desk.one(command("lead.approve", sent.subject)))[0] == "lead.not_screened"


def test_a_partner_suspended_in_the_same_batch_registers_nothing_more(desk: Desk) -> None:
    acme = seller(desk)
    answers = desk.ask(
        registration(acme, "c-10"), command("partner.suspend", acme, {"reason": "an audit"}), registration(acme, "c-11")
    )
    assert [answer.get("code", "accepted") for answer in answers] == ["accepted", "accepted", "partner.not_active"]


@pytest.mark.parametrize(
    ("ending", "data", "kind", "code"),
    [
        ("partner.suspend", {"reason": "an audit"}, "suspended", "partner.not_active"),
        ("partner.revoke_authorisation", {"product_line": LINES[0]}, "authorisation_revoked", "partner.not_authorised"),
    ],
)
def test_nothing_is_registered_after_a_partner_lost_the_right_to_however_the_handlers_run(
    desk: Desk, migrated: Settings, ending: str, data: dict[str, Any], kind: str, code: str
) -> None:
    acme = seller(desk)
    answers: list[dict[str, Any]] = []

    def register(place: int) -> None:
        with Store(migrated) as store:
            own = Desk(store, topic=f"{desk.topic}-{place}")
            answers.extend(own.one(registration(acme, f"race-{ending}-{place}-{number}")) for number in range(8))

    threads = [threading.Thread(target=register, args=(place,)) for place in (0, 1)]
    for thread in threads:
        thread.start()
    desk.accepted(command(ending, acme, data))
    for thread in threads:
        thread.join()
    assert {answer.get("code") for answer in answers if answer["outcome"] == "refused"} <= {code}
    (ended,) = (event for event in desk.store.stream(acme) if event.type == f"prm.partner.{kind}.v1")
    later = "SELECT 1 FROM events WHERE topic = 'prm.lead.registered.v1' AND notification_id > %s"
    known = ended.position or rows(
        migrated, "SELECT notification_id AS at FROM events WHERE originator_id = %s AND originator_version = %s",
        (acme, ended.version),
    )[0]["at"]  # fmt: skip
    assert rows(migrated, later + " AND convert_from(state, 'UTF8') LIKE %s", (known, f"%{acme}%")) == []


def test_a_rivals_win_and_the_approval_of_a_renewal_have_an_order_however_the_handlers_run(
    desk: Desk, migrated: Settings
) -> None:
    final = {"final_amount": {"amount": "5000", "currency": "BRL"}, "order_reference": "PO 7"}
    action = {"text": "Call the buyer", "due_on": today(3)}
    pairs = []
    for number in range(6):
        one = registered(desk, seller(desk, "Acme"), f"win-{number}")
        desk.accepted(command("lead.approve", one), command("lead.convert", one, {"name": "S", "next_action": action}))
        sent = registration(seller(desk, "Beta"), f"win-{number}", deal_type="renewal")
        desk.accepted(sent)
        screened(desk, sent.subject)
        pairs.append((lead.opportunity_of(one), sent.subject))
    wins = threading.Thread(
        target=lambda: [desk.accepted(command("opportunity.win", deal, final)) for deal, _ in pairs]
    )
    answers = []
    with Store(migrated) as store:
        own = Desk(store, topic=f"{desk.topic}-renewals")
        wins.start()
        answers = [own.one(command("lead.approve", renewal)) for _deal, renewal in pairs]
        wins.join()
    # Protected until the win, the incumbent's from then on: there is no moment between in which it is anybody's.
    assert {answer.get("code", "accepted") for answer in answers} <= {
        "lead.already_protected",
        "lead.incumbent_renewal",
    }


def test_the_cap_holds_within_a_batch_and_across_handlers(desk: Desk, migrated: Settings) -> None:
    acme = seller(desk)
    desk.accepted(command("partner.set_capacity", acme, {"live_registrations": 10}))
    answers = desk.ask(*(registration(acme, f"cap-{number}") for number in range(6)))
    assert all(answer["outcome"] == "accepted" for answer in answers)
    got: list[dict[str, Any]] = []

    def register(place: int) -> None:
        with Store(migrated) as store:
            own = Desk(store, topic=f"{desk.topic}-{place}")
            got.extend(own.one(registration(acme, f"cap-{place}-{number}")) for number in range(6))

    threads = [threading.Thread(target=register, args=(place,)) for place in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(answer["outcome"] == "accepted" for answer in got) == 4
    assert {answer.get("code") for answer in got if answer["outcome"] == "refused"} == {"lead.cap_reached"}


def test_the_incumbent_alone_is_given_the_renewal(desk: Desk) -> None:
    incumbent = seller(desk, "Acme")
    one = registered(desk, incumbent, "c-12")
    desk.accepted(command("lead.approve", one))
    action = {"text": "Call the buyer", "due_on": today(3)}
    desk.accepted(command("lead.convert", one, {"name": "Scales", "next_action": action}))
    final = {"amount": "5000", "currency": "BRL"}
    desk.accepted(
        command("opportunity.win", lead.opportunity_of(one), {"final_amount": final, "order_reference": "PO 7"})
    )
    sent = registration(seller(desk, "Beta"), "c-12", deal_type="renewal")
    desk.accepted(sent)
    screened(desk, sent.subject)
    assert refusal(desk.one(command("lead.approve", sent.subject)))[0] == "lead.incumbent_renewal"
    override = command("lead.approve", sent.subject, {"override_reason": "the customer asked for Beta in writing"})
    desk.accepted(override)


def test_overlapping_protection_of_two_groups_is_impossible_in_the_table_itself(desk: Desk, migrated: Settings) -> None:
    first = registered(desk, seller(desk, "Acme"), "c-13")
    desk.accepted(command("lead.approve", first))
    with Store(migrated) as store, pytest.raises(Exception, match="claims"), store.batch() as batch:
        _forge(batch.guards, "id:c-13")


def _forge(guards: Guards, customer_key: str) -> None:
    (claim,) = guards.claims({customer_key})
    rival = uuid4()
    forged = replace(claim, product_lines=frozenset(), claim_group=rival, lead_id=rival)
    guards.replace({rival: Held(claims=frozenset({forged}))})
