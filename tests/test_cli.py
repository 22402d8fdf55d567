"""The command line as people use it: what it prints, what it refuses, and with which exit code it ends."""

import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import typer.main
from psycopg import sql
from psycopg.conninfo import make_conninfo

from prm_es import cli, logs, status
from prm_es.api.show import SHOWN
from prm_es.install import install
from prm_es.messages import Actor, Envelope, Role, aggregate_id, structured_command
from prm_es.projections.registry import ORDERED, READ_MODELS
from prm_es.settings import Settings
from prm_es.store.store import Store
from tests.support import Desk, changed, command, opening, partner, rows, today
from tests.workers import Crew

ACME, FORMULA = UUID(int=11), UUID(int=12)
BIG, SMALL, WON = UUID(int=21), UUID(int=22), UUID(int=23)
NASTY = '=HYPERLINK("http://evil.example","x")'


@dataclass(frozen=True)
class Ran:
    """How a call of the command line ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)

    def csv(self) -> list[dict[str, str]]:
        assert self.code == 0, self.err
        return list(csv.DictReader(io.StringIO(self.out)))


Prm = Callable[..., Ran]


def environment(settings: Settings) -> dict[str, str]:
    return {
        "PRM_KAFKA": settings.kafka,
        "PRM_POSTGRES": settings.postgres,
        "PRM_PREFIX": settings.prefix,
        "PRM_DATA": str(settings.data),
    }


def in_process(env: dict[str, str], *arguments: str, stdin: bytes = b"") -> Ran:
    """Run `prm-es` here, as its own process would: starting one takes seconds."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        for name in [name for name in os.environ if name.startswith("PRM_")]:
            patch.delenv(name)
        for name, text in env.items():
            patch.setenv(name, text)
        patch.setattr(sys, "argv", ["prm-es", *arguments])
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        patch.setattr(logs, "configure", lambda *_arguments, **_named: None)
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
    return Ran(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def served(migrated: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Give the settings of an installation whose workers run."""
    install(migrated)
    with Crew(migrated, tmp_path_factory.mktemp("workers")) as crew:
        folded = [name for name in READ_MODELS if name not in ORDERED]
        for arguments in (("handle",), ("publish",), ("project", *folded), *((name,) for name in ORDERED)):
            crew.start(*arguments)
        yield migrated


@pytest.fixture(scope="module")
def bare(served: Settings) -> Prm:
    def run(*arguments: str, stdin: bytes = b"", **env: str) -> Ran:
        return in_process({**environment(served), **env}, *arguments, stdin=stdin)

    return run


def lines(*commands: Envelope) -> bytes:
    return b"".join(json.dumps(structured_command(sent)).encode() + b"\n" for sent in commands)


WORLD = (
    # The deals stand first: they are sent after the partners that they name.
    opening(
        ACME, BIG, name='Big, "bold" deal', amount={"amount": "12345678.90", "currency": "BRL"},
        stage="qualified", contact={"name": "Rui Xavier", "email": "rui@sul.example"}, expected_close_on=today(30),
        business_problem="Their stock counts are two weeks old when they arrive.",
    ),
    opening(FORMULA, SMALL, name=NASTY, amount={"amount": "5.25", "currency": "USD"}, competitors=["=1+1"]),
    opening(ACME, WON, name="Won deal", customer={"name": "Lojas Norte"}),
    partner(ACME, legal_name="Acme Ltda", territories=["South"]),
    partner(FORMULA, legal_name="+Plus [red]Tools[/]", territories=["North", "East"]),
    command(
        "opportunity.win",
        WON,
        {"final_amount": {"amount": "100.00", "currency": "BRL"}, "order_reference": "PO-1", "closed_on": today()},
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def prm(bare: Prm, tmp_path_factory: pytest.TempPathFactory) -> Prm:
    """Give the command line once the world is told and has arrived in the read model."""
    file = tmp_path_factory.mktemp("world") / "world.jsonl"
    file.write_bytes(lines(*WORLD))
    sent = bare("send", str(file), "--wait")
    assert (sent.code, sent.out) == (0, ""), sent.err
    assert "6 sent, 6 accepted, 0 refused, 0 dead-lettered" in sent.err
    assert bare("wait", "--timeout", "60").code == 0
    return bare


# Sending


def test_what_was_refused_is_reported_and_written_to_a_file(prm: Prm, tmp_path: Path) -> None:
    good = opening(ACME)
    known = partner(ACME)
    bad = opening(ACME, expected_close_on="2001-01-01")
    forbidden = opening(ACME, actor=Actor("max", Role.AUDITOR))
    refusals = tmp_path / "refused.jsonl"
    ran = prm("send", "--wait", "--refusals", str(refusals), stdin=lines(good, known, bad, forbidden))
    assert ran.code == 1
    assert "4 sent, 1 accepted, 3 refused, 0 dead-lettered" in ran.err
    written = [json.loads(line) for line in refusals.read_text().splitlines()]
    assert {(one["command"]["id"], one["code"]) for one in written} == {
        (known.id, "aggregate.already_exists"),
        (bad.id, "command.invalid"),
        (forbidden.id, "actor.forbidden"),
    }
    (errors,) = (one["errors"] for one in written if one["command"]["id"] == bad.id)
    assert [(error["field"], error["code"]) for error in errors] == [("expected_close_on", "past")]
    assert refusals.stat().st_mode & 0o077 == 0

    # What the file holds can be put right and sent again.
    again = [json.dumps(one["command"] | {"id": str(uuid4())}).encode() for one in written]
    ran = prm("send", "-", "--wait", stdin=b"\n".join(again))
    assert (ran.code, "3 sent, 0 accepted, 3 refused" in ran.err) == (1, True)


def test_a_dead_letter_is_reported_too(prm: Prm) -> None:
    unreadable = lines(opening(ACME)).replace(b'"actor": "carla", ', b"")
    ran = prm("send", "--no-check", "--wait", stdin=unreadable)
    assert (ran.code, "1 dead-lettered" in ran.err) == (1, True)
    assert "message.actor" in ran.err


def test_sending_the_same_file_twice_changes_nothing(prm: Prm, served: Settings) -> None:
    before = rows(served, "SELECT last_position FROM commits ORDER BY number DESC LIMIT 1")
    ran = prm("send", "--wait", stdin=lines(*WORLD))
    assert (ran.code, "6 sent, 6 accepted" in ran.err) == (0, True)
    assert rows(served, "SELECT last_position FROM commits ORDER BY number DESC LIMIT 1") == before


def test_a_reused_id_is_refused(prm: Prm) -> None:
    ran = prm("send", "--wait", stdin=lines(changed(WORLD[2], name="Another name")))
    assert (ran.code, "command.id_reused" in ran.err) == (1, True)


def test_a_bad_line_is_wrong_usage_with_its_number_and_nothing_is_sent(prm: Prm, served: Settings) -> None:
    good = opening(ACME)
    for bad in (b"{", b"[]", b'{"specversion": "1.0"}', lines(opening(ACME)).replace(b".open", b".explode")):
        ran = prm("send", "--wait", stdin=lines(good) + b"\n" + bad)
        assert ran.code == 2
        assert "<stdin>:3:" in ran.err
    assert rows(served, "SELECT 1 FROM commands WHERE id = %s", [good.id]) == []


def test_nothing_to_send_is_done_at_once(prm: Prm) -> None:
    ran = prm("send", "--wait", stdin=b"\n\n")
    assert (ran.code, "0 sent" in ran.err) == (0, True)


# Ids and history


def test_an_id_is_printed_by_the_documented_rule(prm: Prm) -> None:
    ran = prm("id", "opportunity", "crm", "1C1I7A6R")
    assert (ran.code, ran.out.strip()) == (0, str(aggregate_id("opportunity", "crm", "1C1I7A6R")))
    ran = prm("id", "unicorn", "crm", "1")
    assert (ran.code, ran.out) == (2, "")
    assert "partner, lead, opportunity, conflict" in ran.err


def test_history_tells_who_did_what_in_clear(prm: Prm) -> None:
    told = prm("history", "opportunity", str(BIG), "--format", "json").json()
    assert [(row["version"], row["what"], row["actor"]) for row in told] == [(1, "opened", "carla (channel_manager)")]
    assert "rui@sul.example" in told[0]["details"]
    assert told[0]["at"].endswith("Z")
    table = prm("history", "opportunity", str(WON))
    assert (table.code, "won" in table.out, "(2 rows)" in table.out) == (0, True, True)
    missing = prm("history", "opportunity", str(uuid4()))
    assert (missing.code, "there is no opportunity" in missing.err) == (2, True)
    assert prm("history", "opportunity", "no-id").code == 2


# Showing


def names(ran: Ran) -> list[str]:
    return [row["name"] for row in ran.json()]


OURS = ("--partner", str(ACME))


def test_opportunities_are_filtered(prm: Prm) -> None:
    def shown(*filters: str) -> set[str]:
        found = prm("show", "opportunities", "--format", "json", *filters).json()
        return {row["opportunity_id"] for row in found} & {str(BIG), str(SMALL), str(WON)}

    assert shown() == {str(BIG), str(SMALL), str(WON)}
    assert shown("--stage", "qualified") == {str(BIG)}
    assert shown("--status", "won") == {str(WON)}
    assert shown("--partner", "acme") == {str(BIG), str(WON)}
    assert shown("--partner", str(FORMULA)) == {str(SMALL)}
    assert shown("--partner", "%") == set()
    assert shown("--territory", "East") == {str(SMALL)}
    assert shown("--period", today()[:7], "--status", "won") == {str(WON)}
    assert shown("--period", f"{today(29)}..{today(31)}") == {str(BIG)}
    assert shown("--period", "1999") == set()
    assert shown("--partner", "acme", "--stage", "qualified", "--territory", "South") == {str(BIG)}


def test_opportunities_are_sorted_and_cut(prm: Prm) -> None:
    up = names(prm("show", "opportunities", *OURS, "--sort", "name", "--format", "json"))
    down = names(prm("show", "opportunities", *OURS, "--sort", "-name", "--format", "json"))
    assert up == list(reversed(down))
    most = prm("show", "opportunities", *OURS, "--sort", "-amount", "--limit", "1", "--format", "json").json()
    assert [(row["name"], row["amount"]) for row in most] == [('Big, "bold" deal', "12345678.90")]


def test_csv_is_exact_and_runs_nothing_in_a_spreadsheet(prm: Prm) -> None:
    found = {row["opportunity_id"]: row for row in prm("show", "opportunities", "--format", "csv").csv()}
    assert found[str(SMALL)]["name"] == f"'{NASTY}"
    assert found[str(SMALL)]["partner"].startswith("'+Plus")
    assert found[str(BIG)]["amount"] == "12345678.90"
    assert found[str(BIG)]["name"] == 'Big, "bold" deal'


def test_a_table_shows_names_as_they_are(prm: Prm) -> None:
    ran = prm("show", "partners")
    assert (ran.code, "+Plus [red]Tools[/]" in ran.out) == (0, True)
    assert "(2 rows)" in ran.out
    assert "12,345,678.90" in prm("show", "opportunities").out


def test_the_pipeline_is_summed_by_what_is_asked_for(prm: Prm) -> None:
    found = prm("show", "pipeline", "--by", "partner,status", "--status", "won", "--format", "json").json()
    assert found == [
        {
            "partner": "Acme Ltda", "status": "won", "currency": "BRL", "opportunities": 1,
            "amount": "100.00", "weighted_amount": found[0]["weighted_amount"],
        }
    ]  # fmt: skip
    stages = [row["stage"] for row in prm("show", "pipeline", "--format", "json").json()]
    order = ["prospect", "qualified", "won"]
    assert stages == sorted(stages, key=order.index)


@pytest.mark.parametrize(
    "arguments",
    [
        ("unicorns",),
        ("opportunities", "--stage", "nirvana"),
        ("opportunities", "--sort", "colour"),
        ("opportunities", "--sort", "name; DROP TABLE x"),
        ("opportunities", "--period", "2026-13"),
        ("opportunities", "--period", "yesterday"),
        ("opportunities", "--period", "0000"),
        ("opportunities", "--period", "2026-01-01..now"),
        ("opportunities", "--limit", "0"),
        ("opportunities", "--format", "xml"),
        ("partners", "--stage", "won"),
        ("partners", "--period", "2026"),
        ("leads", "--stage", "won"),
        ("protected-customers", "--sort", "colour"),
        ("pipeline", "--by", "colour"),
        ("pipeline", "--by", ""),
        ("pipeline", "--sort", "name"),
        (),
    ],
)
def test_what_cannot_be_shown_is_wrong_usage(prm: Prm, arguments: tuple[str, ...]) -> None:
    ran = prm("show", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert "Traceback" not in ran.err
    assert ran.err.strip()


@pytest.mark.parametrize("text", ["'", '"', "\\", "%_", "%(first)s", "%s", "é ' OR 1=1 --"])
def test_a_filter_is_a_text_and_nothing_else(prm: Prm, text: str) -> None:
    for name in ("--partner", "--status", "--territory"):
        assert prm("show", "opportunities", name, text, "--format", "json").json() == []


# SQL


@pytest.fixture(scope="module")
def reader(served: Settings) -> str:
    """Give the connection string of somebody who can log in as the reader and as nobody else."""
    role = sql.Identifier(served.db_role("reader"))
    with psycopg.connect(served.postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD 'reading'").format(role))
    return make_conninfo(served.postgres, user=served.db_role("reader"), password="reading")


def test_sql_answers_in_each_format(prm: Prm) -> None:
    query = "SELECT name, amount, closed_on FROM opportunities WHERE status = 'won'"
    assert prm("sql", query, "--format", "json").json() == [
        {"name": "Won deal", "amount": "100.00", "closed_on": today()}
    ]
    assert prm("sql", query, "--format", "csv").csv() == [
        {"name": "Won deal", "amount": "100.00", "closed_on": today()}
    ]
    assert "(1 row)" in prm("sql", query).out
    assert prm("sql", "SELECT '100%' AS share", "--format", "json").json() == [{"share": "100%"}]


CHANGES = [
    "INSERT INTO opportunities (name) VALUES ('x')",
    "UPDATE opportunities SET name = 'x'",
    "DELETE FROM opportunities",
    "WITH gone AS (DELETE FROM {store}.keys RETURNING *) SELECT * FROM gone",
    "TRUNCATE {store}.events",
    "CREATE TABLE mine (id int)",
    "CREATE TEMP TABLE mine (id int)",
    "DROP VIEW opportunities",
    "SELECT name INTO mine FROM opportunities",
    "SELECT 1; SELECT 2",
    "SELECT 1; RESET ROLE; SELECT * FROM {store}.keys",
    "RESET ROLE; SELECT * FROM {store}.keys",
    "COMMIT; SELECT * FROM {store}.keys",
    "SELECT * FROM {store}.keys",
    "SELECT * FROM {store}.events",
    "SELECT * FROM {store}.store_info",
    "SELECT * FROM {projections}.dead_letters",
    "TABLE {store}.commands",
    "COPY (SELECT 1) TO '/tmp/prm-es-copied'",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "COPY (SELECT 1) TO STDOUT",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT FROM nowhere",
    "SELEKT",
    "SELECT $1",
    "SELECT '\x00'",
    "GRANT ALL ON {store}.keys TO PUBLIC",
    "SELECT set_config('role', 'none', false) FROM {store}.keys",
    "SELECT set_config('transaction_read_only', 'off', false), nextval('x')",
]
ESCAPES = [
    "SELECT set_config('role', 'none', false), query_to_xml('SELECT * FROM {store}.keys', true, true, '')",
    "SELECT set_config('role', '{writer}', false)",
    "SELECT set_config('session_authorization', '{owner}', false)",
    "SET ROLE {owner}",
    "SET SESSION AUTHORIZATION {owner}",
    "DO $$ BEGIN EXECUTE 'RESET ROLE'; PERFORM * FROM {store}.keys; END $$",
    "DO $$ BEGIN EXECUTE 'SET ROLE {owner}'; EXECUTE 'DELETE FROM {projections}.checkpoints'; END $$",
]


def named(query: str, settings: Settings) -> str:
    names = {
        "store": settings.store_schema,
        "projections": settings.projections_schema,
        "writer": settings.db_role("writer"),
        "owner": settings.db_role("owner"),
    }
    return query.format(**names) if "{" in query else query


@pytest.mark.parametrize("query", CHANGES)
@pytest.mark.parametrize("login", [False, True])
def test_sql_neither_changes_nor_sees_what_it_should_not(
    prm: Prm, served: Settings, reader: str, query: str, login: bool
) -> None:
    ran = prm("sql", named(query, served), **({"PRM_POSTGRES_READER": reader} if login else {}))
    assert (ran.code, ran.out) == (2, ""), ran.err
    assert "Traceback" not in ran.err
    assert ran.err.startswith("prm-es: ")


@pytest.mark.parametrize("query", ESCAPES)
def test_a_reader_who_logs_in_as_such_cannot_become_anybody_else(
    prm: Prm, served: Settings, reader: str, query: str
) -> None:
    ran = prm("sql", named(query, served), PRM_POSTGRES_READER=reader)
    assert (ran.code, ran.out) == (2, ""), ran.err
    assert "permission denied" in ran.err


def test_a_role_given_up_comes_back_with_the_next_statement(prm: Prm, served: Settings) -> None:
    for query in ("RESET ROLE", "SET search_path = pg_catalog", "ROLLBACK", "COMMIT"):
        prm("sql", query)
    user = prm("sql", "SELECT current_user AS name", "--format", "json").json()
    assert user == [{"name": served.db_role("reader")}]


# Status


def test_status_says_how_far_everything_is(prm: Prm, served: Settings) -> None:
    assert prm("wait", "--timeout", "60").code == 0
    found = prm("status", "--json").json()
    head = rows(served, "SELECT last_position FROM commits ORDER BY number DESC LIMIT 1")[0]["last_position"]
    assert (found["head"], found["published"], found["unpublished"], found["unanswered"]) == (head, head, 0, 0)
    assert found["settled"] is True
    assert found["accepted"] == len(rows(served, "SELECT 1 FROM commands WHERE outcome = 'accepted'"))
    assert found["refused"] == len(rows(served, "SELECT 1 FROM commands WHERE outcome = 'refused'"))
    assert found["dead_letters"] == len(rows(served, "SELECT 1 FROM dead_letters"))
    models = {one["name"]: (one["as_of"], one["behind_events"], one["parked"]) for one in found["read_models"]}
    assert models == dict.fromkeys(READ_MODELS, (head, 0, 0))
    assert found["addresses"]["kafka"] == served.kafka
    assert "password" not in json.dumps(found)
    text = prm("status")
    assert (text.code, f"position {head}" in text.out, "dead letters" in text.out) == (0, True, True)


def test_status_says_which_server_is_away_and_what_can_be_told_without_it(served: Settings) -> None:
    gone = {"PRM_KAFKA": "127.0.0.1:1"}
    ran = in_process({**environment(served), **gone}, "status", "--json")
    assert ran.code == 3
    found = json.loads(ran.out)
    assert found["servers"]["PostgreSQL"]["answers"] is True
    assert found["servers"]["Kafka"] == {
        "address": "127.0.0.1:1",
        "answers": False,
        "away_since": None,  # nobody watches this installation
        "reason": "no answer within 3 s (KafkaTimeoutError)",
    }
    assert (found["unanswered"], found["settled"], found["head"] > 0) == (None, False, True)
    ran = in_process({**environment(served), "PRM_POSTGRES": "postgresql://nobody@127.0.0.1:1/none"}, "status")
    assert (ran.code, ran.err) == (3, "")
    assert ran.out.splitlines() == [
        f"kafka        {served.kafka}",
        "postgresql   127.0.0.1:1/none, away: connection refused",
    ]


def test_status_is_given_though_a_server_answers_one_question_and_not_the_next(
    served: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "away", lambda _settings: {})
    found, gone = status.look(served.model_copy(update={"kafka": "127.0.0.1:1"}))
    assert found
    assert (found.settled, [*gone]) == (False, ["Kafka"])
    dsn = make_conninfo(served.dsn("auditor"), host="127.0.0.1", port=1)
    found, gone = status.look(served.model_copy(update={"postgres_auditor": dsn}))
    assert (found, [*gone]) == (None, ["PostgreSQL"])


def test_wait_says_what_it_waited_for_in_vain(prm: Prm, served: Settings) -> None:
    """Events that no publisher of this installation will publish: those of a store written without one."""
    other = served.model_copy(update={"prefix": f"{served.prefix}w"})
    try:
        assert in_process({**environment(served), "PRM_PREFIX": other.prefix}, "migrate").code == 0
        assert in_process({**environment(served), "PRM_PREFIX": other.prefix}, "topics").code == 0
        with Store(other) as store:
            Desk(store).accepted(partner())
        ran = in_process({**environment(served), "PRM_PREFIX": other.prefix}, "wait", "--timeout", "0.3")
        assert ran.code == 3
        assert "1 events unpublished" in ran.err
        # A second time there is nothing left to do.
        ran = in_process({**environment(served), "PRM_PREFIX": other.prefix}, "migrate")
        assert "migrations applied: none; read models made: none" in ran.err
        ran = in_process({**environment(served), "PRM_PREFIX": other.prefix}, "topics")
        assert "topics made: none" in ran.err
    finally:
        with psycopg.connect(served.postgres, autocommit=True) as connection:
            for role in ("owner", "writer", "projector", "reader", "auditor"):
                identifier = sql.Identifier(f"{other.prefix}_{role}")
                connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(identifier))
                connection.execute(sql.SQL("DROP ROLE {}").format(identifier))


# Servers that are away, and wrong settings


@pytest.mark.parametrize(
    "arguments",
    [("show", "partners"), ("sql", "SELECT 1"), ("history", "partner", str(ACME)), ("migrate",)],
)
def test_a_database_that_is_away_is_exit_code_3(prm: Prm, arguments: tuple[str, ...]) -> None:
    ran = prm(*arguments, PRM_POSTGRES="postgresql://nobody@127.0.0.1:1/none")
    assert (ran.code, ran.out) == (3, "")
    assert "Connection refused" in ran.err
    assert ran.err.startswith("prm-es: ")
    assert "Traceback" not in ran.err


def test_without_anything_running_one_is_told_how_to_start_it(tmp_path: Path) -> None:
    for arguments in (("status",), ("show", "partners"), ("wait",), ("rebuild", "pipeline")):
        ran = in_process({"PRM_DATA": str(tmp_path)}, *arguments)
        assert (ran.code, "prm-es up" in ran.err) == (3, True), ran.err


@pytest.mark.parametrize(
    ("name", "text"), [("PRM_PREFIX", "Not A Prefix"), ("PRM_LOG_LEVEL", "loud"), ("PRM_KAFKA_REPLICATION", "0")]
)
def test_a_wrong_setting_is_named(prm: Prm, name: str, text: str) -> None:
    ran = prm("status", **{name: text})
    assert (ran.code, name in ran.err) == (2, True)


@pytest.mark.parametrize(
    "arguments", [("explode",), ("--explode",), ("send", "/nowhere.jsonl"), ("wait", "--timeout", "0")]
)
def test_what_is_not_a_verb_or_a_file_is_wrong_usage(prm: Prm, arguments: tuple[str, ...]) -> None:
    ran = prm(*arguments)
    assert (ran.code, ran.out) == (2, "")


def test_without_a_verb_the_verbs_are_listed(prm: Prm) -> None:
    ran = prm("--help")
    assert (ran.code, all(verb[0] in ran.out for verb in VERBS)) == (0, True)


def verbs(group: Any, *above: str) -> Iterator[tuple[str, ...]]:
    """Give the verbs of the program, those of groups with the group's name before them."""
    for name, verb in sorted(group.commands.items()):
        yield from verbs(verb, *above, name) if hasattr(verb, "commands") else [(*above, name)]


VERBS = list(verbs(typer.main.get_command(cli.app)))


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_has_help_with_an_example(verb: tuple[str, ...]) -> None:
    ran = in_process({}, *verb, "--help")
    assert ran.code == 0
    assert re.search(rf"Example: (PRM_\w+=\S+ )?prm-es {' '.join(verb)}\b", ran.out)


# A process of its own


def spawned(settings: Settings, *arguments: str, **env: str) -> tuple[int, str]:
    """Run `prm-es` on a terminal of its own; gives its exit code and all that it wrote."""
    master, slave = pty.openpty()
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(("PRM_", "NO_COLOR"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "prm_es", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=slave,
        env={**inherited, "TERM": "xterm-256color", "COLUMNS": "200", **environment(settings), **env},
    )
    os.close(slave)
    written = b""
    while True:
        try:
            read = os.read(master, 65536)
        except OSError:  # the terminal's other end is closed
            break
        if not read:
            break
        written += read
    os.close(master)
    return process.wait(timeout=60), written.decode("utf-8", "replace")


COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]")


def test_a_terminal_gets_a_progress_bar_and_no_colour_if_it_wants_none(
    prm: Prm, served: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "world.jsonl"
    file.write_bytes(lines(*WORLD))
    coloured = spawned(served, "send", str(file), "--wait")
    plain = spawned(served, "send", str(file), "--wait", NO_COLOR="1")
    assert (coloured[0], plain[0]) == (0, 0)
    assert all("sending" in text and "6 accepted" in text for _code, text in (coloured, plain))
    assert COLOUR.search(coloured[1])
    assert not COLOUR.search(plain[1])


def test_exit_codes_and_streams_of_a_real_process(prm: Prm, served: Settings) -> None:
    env = {**{name: text for name, text in os.environ.items() if not name.startswith("PRM_")}, **environment(served)}
    argv = [sys.executable, "-m", "prm_es"]
    wrong = subprocess.run([*argv, "show", "unicorns"], env=env, capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == f"prm-es: there is no unicorns to show; there are: {', '.join(SHOWN)}\n"
    query = "SELECT count(*) AS n FROM partners"
    right = subprocess.run(
        [*argv, "sql", query, "--format", "csv"], env=env, capture_output=True, text=True, check=False
    )
    assert (right.returncode, right.stdout, right.stderr) == (0, "n\n2\n", "")
