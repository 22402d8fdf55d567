"""Is this customer free? True at once, nothing about rivals for partners, counted exactly, and logged for ever."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from prm_es.aggregates import availability as rules
from prm_es.aggregates import policy
from prm_es.aggregates.availability import Answer, Holder, Question
from prm_es.aggregates.base import Claim, LiveRegistration, Refused
from prm_es.aggregates.permissions import ASK_AVAILABILITY
from prm_es.aggregates.policy import Policy
from prm_es.availability import as_json, ask, in_words, question_of
from prm_es.errors import Usage
from prm_es.messages import Actor, Role, utc_text
from prm_es.policies import Loaded, load_policy
from prm_es.settings import Settings
from prm_es.store.store import Store
from tests.support import ADMIN, MANAGER, Desk, command, rows
from tests.test_cli import environment, in_process
from tests.test_leads import registered, registration, screened, seller

TAX_ID = "BR:11222333000181"
CPF = "52998224725"
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=90)
SOON = NOW + timedelta(days=1)
MINE, THEIRS, THIRD = UUID(int=1), UUID(int=2), UUID(int=3)
ASKER = Actor("bia", Role.PARTNER_REP, str(MINE))
WANTED = Question(customer_ids=("C-1",), product_lines=("scales",))


# The rule


def claim(partner: UUID, *lines: str, until: datetime = LATER, group: UUID | None = None) -> Claim:
    lead = uuid4()
    return Claim("id:C-1", frozenset(lines), group or lead, lead, partner, NOW - timedelta(days=1), until)


def live(partner: UUID, *lines: str, lead: UUID | None = None, origin: str = "registered") -> LiveRegistration:
    return LiveRegistration(lead or uuid4(), partner, origin, frozenset({"id:C-1"}), frozenset(lines))


def answered(*held: Claim | LiveRegistration, actor: Actor = ASKER, wanted: Question = WANTED) -> Answer:
    claims = [one for one in held if isinstance(one, Claim)]
    registrations = [one for one in held if isinstance(one, LiveRegistration)]
    return rules.answer(wanted, actor, NOW, claims, registrations)


SPLIT = uuid4()


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ((), Answer("free")),
        ((claim(THEIRS, "scales"),), Answer("protected", False, LATER)),
        ((claim(THEIRS),), Answer("protected", False, LATER)),
        ((claim(THEIRS, "pos"),), Answer("free")),
        ((claim(THEIRS, "scales", until=NOW),), Answer("free")),
        ((claim(MINE, "scales"),), Answer("protected", True, LATER)),
        ((claim(MINE, until=LATER), claim(THEIRS, until=SOON)), Answer("protected", False, SOON)),
        ((claim(MINE, group=SPLIT), claim(THEIRS, group=SPLIT)), Answer("protected", True, LATER)),
        ((live(THEIRS, "scales"),), Answer("under_review", False)),
        ((live(THEIRS, "pos"),), Answer("free")),
        ((live(THEIRS, origin="captured"),), Answer("free")),
        ((live(MINE, "scales"), live(THEIRS, "scales")), Answer("under_review", True)),
        ((live(THEIRS), claim(MINE)), Answer("protected", True, LATER)),
    ],
)  # fmt: skip
def test_the_strongest_answer_is_given(held: tuple[Claim | LiveRegistration, ...], expected: Answer) -> None:
    assert answered(*held) == expected
    assert answered(*reversed(held)) == expected


def test_a_decided_registration_is_not_under_review_even_when_its_protection_has_run_out() -> None:
    ended = claim(THEIRS, "scales", until=NOW)
    assert answered(ended, live(THEIRS, "scales", lead=ended.lead_id)) == Answer("free")


def test_a_question_without_lines_means_all() -> None:
    anything = Question(customer_ids=("C-1",))
    assert answered(claim(THEIRS, "pos"), wanted=anything).answer == "protected"


def test_the_vendor_is_told_who_holds_it_and_nothing_is_its_own() -> None:
    one, two = claim(THEIRS, "scales"), claim(MINE, "scales")
    found = answered(one, two, actor=MANAGER)
    holders = {Holder(held.partner_id, held.lead_id, held.until) for held in (one, two)}
    assert (found.answer, found.yours, set(found.holders)) == ("protected", False, holders)
    (holder,) = answered(live(THIRD), actor=MANAGER).holders
    assert (holder.partner_id, holder.until) == (THIRD, None)


@pytest.mark.parametrize(
    ("tax_ids", "customer_ids", "lines", "named"),
    [
        (["11222333000181"], [], [], "--tax-id: write COUNTRY:NUMBER"),
        (["BR:11222333000182"], [], [], "--tax-id: not a valid tax id of this country"),
        (["XX:11222333000181"], [], [], "--tax-id: not an ISO 3166 country code"),
        ([f"BR:{CPF}"], [], [], "--tax-id: availability cannot be asked for by an individual's tax id"),
        ([], [], [], "--tax-id, --customer-id or --name: name the customer"),
        ([], [" "], [], "--customer-id: "),
        ([], ["C-1"], [""], "--product-line: "),
    ],
)
def test_a_mistake_names_its_flag_and_repeats_no_value(
    tax_ids: list[str], customer_ids: list[str], lines: list[str], named: str
) -> None:
    with pytest.raises(Usage) as caught:
        question_of(tax_ids, customer_ids, lines)
    assert str(caught.value).startswith(named)
    assert CPF not in str(caught.value)


def test_the_key_is_the_one_that_leads_have() -> None:
    asked = question_of(["br:11.222.333/0001-81"], ["C-1"], [])
    assert asked.keys("root") == {"tax:BR:cnpj:11222333", "id:C-1"}
    assert asked.keys("establishment") == {"tax:BR:cnpj:11222333000181", "id:C-1"}


# Through the store


@pytest.fixture
def desk(migrated: Settings) -> Iterator[Desk]:
    with Store(migrated) as store:
        yield Desk(store, topic=str(uuid4()))


def rep(partner: UUID) -> Actor:
    return Actor("bia", Role.PARTNER_REP, str(partner))


def asked(desk: Desk, customer: str, actor: Actor, *lines: str) -> Answer:
    found = ask(desk.store, question_of((), (customer,), lines), actor)
    assert isinstance(found, Answer), found
    return found


def refused(desk: Desk, actor: Actor, *lines: str) -> str:
    found = ask(desk.store, question_of((), ("C-9",), lines), actor)
    assert isinstance(found, Refused)
    return found.code


def questions(settings: Settings, actor_org: object) -> list[dict[str, Any]]:
    query = "SELECT * FROM availability_questions WHERE actor_org = %s ORDER BY number"
    return rows(settings, query, (str(actor_org),))


def load(store: Store, **changes: Any) -> None:
    known = rows_of_policies(store)
    document = policy.default().model_dump(mode="json")
    document["lead"] |= changes.pop("lead", {})
    given = Policy.model_validate(
        {**document, **changes, "version": known + 1, "effective_from": datetime(2026, 1, 1, tzinfo=UTC)}
    )
    assert isinstance(load_policy(store, given, ADMIN), Loaded)


def rows_of_policies(store: Store) -> int:
    return len(store.stream(policy.STREAM))


def test_the_answer_follows_the_lead_from_its_registration_on(desk: Desk) -> None:
    mine, rival = seller(desk), seller(desk, "Beta Ltda")
    customer = str(uuid4())
    assert asked(desk, customer, rep(mine)) == Answer("free")
    lead = registered(desk, mine, customer)
    assert asked(desk, customer, rep(mine), "scales") == Answer("under_review", yours=True)
    assert asked(desk, customer, rep(rival), "scales") == Answer("under_review")
    assert asked(desk, customer, rep(rival), "pos") == Answer("free")
    desk.accepted(command("lead.approve", lead))
    mine_now, rival_now, vendor = (asked(desk, customer, actor) for actor in (rep(mine), rep(rival), MANAGER))
    assert (mine_now.answer, mine_now.yours, rival_now.yours) == ("protected", True, False)
    assert rival_now == replace(mine_now, yours=False)
    assert [(one.partner_id, one.lead_id) for one in vendor.holders] == [(mine, lead)]
    desk.accepted(command("lead.revoke", lead, {"reason": "customer_request"}))
    assert asked(desk, customer, rep(rival)) == Answer("free")


def test_a_customer_is_found_by_its_tax_id(desk: Desk) -> None:
    mine, rival = seller(desk), seller(desk, "Beta Ltda")
    ids = [{"country": "BR", "value": "11.222.333/0001-81"}]
    sent = registration(mine, "x", customer={"name": "Lojas Sul", "tax_ids": ids, "country": "BR"})
    desk.accepted(sent)
    screened(desk, sent.subject)
    found = ask(desk.store, question_of(["BR:11222333000262", TAX_ID], (), ()), rep(rival))
    assert found == Answer("under_review")


def test_a_partner_learns_nothing_of_its_rivals(desk: Desk, migrated: Settings) -> None:
    mine, rivals = seller(desk), [seller(desk, f"Rival {n} Ltda") for n in range(2)]
    customer, free_for_one = str(uuid4()), str(uuid4())
    said: dict[str, list[str]] = {}
    for count, rival in enumerate(rivals):  # one registration, then two, must read the same
        lead = registered(desk, rival, customer)
        held = registered(desk, rival, free_for_one)
        if not count:
            desk.accepted(command("lead.approve", held))
        for name in (customer, free_for_one):
            for form in ("words", "json"):
                ran = in_process(
                    environment(migrated), "available", "--customer-id", name,
                    "--as", f"bia:partner_rep:{mine}", "--format", form,
                )  # fmt: skip
                assert ran.code == 0, ran.err
                said.setdefault(f"{name} {form}", []).append(ran.out)
                assert not ran.err
                for secret in (*map(str, rivals), str(lead), str(held), "Rival"):
                    assert secret not in ran.out
    assert all(first == second for first, second in said.values()), said
    assert set(json.loads(said[f"{free_for_one} json"][0])) == {"answer", "yours", "until"}


def test_each_question_is_logged_with_who_asked_and_what_was_answered(desk: Desk, migrated: Settings) -> None:
    mine = seller(desk)
    customer = str(uuid4())
    lead = registered(desk, mine, customer)
    desk.accepted(command("lead.approve", lead))
    (before,) = rows(migrated, "SELECT clock_timestamp() AS at")
    found = ask(desk.store, question_of([TAX_ID], (customer,), ("scales",)), rep(mine))
    (row,) = questions(migrated, mine)
    (after,) = rows(migrated, "SELECT clock_timestamp() AS at")
    assert before["at"] <= row["asked_at"] <= after["at"]
    assert isinstance(found, Answer)
    assert {name: row[name] for name in ("actor", "actor_role", "answer", "yours", "until", "code")} == {
        "actor": "bia", "actor_role": "partner_rep", "answer": "protected", "yours": True, "until": found.until,
        "code": None,
    }  # fmt: skip
    assert (row["customer_keys"], row["product_lines"]) == ([f"id:{customer}", "tax:BR:cnpj:11222333"], ["scales"])


def test_who_may_not_ask_is_refused_and_logged(desk: Desk, migrated: Settings) -> None:
    suspended, active = seller(desk), seller(desk)
    desk.accepted(command("partner.suspend", suspended, {"reason": "unpaid"}))
    unknown = uuid4()
    for role in Role:
        if role not in ASK_AVAILABILITY:
            assert refused(desk, Actor("x", role)) == "actor.forbidden"
    assert refused(desk, rep(suspended)) == "partner.not_active"
    assert refused(desk, rep(unknown)) == "partner.not_active"
    assert [row["code"] for row in questions(migrated, suspended)] == ["partner.not_active"]
    assert [row["answer"] for row in questions(migrated, unknown)] == ["refused"]
    assert asked(desk, "C-9", Actor("vera", Role.SELLER)).answer == "free"
    load(desk.store, product_lines=["scales"], require_registered_users=True)
    assert refused(desk, rep(active), "pos") == "command.invalid"
    desk.accepted(command("partner.invite_user", active, {"user_id": "ana", "role": "partner_rep", "name": "Ana"}))
    assert refused(desk, rep(active)) == "actor.unknown_user"
    assert asked(desk, "C-9", replace(rep(active), id="ana"), "scales").answer == "free"
    load(desk.store)


def test_the_cap_holds_for_questions_asked_at_once(desk: Desk, migrated: Settings) -> None:
    load(desk.store, lead={"availability_questions_per_day": 7})
    mine, other = seller(desk), seller(desk)
    gate = threading.Barrier(8)

    def hammer() -> None:
        with Store(migrated) as store:
            gate.wait()
            for _ in range(3):
                ask(store, question_of((), ("C-1",), ()), rep(mine))

    threads = [threading.Thread(target=hammer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    logged = questions(migrated, mine)
    assert [row["answer"] for row in logged].count("free") == 7
    assert [row["code"] for row in logged].count("availability.cap_reached") == 17
    assert asked(desk, "C-1", rep(other)).answer == "free"
    for _ in range(9):
        assert asked(desk, "C-1", MANAGER).answer == "free"
    load(desk.store)


def test_yesterdays_questions_do_not_count_and_the_day_is_that_of_the_policys_zone(
    desk: Desk, migrated: Settings
) -> None:
    zone = "Pacific/Kiritimati"  # UTC+14
    load(desk.store, zone=zone, lead={"availability_questions_per_day": 1})
    mine = seller(desk)
    there = policy.default().model_copy(update={"zone": zone})
    midnight = there.start_of(there.date_of(datetime.now(UTC)))
    insert = (
        "INSERT INTO availability_questions (asked_at, actor, actor_role, actor_org, customer_keys, product_lines,"
        " policy_version, answer, yours) VALUES (%s, 'bia', 'partner_rep', %s, '{}', '{}', 0, 'free', false)"
        " RETURNING 1"
    )
    rows(migrated, insert, (midnight - timedelta(seconds=1), str(mine)))
    assert asked(desk, "C-1", rep(mine)).answer == "free"
    assert refused(desk, rep(mine)) == "availability.cap_reached"
    load(desk.store)


def test_the_writer_cannot_choose_when_a_question_was_asked(migrated: Settings) -> None:
    with (
        psycopg.connect(migrated.dsn("writer")) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("INSERT INTO availability_questions (asked_at) VALUES (now())")


def test_the_words_and_the_exit_code_of_the_command_line(desk: Desk, migrated: Settings) -> None:
    def prm(*arguments: str) -> Any:
        return in_process(environment(migrated), "available", *arguments)

    assert prm("--tax-id", TAX_ID.replace("81", "82"), "--as", "ana:seller").code == 2
    forbidden = prm("--customer-id", "C-7", "--as", "otto:auditor")
    assert (forbidden.code, "actor.forbidden" in forbidden.out) == (1, True)
    vendor = prm("--customer-id", "C-7", "--as", "ana:seller")
    assert (vendor.code, vendor.out) == (0, "free\n")
    until = datetime(2026, 9, 1, tzinfo=UTC)
    assert list(in_words(Answer("protected", True, until))) == [f"protected for you until {utc_text(until)}"]
    assert list(in_words(Answer("protected", False, until))) == [f"protected until {utc_text(until)}"]
    assert list(in_words(Answer("under_review", True))) == ["under review: your own registration is not decided yet"]
    assert as_json(Refused("availability.cap_reached", "no more"))["code"] == "availability.cap_reached"
