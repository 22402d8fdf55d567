"""A server that is away, that hangs, that has no room: workers wait, nothing is lost, and all goes on by itself."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import psutil
import pytest

from tests.chaos.judge import Given, Judge, Verdict
from tests.chaos.stack import stands_still, until
from tests.outages.servers import Room, Town

ROOM_MB = 700
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
WORKERS = {"handle", "publish", "project", "conflicts", "deadlines", "reactions"}
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    # Not in a folder of pytest's: another session closes that to other users, and PostgreSQL is one.
    room = Room(Path(mkdtemp(prefix="prm-es-outages-")), ROOM_MB)
    try:
        with Town(room, 5, FAKETIME).open() as made:
            made.send()
            made.settle()
            yield made
    finally:
        room.close()


def away(town: Town, name: str) -> dict[str, object]:
    """Give what the status says of a server once it says that it is away, and since when."""

    def look() -> dict[str, object] | None:
        server: dict[str, object] = town.status()["servers"][name]
        return server if server["away_since"] else None

    found: dict[str, object] = until(look, f"{name} is away", PATIENCE_S)
    return found


def waiting(town: Town, name: str) -> bool:
    """Tell whether every worker waits, and for this server."""
    told = town.status()["health"]
    return all(told.get(worker) and told[worker]["doing"] == f"waiting for {name}" for worker in WORKERS)


def test_without_postgresql_every_worker_waits_and_goes_on_when_it_is_back(town: Town) -> None:
    town.send()
    with town.postgres.away():
        town.send()
        assert away(town, "PostgreSQL")["reason"] == "connection refused"
        until(lambda: waiting(town, "PostgreSQL"), "every worker waits", PATIENCE_S)
        before = town.starts()
        town.send()
        status = town.status()
        assert town.starts() == before  # nobody ends and begins again while it is away
        assert (status["settled"], status["servers"]["Kafka"]["answers"]) == (False, True)
    town.settle()
    assert town.status()["servers"]["PostgreSQL"]["answers"] is True


def test_servers_that_hang_are_named_and_all_goes_on_when_they_answer_again(town: Town) -> None:
    town.send()
    with town.postgres.hanging(), town.kafka.hanging():
        town.send()
        for name in ("PostgreSQL", "Kafka"):
            assert "no answer within 3 s" in str(away(town, name)["reason"])
        assert town.status()["settled"] is False
    town.settle()


def test_a_full_disk_is_told_and_what_happened_meanwhile_is_published_once_there_is_room(town: Town) -> None:
    """Kafka ends when it finds no room; where no small disk can be had it is stopped."""
    publisher = psutil.Process(town.stack.pid("publish"))
    publisher.suspend()  # between two transactions
    until(lambda: stands_still(publisher.pid), "it stands still")
    town.send()
    until(lambda: town.status()["unpublished"] > 0, "there is something to publish", PATIENCE_S)
    before = town.deaths()
    with town.room.full() if town.room.small else town.kafka.away():
        publisher.resume()
        if town.room.small:
            until(lambda: town.dead_after_sending() > before, "somebody finds no room", PATIENCE_S, 0.5)
            assert town.status()["disk_free"] < 10_000_000
        status = town.status()
        assert (status["unanswered"], status["settled"]) == (None, False)
        town.send()
    town.settle()
    assert all(server["answers"] for server in town.status()["servers"].values())


def test_a_clock_that_goes_back_an_hour_takes_no_recorded_time_back_and_ends_no_offer_twice(town: Town) -> None:
    if town.clock is None:
        pytest.skip("libfaketime is not installed")
    (last,) = town.stack.rows("SELECT number, recorded_at AS at FROM commits ORDER BY number DESC LIMIT 1")
    town.clock.set("-3600")
    until(lambda: town.stack.rows("SELECT clock_timestamp() AS now")[0]["now"] < last["at"], "the clock went back")
    town.send(200)
    town.settle()
    since = town.stack.rows("SELECT DISTINCT recorded_at AS at FROM commits WHERE number > %s", last["number"])
    assert [row["at"] for row in since] == [last["at"]]  # time stands still until the clock is there again
    town.clock.set("+0")
    until(lambda: not town.stack.rows(_OVERDUE), "offers whose time is over are ended", PATIENCE_S)
    assert town.stack.rows(_TWICE) == []


_OVERDUE = """
SELECT 1 FROM events e WHERE topic = 'prm.lead.offered.v1'
AND (convert_from(state, 'UTF8')::json -> 'data' ->> 'respond_by')::timestamptz < clock_timestamp()
AND NOT EXISTS (SELECT 1 FROM events x WHERE x.originator_id = e.originator_id
                AND x.originator_version > e.originator_version)
"""
_TWICE = """
SELECT originator_id FROM events WHERE topic = 'prm.lead.offer_expired.v1' GROUP BY 1 HAVING count(*) > 1
"""


def test_nothing_was_lost_and_nothing_came_twice(town: Town) -> None:
    stack, sender = town.stack, town.sender
    town.settle()  # what was due by the clock that came back has been asked for, and is to be answered
    stack.stop_workers()
    verdict = Verdict()
    given = Given({content: one.name for content, one in sender.contents.items()}, set(sender.sent))
    Judge(stack.rows, stack.settings.kafka_client, stack.settings.prefix, given, verdict).judge()
    assert verdict.told == []
    assert verdict.commands > 300
