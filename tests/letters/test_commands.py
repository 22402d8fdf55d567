"""Dead letters of commands: what is told of them, and what becomes of them when somebody acts."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from prm_es.aggregates import catalogue
from prm_es.consumers import commands, topics
from prm_es.install import install
from prm_es.letters.acting import RETRY_HEADER
from prm_es.local.doctor import workers
from prm_es.messages import Envelope, binary_command
from prm_es.settings import Settings
from prm_es.status import Observer
from prm_es.store.store import Store
from tests.support import Desk, changed, check_log, outcome, partner, rows
from tests.test_cli import Prm, environment, in_process
from tests.test_dispatch import broken, failing
from tests.workers import read_topics, until

BY = ("--as", "olga", "--reason", "mended since")
SECRET = "joana@sul.example"
UNKNOWN = "prm.partner.explode"


@contextmanager
def handler(settings: Settings) -> Iterator[None]:
    stop = Event()
    thread = Thread(target=commands.work, args=(settings, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture(scope="module")
def handling(migrated: Settings) -> Iterator[None]:
    """Let a handler run beside the tests."""
    with handler(migrated):
        yield


@pytest.fixture(scope="module")
def desk(migrated: Settings) -> Iterator[Desk]:
    """Give a desk whose records lie at places of a command topic far ahead of those that the tests fill."""
    with Store(migrated) as store:
        yield Desk(store, topic=migrated.command_topic("partner"), offset=10**6)


def buried(desk: Desk, value: bytes | None, headers: Any = ()) -> str:
    (answer,) = desk.give(desk.raw(value, headers))
    return named(outcome(answer))


def named(content: dict[str, Any]) -> str:
    return f"{content['topic']}/{content['partition']}/{content['offset']}"


def failed(desk: Desk, sent: Envelope) -> str:
    with broken(decide=failing):
        (answer,) = desk.give(desk.record(sent))
    assert outcome(answer)["code"] == "command.failed"
    return named(outcome(answer))


def state(prm: Prm, letter: str) -> str:
    found: str = prm("show", letter, "--format", "json").json()["state"]
    return found


def login(settings: Settings, role: Any) -> str:
    """Give the connection string of somebody who can log in with this role and with no other."""
    name = settings.db_role(role)
    with psycopg.connect(settings.postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD 'theirs'").format(sql.Identifier(name)))
    options = f"-c search_path={settings.store_schema}"
    return make_conninfo(settings.postgres, user=name, password="theirs", options=options)


def test_letters_are_listed_and_narrowed(prm: Prm, desk: Desk) -> None:
    junk, other = buried(desk, b"junk"), buried(desk, b"[]")
    every = prm("list", "--format", "json").json()
    assert {(one["letter"], one["code"], one["state"], one["kind"]) for one in every} >= {
        (junk, "message.not_json", "open", "command"),
        (other, "message.not_object", "open", "command"),
    }
    narrowed = prm("list", "--code", "message.not_object", "--kind", "command", "--format", "csv").csv()
    assert {one["code"] for one in narrowed} == {"message.not_object"}
    assert other in {one["letter"] for one in narrowed}
    assert junk in prm("list").out
    assert prm("list", "--kind", "event", "--format", "json").json() == []
    one, said = prm("list", "--limit", "1", "--format", "json"), "there are more"
    assert (len(one.json()), said in one.err) == (1, True)


def test_a_letter_is_shown_with_its_original_bytes_and_headers(prm: Prm, desk: Desk) -> None:
    headers = [("ce_specversion", b"1.0"), ("ce_id", b"\xff\x00"), ("odd", None)]
    ran = prm("show", buried(desk, b'{"email": "%s"}' % SECRET.encode(), headers), "--format", "json")
    shown = ran.json()
    assert shown["content"] == {
        "headers": [["ce_specversion", "1.0"], ["ce_id", {"hex": "ff00"}], ["odd", None]],
        "value": '{"email": "joana@sul.example"}',
    }
    assert (shown["code"], shown["state"], shown["history"]) == ("message.not_utf8", "open", [])
    assert "personal data" in ran.err
    words = prm("show", buried(desk, b"\xff\x1b[2J", [("name", b"\x1b]0;x")])).out
    assert '{"hex":"ff1b5b324a"}' in words
    assert "\x1b" not in words


def test_a_letter_is_shown_to_whom_may_decrypt_and_to_nobody_else(prm: Prm, desk: Desk, migrated: Settings) -> None:
    letter = buried(desk, SECRET.encode())
    assert SECRET in prm("show", letter).out
    assert SECRET not in prm("list").out
    for role in ("reader", "projector"):
        ran = prm("show", letter, PRM_POSTGRES_AUDITOR=login(migrated, role))
        assert (ran.code in {2, 3}, ran.out, SECRET in ran.err) == (True, "", False), role
        assert (ran.err.startswith("prm-es: "), "Traceback" in ran.err) == (True, False), ran.err


def test_a_letter_whose_key_is_gone_can_be_discarded_and_nothing_else(
    prm: Prm, desk: Desk, migrated: Settings, handling: None
) -> None:
    letter = buried(desk, SECRET.encode())
    offset = int(letter.rpartition("/")[2])
    with psycopg.connect(migrated.postgres, options=f"-c search_path={migrated.store_schema}") as connection:
        connection.execute(
            "DELETE FROM keys WHERE key_id = (SELECT key_id FROM dead_letters WHERE record_offset = %s)", (offset,)
        )
    assert "its key was destroyed" in prm("show", letter).out
    ran = prm("retry", letter, *BY)
    assert (ran.code, "its key is gone" in ran.out) == (1, True)
    assert prm("show", letter, "--format", "json").json()["history"] == []
    assert prm("discard", letter, *BY).code == 0


def test_a_command_whose_decision_failed_is_decided_anew_and_once(
    prm: Prm, desk: Desk, migrated: Settings, handling: None
) -> None:
    sent = partner()
    letter = failed(desk, sent)
    record = replace(desk.record(sent), offset=desk.offset - 1)
    assert desk.give(record)[0].dead  # redelivered, it is answered as before
    ran = prm("retry", letter, *BY)
    assert (ran.code, ran.out) == (0, f"{letter}: sent again: accepted\n")
    shown = prm("show", letter, "--format", "json").json()
    (step,) = shown["history"]
    assert shown["state"] == "answered"
    assert [step[name] for name in ("action", "actor", "reason", "result")] == [
        "retry",
        "olga",
        "mended since",
        "accepted",
    ]
    again = prm("retry", letter, *BY)
    assert (again.code, again.out) == (1, f"{letter}: is closed: answered\n")
    assert len(rows(migrated, "SELECT 1 FROM events WHERE originator_id = %s", [sent.subject])) == 1
    assert len(rows(migrated, "SELECT 1 FROM commands WHERE id = %s", [sent.id])) == 1
    (told,) = [one for one in read_topics(migrated, [migrated.results_topic]) if one.key == str(sent.subject).encode()]
    assert bytes(rows(migrated, "SELECT response FROM commands WHERE id = %s", [sent.id])[0]["response"]) == told.value
    assert desk.one(sent)["outcome"] == "accepted"


def test_a_retry_that_is_refused_is_answered_all_the_same(prm: Prm, desk: Desk, handling: None) -> None:
    sent = partner()
    letter = failed(desk, sent)
    desk.accepted(partner(sent.subject))
    ran = prm("retry", letter, *BY)
    assert (ran.code, ran.out) == (1, f"{letter}: sent again: refused (aggregate.already_exists)\n")
    assert state(prm, letter) == "answered"


def test_a_command_that_fails_again_is_a_letter_of_its_own_and_closes_the_first(
    prm: Prm, desk: Desk, handling: None
) -> None:
    sent = partner()
    letter = failed(desk, sent)
    with broken(decide=failing):
        ran = prm("retry", letter, *BY)
    said = ran.out.strip()
    assert (ran.code, said.endswith("(command.failed)")) == (1, True), said
    second = said.split(" as ")[1].split()[0]
    assert state(prm, letter) == "dead again"
    assert prm("show", second, "--format", "json").json()["retry_of"] == letter
    assert prm("retry", second, *BY).out == f"{second}: sent again: accepted\n"
    assert (state(prm, letter), state(prm, second)) == ("answered", "answered")


def test_unreadable_bytes_that_are_retried_are_unreadable_again(prm: Prm, desk: Desk, handling: None) -> None:
    first, empty = buried(desk, b"junk \xff", [("name", None), ("other", b"\xfe")]), buried(desk, None)
    ran = prm("retry", first, empty, *BY)
    assert (ran.code, ran.out.count("dead again as")) == (1, 2)
    assert {state(prm, first), state(prm, empty)} == {"dead again"}
    second = next(line for line in ran.out.splitlines() if line.startswith(first)).split(" as ")[1].split()[0]
    content = prm("show", second, "--format", "json").json()["content"]
    assert content["value"] == {"hex": b"junk \xff".hex()}
    assert [name for name, _raw in content["headers"]] == ["other", RETRY_HEADER]


def test_a_type_that_was_unknown_is_decided_once_the_program_knows_it(
    prm: Prm, desk: Desk, migrated: Settings, handling: None
) -> None:
    sent = partner()
    _key, headers, value = binary_command(sent)
    unknown = [(name, UNKNOWN.encode() if name == "ce_type" else raw) for name, raw in headers]
    letter = buried(desk, value, unknown)
    (row,) = rows(migrated, "SELECT code, id FROM dead_letters WHERE record_offset = %s", [desk.offset])
    assert row == {"code": "command.unknown_type", "id": sent.id}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(catalogue.COMMANDS, UNKNOWN, catalogue.COMMANDS["prm.partner.import"])
        ran = prm("retry", letter, *BY)
    assert (ran.code, ran.out) == (0, f"{letter}: sent again: accepted\n")


def test_a_letter_whose_id_was_answered_since_is_not_sent_and_can_be_discarded(
    prm: Prm, desk: Desk, handling: None
) -> None:
    sent = partner()
    _key, headers, value = binary_command(changed(sent, legal_name="Other Ltda"))
    letter = buried(desk, value, [(name, raw if name != "ce_type" else UNKNOWN.encode()) for name, raw in headers])
    desk.accepted(sent)
    assert state(prm, letter) == "open"  # whoever answered that id, this record has no answer
    ran = prm("retry", letter, *BY)
    said = f"{letter}: its id was answered since, and that stands: it can be discarded\n"
    assert (ran.code, ran.out) == (1, said)
    found = prm("show", letter, "--format", "json").json()
    assert (found["state"], found["history"]) == ("open", [])
    assert prm("discard", letter, *BY).code == 0


def test_a_letter_that_nobody_answers_stays_open(prm: Prm, desk: Desk, fresh: Settings) -> None:
    letter = _elsewhere(fresh)
    ran = in_process(environment(fresh), "dead-letters", "retry", letter, *BY, "--timeout", "0.3")
    assert (ran.code, "is a handler running?" in ran.out) == (1, True)
    listed = in_process(environment(fresh), "dead-letters", "list", "--format", "json").json()
    assert [(one["letter"], one["state"]) for one in listed] == [(letter, "retried")]
    with Observer(fresh) as observer:
        found = observer.status()
    assert (found.dead_letters, found.open_dead_letters) == (1, 1)
    again = in_process(environment(fresh), "dead-letters", "retry", letter, *BY, "--timeout", "0.3")
    assert "sent again" in again.out


def _elsewhere(settings: Settings) -> str:
    install(settings)
    topics.create(settings)
    with Store(settings) as store:
        return buried(Desk(store, topic=settings.command_topic("lead"), offset=10**6), b"junk")


def test_a_letter_that_is_sent_again_twice_before_anybody_answers_is_decided_once(fresh: Settings) -> None:
    install(fresh)
    topics.create(fresh)
    sent = partner()
    with Store(fresh) as store:
        letter = failed(Desk(store, topic=fresh.command_topic("partner"), offset=10**6), sent)
    for _ in range(2):
        ran = in_process(environment(fresh), "dead-letters", "retry", letter, *BY, "--timeout", "0.2")
        assert ran.code == 1, ran.out
    with handler(fresh), Observer(fresh) as observer:
        assert observer.status().unanswered == 2
        until(lambda: observer.status().unanswered == 0, "both are answered")
    assert len(rows(fresh, "SELECT 1 FROM events WHERE originator_id = %s", [sent.subject])) == 1
    (row,) = rows(fresh, "SELECT outcome, response FROM commands WHERE id = %s", [sent.id])
    assert row["outcome"] == "accepted"
    assert {one.value for one in read_topics(fresh, [fresh.results_topic])} == {bytes(row["response"])}
    shown = in_process(environment(fresh), "dead-letters", "show", letter, "--format", "json").json()
    assert (shown["state"], [step["result"] for step in shown["history"]]) == ("answered", ["accepted", "accepted"])
    check_log(fresh)


def test_discarding_closes_a_letter_with_who_did_it_and_why(prm: Prm, desk: Desk, migrated: Settings) -> None:
    letter = buried(desk, b"junk")
    for options in ((), ("--as", "olga"), ("--reason", "why"), ("--as", " ", "--reason", "why")):
        assert prm("discard", letter, *options).code == 2
    assert state(prm, letter) == "open"
    with Observer(migrated) as observer:
        before = observer.status()
        ran = prm("discard", letter, "--as", "olga", "--reason", "a test of theirs")
        after = observer.status()
    assert (ran.code, ran.out) == (0, f"{letter}: discarded\n")
    assert (after.dead_letters, after.open_dead_letters) == (before.dead_letters, before.open_dead_letters - 1)
    shown = prm("show", letter, "--format", "json").json()
    assert shown["state"] == "discarded"
    assert [(one["actor"], one["reason"], one["action"]) for one in shown["history"]] == [
        ("olga", "a test of theirs", "discard")
    ]
    assert "discard by olga: a test of theirs" in prm("show", letter).out
    assert prm("discard", letter, *BY).out == prm("retry", letter, *BY).out == f"{letter}: is closed: discarded\n"
    closed = prm("list", "--state", "closed", "--format", "json").json()
    assert letter in {one["letter"] for one in closed}
    assert letter not in prm("list").out


def test_the_doctor_names_what_is_open_and_nothing_else(prm: Prm, desk: Desk, migrated: Settings) -> None:
    buried(desk, b"junk")
    assert "dead-letters list" in told(migrated)["dead letters"]
    assert prm("discard", "--all", *BY).code == 0
    assert "dead letters" not in told(migrated)


def told(settings: Settings) -> dict[str, str]:
    return {one.name: one.sentence for one in workers(settings, pause=lambda _seconds: None)}


def test_a_failed_command_that_its_sender_sends_again_is_closed_by_its_answer(prm: Prm, desk: Desk) -> None:
    sent = partner()
    letter = failed(desk, sent)
    assert state(prm, letter) == "open"
    desk.accepted(sent)
    assert state(prm, letter) == "answered"


def test_all_of_a_code_are_acted_upon_at_once(prm: Prm, desk: Desk, handling: None) -> None:
    sent = [partner() for _ in range(250)]
    with broken(decide=failing):
        letters = {named(outcome(answer)) for answer in desk.give(*map(desk.record, sent))}
    junk = buried(desk, b"junk")
    ran = prm("retry", "--all", "--code", "command.failed", *BY)
    assert ran.code == 0, ran.out
    assert {line.partition(": ")[0] for line in ran.out.splitlines()} >= letters
    assert state(prm, junk) == "open"
    assert prm("discard", "--all", "--kind", "command", *BY).code == 0
    assert prm("list", "--kind", "command", "--format", "json").json() == []
    assert prm("retry", "--all", *BY).code == 0


def test_records_at_the_same_place_are_told_apart_by_their_digest(prm: Prm, desk: Desk) -> None:
    letter = buried(desk, b"junk")
    desk.give(replace(desk.raw(b"other"), offset=desk.offset - 1))
    ran = prm("show", letter)
    assert (ran.code, "several are at" in ran.err) == (2, True)
    names = [one["letter"] for one in prm("list", "--format", "json").json() if one["letter"].startswith(letter)]
    assert len(names) == 2
    assert {prm("show", one, "--format", "json").json()["content"]["value"] for one in names} == {"junk", "other"}
    assert prm("discard", names[0], *BY).code == 0
    assert (state(prm, names[0]), state(prm, names[1])) == ("discarded", "open")


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "nothing"),
        ("show", "a/b/c"),
        ("show", "prm.commands.partner/99999999999/1"),
        ("show", "prm.commands.partner/1/1"),
        ("show", "pipeline/99999999"),
        ("show", "unicorns/1"),
        ("retry", *BY),
        ("retry", "pipeline/1", "--all", *BY),
        ("retry", "pipeline/1", "--code", "x", *BY),
        ("discard", "pipeline/1", *BY),
        ("discard", "unicorns/1", *BY),
        ("list", "--kind", "unicorn"),
        ("list", "--state", "unicorn"),
        ("list", "--read-model", "unicorn"),
    ],
)
def test_what_names_no_letter_is_wrong_usage(prm: Prm, arguments: tuple[str, ...]) -> None:
    ran = prm(*arguments)
    assert (ran.code, ran.out) == (2, ""), ran.err


@pytest.mark.parametrize("table", ["dead_letter_actions", "parked_event_actions"])
@pytest.mark.parametrize("change", ["DELETE FROM {}", "UPDATE {} SET actor = 'me'", "TRUNCATE {}"])
def test_what_was_done_cannot_be_changed(migrated: Settings, desk: Desk, prm: Prm, table: str, change: str) -> None:
    options = f"-c search_path={migrated.store_schema}"
    with (
        psycopg.connect(migrated.postgres, options=options) as owner,
        pytest.raises(psycopg.Error, match="append-only"),
    ):
        owner.execute(change.format(table).encode())
    for role in ("writer", "projector", "auditor"):
        with psycopg.connect(migrated.dsn(role), autocommit=True) as worker:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                worker.execute(change.format(table).encode())
            with pytest.raises(psycopg.errors.InsufficientPrivilege):  # nor can it choose the time
                worker.execute(f"INSERT INTO {table} (done_at) VALUES (now())".encode())


def test_the_log_and_its_chain_are_whole_after_all_of_it(migrated: Settings, handling: None) -> None:
    check_log(migrated)


def test_the_handler_still_runs(migrated: Settings, desk: Desk, prm: Prm, handling: None) -> None:
    letter = failed(desk, replace(partner(), id=str(uuid4())))
    until(lambda: prm("retry", letter, *BY).code == 0 or json.dumps(state(prm, letter)) == '"answered"', "answered")
