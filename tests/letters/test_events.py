"""Events that a read model could not take: what is told of them, and how its rows go on when somebody acts."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from threading import Barrier, Event, Thread
from typing import Any
from uuid import UUID

import psycopg
import psycopg2
import pytest

from prm_es import rebuild
from prm_es.consumers import ordered
from prm_es.errors import Usage
from prm_es.letters.acting import noted
from prm_es.messages import Recorded
from prm_es.projections import parked, reactions, registry
from prm_es.projections.base import Rows
from prm_es.projections.ordered import OrderedProjector
from prm_es.projections.pipeline import MODEL
from prm_es.projections.runner import Projector, discarded, schema_of
from prm_es.settings import Settings
from prm_es.status import Observer
from prm_es.store.store import Store
from tests.letters.test_commands import BY, SECRET, login
from tests.projections.generations import live
from tests.support import Desk, check_log, command, opening, partner, rows, today
from tests.test_cli import Prm
from tests.workers import until

WAITS = "waits behind an event that could not be folded"


class Choking:
    """A fold that cannot take the events at some positions or of some aggregates, until they are taken off."""

    def __init__(self, fold: Callable[[Rows, Recorded, Any], Rows]) -> None:
        self.on: set[int | UUID] = set()
        self._fold = fold

    def __call__(self, before: Rows, event: Recorded, content: Any) -> Rows:
        if self.on & {event.position, event.subject}:
            raise ValueError(SECRET)
        return self._fold(before, event, content)


@dataclass
class Office:
    """Tells deals to the log and lets the pipeline follow it, with a fold that chokes."""

    settings: Settings
    desk: Desk
    choking: Choking = field(default_factory=lambda: Choking(MODEL.fold))

    def __post_init__(self) -> None:
        self.model = replace(MODEL, fold=self.choking)

    def deal(self) -> UUID:
        seller = partner()
        sent = opening(seller.subject, contact={"name": "Joana", "email": SECRET})
        self.desk.accepted(seller, sent)
        return sent.subject

    def act(self, deal: UUID, times: int = 1) -> list[int]:
        """Tell so many more events of a deal; gives their positions."""
        first = len(self.positions(deal))
        data = {"text": "Call the head of stores", "due_on": today(7)}
        self.desk.accepted(*(command("opportunity.set_next_action", deal, data) for _ in range(times)))
        return self.positions(deal)[first:]

    def positions(self, deal: UUID) -> list[int]:
        query = "SELECT notification_id AS n FROM events WHERE originator_id = %s ORDER BY 1"
        return [row["n"] for row in rows(self.settings, query, [deal])]

    def follow(self) -> None:
        with closing(Projector(self.settings, self.model)) as projector:
            after = 0
            while (reached := projector.catch_up(after)) > after:
                after = reached

    def parked(self, *, events: int = 4, bad: tuple[int, ...] = (1,)) -> tuple[UUID, list[int]]:
        """Give a new deal and its last events, of which the fold cannot take some."""
        deal = self.deal()
        told = self.act(deal, events)
        self.choking.on |= {told[number] for number in bad}
        self.follow()
        return deal, told

    def reached(self, deal: UUID) -> int:
        """Give the position of the last event that the deal's row contains."""
        schema = schema_of(self.settings, MODEL.name, live(self.settings))
        query = f"SELECT updated_position FROM {schema}.opportunity WHERE opportunity_id = %s"
        ((position,),) = [row.values() for row in rows(self.settings, query, [deal])]
        return int(position)

    def differs(self) -> int:
        return sum(rebuild.compare(self.settings, MODEL).differs.values())


@pytest.fixture
def office(migrated: Settings, prm: Prm, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    with Store(migrated) as store:
        one = Office(migrated, Desk(store, topic="tests.events"))
        one.desk.offset = len(rows(migrated, "SELECT 1 FROM commands"))
        monkeypatch.setitem(registry.READ_MODELS, MODEL.name, one.model)
        yield one
        one.choking.on.clear()
        prm("retry", "--all", *BY)
        assert prm("list", "--format", "json").json() == []
        assert one.differs() == 0
    check_log(migrated)


def listed(prm: Prm, *options: str) -> dict[str, dict[str, Any]]:
    return {one["letter"]: one for one in prm("list", "--kind", "event", "--format", "json", *options).json()}


def shown(prm: Prm, letter: str) -> dict[str, Any]:
    found: dict[str, Any] = prm("show", letter, "--format", "json").json()
    return found


def test_a_parked_event_is_one_letter_with_the_number_of_those_that_wait(prm: Prm, office: Office) -> None:
    other, _told = office.parked(bad=())
    deal, told = office.parked()
    letter = f"pipeline/{told[1]}"
    (one,) = listed(prm).values()
    assert (one["letter"], one["aggregate_id"], one["waiting"]) == (letter, str(deal), 2)
    assert (one["code"], one["reason"]) == ("event.not_folded", "ValueError: the fold could not take it")
    assert listed(prm, "--read-model", "leads") == {}
    assert (office.reached(deal), office.reached(other)) == (told[0], office.positions(other)[-1])
    with Observer(office.settings) as observer:
        (model,) = [one for one in observer.status().read_models if one.name == "pipeline"]
    assert (model.parked, model.parked_streams, model.parked_from) == (3, 1, told[1])
    ran = prm("show", f"pipeline/{told[2]}")
    assert (ran.code, f"it waits behind {letter}" in ran.err) == (2, True)


def test_an_event_is_shown_in_clear_to_whom_may_decrypt_and_to_nobody_else(prm: Prm, office: Office) -> None:
    deal = office.deal()
    office.choking.on |= {office.positions(deal)[0]}
    office.follow()
    letter = f"pipeline/{office.positions(deal)[0]}"
    found = shown(prm, letter)
    assert (found["type"], found["content"]["subject"]) == ("prm.opportunity.opened.v1", str(deal))
    assert found["content"]["data"]["contact"]["email"] == SECRET
    assert SECRET not in prm("list").out
    for role in ("reader", "writer"):
        ran = prm("show", letter, PRM_POSTGRES_AUDITOR=login(office.settings, role))
        assert (ran.code in (2, 3), ran.out, SECRET in ran.err) == (True, "", False), role
        assert (ran.err.startswith("prm-es: "), "Traceback" in ran.err) == (True, False), ran.err


def test_a_retry_goes_on_from_the_parked_event_with_what_waited_behind_it(prm: Prm, office: Office) -> None:
    deal, told = office.parked()
    letter = f"pipeline/{told[1]}"
    late = office.act(deal)
    office.follow()
    assert office.reached(deal) == told[0]
    ran = prm("retry", letter, *BY)
    assert (ran.code, ran.out) == (1, f"{letter}: 0 events folded, 4 wait behind one that cannot be\n")
    assert (shown(prm, letter)["state"], listed(prm)[letter]["waiting"]) == ("open", 3)
    office.choking.on.clear()
    ran = prm("retry", letter, *BY)
    assert (ran.code, ran.out) == (0, f"{letter}: 4 events folded\n")
    assert office.reached(deal) == late[-1]
    assert office.differs() == 0
    assert prm("retry", letter, *BY).code == 2  # done once, there is nothing more to do
    (next_one,) = office.act(deal)
    office.follow()
    assert office.reached(deal) == next_one
    assert listed(prm) == {}
    found = shown(prm, letter)
    assert found["state"] == "folded"
    steps = [(one["action"], one["actor"], one["reason"], one["result"]) for one in found["history"]]
    done = ("0 events folded", "4 events folded")
    assert steps == [("retry", BY[1], BY[3], f"version {MODEL.version}: {result}") for result in done]


def test_what_only_waits_can_neither_be_retried_nor_discarded(prm: Prm, office: Office) -> None:
    deal, told = office.parked()
    for verb in ("retry", "discard"):
        ran = prm(verb, f"pipeline/{told[2]}", *BY)
        assert (ran.code, f"only waits behind pipeline/{told[1]}" in ran.err) == (2, True)
    assert office.reached(deal) == told[0]


def test_behind_an_event_that_is_mended_the_next_bad_one_is_a_letter_of_its_own(prm: Prm, office: Office) -> None:
    deal, told = office.parked(events=5, bad=(0, 2))
    office.choking.on.remove(told[0])
    ran = prm("retry", f"pipeline/{told[0]}", *BY)
    said = f"pipeline/{told[0]}: 2 events folded, 3 wait behind one that cannot be\n"
    assert (ran.code, ran.out) == (1, said)
    assert office.reached(deal) == told[1]
    (one,) = listed(prm).values()
    assert (one["letter"], one["waiting"]) == (f"pipeline/{told[2]}", 2)
    assert one["reason"] == "ValueError: the fold could not take it"
    assert shown(prm, f"pipeline/{told[0]}")["state"] == "folded"


def test_a_discarded_event_is_left_out_for_good_and_what_waited_is_folded(prm: Prm, office: Office) -> None:
    deal, told = office.parked()
    letter = f"pipeline/{told[1]}"
    ran = prm("discard", letter, "--as", "olga", "--reason", "a test that was never a deal")
    assert (ran.code, ran.out) == (0, f"{letter}: discarded, 2 events folded\n")
    assert office.reached(deal) == told[-1]
    found = shown(prm, letter)
    assert found["state"] == "discarded"
    (step,) = found["history"]
    assert (step["action"], step["actor"], step["reason"]) == ("discard", "olga", "a test that was never a deal")
    rebuild.rebuild(office.settings, office.model)  # still choking: a fold that meets the event again would park it
    assert (listed(prm), office.reached(deal)) == ({}, told[-1])
    with closing(psycopg2.connect(office.settings.dsn("projector"))) as connection, connection.cursor() as cursor:
        assert told[1] in discarded(cursor, MODEL)
        assert told[1] not in discarded(cursor, replace(MODEL, version=MODEL.version + 1))


def test_the_last_event_of_a_deal_is_discarded_and_later_ones_are_folded(prm: Prm, office: Office) -> None:
    deal, told = office.parked(bad=(3,))
    assert prm("discard", f"pipeline/{told[3]}", *BY).out.endswith(": discarded, 0 events folded\n")
    assert office.reached(deal) == told[2]
    (late,) = office.act(deal)
    office.follow()
    assert office.reached(deal) == late


def test_nothing_is_discarded_without_who_and_why(prm: Prm, office: Office) -> None:
    deal, told = office.parked()
    letter = f"pipeline/{told[1]}"
    for options in ((), ("--as", "olga"), ("--reason", "why"), ("--as", " ", "--reason", "why"), (*BY[:3], "\t")):
        ran = prm("discard", letter, *options)
        assert (ran.code, ran.out) == (2, "")
    assert (list(listed(prm)), shown(prm, letter)["history"]) == ([letter], [])
    assert office.reached(deal) == told[0]
    columns = "(action, actor, reason, model, version, position, aggregate_id, parked_at, cause)"
    values = "('discard', %s, %s, 'pipeline', 1, 1, gen_random_uuid(), now(), 'x')"
    insert = f"INSERT INTO parked_event_actions {columns} VALUES {values}".encode()
    for actor, reason in ((None, "why"), ("olga", None), ("", "why"), ("olga", "")):
        with psycopg.connect(office.settings.dsn("projector")) as own, pytest.raises(psycopg.IntegrityError):
            own.execute(insert, (actor, reason))


def test_two_retries_at_once_fold_once(prm: Prm, office: Office) -> None:
    deal, told = office.parked()
    office.choking.on.clear()
    together = Barrier(2)
    done: list[Any] = []

    def retry() -> None:
        together.wait(timeout=60)
        try:
            done.append(parked.act(office.settings, office.model, told[1], "retry", noted("olga", "mended")).folded)
        except Usage as error:
            done.append(str(error))

    threads = [Thread(target=retry) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done, key=str) == [3, f"pipeline has no event parked at position {told[1]}"]
    assert (office.reached(deal), office.differs()) == (told[-1], 0)
    assert len(shown(prm, f"pipeline/{told[1]}")["history"]) == 1


def test_a_retry_takes_what_a_worker_is_parking_at_that_moment(prm: Prm, office: Office) -> None:
    deal, told = office.parked()
    office.choking.on.clear()
    (late,) = office.act(deal)
    done: list[Any] = []
    note = noted("olga", "mended")
    retry = Thread(target=lambda: done.append(parked.act(office.settings, office.model, told[1], "retry", note).folded))
    with closing(Projector(office.settings, office.model)) as worker:
        with worker._connection, worker._connection.cursor() as cursor:
            worker.catch_up_in(cursor, told[-1])
            retry.start()
            until(lambda: rows(office.settings, _WAITING), "the retry waits for the worker")
        retry.join()
    assert (done, office.reached(deal)) == ([4], late)


_WAITING = (
    "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    " AND query LIKE '%%checkpoints%%'"
)


def test_nothing_is_discarded_while_a_rebuild_runs(prm: Prm, office: Office) -> None:
    _deal, told = office.parked()
    letter = f"pipeline/{told[1]}"
    with rebuild._owner(office.settings) as connection, rebuild._exclusive(connection, office.settings):
        ran = prm("discard", letter, *BY)
    assert (ran.code, "a rebuild runs" in ran.err) == (3, True)
    assert (list(listed(prm)), shown(prm, letter)["history"]) == ([letter], [])


# Ordered read models: one bad event holds everything up, and the worker goes on by itself


def test_an_ordered_worker_goes_on_once_its_event_can_be_taken_or_is_left_out(
    prm: Prm, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    choking = Choking(reactions.MODEL.fold)
    model = replace(reactions.MODEL, fold=choking)
    monkeypatch.setattr(ordered, "PARKED_S", 0.02)
    monkeypatch.setitem(registry.READ_MODELS, model.name, model)
    stop = Event()
    worker = Thread(target=ordered.follow, args=(office.settings, model, stop))
    worker.start()
    try:
        first = _stuck(office, choking, prm)
        ran = prm("retry", first, *BY)
        assert (ran.code, ran.out) == (1, f"{first}: its worker still cannot take it\n")
        assert list(listed(prm)) == [first]
        choking.on.clear()
        ran = prm("retry", first, *BY)
        assert (ran.code, ran.out) == (0, f"{first}: its worker went on\n")
        second = _stuck(office, choking, prm)
        ran = prm("discard", second, *BY)
        assert (ran.code, ran.out) == (0, f"{second}: discarded, its worker went on\n")
    finally:
        stop.set()
        worker.join()
    assert [shown(prm, one)["state"] for one in (first, second)] == ["folded", "discarded"]
    assert [step["result"] for step in shown(prm, first)["history"]] == ["version 1: left to its worker"] * 2
    assert not any(rebuild.compare(office.settings, model).differs.values())


def _stuck(office: Office, choking: Choking, prm: Prm) -> str:
    """Tell of a partner that the fold cannot take, and of one behind it; gives the letter once it is there."""
    bad, after = partner(), partner()
    choking.on.add(bad.subject)
    office.desk.accepted(bad, after)
    letter = f"reactions/{office.positions(bad.subject)[0]}"
    until(lambda: letter in listed(prm), "the worker has parked it")
    checkpoint = f"SELECT position FROM {office.settings.projections_schema}.checkpoints WHERE name = 'reactions'"
    (found,) = rows(office.settings, checkpoint)
    assert found["position"] < office.positions(bad.subject)[0]
    return letter


def test_without_its_worker_an_ordered_read_model_s_letter_stays_open(prm: Prm, office: Office) -> None:
    choking = Choking(reactions.MODEL.fold)
    bad = partner()
    office.desk.accepted(bad)
    choking.on.add(bad.subject)
    with closing(OrderedProjector(office.settings, replace(reactions.MODEL, fold=choking))) as projector:
        while not projector.advance().parked:
            pass
        (letter,) = listed(prm)
        ran = prm("retry", letter, *BY, "--timeout", "0.2")
        assert (ran.code, "does it run?" in ran.out) == (1, True)
        assert [one["state"] for one in listed(prm).values()] == ["retried"]
        choking.on.clear()
        while projector.advance().events:
            pass
    assert shown(prm, letter)["state"] == "folded"
