"""The log cannot be changed, its positions have no gaps, and nobody loses an update."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import reduce
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from eventsourcing.persistence import IntegrityError
from psycopg import errors, sql

from prm_es.aggregates import catalogue
from prm_es.availability import ask, question_of
from prm_es.errors import SchemaMismatch, Unavailable
from prm_es.settings import DB_ROLES, DbRole, Settings
from prm_es.store.migrate import known, migrate
from prm_es.store.recorder import from_notification
from prm_es.store.store import Batch, NewEvent, Store, Writes
from tests.support import MANAGER, Desk, check_log, command, opening, partner, refusal, rows

APPEND_ONLY = ("events", "commits", "commands", "reused_ids", "dead_letters", "availability_questions")
FIRST_COLUMN = {
    "events": "topic",
    "commits": "number",
    "commands": "id",
    "reused_ids": "id",
    "dead_letters": "code",
    "availability_questions": "code",
}
DENIED = r"permission denied|does not exist|no schema"
CHANGES = ("UPDATE {table} SET {column} = {column}", "DELETE FROM {table}", "TRUNCATE {table} CASCADE")


@pytest.fixture(scope="module")
def filled(migrated: Settings) -> Settings:
    """Give the settings of a store that has rows in each of its append-only tables."""
    with Store(migrated) as store:
        desk = Desk(store)
        sent = partner()
        desk.accepted(sent, opening(sent.subject))
        desk.give(desk.raw(b"junk"))
        desk.ask(command("partner.suspend", sent.subject, {"reason": "unpaid"}, source=sent.source, id=sent.id))
        ask(store, question_of((), ("C-1",), ()), MANAGER)
    for table in APPEND_ONLY:
        assert rows(migrated, f"SELECT 1 FROM {table}")
    return migrated


@pytest.fixture
def store(filled: Settings) -> Iterator[Store]:
    with Store(filled) as opened:
        yield opened
    check_log(filled)


@contextmanager
def connected(settings: Settings, role: DbRole | None, **given: Any) -> Iterator[psycopg.Connection[Any]]:
    """Connect as a role, or as the superuser; what is done is never committed."""
    dsn = settings.dsn(role) if role else settings.postgres
    with psycopg.connect(dsn, **given) as connection:
        if role is None:
            connection.execute(sql.SQL("SET search_path = {}").format(sql.Identifier(settings.store_schema)))
        yield connection
        connection.rollback()


def statement(change: str, table: str) -> bytes:
    return change.format(table=table, column=FIRST_COLUMN[table]).encode()


# Nothing is changed


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("role", ["writer", "projector", "reader", "auditor"])
def test_no_worker_may_change_what_is_written(filled: Settings, role: DbRole, change: str, table: str) -> None:
    denied = f"permission denied for (table {table}|schema)" if role != "reader" else "does not exist|permission denied"
    with connected(filled, role) as connection, pytest.raises(psycopg.Error, match=denied):
        connection.execute(statement(change, table))


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("role", ["owner", None])
@pytest.mark.parametrize("replica", [False, True])
def test_not_even_the_owner_or_a_superuser_changes_what_is_written(
    filled: Settings, role: DbRole | None, change: str, table: str, replica: bool
) -> None:
    with connected(filled, None) as connection:
        if replica:
            connection.execute("SET session_replication_role = replica")
        if role:
            connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(filled.db_role(role))))
        with pytest.raises(errors.InsufficientPrivilege, match=f"{table} is append-only"):
            connection.execute(statement(change, table))


@pytest.mark.parametrize("role", ["projector", "reader", "auditor"])
@pytest.mark.parametrize("table", APPEND_ONLY)
def test_only_the_writer_may_write(filled: Settings, role: DbRole, table: str) -> None:
    with connected(filled, role) as connection, pytest.raises(psycopg.Error, match=DENIED):
        connection.execute(f"INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM {table}".encode())


HIDDEN = [*(table for table in APPEND_ONLY if table != "commits"), "keys", "store_info", "partner_identifiers"]


@pytest.mark.parametrize("table", HIDDEN)
def test_the_reader_sees_nothing_of_the_store(filled: Settings, table: str) -> None:
    with connected(filled, "reader") as connection, pytest.raises(errors.InsufficientPrivilege):
        connection.execute(f"SELECT 1 FROM {filled.store_schema}.{table}".encode())


def test_of_commits_the_reader_sees_how_far_and_when_alone(filled: Settings) -> None:
    with connected(filled, "reader") as connection:
        connection.execute("SELECT number, first_position, last_position, recorded_at FROM commits")
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute("SELECT digest FROM commits")


def test_the_projector_does_not_see_what_digests_are_keyed_with(filled: Settings) -> None:
    with connected(filled, "projector") as connection:
        connection.execute("SELECT store_id FROM store_info")
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute("SELECT digest_key FROM store_info")


def test_no_worker_owns_anything(filled: Settings) -> None:
    owners = rows(
        filled,
        "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname LIKE %s AND tablename <> 'schema_migrations'",
        [f"{filled.prefix}%"],
    )
    assert owners == [{"tableowner": filled.db_role("owner")}]
    for role in ("writer", "projector", "reader", "auditor"):
        with connected(filled, role) as connection, pytest.raises(psycopg.Error, match=DENIED):
            connection.execute("CREATE TABLE mine (id int)")


# Positions and commits follow one another


def insert(connection: psycopg.Connection[Any], *positions: int) -> None:
    values = [(uuid4(), position) for position in positions]
    query = "INSERT INTO events VALUES " + ", ".join(["(%s, 1, 'prm.x', '', %s)"] * len(values))
    connection.execute(query.encode(), [part for row in values for part in row])


@pytest.mark.parametrize("steps", [(2,), (1, 3), (0,), (-100,), (1, 2, 4)])
@pytest.mark.parametrize("role", ["writer", None])
@pytest.mark.parametrize("replica", [False, True])
def test_a_position_that_does_not_follow_is_refused(
    filled: Settings, steps: tuple[int, ...], role: DbRole | None, replica: bool
) -> None:
    if replica and role:
        pytest.skip("the writer may not set it")
    head = int(rows(filled, "SELECT max(notification_id) AS head FROM events")[0]["head"])
    with connected(filled, role) as connection:
        if replica:
            connection.execute("SET session_replication_role = replica")
        with pytest.raises(errors.IntegrityError):
            insert(connection, *(head + step for step in steps))


def test_positions_that_follow_are_taken_in_any_order_of_rows(filled: Settings) -> None:
    head = int(rows(filled, "SELECT max(notification_id) AS head FROM events")[0]["head"])
    with connected(filled, "writer") as connection:
        insert(connection, head + 2, head + 1, head + 3)
        insert(connection, head + 4)


def test_the_writer_cannot_switch_the_triggers_off(filled: Settings) -> None:
    for attempt in (
        "SET session_replication_role = replica",
        "ALTER TABLE events DISABLE TRIGGER ALL",
        "DROP TRIGGER append_only ON events",
        "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE sql AS ''",
    ):
        with connected(filled, "writer") as connection, pytest.raises(errors.InsufficientPrivilege):
            connection.execute(attempt.encode())


@pytest.mark.parametrize(
    "values",
    [
        "number + 2, NULL, last_position, recorded_at",
        "number, NULL, last_position, recorded_at",
        "number + 1, last_position + 2, last_position + 3, recorded_at",
        "number + 1, last_position, last_position + 1, recorded_at",
        "number + 1, NULL, last_position + 1, recorded_at",
        "number + 1, last_position + 1, last_position, recorded_at",
        "number + 1, NULL, last_position - 1, recorded_at",
        "number + 1, NULL, last_position, recorded_at - interval '1 microsecond'",
    ],
)
@pytest.mark.parametrize("role", ["writer", None])
def test_a_commit_that_does_not_follow_is_refused(filled: Settings, values: str, role: DbRole | None) -> None:
    with connected(filled, role) as connection:
        if role is None:
            connection.execute("SET session_replication_role = replica")
        last = "FROM commits ORDER BY number DESC LIMIT 1"
        with pytest.raises(errors.IntegrityError):
            connection.execute(f"INSERT INTO commits SELECT {values}, '' {last}".encode())
    with connected(filled, role) as connection:
        follows = "number + 1, last_position + 1, last_position + 2, recorded_at"
        connection.execute(f"INSERT INTO commits SELECT {follows}, '' {last}".encode())


# One writer at a time


def test_writers_at_the_same_time_leave_no_gap_and_lose_no_update(filled: Settings) -> None:
    shared, each = partner(), 12
    with Store(filled) as store:
        Desk(store).accepted(shared)

    def hammer(number: int) -> int:
        done, version, refused = 0, 1, 0
        with Store(filled) as store:
            desk = Desk(store, topic=f"hammer-{number}")
            while done < each:
                tier = {"tier": f"{number}-{done}", "reason": "hammering"}
                sent = command("partner.change_tier", shared.subject, tier, expected_version=version)
                answer, _own, dead = (
                    *desk.ask(sent, partner()),
                    desk.give(desk.raw(b"junk"))[0],
                )
                assert dead.dead
                if answer["outcome"] == "accepted":
                    version, done = answer["version"], done + 1
                else:
                    assert refusal(answer) == ("aggregate.version_conflict", [])
                    version, refused = int(re.findall(r"\d+", answer["message"])[-1]), refused + 1
        return refused

    with ThreadPoolExecutor(4) as threads:
        refused = sum(threads.map(hammer, range(4)))
    assert refused > 0
    with Store(filled, "auditor") as store:
        events = store.stream(shared.subject)
        assert [event.version for event in events] == list(range(1, 4 * each + 2))
        tiers = [catalogue.parse_event(event.type, event.data) for event in events[1:]]
        assert len({getattr(event, "tier", None) for event in tiers}) == 4 * each
        # Each saw what the one before it had written.
        pairs = pairwise(tiers)
        assert all(getattr(new, "previous", None) == getattr(old, "tier", None) for old, new in pairs)
    check_log(filled)


def write_and_fail(batch: Batch) -> None:
    batch.write(Writes(events=[NewEvent(uuid4(), 1, "prm.partner.approved.v1", b"{}")]))
    raise ZeroDivisionError


def test_a_batch_that_fails_leaves_nothing(store: Store, filled: Settings) -> None:
    before = store.head()
    event = NewEvent(uuid4(), 1, "prm.partner.approved.v1", b"{}")
    with pytest.raises(IntegrityError), store.batch() as batch:
        batch.write(Writes(events=[event, event]))
    with pytest.raises(ZeroDivisionError), store.batch() as batch:
        write_and_fail(batch)
    assert store.head() == before


def test_an_empty_batch_writes_no_commit(store: Store, filled: Settings) -> None:
    before = rows(filled, "SELECT max(number) AS number FROM commits")
    with store.batch() as batch:
        batch.write(Writes())
    assert rows(filled, "SELECT max(number) AS number FROM commits") == before


@pytest.mark.parametrize("role", ["writer", "projector"])
def test_workers_look_up_by_key_in_a_log_of_which_the_planner_knows_nothing(filled: Settings, role: DbRole) -> None:
    query = "EXPLAIN SELECT state FROM unnest(%s::uuid[]) AS asked (id) JOIN events ON originator_id = asked.id"
    with psycopg.connect(filled.dsn(role)) as connection:
        plan = "\n".join(row[0] for row in connection.execute(query, ([uuid4() for _ in range(300)],)))
    assert "Index" in plan
    assert "Seq Scan" not in plan


def test_a_lost_connection_is_unavailable_and_the_next_batch_gets_another(store: Store, filled: Settings) -> None:
    desk = Desk(store)

    def cut_off() -> None:
        with store.batch() as batch:
            rows(filled, "SELECT pg_terminate_backend(%s)", [batch._connection.info.backend_pid])
            batch.write(Writes(events=[NewEvent(uuid4(), 1, "prm.x", b"")]))

    with pytest.raises(Unavailable):
        cut_off()
    desk.accepted(partner())


# The schema that this program knows


@pytest.mark.parametrize(
    ("change", "undo", "said"),
    [
        (
            "INSERT INTO schema_migrations VALUES (9999)",
            "DELETE FROM schema_migrations WHERE number = 9999",
            "migration 9999, which this older program does not know",
        ),
        (
            "DELETE FROM schema_migrations WHERE number = (SELECT max(number) FROM schema_migrations)",
            f"INSERT INTO schema_migrations VALUES ({max(known())})",
            "run `prm-es migrate`",
        ),
    ],
    ids=["newer", "older"],
)
@pytest.mark.parametrize("role", ["writer", "auditor", "projector"])
def test_a_worker_does_not_start_on_another_schema(
    filled: Settings, change: str, undo: str, said: str, role: DbRole
) -> None:
    with psycopg.connect(filled.dsn("owner"), options=f"-c search_path={filled.store_schema}") as owner:
        owner.execute("RESET ROLE")
        owner.execute(change.encode())
        owner.commit()
        try:
            with pytest.raises(SchemaMismatch, match=said):
                Store(filled, role)
        finally:
            owner.execute(undo.encode())
    Store(filled, role).close()


def test_migrating_a_newer_database_is_refused(filled: Settings) -> None:
    with psycopg.connect(filled.postgres, autocommit=True, options=f"-c search_path={filled.store_schema}") as owner:
        owner.execute("INSERT INTO schema_migrations VALUES (9999)")
        try:
            with pytest.raises(SchemaMismatch, match="9999"):
                migrate(filled)
        finally:
            owner.execute("DELETE FROM schema_migrations WHERE number = 9999")


def test_a_store_that_was_never_migrated_is_a_schema_mismatch(filled: Settings) -> None:
    other = filled.model_copy(update={"postgres": filled.postgres.replace(filled.prefix, "postgres")})
    with pytest.raises(SchemaMismatch, match="prm-es migrate"):
        Store(other)


def test_migrating_twice_changes_nothing(filled: Settings, store: Store) -> None:
    before = rows(filled, "SELECT * FROM schema_migrations ORDER BY number")
    assert migrate(filled) == []
    assert rows(filled, "SELECT * FROM schema_migrations ORDER BY number") == before
    assert [row["number"] for row in before] == sorted(known())


def test_four_processes_that_migrate_at_once_all_succeed(filled: Settings) -> None:
    prefix = f"{filled.prefix}m"
    env = {name: text for name, text in os.environ.items() if not name.startswith("PRM_")}
    env |= {"PRM_POSTGRES": filled.postgres, "PRM_PREFIX": prefix}
    code = "from prm_es.settings import Settings; from prm_es.store.migrate import migrate; print(migrate(Settings()))"
    argv, pipe = [sys.executable, "-c", code], subprocess.PIPE
    processes = [subprocess.Popen(argv, env=env, stdout=pipe, stderr=pipe, text=True) for _ in range(4)]
    try:
        said = [process.communicate(timeout=120) for process in processes]
        assert [process.returncode for process in processes] == [0] * 4, said
        assert sorted(out.strip() for out, _ in said) == [str(sorted(known())), "[]", "[]", "[]"]
        other = filled.model_copy(update={"prefix": prefix})
        with Store(other) as store:
            Desk(store).accepted(partner())
        check_log(other)
    finally:
        for process in processes:
            process.kill()
        with psycopg.connect(filled.postgres, autocommit=True) as connection:
            for role in (f"{prefix}_{name}" for name in DB_ROLES):
                identifier = sql.Identifier(role)
                if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone():
                    connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(identifier))
                    connection.execute(sql.SQL("DROP ROLE {}").format(identifier))


# What the library reads


def test_the_library_reads_the_log(store: Store) -> None:
    acme = partner()
    deal = opening(acme.subject)
    Desk(store).accepted(acme, deal, command("opportunity.lose", deal.subject, {"reason": "price"}))
    application, whole = store.application, catalogue.AGGREGATES["opportunity"]

    def project(_initial: Any, events: Iterable[Any]) -> Any:
        parsed = (catalogue.parse_event(event.type, event.data) for event in events)
        return reduce(whole.evolve, parsed, whole.initial)

    state: Any = application.repository.get(deal.subject, projector_func=project)
    assert state.status == "lost"
    first: Any = application.repository.get(deal.subject, version=1, projector_func=project)
    assert first.status == "open"

    recorder, head = application.log_recorder, store.head()
    assert recorder.max_notification_id() == head
    last = recorder.select_notifications(head - 2, 10)
    assert [row.id for row in last] == [head - 2, head - 1, head]
    assert [row.originator_id for row in last] == [acme.subject, deal.subject, deal.subject]
    stored = recorder.select_events(deal.subject)
    assert [row.originator_version for row in stored] == [1, 2]
    section: Any = application.notification_log[f"{head - 2},{head}"]
    assert [item.id for item in section.items][-1] == head
    assert store.events(head - 3, 2) == [*map(from_notification, last[:2])]


def test_the_librarys_own_writing_is_refused(store: Store) -> None:
    with pytest.raises(NotImplementedError):
        store.application.log_recorder.insert_events([])


def test_a_subscription_of_the_library_is_woken_by_a_commit(store: Store, filled: Settings) -> None:
    with (
        Store(filled, "auditor", pool_size=3) as listener,
        listener.application.log_recorder.subscribe(gt=store.head()) as subscription,
    ):
        sent = partner()
        Desk(store).accepted(sent)
        notification: Any = next(iter(subscription))
    assert UUID(str(notification.originator_id)) == sent.subject
