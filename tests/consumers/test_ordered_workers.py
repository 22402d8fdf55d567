"""The processes of the ordered workers, killed for real: nothing is skipped, nothing happens twice."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import pytest

from prm_es import rebuild
from prm_es.aggregates.policy import Policy
from prm_es.install import install
from prm_es.messages import Envelope, utc_text
from prm_es.policies import Loaded, known_policies, load_policy
from prm_es.projections.registry import ORDERED
from prm_es.settings import Settings
from prm_es.store.store import Store
from prm_es.upstream.sending import send
from tests.projections.test_ordered import registration
from tests.support import ADMIN, check_log, command, partner, rows
from tests.workers import Crew, Worker, head, until


@pytest.fixture(scope="module")
def ready(migrated: Settings) -> Settings:
    """Give an installation whose protections last seconds."""
    install(migrated)
    with Store(migrated) as store:
        document = known_policies(store)[-1].model_dump(mode="json")
        with store.batch() as batch:
            document |= {"version": 1, "effective_from": utc_text(batch.head.at)}
        document["lead"] |= {"protection": "PT2S", "reminders": ["PT1S"], "live_registrations": 1000}
        assert isinstance(load_policy(store, Policy.model_validate(document), ADMIN), Loaded)
    return migrated


@pytest.fixture
def crew(ready: Settings, tmp_path: Path) -> Iterator[Crew]:
    with Crew(ready, tmp_path) as hands:
        yield hands
    check_log(ready)


def checkpoint(settings: Settings, name: str) -> int:
    query = f"SELECT position FROM {settings.projections_schema}.checkpoints WHERE name = %s"
    return int(rows(settings, query, [name])[0]["position"])


def events(settings: Settings, kind: str) -> Counter[UUID]:
    found = rows(settings, "SELECT originator_id FROM events WHERE topic = %s", [f"prm.{kind}.v1"])
    return Counter(row["originator_id"] for row in found)


def channel() -> tuple[list[Envelope], list[Envelope]]:
    """Give partners, and leads of theirs that want few customers."""
    dice = Random(3)
    sellers = [partner(legal_name=f"Seller {n}", authorisations=[{"product_line": "scales"}]) for n in range(40)]
    leads = [
        registration(one.subject, {"customer_id": f"c-{number}-{dice.randrange(15)}"})
        for one in sellers
        for number in range(6)
    ]
    return sellers, leads


def killed_again_and_again(crew: Crew, settings: Settings, name: str, times: int) -> Worker:
    """Kill the worker while it is behind, so many times; gives the one that lives."""
    worker = crew.start(name)
    for _ in range(times):
        worker.until_logged("worker.active")
        worker.kill_while(lambda: checkpoint(settings, name) < head(settings))
        worker = crew.start(name)
    return worker


def test_workers_killed_while_they_ask_skip_nothing_and_nothing_happens_twice(crew: Crew, ready: Settings) -> None:
    sellers, leads = channel()
    for _handler in range(3):
        crew.start("handle")
    send(ready, sellers, wait=True)
    send(ready, leads[:120], wait=False)
    killed_again_and_again(crew, ready, "conflicts", 2)
    send(ready, leads[120:], wait=False)
    until(lambda: len(events(ready, "lead.screened")) == len(leads), "every lead is screened")
    assert set(events(ready, "lead.screened").values()) == {1}
    report = send(ready, [command("lead.approve", one.subject) for one in leads], wait=True)
    assert report.accepted == len(events(ready, "lead.approved"))
    assert report.accepted > 50
    assert report.accepted + report.refused == len(leads)
    assert _doubly_claimed(ready) == []
    worker = crew.start("deadlines")
    for _ in range(2):
        worker.until_logged("worker.active")
        worker.kill()
        worker = crew.start("deadlines")
    until(lambda: events(ready, "lead.protection_expired") == events(ready, "lead.approved"), "all have expired")
    until(lambda: checkpoint(ready, "deadlines") == head(ready), "the worker has seen it")
    assert {row["n"] for row in _outcomes(ready)} == {1}
    assert not _due(ready)
    for name, model in ORDERED.items():
        assert not any(rebuild.compare(ready, model).differs.values()), name


def _doubly_claimed(settings: Settings) -> list[dict[str, Any]]:
    """Give the customers that two leads were approved for at the same time, by what the log itself says."""
    return rows(
        settings,
        "WITH lead AS (SELECT originator_id,"
        " convert_from(state, 'UTF8')::jsonb #>> '{data,customer_keys,0}' AS customer FROM events"
        " WHERE topic = 'prm.lead.registered.v1'), held AS ("
        " SELECT originator_id, tstzrange((data ->> 'protected_from')::timestamptz,"
        " (data ->> 'protected_until')::timestamptz) AS during"
        " FROM events, LATERAL (SELECT convert_from(state, 'UTF8')::jsonb -> 'data' AS data) AS content"
        " WHERE topic = 'prm.lead.approved.v1')"
        " SELECT customer FROM lead JOIN held USING (originator_id) JOIN (SELECT lead.customer, held.*"
        " FROM lead JOIN held USING (originator_id)) other USING (customer)"
        " WHERE held.originator_id < other.originator_id AND held.during && other.during",
    )


def _outcomes(settings: Settings) -> list[dict[str, Any]]:
    return rows(settings, "SELECT source, id, count(*) AS n FROM commands GROUP BY 1, 2")


def _due(settings: Settings) -> list[dict[str, Any]]:
    return rows(settings, f"SELECT * FROM {settings.read_schema}.deadlines WHERE overdue")


def test_a_second_worker_stands_by_and_takes_over_when_the_first_is_killed(crew: Crew, ready: Settings) -> None:
    first = crew.start("reactions")
    first.until_logged("worker.active")
    second = crew.start("reactions")
    second.until_logged("worker.standby")
    first.kill()
    second.until_logged("worker.active")
    assert second.end() == 0
