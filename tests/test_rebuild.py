"""A rebuild under fire: readers see the old rows and then the new, never neither; killed, it leaves no trace."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from prm_es import rebuild
from prm_es.errors import AlreadyRunning, Unavailable
from prm_es.install import install
from prm_es.projections.pipeline import MODEL
from prm_es.projections.registry import READ_MODELS
from prm_es.projections.runner import Projector, schema_of
from prm_es.settings import Settings
from prm_es.status import wait
from tests.projections.generations import as_published, checkpoints, contents, live, the_log
from tests.support import partner, rows
from tests.workers import Crew, append, story, until, write

VIEWS = ("opportunities", "pipeline", "partners", "funnel")


@pytest.fixture(scope="module")
def filled(migrated: Settings) -> Settings:
    """Give settings whose read model holds the rows of a log of some thousand events."""
    install(migrated)
    partners, deals = story(150)
    write(migrated, [*partners, *deals])
    rebuild.rebuild(migrated, MODEL)
    return migrated


@pytest.fixture
def crew(filled: Settings, tmp_path: Path) -> Iterator[Crew]:
    with Crew(filled, tmp_path) as crew:
        yield crew


def generations(settings: Settings) -> list[tuple[int, str]]:
    query = f"SELECT generation, status FROM {settings.projections_schema}.generations WHERE name = %s ORDER BY 1"
    return [(row["generation"], row["status"]) for row in rows(settings, query, [MODEL.name])]


def schemas(settings: Settings) -> list[str]:
    query = "SELECT nspname FROM pg_namespace WHERE nspname LIKE %s"
    return [row["nspname"] for row in rows(settings, query, [f"{settings.prefix}\\_pipeline\\_%"])]


def differs(settings: Settings) -> set[int]:
    return set(rebuild.compare(settings, MODEL).differs.values())


def test_rebuilds_follow_each_other_at_once(filled: Settings) -> None:
    for _time in range(5):
        rebuild.rebuild(filled, MODEL)

    def fail(_done: int, _total: int) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        rebuild.rebuild(filled, MODEL, progress=fail)
    assert differs(filled) == {0}


def test_rows_of_an_older_version_are_made_anew_by_installing(filled: Settings) -> None:
    before = contents(filled, live(filled), MODEL)
    older = f"UPDATE {filled.projections_schema}.generations SET version = version - 1 WHERE name = %s RETURNING 1"
    assert rows(filled, older, [MODEL.name])
    done = install(filled)
    assert (done.migrations, done.read_models, done.rebuilt) == ([], [], [MODEL.name])
    assert contents(filled, live(filled), MODEL) == before
    assert install(filled).rebuilt == []


# Readers


@dataclass
class Reader:
    """Reads a view again and again, as a dashboard does; `counts` are what it saw."""

    settings: Settings
    view: str
    counts: list[int] = field(default_factory=list)
    wrong: list[Exception] = field(default_factory=list)
    stop: Event = field(default_factory=Event)

    def read(self) -> None:
        measure = "sum(opportunities)" if self.view == "pipeline" else "count(*)"
        query = f"SELECT {measure} FROM {self.settings.read_schema}.{self.view}"
        try:
            with psycopg.connect(self.settings.dsn("reader"), autocommit=True) as connection:
                while not self.stop.is_set():
                    (row,) = connection.execute(query.encode())
                    self.counts.append(int(row[0] or 0))
        except psycopg.Error as error:
            self.wrong.append(error)


@contextmanager
def reading(settings: Settings) -> Iterator[list[Reader]]:
    readers = [Reader(settings, view) for view in VIEWS]
    threads = [Thread(target=reader.read) for reader in readers]
    for thread in threads:
        thread.start()
    try:
        yield readers
    finally:
        for reader in readers:
            reader.stop.set()
        for thread in threads:
            thread.join()


def test_readers_see_full_rows_throughout_while_writers_run(filled: Settings, crew: Crew) -> None:
    workers = [crew.start("publish"), crew.start("project", "pipeline")]
    _partners, known = story(150)
    _partners, deals = story(260)
    fresh = [one for one in deals if one.subject not in {other.subject for other in known}]
    writer = Thread(target=write, args=(filled, fresh, 60))
    wait(filled, 60, ("pipeline",))
    before = generations(filled)
    with reading(filled) as readers:
        until(lambda: all(reader.counts for reader in readers), "every reader reads")
        writer.start()
        while writer.is_alive():
            rebuild.rebuild(filled, MODEL)
        seen = [len(reader.counts) for reader in readers]
        until(
            lambda: all(len(one.counts) > count + 1 for one, count in zip(readers, seen, strict=True)),
            "every reader goes on after the last swap",
        )
        writer.join()
        wait(filled, 60, ("pipeline",))
    assert not [reader.wrong for reader in readers if reader.wrong]
    for reader in readers:
        assert reader.counts[0] > 0
        assert reader.counts == sorted(reader.counts)  # nothing here is ever removed
    assert before != generations(filled)
    assert [status for _generation, status in generations(filled)] == ["live"]
    assert differs(filled) == {0}
    assert [worker.end() for worker in workers] == [0, 0]


@pytest.mark.parametrize(("name", "read"), [("pipeline", "opportunities"), ("conflicts", "lead_conflicts")])
def test_a_slow_reader_holds_up_the_swap_and_no_other_reader(filled: Settings, name: str, read: str) -> None:
    model, done = READ_MODELS[name], list[rebuild.Rebuilt]()
    swapping = Thread(target=lambda: done.append(rebuild.rebuild(filled, model)))
    view = f"{filled.read_schema}.{read}"
    query = f"SELECT count(*) FROM {view}".encode()
    with psycopg.connect(filled.dsn("reader")) as slow:
        slow.execute(query)  # and its transaction stays open
        swapping.start()
        until(lambda: rows(filled, _WAITING, [view]), "the swap waits for the slow reader")
        with psycopg.connect(filled.dsn("reader"), autocommit=True) as other:
            other.execute("SET statement_timeout = '2s'")
            for _read in range(40):
                other.execute(query)
        until(lambda: rows(filled, _WAITING, [view]), "the swap waits again")
        assert swapping.is_alive()
        assert not done
    swapping.join()
    assert done[0].generation == live(filled, model)


_WAITING = "SELECT 1 FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock' AND relation = %s::regclass"


def test_what_came_while_the_swap_waited_is_in_the_new_rows(filled: Settings) -> None:
    query = f"SELECT count(*) AS number FROM {filled.read_schema}.partners"
    (before,) = rows(filled, query)
    swapping = Thread(target=rebuild.rebuild, args=(filled, MODEL))
    with psycopg.connect(filled.dsn("reader")) as slow:
        slow.execute(query.encode())
        swapping.start()
        until(lambda: rows(filled, _WAITING, [f"{filled.read_schema}.partners"]), "the swap waits")
        write(filled, [partner(), partner()])
        with closing(Projector(filled, MODEL)) as projector:
            projector.catch_up(max(checkpoints(filled, live(filled)).values()))
    swapping.join()
    (after,) = rows(filled, query)
    assert after["number"] == before["number"] + 2


def test_a_swap_that_readers_never_let_through_leaves_the_old_rows(
    filled: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "SWAP_TRIES", 2)
    before = live(filled)
    with psycopg.connect(filled.dsn("reader")) as slow:
        slow.execute(f"SELECT count(*) FROM {filled.read_schema}.partners".encode())
        with pytest.raises(Unavailable, match="the old rows stay live"):
            rebuild.rebuild(filled, MODEL)
        assert live(filled) == before
    rebuild.rebuild(filled, MODEL)
    assert live(filled) != before
    assert len(generations(filled)) == 1


# Killed, refused


def test_a_rebuild_killed_half_way_leaves_no_trace_after_the_next(filled: Settings, crew: Crew) -> None:
    before, expected = live(filled), contents(filled, live(filled))
    killed = crew.start("rebuild", "pipeline")
    with psycopg.connect(filled.postgres, autocommit=True) as watch:
        query = "SELECT 1 FROM pg_stat_activity WHERE application_name = %s AND backend_xid IS NOT NULL"
        owner = f"{filled.prefix}-owner"
        killed.kill_while(
            lambda: (
                (before, "live") in generations(filled)
                and len(generations(filled)) > 1
                and watch.execute(query, [owner]).fetchone() is not None
            )
        )
        assert [status for _generation, status in generations(filled)] == ["live", "building"]
        assert contents(filled, before) == expected
        still = "SELECT 1 FROM pg_stat_activity WHERE application_name = %s"
        until(lambda: watch.execute(still, [owner]).fetchone() is None, "its connections are gone")
    again = crew.start("rebuild", "pipeline")
    assert again.exit_code() == 0
    assert [status for _generation, status in generations(filled)] == ["live"]
    assert schemas(filled) == [schema_of(filled, MODEL.name, live(filled))]
    assert contents(filled, live(filled)) == expected


def test_a_second_rebuild_at_once_is_refused(filled: Settings) -> None:
    with rebuild._owner(filled) as connection, rebuild._exclusive(connection, filled):
        with pytest.raises(AlreadyRunning):
            rebuild.rebuild(filled, MODEL)
        with pytest.raises(AlreadyRunning):
            rebuild.compare(filled, MODEL)


# Comparing


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("opportunity", "amount = coalesce(amount, 0) + 0.01"),
        ("opportunity", "product_lines = product_lines || '{x}'"),
        ("stage_visit", "left_for = 'nowhere'"),
        ("partner", "name = name || ' '"),
        ("personal", "value = value || '.'"),
    ],
)
def test_a_row_that_was_tampered_with_is_found_and_a_rebuild_mends_it(
    filled: Settings, table: str, change: str
) -> None:
    schema = schema_of(filled, MODEL.name, live(filled))
    with psycopg.connect(filled.postgres) as connection:
        one = f"(SELECT ctid FROM {schema}.{table} LIMIT 1)"
        assert connection.execute(f"UPDATE {schema}.{table} SET {change} WHERE ctid = {one}".encode()).rowcount == 1
    found = rebuild.compare(filled, MODEL).differs
    assert {name: count for name, count in found.items() if count} == {table: 2}  # one row here, another there
    assert len(generations(filled)) == 1
    rebuild.rebuild(filled, MODEL)
    assert differs(filled) == {0}


def test_a_row_too_few_and_a_row_too_many_are_found(filled: Settings) -> None:
    schema = schema_of(filled, MODEL.name, live(filled))
    with psycopg.connect(filled.postgres) as connection:
        connection.execute(
            f"DELETE FROM {schema}.stage_visit WHERE ctid = (SELECT max(ctid) FROM {schema}.stage_visit)".encode()
        )
        connection.execute(
            f"INSERT INTO {schema}.personal VALUES (%s, %s, 'customer', 'nobody')".encode(), [uuid4(), uuid4()]
        )
    found = rebuild.compare(filled, MODEL).differs
    assert (found["stage_visit"], found["personal"]) == (1, 1)
    rebuild.rebuild(filled, MODEL)
    assert differs(filled) == {0}


@pytest.mark.parametrize("name", ["pipeline", "leads"])
def test_progress_is_told_up_to_the_last_event_that_the_read_model_folds(filled: Settings, name: str) -> None:
    told: list[tuple[int, int]] = []
    done = rebuild.compare(filled, READ_MODELS[name], lambda done, total: told.append((done, total)))
    assert [one for one, _total in told] == sorted({one for one, _total in told})
    assert {total for _one, total in told} == {told[-1][0]}
    assert done.events <= told[-1][0]


# COPY and INSERT write the same

NASTY = [
    "tab\there",
    "line\nbreak",
    "carriage\rreturn",
    "both\r\n",
    "back\\slash",
    "\\N",
    "\\.",
    "\\",
    "\\\\n",
    'say "so"',
    "it's",
    "{brace}",
    "{a,b}",
    "comma, and",
    "NULL",
    "null",
    "",
    " ",
    " led and trailed ",
    "%s %(x)s %%",
    "Ünïcødé 字 🦊 \u2028",
    "\x01\x1f\x7f",
    "$1",
    "-- no comment",
]


def test_rows_of_a_rebuild_equal_those_written_live_whatever_the_texts(filled: Settings) -> None:
    seller = uuid4()
    deals = {uuid4(): text for text in NASTY}
    append(filled, [_imported(seller, NASTY), *(_opened(deal, seller, text) for deal, text in deals.items())])
    with closing(Projector(filled, MODEL)) as projector:
        topics = as_published(filled, the_log(filled))
        for records in topics.values():
            projector.apply(records)
    written = contents(filled, live(filled))
    rebuild.rebuild(filled, MODEL)
    assert contents(filled, live(filled)) == written
    read = filled.read_schema
    found = rows(
        filled, f"SELECT opportunity_id, name, product_lines FROM {read}.opportunities WHERE partner_id = %s", [seller]
    )
    assert {row["opportunity_id"]: row["name"] for row in found} == deals
    assert all(row["product_lines"] == list(dict.fromkeys([row["name"], *NASTY])) for row in found)
    (row,) = rows(filled, f"SELECT partner, types, territories FROM {read}.partners WHERE partner_id = %s", [seller])
    assert row == {"partner": "\\N", "types": [], "territories": NASTY}


def _imported(seller: UUID, territories: list[str]) -> tuple[UUID, int, str, dict[str, Any]]:
    data = {"status": "active", "imported_at": "2026-01-01T00:00:00Z", "legal_name": "\\N", "territories": territories}
    return seller, 1, "prm.partner.imported.v1", data


def _opened(deal: UUID, seller: UUID, text: str) -> tuple[UUID, int, str, dict[str, Any]]:
    data = {
        "stage": "prospect",
        "probability": 10,
        "category": "pipeline",
        "policy_version": 0,
        "partner_id": str(seller),
        "partner_role": "selling",
        "opened_by": "ana",
        "name": text,
        "external_id": text,
        "customer": {"name": text},
        "products": [{"line": line} for line in (text, *NASTY)],
        "amount": {"amount": "1000.10", "currency": "BRL"},
        "missing": [text, "name"],
    }
    return deal, 1, "prm.opportunity.opened.v1", data
