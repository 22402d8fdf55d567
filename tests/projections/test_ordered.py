"""Conflicts, deadlines and reactions, by outcome: what the workers ask for, and what then stands in log and views."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from prm_es.aggregates.availability import Answer
from prm_es.aggregates.policy import Policy, default
from prm_es.availability import Spellings, ask, question_of
from prm_es.forgetting import Done, NotDone, forget
from prm_es.messages import Actor, Envelope, Role, utc_text
from prm_es.policies import Loaded, known_policies, load_policy
from prm_es.projections import conflicts, likeness
from prm_es.projections.runner import schema_of
from prm_es.settings import Settings
from tests.projections.generations import live
from tests.projections.ordered import Service, service
from tests.support import ADMIN, IMPORTER, MANAGER, PROBLEM, check_log, command, refusal, rows, today
from tests.workers import until

LINES = ["scales"]
PAST = datetime(2024, 3, 4, 9, tzinfo=UTC)


@pytest.fixture
def prm(migrated: Settings) -> Iterator[Service]:
    with service(migrated) as one:
        one.settle()
        yield one
        one.settle()
        assert one.rebuilt_differs() == {}
    check_log(migrated)


def seller(prm: Service, name: str = "Acme Ltda") -> UUID:
    authorised = [{"product_line": line} for line in ("scales", "sensors")]
    return prm.desk.active_partner(legal_name=name, authorisations=authorised)


def a_name() -> str:
    """Give a company name that is like no other."""
    return "".join(chr(ord("a") + int(digit, 16)) for digit in uuid4().hex[:12]).capitalize()


def registration(by: UUID, customer: dict[str, Any], **data: Any) -> Envelope:
    given = {
        "partner_id": str(by),
        "customer": {"name": a_name(), "country": "BR", **customer},
        "product_lines": LINES,
        "deal_type": "new",
        "amount": {"amount": "5000", "currency": "BRL"},
        "expected_close_on": today(60),
        "business_problem": PROBLEM,
        **data,
    }
    return command("lead.register", None, given)


def registered(prm: Service, by: UUID, customer: dict[str, Any], **data: Any) -> UUID:
    sent = registration(by, customer, **data)
    prm.desk.accepted(sent)
    return sent.subject


def key() -> dict[str, str]:
    return {"customer_id": f"c-{uuid4()}"}


def history(prm: Service, one: UUID) -> list[str]:
    return [event.type.removeprefix("prm.").removesuffix(".v1") for event in prm.desk.store.stream(one)]


def content(prm: Service, one: UUID, kind: str) -> dict[str, Any]:
    found = [json.loads(event.data) for event in prm.desk.store.stream(one) if event.type == f"prm.{kind}.v1"]
    return dict(found[-1])


def put_in_force(prm: Service, **changes: Any) -> None:
    """Put a policy in force whose durations are short enough to be waited for."""
    last = known_policies(prm.desk.store)[-1]
    document = last.model_dump(mode="json") | {"version": last.version + 1, "effective_from": utc_text(_now())}
    for section, values in changes.items():
        document[section] = {**document[section], **values} if isinstance(values, dict) else values
    assert isinstance(load_policy(prm.desk.store, Policy.model_validate(document), ADMIN), Loaded)


def _now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(autouse=True)
def policy_as_shipped(prm: Service) -> None:
    """Begin each test with the numbers that are shipped, whatever the last one has put in force."""
    shipped = default().model_dump(mode="json")
    if known_policies(prm.desk.store)[-1].version:
        put_in_force(prm, **{name: shipped[name] for name in ("lead", "opportunity", "calendar", "named_accounts")})


# Conflicts


def test_a_lead_without_a_rival_is_screened_clear_and_can_be_approved(prm: Service) -> None:
    one = registered(prm, seller(prm), key())
    assert refusal(prm.desk.one(command("lead.approve", one)))[0] == "lead.not_screened"
    prm.settle()
    assert content(prm, one, "lead.screened")["clear"] is True
    prm.desk.accepted(command("lead.approve", one))


def test_rivals_with_the_same_tax_root_are_a_hard_conflict_told_to_the_later_one(prm: Service) -> None:
    acme, beta = seller(prm, "Acme Ltda"), seller(prm, "Beta SA")
    first = registered(prm, acme, {"tax_ids": [{"country": "BR", "value": "11.222.333/0001-81"}]})
    second = registered(prm, beta, {"tax_ids": [{"country": "BR", "value": "11.222.333/0002-62"}]})
    prm.settle()
    assert content(prm, first, "lead.screened")["clear"] is True
    (match,) = content(prm, second, "lead.screened")["matches"]
    assert (match["lead_id"], match["strength"], match["other_first"]) == (str(first), "hard", True)
    assert "Acme" not in json.dumps(match)
    (row,) = prm.view("SELECT * FROM lead_conflicts WHERE second_lead_id = %s", (second,))
    assert (row["status"], row["strength"], row["matched_keys"]) == ("open", "hard", ["tax:BR:cnpj:11222333"])
    assert (row["first_lead_id"], row["first_partner"], row["second_partner"]) == (first, "Acme Ltda", "Beta SA")
    assert row["first_position"] < row["second_position"]
    prm.desk.accepted(command("lead.approve", first))
    assert refusal(prm.desk.one(command("lead.approve", second)))[0] == "lead.already_protected"
    prm.desk.accepted(command("lead.reject", second, {"reason": "already_registered_other_partner"}))
    prm.settle()
    (row,) = prm.view("SELECT * FROM lead_conflicts WHERE second_lead_id = %s", (second,))
    assert (row["status"], row["ended_because"]) == ("past", "rejected")


def test_a_shared_web_domain_is_probable_and_holds_the_later_lead_up_until_it_is_resolved(prm: Service) -> None:
    customer = {"name": a_name(), "domains": [f"{uuid4().hex}.com"]}
    first = registered(prm, seller(prm, "Acme"), customer)
    second = registered(prm, seller(prm, "Beta"), customer)
    prm.settle()
    assert refusal(prm.desk.one(command("lead.approve", second)))[0] == "lead.in_conflict"
    decided = {"other_lead": str(first), "outcome": "not_a_conflict", "note": "two sites of a group"}
    prm.desk.accepted(command("lead.resolve_match", second, decided))
    prm.settle()
    (row,) = prm.view("SELECT * FROM lead_conflicts WHERE second_lead_id = %s", (second,))
    assert (row["status"], row["outcome"], row["strength"]) == ("decided", "not_a_conflict", "probable")
    prm.desk.accepted(command("lead.approve", second))


def test_another_spelling_of_the_name_is_found_with_score_and_sentence_and_holds_up_the_later_lead(
    prm: Service,
) -> None:
    name = a_name()
    first = registered(prm, seller(prm, "Acme"), {"name": f"{name} Comércio de Tintas Ltda", "city": "Pelotas"})
    second = registered(prm, seller(prm, "Beta"), {"name": f"TINTAS {name.upper()} COM. - ME", "city": "Pelotas - RS"})
    other = registered(prm, seller(prm, "Gama"), {"name": f"{a_name()} Comércio de Tintas Ltda", "city": "Pelotas"})
    prm.settle()
    (match,) = content(prm, second, "lead.screened")["matches"]
    assert (match["lead_id"], match["kind"], match["strength"]) == (str(first), "lead", "probable")
    assert 0.5 < float(match["score"]) < 1
    assert "registered" in match["sentence"]
    assert "earlier" in match["sentence"]
    assert name.lower() not in json.dumps(match).lower()
    (row,) = prm.view("SELECT * FROM lead_conflicts WHERE second_lead_id = %s", (second,))
    assert (row["strength"], str(row["score"]), row["first_kind"]) == ("probable", match["score"], "lead")
    assert match["sentence"].startswith(row["sentence"])
    assert refusal(prm.desk.one(command("lead.approve", second)))[0] == "lead.in_conflict"
    assert content(prm, other, "lead.screened")["clear"] is True


def test_what_is_only_related_is_told_and_holds_up_nothing(prm: Service) -> None:
    name = a_name()
    registered(prm, seller(prm, "Acme"), {"name": f"{name} Participações S.A.", "city": "Pelotas"})
    second = registered(prm, seller(prm, "Beta"), {"name": f"{name} Logística Ltda", "city": "Manaus"})
    prm.settle()
    (match,) = content(prm, second, "lead.screened")["matches"]
    assert match["strength"] in ("possible", "related")
    prm.desk.accepted(command("lead.approve", second))


def test_a_crowd_under_one_key_is_passed_over_and_its_hard_match_is_not(prm: Service) -> None:
    phone, customer = "+55 53 3222 4455", key()
    sellers = [seller(prm, f"Seller {n}") for n in range(3)]
    shared = {"phone": phone, "country": "BR"}
    prm.desk.accepted(*(registration(sellers[n % 3], {"name": a_name(), **shared}) for n in range(likeness.CROWD + 1)))
    first = registered(prm, sellers[0], {**shared, **customer})
    prm.settle()
    second = registered(prm, sellers[1], {**shared, **customer})
    prm.settle()
    matches = content(prm, second, "lead.screened")["matches"]
    assert [(match["lead_id"], match["strength"]) for match in matches] == [(str(first), "hard")]


# What else is compared


def opened(prm: Service, by: UUID, customer: dict[str, Any]) -> UUID:
    action = {"text": "Call the buyer", "due_on": today(1)}
    data = {"partner_id": str(by), "name": "Scales", "customer": customer, "deal_type": "new", "next_action": action}
    sent = command("opportunity.open", None, {**data, "products": [{"line": "scales"}]})
    prm.desk.accepted(sent)
    return sent.subject


def test_an_open_opportunity_and_then_the_customer_won_hold_up_a_rivals_lead(prm: Service) -> None:
    customer = {"name": a_name(), **key()}
    acme = seller(prm, "Acme")
    deal = opened(prm, acme, customer)
    one = registered(prm, seller(prm, "Beta"), customer)
    own = registered(prm, acme, customer, product_lines=["sensors"])
    prm.settle()
    (match,) = content(prm, one, "lead.screened")["matches"]
    assert (match["lead_id"], match["kind"], match["strength"]) == (str(deal), "opportunity", "hard")
    assert content(prm, own, "lead.screened")["clear"] is True
    assert refusal(prm.desk.one(command("lead.approve", one)))[0] == "lead.in_conflict"
    won = {"final_amount": {"amount": "9", "currency": "BRL"}, "order_reference": "1", "closed_on": today()}
    prm.desk.accepted(command("opportunity.win", deal, won))
    two = registered(prm, seller(prm, "Gama"), customer)
    prm.settle()
    kinds = {match["lead_id"]: match["kind"] for match in content(prm, two, "lead.screened")["matches"]}
    assert kinds == {str(deal): "customer", str(one): "lead"}
    decided = {"other_lead": str(deal), "outcome": "not_a_conflict"}
    prm.desk.accepted(command("lead.resolve_match", one, decided), command("lead.approve", one))


def test_a_lost_opportunity_is_in_nobodys_way_and_its_conflict_is_past(prm: Service) -> None:
    customer = {"name": a_name(), **key()}
    deal = opened(prm, seller(prm, "Acme"), customer)
    one = registered(prm, seller(prm, "Beta"), customer)
    prm.settle()
    prm.desk.accepted(command("opportunity.lose", deal, {"reason": "price"}))
    prm.desk.accepted(command("lead.approve", one))
    prm.settle()
    (row,) = prm.view("SELECT * FROM lead_conflicts WHERE second_lead_id = %s", (one,))
    assert (row["first_kind"], row["status"], row["ended_because"]) == ("opportunity", "past", "lost")


def test_a_converted_lead_and_its_opportunity_are_told_once_and_the_opportunity_stays_when_protection_ends(
    prm: Service,
) -> None:
    customer = {"name": a_name(), **key()}
    first = registered(prm, seller(prm, "Acme"), customer)
    prm.settle()
    action = {"text": "Call the buyer", "due_on": today(1)}
    prm.desk.accepted(
        command("lead.approve", first), command("lead.convert", first, {"name": "Scales", "next_action": action})
    )
    second = registered(prm, seller(prm, "Beta"), customer)
    prm.settle()
    (match,) = content(prm, second, "lead.screened")["matches"]
    assert match["lead_id"] == str(first)
    prm.desk.accepted(command("lead.revoke", first, {"reason": "no use of it"}))
    prm.settle()
    (match,) = content(prm, second, "lead.screened")["matches"]
    assert (match["kind"], match["other_first"]) == ("opportunity", True)


def test_a_named_account_comes_before_every_lead_until_the_policy_drops_it(prm: Service) -> None:
    name = a_name()
    early = registered(prm, seller(prm, "Acme"), {"name": f"{name} S.A.", "city": "Pelotas"})
    prm.settle()
    put_in_force(prm, named_accounts=[{"id": "a1", "name": f"{name} SA", "city": "Pelotas", "country": "BR"}])
    late = registered(prm, seller(prm, "Beta"), {"name": f"{name} Ltda.", "city": "Pelotas"}, product_lines=["sensors"])
    prm.settle()
    for one in (early, late):
        (match,) = content(prm, one, "lead.screened")["matches"]
        assert (match["kind"], match["other_first"]) == ("named_account", True)
        assert refusal(prm.desk.one(command("lead.approve", one)))[0] == "lead.in_conflict"
    put_in_force(prm, named_accounts=[])
    prm.desk.accepted(command("lead.approve", early))
    prm.settle()
    found = prm.view("SELECT status, ended_because FROM lead_conflicts WHERE first_kind = 'named_account'")
    assert found == [{"status": "past", "ended_because": "dropped"}] * 2
    prm.desk.accepted(command("lead.approve", late))


# Individuals


def test_the_same_individual_is_found_by_a_digest_and_by_nothing_once_it_is_forgotten(prm: Service) -> None:
    customer = {"name": "Maria Dorotéia Quadros", "tax_ids": [{"country": "BR", "value": "52998224725"}]}
    first = registered(prm, seller(prm, "Acme"), customer)
    second = registered(prm, seller(prm, "Beta"), customer)
    prm.settle()
    (match,) = content(prm, second, "lead.screened")["matches"]
    assert (match["strength"], match["matched_keys"]) == ("probable", ["person"])
    (row,) = prm.view("SELECT * FROM lead_conflicts WHERE second_lead_id = %s", (second,))
    assert (row["status"], row["customer"]) == ("open", "Maria Dorotéia Quadros")
    schema = schema_of(prm.settings, "conflicts", live(prm.settings, conflicts.MODEL))
    held = rows(prm.settings, f"SELECT * FROM {schema}.lead WHERE lead_id = ANY(%s)", ([first, second],))
    assert "quadros" not in str(held).lower()
    assert isinstance(forget(prm.settings, "BR:52998224725", "request", MANAGER), NotDone)
    done = forget(prm.settings, "BR:52998224725", "request", ADMIN)
    assert isinstance(done, Done)
    assert done.values > 0
    prm.settle()
    assert content(prm, second, "lead.screened")["clear"] is True
    (row,) = prm.view("SELECT * FROM lead_conflicts WHERE second_lead_id = %s", (second,))
    assert (row["status"], row["ended_because"], row["customer"]) == ("past", "forgotten", None)
    assert not rows(prm.settings, f"SELECT * FROM {schema}.lead_key WHERE lead_id = ANY(%s)", ([first, second],))
    assert forget(prm.settings, "BR:52998224725", "request", ADMIN) == Done(done.person_id, None)
    prm.desk.accepted(command("lead.approve", second))


# Is it free, by its spelling?


def free(prm: Service, actor: Actor, **spelling: Any) -> Answer:
    with closing(Spellings(prm.settings)) as spellings:
        found = ask(prm.desk.store, question_of((), (), LINES, **spelling), actor, spellings)
    assert isinstance(found, Answer)
    return found


def test_availability_is_answered_for_another_spelling_and_says_nothing_of_the_rival(prm: Service) -> None:
    name, acme, beta = a_name(), seller(prm, "Acme"), seller(prm, "Beta")
    one = registered(prm, acme, {"name": f"{name} Comércio de Tintas Ltda", "city": "Pelotas"})
    prm.settle()
    rival, own = (Actor("bia", Role.PARTNER_REP, str(it)) for it in (beta, acme))
    spelled = {"name": f"tintas {name.lower()} com.", "city": "Pelotas"}
    assert free(prm, rival, **spelled) == Answer("under_review", match="probable")
    assert free(prm, own, **spelled) == Answer("under_review", yours=True, match="probable")
    assert free(prm, rival, name=a_name(), city="Pelotas") == Answer("free")
    prm.desk.accepted(command("lead.approve", one))
    prm.settle()
    told = free(prm, rival, **spelled)
    assert (told.answer, told.yours, told.holders, told.match) == ("protected", False, (), "probable")
    assert told.until == datetime.fromisoformat(content(prm, one, "lead.approved")["protected_until"])
    (holder,) = free(prm, MANAGER, **spelled).holders
    assert (holder.partner_id, holder.lead_id) == (acme, one)
    logged = rows(prm.settings, "SELECT customer_keys FROM availability_questions WHERE actor_org = %s", (str(beta),))
    assert {row["customer_keys"][0].partition(":")[0] for row in logged} == {"spelling"}
    assert name.lower() not in str(logged).lower()


# Of a pair


def test_no_common_product_line_or_the_same_partner_is_no_conflict(prm: Service) -> None:
    acme, customer = seller(prm), key()
    registered(prm, acme, customer)
    other = registered(prm, acme, customer, product_lines=["sensors"])
    rival = registered(prm, seller(prm, "Beta"), customer, product_lines=["sensors"])
    prm.settle()
    found = prm.view("SELECT first_lead_id, second_lead_id FROM lead_conflicts WHERE second_lead_id = %s", (rival,))
    assert [row["first_lead_id"] for row in found] == [other]


def test_a_resubmission_with_other_identifiers_ends_the_old_match_and_finds_the_new_one(prm: Service) -> None:
    theirs, other = key(), key()
    first = registered(prm, seller(prm, "Acme"), theirs)
    third = registered(prm, seller(prm, "Gama"), other)
    beta = seller(prm, "Beta")
    second = registered(prm, beta, theirs)
    prm.settle()
    prm.desk.accepted(command("lead.request_information", second, {"note": "Which company is it?"}))
    rep = Actor("bia", Role.PARTNER_REP, str(beta))
    changed = {"customer": {"name": a_name(), "country": "BR", **other}}
    prm.desk.accepted(command("lead.resubmit", second, changed, rep))
    prm.settle()
    (match,) = content(prm, second, "lead.screened")["matches"]
    assert match["lead_id"] == str(third)
    found = prm.view(
        "SELECT first_lead_id, status, ended_because FROM lead_conflicts WHERE second_lead_id = %s", (second,)
    )
    assert {(row["first_lead_id"], row["status"], row["ended_because"]) for row in found} == {
        (first, "past", "changed"),
        (third, "open", None),
    }


def test_the_later_lead_is_screened_again_when_the_earlier_one_is_not_about_its_customer_any_more(prm: Service) -> None:
    customer = {"name": a_name(), "domains": [f"{uuid4().hex}.com"]}
    acme = seller(prm, "Acme")
    first = registered(prm, acme, customer)
    second = registered(prm, seller(prm, "Beta"), customer)
    prm.settle()
    prm.desk.accepted(command("lead.approve", first))
    corrected = {"customer": {"name": a_name(), "country": "BR", **key()}, "reason": "a wrong company"}
    prm.desk.accepted(command("lead.correct", first, corrected))
    prm.settle()
    assert content(prm, second, "lead.screened")["clear"] is True
    prm.desk.accepted(command("lead.approve", second))


def test_two_leads_of_one_commit_find_each_other(prm: Service) -> None:
    customer = key()
    sent = [registration(seller(prm, name), customer) for name in ("Acme", "Beta")]
    prm.desk.accepted(*sent)
    prm.settle()
    (row,) = prm.view("SELECT * FROM lead_conflicts WHERE second_lead_id = %s", (sent[1].subject,))
    assert row["first_lead_id"] == sent[0].subject


def test_what_is_asked_again_is_answered_as_before_and_writes_nothing(prm: Service) -> None:
    one = registered(prm, seller(prm), key())
    for projector in prm.projectors.values():
        while projector.advance().events:
            pass
    (asked,) = [command for command in prm.asked if command.subject == one]
    first, second = prm.desk.ask(asked), prm.desk.ask(asked)
    assert first == second
    assert history(prm, one) == ["lead.registered", "lead.screened"]
    prm.asked.clear()


def test_nobody_else_can_use_the_ids_of_the_services_own_commands(prm: Service) -> None:
    stolen = replace(command("lead.screen", uuid4(), {"version": 1}), source="prm-es:conflicts")
    (answer,) = prm.desk.give(prm.desk.record(stolen))
    assert answer.dead


# Deadlines


def waited(prm: Service, one: UUID, kind: str) -> dict[str, Any]:
    """Settle until the event is there."""

    def look() -> bool:
        prm.settle()
        return kind in history(prm, one)

    until(look, kind, seconds=20)
    return content(prm, one, kind)


def test_a_protection_reminds_and_expires_by_itself_at_its_time(prm: Service) -> None:
    put_in_force(prm, lead={"protection": "PT3S", "reminders": ["PT2S", "PT1S"]})
    one = registered(prm, seller(prm), key())
    prm.settle()
    prm.desk.accepted(command("lead.approve", one))
    kinds = [row["kind"] for row in _due(prm, one)]
    assert kinds == ["lead.remind_protection", "lead.remind_protection", "lead.expire"]
    expired = waited(prm, one, "lead.protection_expired")
    assert expired["expired_at"] == content(prm, one, "lead.approved")["protected_until"]
    assert history(prm, one).count("lead.protection_expiring") == 2
    assert _due(prm, one) == []


def _due(prm: Service, one: UUID) -> list[dict[str, Any]]:
    prm.settle()
    return prm.view("SELECT * FROM deadlines WHERE aggregate_id = %s ORDER BY due_at", (one,))


def test_a_review_is_warned_of_at_half_its_time_and_then_breached(prm: Service) -> None:
    always = {"days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "opens": "00:00", "closes": "00:00"}
    put_in_force(prm, calendar=always, lead={"approve_within": "PT2S"})
    one = registered(prm, seller(prm), key())
    waited(prm, one, "lead.sla_breached")
    told = [kind for kind in history(prm, one) if "sla" in kind]
    assert told == ["lead.sla_warned", "lead.sla_breached"]


def test_an_offer_lapses_an_accepted_lead_is_asked_about_and_recalled_when_idle(prm: Service) -> None:
    put_in_force(prm, lead={"answer_within": "PT1S", "contact_within": "PT1S", "recall_after": "PT2S"})
    acme, beta = seller(prm, "Acme"), seller(prm, "Beta")
    sent = command("lead.capture", None, {"customer": {"name": a_name(), **key()}, "product_lines": LINES})
    one = sent.subject
    prm.desk.accepted(sent, command("lead.offer", one, {"partner_id": str(acme)}))
    assert waited(prm, one, "lead.offer_expired")["partner_id"] == str(acme)
    prm.desk.accepted(command("lead.offer", one, {"partner_id": str(beta)}))
    rep = Actor("bia", Role.PARTNER_REP, str(beta))
    action = {"text": "Call the buyer", "due_on": today(1)}
    prm.desk.accepted(command("lead.accept", one, {"next_action": action}, rep))
    recalled = waited(prm, one, "lead.recalled")
    assert recalled["due"] == content(prm, one, "lead.accepted")["recall_at"]
    assert "lead.contact_overdue" in history(prm, one)


def test_an_idle_opportunity_stalls_once(prm: Service) -> None:
    put_in_force(prm, opportunity={"stalled_after": "PT1S"})
    action = {"text": "Call the buyer", "due_on": today(3)}
    data = {"partner_id": str(seller(prm)), "name": "Scales", "customer": {"name": "Sul"}, "deal_type": "new"}
    sent = command("opportunity.open", None, {**data, "next_action": action})
    prm.desk.accepted(sent)
    waited(prm, sent.subject, "opportunity.stalled")
    prm.settle()
    assert history(prm, sent.subject).count("opportunity.stalled") == 1
    assert _due(prm, sent.subject) == []


def test_a_deadline_that_comes_early_by_the_deciding_clock_is_tried_again(prm: Service) -> None:
    one = registered(prm, seller(prm), key())
    prm.settle()
    prm.desk.accepted(command("lead.approve", one))
    until_text = content(prm, one, "lead.approved")["protected_until"]
    early = replace(command("lead.expire", one, {"due": until_text}), actor=Actor("prm-es:deadlines", Role.SYSTEM))
    assert refusal(prm.desk.one(early))[0] == "deadline.early"
    moved = datetime.fromisoformat(until_text) - timedelta(days=1)
    other = replace(command("lead.expire", one, {"due": utc_text(moved)}), actor=early.actor)
    assert prm.desk.one(other)["events"] == []


def imported(prm: Service, by: UUID) -> UUID:
    """Import a lead of two years ago that was approved and then forgotten."""
    sent = registration(by, key())
    one = sent.subject
    told = [
        replace(sent, actor=IMPORTER, time=PAST),
        command("lead.approve", one, {}, IMPORTER, time=PAST + timedelta(days=1)),
    ]
    prm.desk.accepted(*told)
    return one


def test_an_import_of_the_past_sends_no_reminders_and_its_expiry_is_dated_when_it_was_due(prm: Service) -> None:
    one = imported(prm, seller(prm))
    prm.settle()
    told = history(prm, one)
    assert "lead.protection_expired" in told
    assert not {"lead.protection_expiring", "lead.sla_warned", "lead.sla_breached"} & set(told)
    expired = content(prm, one, "lead.protection_expired")["expired_at"]
    assert expired == content(prm, one, "lead.approved")["protected_until"]
    assert expired.startswith("2024-06-03")


def test_what_was_over_when_it_was_set_waits_until_the_import_has_fallen_quiet(prm: Service) -> None:
    one = imported(prm, seller(prm))
    prm.settle(late_too=False)
    assert "lead.protection_expired" not in history(prm, one)
    (row,) = _late(prm, one)
    assert (row["kind"], row["overdue"], row["over_when_set"]) == ("lead.expire", True, True)


def _late(prm: Service, one: UUID) -> list[dict[str, Any]]:
    return prm.view("SELECT * FROM deadlines WHERE aggregate_id = %s", (one,))


def test_screening_in_the_middle_of_an_import_ends_nothing_that_the_import_goes_on_with(prm: Service) -> None:
    acme = seller(prm)
    sent = command("lead.capture", None, {"customer": {"name": a_name(), **key()}, "product_lines": LINES}, IMPORTER)
    one, action = sent.subject, {"text": "Call the buyer", "due_on": "2024-03-20"}
    prm.desk.accepted(
        replace(sent, time=PAST),
        command("lead.offer", one, {"partner_id": str(acme)}, IMPORTER, time=PAST),
        command("lead.accept", one, {"next_action": action}, IMPORTER, time=PAST + timedelta(hours=2)),
    )
    prm.settle(late_too=False)
    assert history(prm, one)[-1] == "lead.screened"
    prm.desk.accepted(command("lead.convert", one, {"next_action": action}, IMPORTER, time=PAST + timedelta(days=2)))


def test_an_import_is_told_apart_from_what_happens_now(prm: Service) -> None:
    seller(prm)
    assert not prm.projectors["deadlines"].advance().imported
    imported(prm, seller(prm))
    assert prm.projectors["deadlines"].advance().imported


# Reactions


def test_terminating_a_partner_revokes_its_protections_and_recalls_what_it_was_offered(prm: Service) -> None:
    acme = seller(prm)
    protected, waiting = registered(prm, acme, key()), registered(prm, acme, key())
    capture = command("lead.capture", None, {"customer": {"name": a_name(), **key()}, "product_lines": LINES})
    prm.settle()
    prm.desk.accepted(
        command("lead.approve", protected), capture, command("lead.offer", capture.subject, {"partner_id": str(acme)})
    )
    (ended,) = prm.desk.accepted(command("partner.terminate", acme, {"reason": "fraud"}, ADMIN))
    answers = prm.settle()
    assert {answer["outcome"] for answer in answers} == {"accepted"}
    assert history(prm, protected)[-1] == "lead.protection_revoked"
    assert history(prm, capture.subject)[-1] == "lead.recalled"
    assert "lead.protection_revoked" not in history(prm, waiting)
    event = prm.desk.store.stream(protected)[-1]
    assert (event.actor.role, event.actor.on_behalf_of) == (Role.SYSTEM, "vera")
    position = ended["events"][-1]["position"]
    (decision,) = rows(
        prm.settings,
        "SELECT originator_id || '/' || originator_version AS id FROM events WHERE notification_id = %s",
        (position,),
    )
    assert content(prm, protected, "lead.protection_revoked")["deciding_event"] == decision["id"]
