"""The log read again: every condition, both formats, sealed values, and aggregates as they were."""

import csv
import io
import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from prm_es.audit import replay
from prm_es.audit.replay import LogFormat, Selection, select, state_at, write_events
from prm_es.errors import Unavailable, Usage
from prm_es.messages import Recorded
from prm_es.settings import Settings
from prm_es.store.store import Store
from tests.support import IMPORTER, PROBLEM, Desk, command, opening, today
from tests.workers import story, write

AMOUNT = {"amount": "12.50", "currency": "USD"}
QUALIFIED = {
    "amount": AMOUNT,
    "business_problem": PROBLEM,
    "contact": {"name": "Marta"},
    "expected_close_on": today(30),
}


@dataclass(frozen=True)
class Told:
    store: Store
    events: list[Recorded]
    deal: UUID
    partner: UUID


@pytest.fixture(scope="module")
def told(migrated: Settings) -> Iterator[Told]:
    partners, deals = story(60)
    write(migrated, partners + deals, size=50)
    with Store(migrated, "writer") as writer:
        desk = Desk(writer, topic="told")
        by, deal = desk.active_partner(), uuid4()
        desk.accepted(replace(opening(by, deal), correlation_id="c-1"))
        desk.accepted(command("opportunity.change_details", deal, {"name": "Other", **QUALIFIED}))
        action = {"text": "Ring Dona Marta", "due_on": today(3)}
        stage = {"stage": "qualified", "next_action": action}
        desk.accepted(command("opportunity.change_stage", deal, stage, correlation_id="c-1"))
    with Store(migrated, "auditor") as store:
        yield Told(store, store.events(0, 1_000_000), deal, by)


def chosen(told: Told, **conditions: Any) -> list[int]:
    return [event.position for event in select(told.store, Selection(**conditions))]


def positions(told: Told, **conditions: Any) -> list[int]:
    """The same selection as a plain comparison over the whole log."""
    c: dict[str, Any] = conditions
    return [
        event.position
        for event in told.events
        if c.get("first", 1) <= event.position <= c.get("last", 10**9)
        and ("aggregate" not in c or event.type.split(".")[1] == c["aggregate"])
        and ("subject" not in c or event.subject == c["subject"])
        and ("at_from" not in c or c["at_from"] <= event.at)
        and ("at_to" not in c or event.at < c["at_to"])
        and ("recorded_from" not in c or c["recorded_from"] <= event.recorded_at)
        and ("recorded_to" not in c or event.recorded_at < c["recorded_to"])
        and ("actor" not in c or c["actor"] in (event.actor.id, event.actor.on_behalf_of))
        and ("correlation_id" not in c or event.correlation_id == c["correlation_id"])
    ]


def test_each_condition_selects_what_a_plain_comparison_does(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "PAGE", 37)
    middle = [event for event in told.events if event.aggregate == "opportunity"][100]
    span = {"at_from": middle.at - timedelta(days=40), "at_to": middle.at}
    recorded_span = {"recorded_from": told.events[60].recorded_at, "recorded_to": told.events[-20].recorded_at}
    cases: list[dict[str, Any]] = [
        {}, {"first": 10, "last": 90}, {"first": 37, "last": 37}, {"last": 0}, {"first": 10**6}, span, recorded_span,
        {"aggregate": "partner"}, {"aggregate": "lead"}, {"subject": told.deal}, {"subject": uuid4()},
        {"actor": middle.actor.on_behalf_of or middle.actor.id}, {"correlation_id": "c-1"},
        {**recorded_span, **span, "aggregate": "opportunity", "first": 5},
    ]  # fmt: skip
    found = [chosen(told, **case) for case in cases]
    assert found == [positions(told, **case) for case in cases]
    assert [bool(one) for one in found].count(False) == 4


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("opportunity.opened", "opened"), ("prm.opportunity.opened.v1", "opened"), ("*.opened", "opened"),
        ("opportunity.stage*", "stage_changed"), ("prm.opportunity.stage_changed", "stage_changed"),
    ],
)  # fmt: skip
def test_types_by_pattern(told: Told, pattern: str, name: str) -> None:
    wanted = [event.position for event in told.events if event.type == f"prm.opportunity.{name}.v1"]
    assert chosen(told, type=pattern) == wanted != []
    assert chosen(told, type="opened") == []


def test_lines_hold_what_is_stored_and_only_reveal_opens_what_is_sealed(told: Told) -> None:
    file = io.StringIO()
    written = write_events(told.store, select(told.store, Selection()), LogFormat.JSONL, file)
    lines = [json.loads(line) for line in file.getvalue().splitlines()]
    assert written == len(lines) == len(told.events)
    for line, event in zip(lines, told.events, strict=True):
        assert line["data"] == json.loads(event.data)
        assert (line["position"], line["subject"], line["type"]) == (event.position, str(event.subject), event.type)
        assert datetime.fromisoformat(line["time"]) == event.at
    assert "Dona Marta" not in file.getvalue()
    file = io.StringIO()
    write_events(told.store, select(told.store, Selection(subject=told.deal)), LogFormat.JSONL, file, reveal=True)
    assert "Ring Dona Marta" in file.getvalue()
    assert "~1." not in file.getvalue()


def test_rows_are_the_lines(told: Told) -> None:
    file = io.StringIO()
    write_events(told.store, select(told.store, Selection(aggregate="opportunity")), LogFormat.CSV, file)
    rows = list(csv.DictReader(io.StringIO(file.getvalue())))
    assert [int(row["position"]) for row in rows] == positions(told, aggregate="opportunity")
    by_position = {event.position: event for event in told.events}
    assert all(json.loads(row["data"]) == json.loads(by_position[int(row["position"])].data) for row in rows)


def test_what_was_forgotten_is_null(migrated: Settings, told: Told) -> None:
    with Store(migrated, "writer") as writer:
        desk = Desk(writer, topic="forgotten")
        deal = uuid4()
        desk.accepted(opening(told.partner, deal))
        with psycopg.connect(migrated.dsn("owner"), autocommit=True) as connection:
            connection.execute("DELETE FROM keys WHERE key_id = %s", (deal,))
    file = io.StringIO()
    write_events(told.store, select(told.store, Selection(subject=deal)), LogFormat.JSONL, file, reveal=True)
    (line,) = file.getvalue().splitlines()
    assert json.loads(line)["data"]["next_action"]["text"] is None


def test_progress_reaches_the_end_and_memory_stays_flat(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "PAGE", 20)
    seen: list[tuple[int, int]] = []
    tracemalloc.start()
    try:
        for _event in select(told.store, Selection(), lambda done, total: seen.append((done, total))):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] >= len(told.events)
    assert peak < sum(len(event.data) for event in told.events) + 400_000


def test_a_file_is_whole_or_not_there(told: Told, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"

    def events() -> Iterator[Recorded]:
        yield told.events[0]
        raise Unavailable("PostgreSQL: gone")

    with pytest.raises(Unavailable), replay.output(path) as file:
        write_events(told.store, events(), LogFormat.JSONL, file)
    assert list(tmp_path.iterdir()) == []
    with replay.output(path) as file:
        write_events(told.store, select(told.store, Selection(last=3)), LogFormat.JSONL, file)
    assert len(path.read_text().splitlines()) == 3
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Usage, match="No such file"), replay.output(tmp_path / "no" / "x"):
        pass


def test_an_aggregate_as_it_was(told: Told) -> None:
    history = told.store.stream(told.deal)
    first, second, third = history[0], history[-2], history[-1]
    assert state_at(told.store, "opportunity", told.deal, position=first.position).state["name"] == "Stock counts"
    past = state_at(told.store, "opportunity", told.deal, position=third.position - 1)
    assert (past.version, past.position, past.state["stage"]) == (third.version - 1, second.position, "prospect")
    now = state_at(told.store, "opportunity", told.deal)
    assert (now.version, now.state["name"], now.state["stage"]) == (len(history), "Other", "qualified")
    assert now.state["amount"] == AMOUNT
    by_time = state_at(told.store, "opportunity", told.deal, recorded_at=second.recorded_at)
    assert by_time == past
    shown = json.loads(past.as_json())
    assert (shown["id"], shown["version"], shown["position"]) == (str(told.deal), second.version, second.position)
    assert (
        json.loads(state_at(told.store, "partner", told.partner, reveal=True).as_json())["state"]["status"] == "active"
    )


def test_an_aggregate_that_was_not_there(told: Told) -> None:
    with pytest.raises(Usage, match="was not there yet: its first event has position"):
        state_at(told.store, "opportunity", told.deal, position=1)
    with pytest.raises(Usage, match="was not there yet"):
        state_at(told.store, "opportunity", told.deal, recorded_at=datetime(2001, 1, 1, tzinfo=UTC))
    for aggregate, subject in (("opportunity", uuid4()), ("partner", told.deal), ("boat", told.deal)):
        with pytest.raises(Usage, match="there is no"):
            state_at(told.store, aggregate, subject)


def test_imports_are_found_by_who_did_it_then(migrated: Settings, told: Told) -> None:
    with Store(migrated, "writer") as writer:
        actor = replace(IMPORTER, on_behalf_of="maria")
        (answer,) = Desk(writer, topic="maria").accepted(opening(told.partner, actor=actor))
    assert chosen(told, actor="maria") == [answer["events"][0]["position"]]
