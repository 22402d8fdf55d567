"""Running workers and events that they cannot take: a bad one parks its aggregate, an unknown type stops the worker."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from kafka import KafkaProducer

from prm_es import rebuild
from prm_es.messages import Envelope
from prm_es.projections.pipeline import MODEL
from prm_es.projections.registry import ORDERED
from prm_es.settings import Settings
from tests.projections.generations import checkpoints, live, parked
from tests.support import check_log, command, opening, partner, rows
from tests.test_cli import environment, in_process
from tests.workers import Crew, append, head, plain, until, write

CHANGED = "prm.opportunity.amount_changed.v1"
UNKNOWN = "prm.partner.teleported.v9"
BY = ("--as", "olga", "--reason", "no program of ours wrote it")


@pytest.fixture
def crew(installed: Settings, tmp_path: Path) -> Iterator[Crew]:
    with Crew(installed, tmp_path) as hands:
        yield hands
    check_log(installed)


def checkpoint(settings: Settings, name: str) -> int:
    model = ORDERED.get(name, MODEL)
    return max(checkpoints(settings, live(settings, model), model).values())


def test_a_bad_event_parks_its_deal_while_the_worker_goes_on_with_all_others(installed: Settings, crew: Crew) -> None:
    crew.start("publish")
    worker = crew.start("project", "pipeline")
    seller = partner()
    bad, good = opening(seller.subject), opening(seller.subject)
    write(installed, [seller, bad, good])
    position = head(installed)
    amount = {"amount": {"amount": "5.00", "currency": "BRL"}}
    append(installed, [(bad.subject, 2, CHANGED, {"amount": "a lot, says Joana"}), (bad.subject, 3, CHANGED, amount)])
    write(installed, [command("opportunity.change_details", good.subject, {"name": "Renamed"})])
    until(lambda: checkpoint(installed, "pipeline") == head(installed), "the worker has seen all of it")
    letters = parked(installed, live(installed))
    assert [one for one, _reason in letters] == [position + 1, position + 2]
    assert "Joana" not in str(letters)
    query = f"SELECT name, amount::text FROM {installed.read_schema}.opportunities ORDER BY name"
    untouched = {"name": "Stock counts", "amount": None}
    assert rows(installed, query) == [{"name": "Renamed", "amount": None}, untouched]
    said = worker.log.read_text()
    assert (said.count('"projector.parked"'), "Joana" in said) == (2, False)
    assert worker.end() == 0
    again = crew.start("project", "pipeline")
    again.until_logged("projector.active")
    letter = f"pipeline/{position + 1}"
    ran = in_process(environment(installed), "dead-letters", "discard", letter, *BY)
    assert (ran.code, ran.out) == (0, f"{letter}: discarded, 1 event folded\n")
    assert rows(installed, query)[1] == {"name": "Stock counts", "amount": "5.00"}
    append(installed, [(bad.subject, 4, CHANGED, {"amount": None})])
    until(lambda: rows(installed, query)[1] == untouched, "the deal goes on")
    assert set(rebuild.compare(installed, MODEL).differs.values()) == {0}


@pytest.mark.parametrize("name", ["pipeline", *ORDERED])
def test_a_worker_that_does_not_know_a_type_says_so_and_ends(installed: Settings, crew: Crew, name: str) -> None:
    crew.start("publish")
    verb = (name,) if name in ORDERED else ("project", name)
    worker = crew.start(*verb)
    seller = partner()
    write(installed, [seller])
    before = head(installed)
    until(lambda: checkpoint(installed, name) == before, "the worker has seen what it knows")
    append(installed, [(seller.subject, 2, UNKNOWN, {})])
    assert worker.exit_code() == 3
    (said,) = worker.logged("worker.unavailable")
    known = f"TooOld: this program does not know events of type {UNKNOWN}: start the version that wrote them"
    assert said["reason"] == known
    again = crew.start(*verb)
    assert again.exit_code() == 3
    assert [one["reason"] for one in again.logged("worker.unavailable")] == [known]
    model = ORDERED.get(name, MODEL)
    assert (checkpoint(installed, name), parked(installed, live(installed, model), model)) == (before, [])


def test_a_handler_that_does_not_know_a_type_ends_and_answers_nothing(installed: Settings, crew: Crew) -> None:
    seller = partner()
    write(installed, [seller])
    append(installed, [(seller.subject, 2, UNKNOWN, {})])
    asked = command("partner.suspend", seller.subject, {"reason": "late"})
    place(installed, asked)
    worker = crew.start("handle")
    assert worker.exit_code() == 3
    assert [UNKNOWN in one["reason"] for one in worker.logged("worker.unavailable")] == [True]
    assert rows(installed, "SELECT 1 FROM commands WHERE id = %s", [asked.id]) == []
    assert rows(installed, "SELECT 1 FROM dead_letters") == []


def place(settings: Settings, sent: Envelope) -> None:
    """Put a command on its topic."""
    one = plain(sent)
    with closing(KafkaProducer(**settings.kafka_client)) as producer:
        producer.send(settings.command_topic(one.aggregate), one.value, key=one.key, headers=list(one.headers))
        producer.flush()
