"""Bad input and good: every record gets exactly one outcome, and none of them stops the handler."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from prm_es import dispatch as dispatching
from prm_es.aggregates import catalogue, policy
from prm_es.aggregates.partner import Partner
from prm_es.dispatch import MAX_DATA, Answer, Record
from prm_es.errors import TooOld
from prm_es.messages import Actor, Envelope, Role, structured_command, utc_text
from prm_es.settings import Settings
from prm_es.store.store import NewEvent, Store, Writes
from prm_es.store.vault import open_bytes
from tests.support import (
    ADMIN,
    IMPORTER,
    MANAGER,
    PROBLEM,
    STRUCTURED,
    Desk,
    changed,
    check_log,
    command,
    dead_letters,
    opening,
    outcome,
    partner,
    refusal,
    rows,
    today,
)

CNPJ, CNPJ_TOO, CPF = "11.222.333/0001-81", "11.444.777/0001-61", "529.982.247-25"
NOBODY = UUID(int=7)


@pytest.fixture(scope="module")
def store(migrated: Settings) -> Iterator[Store]:
    with Store(migrated) as opened:
        yield opened


@pytest.fixture(scope="module")
def module_desk(store: Store) -> Desk:
    return Desk(store)


@pytest.fixture
def desk(module_desk: Desk, migrated: Settings) -> Iterator[Desk]:
    yield module_desk
    check_log(migrated)


@pytest.fixture
def acme(desk: Desk) -> UUID:
    return desk.active_partner()


def partner_admin(partner_id: UUID) -> Actor:
    return Actor("paula", Role.PARTNER_ADMIN, str(partner_id))


# What a handler remembers between its batches


def test_a_handler_sees_what_another_one_decided_since_its_last_batch(desk: Desk, acme: UUID, store: Store) -> None:
    desk.accepted(sent := opening(acme))
    other = Desk(store, topic="prm.commands.other")
    other.accepted(command("opportunity.change_details", sent.subject, {"name": "Stock takes"}))
    answer = desk.one(command("opportunity.change_details", sent.subject, {"name": "Stocks"}, expected_version=2))
    assert (answer["outcome"], answer["version"]) == ("accepted", 3)


def test_what_another_one_decided_is_seen_though_a_batch_about_something_else_came_between(
    desk: Desk, acme: UUID, store: Store
) -> None:
    desk.accepted(sent := opening(acme))
    other = Desk(store, topic="prm.commands.other")
    other.accepted(command("opportunity.change_details", sent.subject, {"name": "Stock takes"}))
    desk.accepted(opening(acme))
    answer = desk.one(command("opportunity.change_details", sent.subject, {"name": "Stocks"}, expected_version=2))
    assert (answer["outcome"], answer["version"]) == ("accepted", 3)


def test_nothing_is_remembered_of_a_batch_that_was_rolled_back(desk: Desk, acme: UUID, migrated: Settings) -> None:
    sent = opening(acme)
    with patch("prm_es.store.store.chain_digest", side_effect=OSError("torn")), pytest.raises(OSError, match="torn"):
        desk.one(sent)
    assert desk.one(sent)["version"] == 1
    assert len(rows(migrated, "SELECT 1 FROM events WHERE originator_id = %s", [sent.subject])) == 1


def test_what_was_remembered_of_another_history_is_forgotten(desk: Desk, acme: UUID, store: Store) -> None:
    memory = desk.memory
    desk.one(command("partner.change_tier", acme, {"tier": "gold", "reason": "sold much"}))
    with store.batch() as batch:
        memory.begin(batch)
        assert memory.version(acme) > 0
    with store.batch() as batch:
        batch.head = replace(batch.head, digest=b"another history")
        memory.begin(batch)
    with store.batch() as batch:
        memory.begin(batch)
        assert memory.version(acme) == 0


# What is accepted


def test_an_accepted_command_is_answered_with_its_events(desk: Desk, acme: UUID, migrated: Settings) -> None:
    sent = opening(acme)
    answer = desk.one(sent)
    (stored,) = rows(migrated, "SELECT * FROM events WHERE originator_id = %s", [sent.subject])
    assert answer == {
        "outcome": "accepted",
        "source": "tests",
        "id": sent.id,
        "type": "prm.opportunity.open",
        "subject": str(sent.subject),
        "version": 1,
        "events": [
            {
                "type": "prm.opportunity.opened.v1",
                "subject": str(sent.subject),
                "position": stored["notification_id"],
                "version": 1,
            }
        ],
        "recorded_at": answer["recorded_at"],
    }
    (row,) = rows(migrated, "SELECT * FROM commands WHERE id = %s", [sent.id])
    assert json.loads(row["response"]) == answer
    assert (row["outcome"], row["actor"], row["actor_role"]) == ("accepted", "carla", "channel_manager")
    assert row["first_position"] == row["last_position"] == stored["notification_id"]
    assert utc_text(row["recorded_at"]) == answer["recorded_at"]


def test_a_command_that_changes_nothing_is_accepted_without_events(desk: Desk, acme: UUID) -> None:
    tiers = [command("partner.change_tier", acme, {"tier": "gold", "reason": "sold much"}) for _ in range(2)]
    first, second = desk.accepted(*tiers)
    assert (len(first["events"]), second["events"]) == (1, [])
    assert first["version"] == second["version"] == 2


def test_commands_of_one_batch_build_on_one_another(desk: Desk) -> None:
    acme = partner()
    deal = opening(acme.subject)
    lost = command("opportunity.lose", deal.subject, {"reason": "price"})
    again = command("opportunity.lose", deal.subject, {"reason": "price"})
    *accepted, late = desk.ask(acme, deal, lost, again)
    assert [answer["outcome"] for answer in accepted] == ["accepted"] * 3
    assert refusal(late) == ("state.not_allowed", [])


# Dead letters


def attributes(**changes: Any) -> bytes:
    return json.dumps({**structured_command(partner()), **changes}).encode()


UNREADABLE: Mapping[str, tuple[str, Any, bytes | None]] = {
    "no value": ("message.empty", STRUCTURED, None),
    "bytes": ("message.not_json", STRUCTURED, b"\xff\x00\xfe"),
    "empty": ("message.not_json", STRUCTURED, b""),
    "text": ("message.not_cloudevent", (("content-type", b"text/plain"),), b"hello"),
    "array": ("message.not_object", STRUCTURED, b"[]"),
    "cut short": ("message.not_json", STRUCTURED, attributes()[:-9]),
    "NaN": ("message.not_json", STRUCTURED, attributes().replace(b'"Acme Ltda"', b"NaN")),
    "Infinity": ("message.not_json", STRUCTURED, attributes().replace(b'"Acme Ltda"', b"-Infinity")),
    "1e999": ("message.not_json", STRUCTURED, attributes().replace(b'"Acme Ltda"', b"1e999")),
    "lone surrogate": ("message.not_json", STRUCTURED, attributes().replace(b"Acme", b"\\ud83d")),
    "surrogate bytes": ("message.not_json", STRUCTURED, attributes().replace(b"Acme", b"\xed\xa0\x80")),
    "deep": ("message.too_deep", STRUCTURED, attributes().replace(b'"Acme Ltda"', b"[" * 600 + b"]" * 600)),
    "very deep": ("message.not_json", STRUCTURED, attributes().replace(b'"Acme Ltda"', b"[" * 9000 + b"]" * 9000)),
    "no subject": ("message.subject", STRUCTURED, attributes(subject=None)),
    "NUL in the id": ("message.id", STRUCTURED, attributes(id="a\x00")),
    "data is a text": ("message.not_object", STRUCTURED, attributes(data="hello")),
    "data is a list": ("message.not_object", STRUCTURED, attributes(data=[])),
    "unknown type": ("command.unknown_type", STRUCTURED, attributes(type="prm.partner.explode")),
    "unknown aggregate": ("command.unknown_type", STRUCTURED, attributes(type="prm.unicorn.open")),
    "an event's type": ("command.unknown_type", STRUCTURED, attributes(type="prm.partner.imported.v1")),
    "a strange type": ("command.unknown_type", STRUCTURED, attributes(type="\n'; DROP TABLE events; --")),
    "binary, not JSON": ("message.not_json", [], b"{"),
    "binary, not UTF-8": ("message.not_utf8", [("ce_actor", b"\xff")], b"{}"),
}


def headed(desk: Desk, headers: Any, value: bytes | None) -> Record:
    if headers is STRUCTURED or ("content-type", b"text/plain") in headers:
        return desk.raw(value, headers)
    return replace(desk.record(partner()), value=value, headers=[*desk.record(partner()).headers, *headers])


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_cannot_be_read_becomes_a_dead_letter_with_the_reason(desk: Desk, migrated: Settings, case: str) -> None:
    code, headers, value = UNREADABLE[case]
    record = headed(desk, headers, value)
    before = len(dead_letters(migrated))
    (answer,) = desk.give(record)
    assert answer.dead
    assert outcome(answer)["code"] == code
    sent = dict(answer.headers)
    assert (sent["prm_topic"], sent["prm_partition"], sent["prm_offset"], sent["prm_code"]) == (
        record.topic.encode(), b"0", str(record.offset).encode(), code.encode(),
    )  # fmt: skip
    row = dead_letters(migrated)[-1]
    assert len(dead_letters(migrated)) == before + 1
    assert (row["topic"], row["partition"], row["record_offset"], row["code"]) == (
        record.topic, 0, record.offset, code,
    )  # fmt: skip


def test_a_dead_letter_keeps_the_original_bytes_and_headers_encrypted(desk: Desk, migrated: Settings) -> None:
    headers = (("content-type", b"\xffsecret-header"), ("nothing", None))
    desk.give(desk.raw(b"\xffsecret-value", headers))
    row = dead_letters(migrated)[-1]
    assert b"secret" not in row["sealed"]
    (key,) = rows(migrated, "SELECT key, kind FROM keys WHERE key_id = %s", [row["key_id"]])
    assert key["kind"] == "record"
    kept = json.loads(open_bytes(row["sealed"], row["key_id"], key["key"]))
    assert bytes.fromhex(kept["value"]) == b"\xffsecret-value"
    assert kept["headers"] == [["content-type", b"\xffsecret-header".hex()], ["nothing", None]]


def test_a_dead_letter_that_comes_again_stays_one_row_with_the_same_answer(desk: Desk, migrated: Settings) -> None:
    record = desk.raw(b"junk")
    (first,) = desk.give(record)
    count = len(dead_letters(migrated))
    assert desk.give(record) == [first]
    assert desk.give(record, record) == [first, first]
    assert len(dead_letters(migrated)) == count


def test_a_dead_letter_twice_in_one_batch_is_one_row(desk: Desk, migrated: Settings) -> None:
    record, count = desk.raw(b"junk"), len(dead_letters(migrated))
    first, second = desk.give(record, record)
    assert first == second
    assert len(dead_letters(migrated)) == count + 1


def test_other_bytes_at_the_same_place_are_another_dead_letter(desk: Desk, migrated: Settings) -> None:
    """A topic made anew starts its offsets again."""
    record, count = desk.raw(b"junk"), len(dead_letters(migrated))
    desk.give(record)
    desk.give(replace(record, value=b"other junk"))
    assert len(dead_letters(migrated)) == count + 2


# Fields


def money(amount: Any, currency: Any = "BRL") -> dict[str, Any]:
    return {"amount": {"amount": amount, "currency": currency}}


FIELDS: Mapping[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
    "missing": ({"partner_id": None}, [("partner_id", "missing")]),
    "extra": ({"colour": "red"}, [("colour", "extra_forbidden")]),
    "extra inside": ({"customer": {"name": "Sul", "age": 3}}, [("customer.age", "extra_forbidden")]),
    "wrong enum": ({"deal_type": "gift"}, [("deal_type", "literal_error")]),
    "no such stage": ({"stage": "nirvana"}, [("stage", "literal_error")]),
    "not a UUID": ({"partner_id": "acme"}, [("partner_id", "uuid_parsing")]),
    "negative money": (money("-0.01"), [("amount.amount", "greater_than_equal")]),
    "too many decimals": (money("1.001"), [("amount", "money_decimals")]),
    "decimals of a yen": (money("1.5", "JPY"), [("amount", "money_decimals")]),
    "money NaN": (money("NaN"), [("amount.amount", "finite_number")]),
    "money Infinity": (money("Infinity"), [("amount.amount", "finite_number")]),
    "money as words": (money("a lot"), [("amount.amount", "decimal_parsing")]),
    "money true": (money([]), [("amount.amount", "decimal_type")]),
    "money too large": (money("1" * 19), [("amount.amount", "decimal_max_digits")]),
    "money a huge number": (money(10**30), [("amount.amount", "decimal_max_digits")]),
    "money inexact": (money(0.1234567890123456789), [("amount.amount", "number_inexact")]),
    "money missing currency": ({"amount": {"amount": "1"}}, [("amount.currency", "missing")]),
    "money not an object": ({"amount": 5}, [("amount", "model_type")]),
    "unknown currency": (money("1", "XXQ"), [("amount.currency", "currency_unknown")]),
    "currency of the past": (money("1", "DEM"), [("amount.currency", "currency_unknown")]),
    "currency in small letters": (money("1", "brl"), [("amount.currency", "string_pattern_mismatch")]),
    "invalid tax id": (
        {"customer": {"name": "Sul", "tax_ids": [{"country": "BR", "value": "11.222.333/0001-82"}]}},
        [("customer.tax_ids.0", "tax_id_invalid")],
    ),
    "unknown country": (
        {"customer": {"name": "Sul", "country": "XQ"}},
        [("customer.country", "country_unknown")],
    ),
    "date as a number": ({"expected_close_on": 20991231}, [("expected_close_on", "date_type")]),
    "no such day": ({"expected_close_on": "2099-02-30"}, [("expected_close_on", "date_from_datetime_parsing")]),
    "NUL in a text": ({"name": "a\x00b"}, [("name", "text_nul")]),
    "NUL in a postcode": ({"customer": {"name": "Sul", "postcode": "9\x00"}}, [("customer.postcode", "text_nul")]),
    "empty text": ({"name": "  "}, [("name", "string_too_short")]),
    "text too long": ({"name": "x" * 256}, [("name", "string_too_long")]),
    "business problem too short": ({"business_problem": "slow"}, [("business_problem", "string_too_short")]),
    "several": (
        {"deal_type": "gift", "partner_id": 3, "colour": 1},
        [("deal_type", "literal_error"), ("partner_id", "uuid_type"), ("colour", "extra_forbidden")],
    ),
    "close date in the past": ({"expected_close_on": today(-1)}, [("expected_close_on", "past")]),
    "what belongs to a closed one": ({"closed_on": today()}, [("closed_on", "not_closed")]),
    "no next action": ({"next_action": None}, [("next_action", "missing")]),
}


@pytest.mark.parametrize("case", FIELDS)
def test_a_wrong_field_is_refused_by_name(desk: Desk, acme: UUID, case: str) -> None:
    data, errors = FIELDS[case]
    sent = opening(acme, **data)
    answer = desk.one(sent)
    code, found = refusal(answer)
    assert code == "command.invalid"
    assert sorted(found) == sorted(errors)


def test_a_date_of_today_is_not_in_the_past(desk: Desk, acme: UUID) -> None:
    desk.accepted(opening(acme, expected_close_on=today()))


def test_a_refusal_never_repeats_the_value(desk: Desk, acme: UUID) -> None:
    secret = "ana.secret@example.com"
    wrong = {
        "partner_id": secret, "deal_type": secret, "amount": money(secret)["amount"], "stage": secret,
        "contact": {"phone": secret, "email": "x" + secret.replace("@", "")}, "expected_close_on": secret,
        "customer": {"name": "Sul", "tax_ids": [{"country": "BR", "value": secret}]}, "lead_id": secret,
    }  # fmt: skip
    (answer,) = desk.give(desk.record(opening(acme, **wrong)))
    assert len(outcome(answer)["errors"]) == 9
    assert b"secret" not in answer.value


def test_fields_that_a_stage_needs_are_listed_when_they_are_missing(desk: Desk, acme: UUID) -> None:
    deal = opening(acme, amount={"amount": "10", "currency": "BRL"})
    desk.accepted(deal)
    answer = desk.one(
        command(
            "opportunity.change_stage",
            deal.subject,
            {"stage": "technical_validation", "next_action": {"text": "Show it", "due_on": today(3)}},
        )
    )
    assert refusal(answer) == (
        "opportunity.entry_fields_missing",
        [(name, "missing") for name in ("contact", "expected_close_on", "business_problem", "products")],
    )


def test_a_stage_that_does_not_exist_is_refused(desk: Desk, acme: UUID) -> None:
    deal = opening(acme)
    desk.accepted(deal)
    for stage in ("nirvana", "won", "", None, 3):
        code, errors = refusal(desk.one(command("opportunity.change_stage", deal.subject, {"stage": stage})))
        assert (code, [name for name, _ in errors]) == ("command.invalid", ["stage"])


def test_a_close_date_in_the_past_is_refused_on_a_change_too(desk: Desk, acme: UUID) -> None:
    deal = opening(acme)
    desk.accepted(deal)
    sent = command("opportunity.change_details", deal.subject, {"expected_close_on": "2001-01-01"})
    assert refusal(desk.one(sent)) == ("command.invalid", [("expected_close_on", "past")])


def test_too_large_a_command_is_refused_before_it_is_looked_at(desk: Desk, acme: UUID, migrated: Settings) -> None:
    large = opening(acme, competitors=["x" * 250] * 1_100)
    assert refusal(desk.one(large)) == ("command.too_large", [])
    assert rows(migrated, "SELECT 1 FROM events WHERE originator_id = %s", [large.subject]) == []


def test_the_largest_event_fits_a_record_although_every_value_in_it_is_encrypted(
    desk: Desk, migrated: Settings
) -> None:
    users = [
        {"user_id": f"u{n}", "role": "partner_rep", "name": "a" * 255, "email": f"{'x' * 100}@e{n}.example"}
        for n in range(500)
    ]
    largest = partner(users=users)
    assert 200_000 < len(largest.data) < MAX_DATA
    (answer,) = desk.accepted(largest)
    states = rows(migrated, "SELECT state FROM events WHERE notification_id = %s", [answer["events"][0]["position"]])
    assert len(states[0]["state"]) < 900_000  # of 1,048,576 bytes that a producer sends, headers included


@pytest.mark.parametrize(
    "data",
    [
        {f"unknown{number}": 1 for number in range(60_000)},
        {"x" * 900_000: 1},
        {"\n" * 250_000: 1},
        {f"u{number}": 1 for number in range(20_000)},
        {"y" * 200_000: 1, "z" * 50_000: 2},
        {"products": [{"n": 1}] * 10_000},
    ],
    ids=["many", "long", "escaped", "many within the limit", "long within the limit", "many products"],
)
def test_an_answer_fits_a_record_whatever_was_wrong(desk: Desk, data: dict[str, Any]) -> None:
    (answer,) = desk.give(desk.record(command("opportunity.open", data=data)))
    assert outcome(answer)["code"] in ("command.invalid", "command.too_large")
    assert len(answer.value) < 100_000


# Who and what


def test_a_command_to_what_does_not_exist_is_refused(desk: Desk) -> None:
    for sent in (
        command("opportunity.lose", data={"reason": "price"}),
        command("partner.suspend", data={"reason": "unpaid"}),
    ):
        assert refusal(desk.one(sent)) == ("aggregate.not_found", [])


def test_an_opportunity_of_an_unknown_partner_is_refused(desk: Desk, acme: UUID) -> None:
    deal = opening(acme)
    desk.accepted(deal)
    assert refusal(desk.one(opening(NOBODY))) == ("partner.not_found", [])
    assert refusal(desk.one(opening(deal.subject))) == ("partner.not_found", [])
    assert refusal(desk.one(opening(policy.STREAM))) == ("partner.not_found", [])


def test_a_second_beginning_is_refused(desk: Desk, acme: UUID) -> None:
    deal = opening(acme)
    assert refusal(desk.ask(deal, opening(acme, deal.subject))[1]) == ("aggregate.already_exists", [])
    assert refusal(desk.one(opening(acme, deal.subject))) == ("aggregate.already_exists", [])
    assert refusal(desk.one(partner(acme))) == ("aggregate.already_exists", [])


def test_an_id_that_belongs_to_another_aggregate_is_not_found(desk: Desk, acme: UUID) -> None:
    deal = opening(acme)
    desk.accepted(deal)
    assert refusal(desk.one(opening(acme, acme))) == ("aggregate.not_found", [])
    assert refusal(desk.one(command("opportunity.lose", acme, {"reason": "price"}))) == ("aggregate.not_found", [])
    assert refusal(desk.one(partner(deal.subject))) == ("aggregate.not_found", [])
    assert refusal(desk.one(command("partner.approve", deal.subject))) == ("aggregate.not_found", [])


def test_of_two_aggregates_that_want_one_id_in_one_batch_the_first_gets_it(desk: Desk, acme: UUID) -> None:
    subject = uuid4()
    answers = desk.ask(
        command("opportunity.lose", subject, {"reason": "price"}),
        command("partner.approve", subject),
        opening(acme, subject),
        partner(subject),
        command("opportunity.lose", subject, {"reason": "price"}),
    )
    assert [answer.get("code", "accepted") for answer in answers] == [
        "aggregate.not_found", "aggregate.not_found", "accepted", "aggregate.not_found", "accepted",
    ]  # fmt: skip
    other = uuid4()
    answers = desk.ask(partner(other), opening(acme, other))
    assert [answer.get("code", "accepted") for answer in answers] == ["accepted", "aggregate.not_found"]


def test_the_policys_stream_takes_no_commands(desk: Desk, acme: UUID, migrated: Settings) -> None:
    for sent in (
        opening(acme, policy.STREAM),
        partner(policy.STREAM),
        command("partner.approve", policy.STREAM),
        command("opportunity.lose", policy.STREAM, {"reason": "price"}),
    ):
        assert refusal(desk.one(sent)) == ("aggregate.not_found", [])
    assert rows(migrated, "SELECT 1 FROM events WHERE originator_id = %s", [policy.STREAM]) == []


@pytest.mark.parametrize(
    ("role", "code"),
    [
        (Role.AUDITOR, "actor.forbidden"),
        (Role.FINANCE, "actor.forbidden"),
        (Role.SELLER, "actor.forbidden"),
        (Role.PARTNER_REP, "actor.forbidden"),
        (Role.SYSTEM, "actor.forbidden"),
        (Role.CHANNEL_MANAGER, None),
        (Role.VENDOR_ADMIN, None),
    ],
)
def test_an_actor_may_what_its_role_may(desk: Desk, acme: UUID, role: Role, code: str | None) -> None:
    answer = desk.one(command("partner.suspend", acme, {"reason": "unpaid"}, Actor("max", role, "vendor")))
    assert answer.get("code") == code
    if code:
        assert refusal(answer) == (code, [])


def test_a_role_that_may_not_is_refused_before_it_learns_whether_anything_is_there(desk: Desk) -> None:
    sent = command("partner.suspend", NOBODY, {"reason": "unpaid"}, Actor("max", Role.AUDITOR))
    assert refusal(desk.one(sent)) == ("actor.forbidden", [])


def test_partner_people_act_for_their_own_organisation_only(desk: Desk, acme: UUID) -> None:
    rival = desk.active_partner(legal_name="Rival")
    for org in (str(rival), str(NOBODY), "vendor", "not an id", str(acme).upper()):
        actor = Actor("paula", Role.PARTNER_ADMIN, org)
        assert refusal(desk.one(opening(acme, actor=actor))) == ("actor.forbidden", [])
    deal = opening(acme, actor=partner_admin(acme))
    desk.accepted(deal)
    lose = command("opportunity.lose", deal.subject, {"reason": "price"}, partner_admin(rival))
    assert refusal(desk.one(lose)) == ("actor.forbidden", [])
    desk.accepted(command("opportunity.lose", deal.subject, {"reason": "price"}, partner_admin(acme)))


def test_a_parent_acts_for_its_children_and_not_the_other_way(desk: Desk) -> None:
    parent = desk.active_partner(legal_name="Holding")
    child = desk.active_partner(legal_name="Branch", parent=str(parent))
    deal = opening(child, actor=partner_admin(parent))
    desk.accepted(deal, command("partner.update_profile", child, {"trade_name": "B"}, partner_admin(parent)))
    desk.accepted(command("opportunity.lose", deal.subject, {"reason": "price"}, partner_admin(parent)))
    assert refusal(desk.one(opening(parent, actor=partner_admin(child)))) == ("actor.forbidden", [])


def test_a_parent_acts_for_a_child_of_the_same_batch(desk: Desk) -> None:
    parent, other = partner(legal_name="Holding"), partner(legal_name="Other")
    child = partner(legal_name="Branch", parent=str(parent.subject))
    *_, own, foreign = desk.ask(
        parent,
        child,
        other,
        opening(child.subject, actor=partner_admin(parent.subject)),
        opening(child.subject, actor=partner_admin(other.subject)),
    )
    assert own["outcome"] == "accepted"
    assert refusal(foreign) == ("actor.forbidden", [])


def test_a_suspension_earlier_in_the_batch_counts(desk: Desk, acme: UUID) -> None:
    _, answer = desk.ask(command("partner.suspend", acme, {"reason": "unpaid"}), opening(acme))
    assert refusal(answer) == ("partner.not_active", [])


# Versions


def test_a_stale_expectedversion_is_refused_with_both_versions(desk: Desk, acme: UUID) -> None:
    stale = command("partner.suspend", acme, {"reason": "unpaid"}, expected_version=0)
    answer = desk.one(stale)
    assert refusal(answer) == ("aggregate.version_conflict", [])
    assert "version 0 " in answer["message"]
    assert "version 1" in answer["message"]
    ahead = command("partner.suspend", acme, {"reason": "unpaid"}, expected_version=2)
    assert refusal(desk.one(ahead)) == ("aggregate.version_conflict", [])
    desk.accepted(replace(stale, id="right version", expected_version=1))


def test_of_two_with_the_same_expectedversion_in_a_batch_one_wins(desk: Desk, acme: UUID) -> None:
    won, lost = desk.ask(
        *(command("partner.change_tier", acme, {"tier": tier, "reason": "r"}, expected_version=1) for tier in "ab")
    )
    assert won["outcome"] == "accepted"
    assert refusal(lost) == ("aggregate.version_conflict", [])


def test_an_expectedversion_of_0_means_that_nothing_is_there_yet(desk: Desk) -> None:
    first = replace(partner(), expected_version=0)
    desk.accepted(first)
    assert refusal(desk.one(replace(first, id="second"))) == ("aggregate.already_exists", [])


# The same id again


def rewritten(sent: Envelope) -> Envelope:
    """Give the same content with other keys' order and whitespace."""
    data = json.dumps(dict(reversed(json.loads(sent.data).items())), indent=3, ensure_ascii=True)
    return replace(sent, data=data.encode())


@pytest.mark.parametrize("accepted", [True, False])
def test_the_same_command_again_gets_the_first_answer_byte_for_byte(
    desk: Desk, migrated: Settings, acme: UUID, accepted: bool
) -> None:
    sent = opening(acme if accepted else NOBODY)
    (first,) = desk.give(desk.record(sent))
    later = replace(sent, time=datetime(2020, 1, 1, tzinfo=UTC), correlation_id="c", causation_id="d")
    again = [
        desk.record(sent),
        desk.record(sent, structured=True),
        desk.record(rewritten(sent)),
        desk.record(rewritten(sent), structured=True),
        desk.record(later),
    ]
    one_by_one = [answer for record in again for answer in desk.give(record)]
    together = desk.give(*again)
    assert {answer.value for answer in (*one_by_one, *together)} == {first.value}
    assert {answer.dead for answer in (*one_by_one, *together)} == {False}
    assert len(rows(migrated, "SELECT 1 FROM commands WHERE id = %s", [sent.id])) == 1
    assert len(rows(migrated, "SELECT 1 FROM events WHERE originator_id = %s", [sent.subject])) == int(accepted)


def test_the_same_command_twice_in_one_batch_is_decided_once(desk: Desk, migrated: Settings, acme: UUID) -> None:
    sent = opening(acme)
    one, two = desk.give(desk.record(sent), desk.record(rewritten(sent), structured=True))
    assert one.value == two.value
    assert len(rows(migrated, "SELECT 1 FROM events WHERE originator_id = %s", [sent.subject])) == 1


def test_a_refused_command_stays_refused_when_it_would_be_accepted_now(desk: Desk) -> None:
    acme = partner()
    deal = opening(acme.subject)
    early = desk.one(deal)
    desk.accepted(acme)
    assert desk.one(deal) == early
    desk.accepted(replace(deal, id="another id"))


@pytest.mark.parametrize(
    "change",
    [
        {"data": b'{"reason": "another"}'},
        {"type": "prm.partner.put_on_notice"},
        {"subject": NOBODY},
        {"actor": replace(MANAGER, id="dora")},
        {"actor": replace(MANAGER, role=Role.VENDOR_ADMIN)},
        {"actor": replace(MANAGER, org="elsewhere")},
        {"expected_version": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_id_with_another_content_is_refused_and_the_first_outcome_stands(
    desk: Desk, migrated: Settings, acme: UUID, change: dict[str, Any]
) -> None:
    sent = command("partner.suspend", acme, {"reason": "unpaid"})
    first = desk.one(sent)
    record = desk.record(replace(sent, **change))
    (reused,) = desk.give(record)
    assert refusal(outcome(reused)) == ("command.id_reused", [])
    assert desk.give(record) == [reused]
    assert desk.give(record, record) == [reused, reused]
    (row,) = rows(migrated, "SELECT * FROM reused_ids WHERE id = %s", [sent.id])
    assert (row["record_offset"], row["response"]) == (record.offset, reused.value)
    assert desk.one(sent) == first
    (stored,) = rows(migrated, "SELECT * FROM commands WHERE id = %s", [sent.id])
    assert stored["outcome"] == "accepted"


def test_an_id_reused_within_a_batch_keeps_the_first(desk: Desk, migrated: Settings, acme: UUID) -> None:
    sent = opening(acme)
    records = [desk.record(sent), desk.record(changed(sent, name="Other")), desk.record(sent)]
    answers = desk.give(*records)
    assert [outcome(answer).get("code", "accepted") for answer in answers] == [
        "accepted",
        "command.id_reused",
        "accepted",
    ]
    assert desk.give(*records) == answers
    assert desk.give(*reversed(records)) == list(reversed(answers))
    assert len(rows(migrated, "SELECT 1 FROM reused_ids WHERE id = %s", [sent.id])) == 1


def test_a_reused_id_twice_in_one_batch_is_one_row(desk: Desk, migrated: Settings, acme: UUID) -> None:
    sent = opening(acme)
    desk.accepted(sent)
    record = desk.record(changed(sent, name="Other"))
    first, second = desk.give(record, record)
    assert first == second
    assert len(rows(migrated, "SELECT 1 FROM reused_ids WHERE id = %s", [sent.id])) == 1


def test_two_sources_may_use_the_same_id(desk: Desk, acme: UUID) -> None:
    desk.accepted(replace(opening(acme), id="1", source="one"), replace(opening(acme), id="1", source="two"))


def test_an_id_that_failed_to_be_read_is_free(desk: Desk, acme: UUID) -> None:
    sent = opening(acme)
    (dead,) = desk.give(desk.record(replace(sent, type="prm.opportunity.explode")))
    assert dead.dead
    assert dict(dead.headers)["ce_causationid"] == sent.id.encode()
    desk.accepted(sent)


# Time


def test_an_import_may_speak_of_the_past_and_nobody_else(desk: Desk, migrated: Settings) -> None:
    past = datetime(2020, 5, 17, 8, 30, tzinfo=UTC)
    imported, invited = replace(partner(), time=past), command("partner.invite", data={"legal_name": "B"}, time=past)
    desk.accepted(imported, invited)
    (one,) = rows(migrated, "SELECT state FROM events WHERE originator_id = %s", [imported.subject])
    (other,) = rows(migrated, "SELECT state FROM events WHERE originator_id = %s", [invited.subject])
    one, other = json.loads(one["state"]), json.loads(other["state"])
    assert (one["time"], one["data"]["imported_at"]) == ("2020-05-17T08:30:00Z", "2020-05-17T08:30:00Z")
    assert other["time"] == other["recordedtime"] == one["recordedtime"]


def test_a_business_time_in_the_future_is_refused_to_an_import(desk: Desk) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    assert refusal(desk.one(replace(partner(), time=later))) == ("command.invalid", [("time", "time_in_future")])
    soon = datetime.now(UTC) + timedelta(minutes=1)
    desk.accepted(replace(partner(), time=soon), command("partner.invite", data={"legal_name": "B"}, time=later))


def test_recorded_time_never_goes_back(desk: Desk, store: Store, migrated: Settings) -> None:
    ahead = datetime.now(UTC) + timedelta(seconds=2)
    with store.batch() as batch:
        batch.head = replace(batch.head, at=max(batch.head.at, ahead))
        batch.write(Writes(events=[NewEvent(uuid4(), 1, "prm.partner.approved.v1", b'{"recordedtime":"%s"}' % utc_text(
            batch.head.at).encode())]))  # fmt: skip
        written = batch.head.at
    answer = desk.one(partner())
    assert datetime.fromisoformat(answer["recorded_at"]) >= written


# One partner a tax id


def tax(value: str) -> dict[str, Any]:
    return {"tax_ids": [{"country": "BR", "value": value}]}


def test_a_tax_id_belongs_to_one_partner_until_it_is_terminated(desk: Desk, migrated: Settings) -> None:
    first, second = partner(**tax(CNPJ)), partner(**tax("11222333000181"))
    assert refusal(desk.ask(first, second)[1]) == ("partner.duplicate", [("tax_ids", "taken")])
    third = partner(**tax(CNPJ))
    assert refusal(desk.one(third)) == ("partner.duplicate", [("tax_ids", "taken")])
    invite = command("partner.invite", data={"legal_name": "B", **tax(CNPJ)})
    assert refusal(desk.one(invite)) == ("partner.duplicate", [("tax_ids", "taken")])
    desk.accepted(command("partner.terminate", first.subject, {"reason": "closed"}, ADMIN))
    heir = partner(**tax(CNPJ))
    desk.accepted(heir)
    owners = rows(migrated, "SELECT partner_id FROM partner_identifiers WHERE tax_key = 'BR:cnpj:11222333000181'")
    assert owners == [{"partner_id": heir.subject}]
    desk.accepted(command("partner.terminate", heir.subject, {"reason": "closed"}, ADMIN))


def test_a_tax_id_moves_within_one_batch_when_its_holder_ends(desk: Desk, migrated: Settings) -> None:
    first, second, third = (partner(**tax(CNPJ_TOO)) for _ in range(3))
    end = command("partner.terminate", first.subject, {"reason": "closed"}, ADMIN)
    answers = desk.ask(first, end, second, third)
    assert [answer.get("code", "accepted") for answer in answers] == [*["accepted"] * 3, "partner.duplicate"]
    owners = rows(migrated, "SELECT partner_id FROM partner_identifiers WHERE tax_key LIKE %s", ["%11444777000161"])
    assert owners == [{"partner_id": second.subject}]


def test_a_profile_that_drops_its_tax_id_frees_it(desk: Desk, migrated: Settings) -> None:
    key = "33.000.167/0001-01"
    first, second = partner(**tax(key)), partner(**tax(key))
    desk.accepted(first)
    drop = command("partner.update_profile", first.subject, {"tax_ids": []})
    taken = command("partner.update_profile", first.subject, tax(key))
    answers = desk.ask(drop, second, taken)
    assert [answer.get("code", "accepted") for answer in answers] == ["accepted", "accepted", "partner.duplicate"]


def test_two_partners_may_have_the_same_individual_behind_them(desk: Desk, migrated: Settings) -> None:
    desk.accepted(partner(**tax(CPF)), partner(**tax(CPF)))
    assert rows(migrated, "SELECT 1 FROM partner_identifiers WHERE tax_key LIKE '%%52998224725%%'") == []


# Defects of our own


def failing(*_arguments: object) -> Any:
    raise ZeroDivisionError("a defect")


def broken(**changes: Any) -> Any:
    """Replace parts of the aggregate Partner for as long as the context lasts."""
    whole = catalogue.AGGREGATES["partner"]
    return patch.dict(catalogue.AGGREGATES, {"partner": replace(whole, **changes)})


def test_a_decision_that_fails_becomes_a_dead_letter_and_stays_one(desk: Desk, migrated: Settings, acme: UUID) -> None:
    bad, good = desk.record(partner()), desk.record(opening(acme))
    with broken(decide=failing):
        answers = desk.give(bad, good)
    assert [answer.dead for answer in answers] == [True, False]
    assert outcome(answers[0])["code"] == "command.failed"
    assert b"ZeroDivision" not in answers[0].value
    count = len(dead_letters(migrated))
    assert desk.give(bad, good) == answers
    assert desk.give(bad) == answers[:1]
    assert len(dead_letters(migrated)) == count


def test_a_failure_half_way_leaves_nothing_of_the_command(desk: Desk, migrated: Settings, acme: UUID) -> None:
    evolve, calls = catalogue.AGGREGATES["opportunity"].evolve, iter(range(100))

    def second_event_fails(state: Any, event: Any) -> Any:
        return failing() if next(calls) == 1 else evolve(state, event)

    whole = catalogue.AGGREGATES["opportunity"]
    closed = opening(acme, stage="won", closed_on=today(), order_reference="PO", actor=IMPORTER)
    retry = replace(closed, id="again")
    with patch.dict(catalogue.AGGREGATES, {"opportunity": replace(whole, evolve=second_event_fails)}):
        dead, accepted = desk.give(desk.record(closed), desk.record(retry))
    assert dead.dead
    assert outcome(accepted)["outcome"] == "accepted"
    versions = rows(migrated, "SELECT originator_version AS v FROM events WHERE originator_id = %s", [closed.subject])
    assert [row["v"] for row in versions] == [1, 2]


def test_a_tax_id_of_a_command_that_failed_stays_free(desk: Desk) -> None:
    key = "60.701.190/0001-04"

    def fails_after_it_moved(self: Any, *arguments: Any) -> bytes:
        raise ZeroDivisionError

    with patch.object(dispatching._Round, "_acceptance", fails_after_it_moved):
        (dead,) = desk.give(desk.record(partner(**tax(key))))
    assert dead.dead
    desk.accepted(partner(**tax(key)))


def test_a_program_too_old_for_the_log_stops_and_buries_nothing(desk: Desk, migrated: Settings, acme: UUID) -> None:
    count = len(dead_letters(migrated))
    deal = opening(acme)
    desk.accepted(deal)

    def too_old(wire: str, _data: Any) -> Any:
        _raise(TooOld(f"{wire} is of a newer program"))

    another = Desk(desk.store, "prm.commands.another")  # what it decided itself, a handler need not read
    with patch.object(catalogue, "parse_event", too_old), pytest.raises(TooOld):
        another.ask(command("opportunity.log_activity", deal.subject, {"kind": "call", "summary": "Talked"}))
    assert len(dead_letters(migrated)) == count


def test_what_is_unavailable_while_deciding_stops_and_buries_nothing(desk: Desk, migrated: Settings) -> None:
    count, sent = len(dead_letters(migrated)), partner()
    with broken(decide=lambda *_: _raise(TooOld("a partner has events of a newer program"))), pytest.raises(TooOld):
        desk.ask(sent)
    assert len(dead_letters(migrated)) == count
    desk.accepted(sent)


def _raise(error: Exception) -> Any:
    raise error


# All together


def test_a_batch_that_mixes_everything_answers_each_in_its_place(desk: Desk, migrated: Settings, acme: UUID) -> None:
    good, known = opening(acme), opening(acme)
    desk.accepted(known)
    batch = [
        (desk.record(good), "accepted"),
        (desk.raw(b"\xff"), "message.not_json"),
        (desk.record(known), "accepted"),
        (desk.record(changed(known, name="Other")), "command.id_reused"),
        (desk.record(replace(good, id="b", type="prm.conflict.open")), "command.unknown_type"),
        (desk.record(opening(acme, colour="red")), "command.invalid"),
        (desk.record(command("opportunity.lose", data={"reason": "price"})), "aggregate.not_found"),
        (desk.record(opening(acme, policy.STREAM)), "aggregate.not_found"),
        (desk.record(opening(acme, acme)), "aggregate.not_found"),
        (desk.record(opening(acme, actor=Actor("a", Role.AUDITOR))), "actor.forbidden"),
        (desk.record(opening(acme, good.subject)), "aggregate.already_exists"),
        (desk.record(replace(opening(acme), expected_version=4)), "aggregate.version_conflict"),
        (desk.record(opening(acme, stage="qualified")), "opportunity.entry_fields_missing"),
        (desk.record(opening(acme, competitors=["x" * 250] * 1_100)), "command.too_large"),
        (desk.record(good, structured=True), "accepted"),
        (desk.record(command("opportunity.lose", good.subject, {"reason": "price"})), "accepted"),
        (desk.raw(None), "message.empty"),
    ]
    records = [record for record, _ in batch]
    answers = desk.give(*records)
    assert [outcome(answer).get("code", "accepted") for answer in answers] == [code for _, code in batch]
    assert desk.give(*records) == answers
    assert [answer for record in records for answer in desk.give(record)] == answers


# Random mutations

WORLD = UUID(int=99)
VALID: Mapping[str, Envelope] = {
    "import": partner(WORLD, **tax("45.997.418/0001-53"), contact={"name": "Ana", "email": "ana@acme.example"}),
    "invite": command("partner.invite", data={"legal_name": "B", "parent": str(WORLD)}),
    "user": command("partner.invite_user", WORLD, {"user_id": "bia", "role": "partner_rep", "name": "Bia"}),
    "goal": command(
        "partner.set_goal",
        WORLD,
        {"goal_id": str(NOBODY), "metric": "won_amount", "period": "2026-Q1", "target": "5", "currency": "BRL"},
    ),
    "suspend": command("partner.suspend", WORLD, {"reason": "unpaid"}),
    "reinstate": command("partner.reinstate", WORLD),
    "open": opening(
        WORLD, UUID(int=98), contact={"name": "Rui", "phone": "+55 11 5555 1234"}, business_problem=PROBLEM,
        amount={"amount": "10.50", "currency": "BRL"}, expected_close_on=today(30),
        products=[{"line": "s", "quantity": 2}],
        customer={"name": "Maria", "tax_ids": [{"country": "BR", "value": CPF}]},
    ),
    "win": command(
        "opportunity.win",
        UUID(int=98),
        {"final_amount": {"amount": "9.00", "currency": "BRL"}, "order_reference": "PO-1"},
    ),
    "split": command(
        "opportunity.set_credit_split",
        UUID(int=98),
        {"type": "revenue", "shares": [{"partner_id": str(WORLD), "percent": 100}]},
    ),
    "reopen": command("opportunity.reopen", UUID(int=98), {"reason": "They came back"}),
}  # fmt: skip
SUBJECTS = st.sampled_from([str(WORLD), str(UUID(int=98)), str(policy.STREAM), str(NOBODY), "x", None])
NASTY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**40), 10**40),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["", "\x00", "NaN", "=1+1", "1e400", "-0", "~1.00.AA", '",":{}', "2026-02-30", str(WORLD), str(policy.STREAM)]
    ),
    st.lists(st.text(max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@st.composite
def mutated(draw: st.DrawFn) -> tuple[Any, bytes]:
    """Give headers and value of a valid command after a few changes, some of them to its bytes."""
    content = structured_command(draw(st.sampled_from(list(VALID.values()))))
    content["id"] = draw(st.one_of(st.uuids().map(str), st.sampled_from(["same", "other"])))
    data = json.loads(json.dumps(content["data"]))
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from([*data, "extra"]))
        inner = data.get(name)
        if isinstance(inner, dict) and draw(st.booleans()):
            inner[draw(st.sampled_from([*inner, "extra"]))] = draw(NASTY)
        else:
            data[name] = draw(NASTY)
    content["data"] = data
    if draw(st.booleans()):
        content["subject"] = draw(SUBJECTS)
    if draw(st.integers(0, 3)) == 0:
        content[draw(st.sampled_from([*content, "extra"]))] = draw(NASTY)
    value = json.dumps(content).encode()
    if draw(st.integers(0, 4)) == 0:
        at = draw(st.integers(0, len(value) - 1))
        value = value[:at] + draw(st.binary(max_size=3)) + value[at + draw(st.integers(0, 3)) :]
    if draw(st.booleans()) or not isinstance(data, dict):
        return STRUCTURED, value
    headers = [
        (f"ce_{name}", text if isinstance(text, bytes) else str(text).encode("utf-8", "replace"))
        for name, text in content.items()
        if name != "data" and text is not None
    ]
    return headers, json.dumps(data).encode()


def answered(answer: Answer) -> str:
    content = outcome(answer)
    return "dead" if answer.dead else content["outcome"]


@examples(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(mutated(), min_size=1, max_size=12))
def test_random_batches_never_raise_and_each_record_gets_one_answer(
    module_desk: Desk, batch: list[tuple[Any, bytes]]
) -> None:
    records = [module_desk.raw(value, headers) for headers, value in batch]
    answers = module_desk.give(*records)
    assert {answered(answer) for answer in answers} <= {"dead", "accepted", "refused"}
    assert not [answer for answer in answers if b"command.failed" in answer.value]
    assert module_desk.give(*records) == answers


def test_the_log_is_whole_after_all_of_it(desk: Desk, migrated: Settings) -> None:
    check_log(migrated)
    guard = {row["tax_key"]: row["partner_id"] for row in rows(migrated, "SELECT * FROM partner_identifiers")}
    assert guard == tax_keys_by_the_log(desk.store, migrated)


def tax_keys_by_the_log(store: Store, settings: Settings) -> dict[str, UUID]:
    held: dict[str, UUID] = {}
    whole = catalogue.AGGREGATES["partner"]
    query = "SELECT DISTINCT originator_id FROM events WHERE topic LIKE 'prm.partner.%%' AND state LIKE '%%\"data\"%%'"
    for row in rows(settings, query):
        state = Partner()
        for event in store.stream(row["originator_id"]):
            state = whole.evolve(state, catalogue.parse_event(event.type, event.data))
        if state.status not in ("none", "terminated"):
            held |= dict.fromkeys(state.tax_keys, row["originator_id"])
    return held
