"""Each worker says how it is, truly, whatever has happened to it: its counts, what waits, and whether it gets on."""

import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Any

import psutil
import psycopg
import pytest
from kafka import KafkaProducer
from psycopg.sql import SQL, Composed, Identifier

from prm_es.consumers import backlog
from prm_es.consumers.backlog import Missing, ReadModels, backlogs_of, missing
from prm_es.consumers.watch import Watch
from prm_es.install import install
from prm_es.liveness import Liveness
from prm_es.messages import Envelope
from prm_es.partitions import partition_of
from prm_es.projections.registry import READ_MODELS
from prm_es.projections.runner import Projector
from prm_es.settings import Settings
from prm_es.store.locks import Lock, keys
from tests.support import partner, rows
from tests.watching import Metrics, address, get, health, metrics, reachable, read
from tests.workers import Crew, Sent, Worker, head, mixed, noted, plain, publish_all, story, until, write

WORKERS = (
    ("handle",),
    ("publish",),
    ("project", "pipeline", "leads"),
    ("conflicts",),
    ("deadlines",),
    ("reactions",),
)
SOON_S = 3.0  # a projector without work looks every two seconds
SOON = {"PRM_STUCK_AFTER": str(SOON_S)}


@pytest.fixture(scope="module")
def ready(migrated: Settings) -> Settings:
    install(migrated)
    return migrated


@pytest.fixture
def crew(ready: Settings, tmp_path: Path) -> Iterator[Crew]:
    with Crew(ready, tmp_path) as hands:
        yield hands


def active(worker: Worker) -> Worker:
    until(lambda: health(worker)[1]["state"] == "active", "the worker is active")
    return worker


@pytest.mark.parametrize("verb", WORKERS, ids=lambda verb: verb[0])
def test_each_worker_tells_its_health_and_its_metrics_on_loopback_alone(crew: Crew, verb: tuple[str, ...]) -> None:
    worker = active(crew.start(*verb))
    status, told = health(worker)
    assert (status, told["status"], told["process"]) == (200, "ok", worker.process.pid)
    assert told["worker"] == "+".join(verb[1:] or verb)
    assert health(worker, "/ready")[0] == 200
    assert get(address(worker) + "/")[0] == 404
    until(lambda: set(metrics(worker).of("prm_backlog_known").values()) == {1}, "what waits is known")
    seen = metrics(worker)
    assert seen.value("prm_worker_state", state="active") == 1
    assert seen["prm_worker_stuck"] == 0
    assert seen["process_cpu_seconds_total"] > 0
    listening = [
        c for c in psutil.Process(worker.process.pid).net_connections("inet") if c.status == psutil.CONN_LISTEN
    ]
    assert {one.laddr.ip for one in listening} == {"127.0.0.1"}
    assert worker.end() == 0


def put(settings: Settings, load: Sequence[Sent]) -> None:
    """Lay records on the command topics as senders do."""
    producer: Any = KafkaProducer(**settings.kafka_client)
    with closing(producer):
        for one in load:
            topic = settings.command_topic(one.aggregate)
            producer.send(topic, one.value, key=one.key, headers=list(one.headers))
        producer.flush()


# Counts


def test_the_counts_are_what_was_sent_decided_published_and_applied(crew: Crew, ready: Settings) -> None:
    partners, deals = story(60)
    write(ready, partners)
    publish_all(ready)
    handler, publisher, projector = crew.start("handle"), crew.start("publish"), crew.start("project", "pipeline")
    for one in (handler, publisher, projector):
        active(one)
    until(lambda: lag(projector, "pipeline") == 0, "the rows have caught up")
    before, known, events = metrics(projector), outcomes(ready), head(ready)
    again = [replace(one, id=f"again {one.id}") for one in deals if one.type == "prm.opportunity.open"]
    load = mixed([*deals, *again], seed=7)
    put(ready, load)
    until(lambda: metrics(handler).sum("prm_commands_total") == len(load), "everything is answered")
    until(lambda: metrics(publisher)["prm_publisher_lag_events"] == 0, "everything is published")
    until(lambda: lag(projector, "pipeline") == 0, "everything is applied")
    counted = {
        name: int(metrics(handler).value("prm_commands_total", outcome=name))
        for name in ("accepted", "refused", "repeated", "id_reused", "dead_letter")
    }
    new = outcomes(ready) - known
    sent = Counter(one.name for one in load)
    assert counted == {
        "accepted": new["accepted"],
        "refused": new["refused"],
        "id_reused": new["reused"],
        "dead_letter": sent[None],
        "repeated": len(load) - sum(new.values()),
    }
    assert min(counted.values()) > 0
    assert new["dead"] == sent[None]
    assert metrics(handler).sum("prm_commands_waiting") == 0
    assert metrics(handler)["prm_dead_letters_open"] == outcomes(ready)["dead"]
    assert metrics(handler).value("prm_batch_size_sum", work="handle") == len(load)
    added = head(ready) - events
    assert added > 100
    assert metrics(publisher)["prm_events_published_total"] == added
    assert metrics(publisher).value("prm_batch_size_sum", work="publish") == added
    assert applied(metrics(projector)) - applied(before) == added
    batches = metrics(projector).value("prm_batch_seconds_count", work="pipeline")
    assert 0 < batches <= added
    assert metrics(projector).value("prm_batch_seconds_bucket", work="pipeline", le="+Inf") == batches


def outcomes(settings: Settings) -> Counter[str]:
    """Count what the store holds: outcomes of commands, reuses of ids, dead letters."""
    found = rows(
        settings,
        "SELECT outcome AS what, count(*) AS n FROM commands GROUP BY 1 UNION ALL"
        " SELECT 'reused', count(*) FROM reused_ids UNION ALL SELECT 'dead', count(*) FROM dead_letters",
    )
    return Counter({row["what"]: row["n"] for row in found})


def applied(seen: Metrics) -> float:
    return seen.sum("prm_read_model_events_total", read_model="pipeline", outcome="applied")


def lag(worker: Worker, model: str) -> float:
    return metrics(worker).sum("prm_read_model_lag_events", read_model=model)


# Stuck


@contextmanager
def held(settings: Settings, query: str | Composed, values: Sequence[object] = ()) -> Iterator[None]:
    """Hold what this statement locks."""
    options = f"-c search_path={settings.store_schema}"
    with psycopg.connect(settings.postgres, options=options) as connection:
        connection.execute(query, values)
        yield
        connection.rollback()


def checkpoint_of(settings: Settings, model: str) -> Composed:
    query = SQL("SELECT 1 FROM {}.checkpoints WHERE name = {} FOR UPDATE")
    return query.format(Identifier(settings.projections_schema), model)


def stuck(worker: Worker) -> dict[str, Any]:
    status, told = health(worker)
    return told if status == 503 else {}


def hangs(worker: Worker, doing: str) -> None:
    """Check that it says so, of itself, for as long as it hangs."""
    told = until(lambda: stuck(worker), "it says that it is stuck")
    assert (told["status"], told["doing"]) == ("stuck", doing)
    assert told["last_progress"] <= told["doing_since"]
    assert told["last_progress_seconds_ago"] >= SOON_S
    assert health(worker, "/ready")[0] == 503
    assert metrics(worker)["prm_worker_stuck"] == 1
    assert metrics(worker)["prm_worker_progress_age_seconds"] > SOON_S


def recovers(worker: Worker) -> None:
    until(lambda: not stuck(worker), "it gets on again")
    assert metrics(worker)["prm_worker_stuck"] == 0


def test_a_handler_that_waits_for_the_store_says_so(crew: Crew, ready: Settings) -> None:
    handler = active(crew.start("handle", **SOON))
    until(lambda: metrics(handler).sum("prm_commands_waiting") == 0, "nothing waits")
    with held(ready, "SELECT pg_advisory_lock(%s, %s)", keys(ready.prefix, Lock.APPEND)):
        put(ready, [plain(partner()) for _ in range(30)])
        hangs(handler, "deciding a batch")
        assert metrics(handler).sum("prm_commands_waiting") == 30
        assert metrics(handler).sum("prm_commands_total") == 0
    recovers(handler)
    until(lambda: metrics(handler).value("prm_commands_total", outcome="accepted") == 30, "all are accepted")


def test_a_publisher_that_waits_for_the_store_says_so(crew: Crew, ready: Settings) -> None:
    publisher = active(crew.start("publish", **SOON))
    until(lambda: metrics(publisher)["prm_publisher_lag_events"] == 0, "nothing waits")
    with held(ready, "LOCK TABLE published IN SHARE MODE"):
        write(ready, [partner() for _ in range(30)])
        hangs(publisher, "noting what is published")
        seen = metrics(publisher)
        assert seen["prm_publisher_lag_events"] == head(ready) - noted(ready) == 30
        assert 2 < seen["prm_publisher_lag_seconds"] < 60
    recovers(publisher)
    until(lambda: metrics(publisher)["prm_publisher_lag_events"] == 0, "nothing waits")
    assert metrics(publisher)["prm_publisher_lag_seconds"] == 0


@pytest.mark.parametrize("name", ["conflicts", "deadlines", "reactions"])
def test_an_ordered_worker_that_waits_for_its_checkpoint_says_so(crew: Crew, ready: Settings, name: str) -> None:
    worker = active(crew.start(name, **SOON))
    until(lambda: lag(worker, name) == 0, "nothing waits")
    with held(ready, checkpoint_of(ready, name)):
        write(ready, [partner() for _ in range(30)])
        hangs(worker, "folding the log")
        assert metrics(worker).value("prm_read_model_lag_events", read_model=name, topic="*", partition="0") == 30
        assert metrics(worker).sum("prm_read_model_lag_seconds") > 2
    recovers(worker)
    until(lambda: lag(worker, name) == 0, "it has caught up")


def test_a_projector_that_waits_says_so_and_what_its_rows_lack_by_partition(crew: Crew, ready: Settings) -> None:
    publish_all(ready)
    projector = active(crew.start("project", "pipeline", "leads", **SOON))
    until(lambda: lag(projector, "pipeline") == lag(projector, "leads") == 0, "the rows have caught up")
    with held(ready, checkpoint_of(ready, "pipeline")):
        told = rows(ready, "SELECT clock_timestamp() AS at")[0]["at"]
        sent = [partner() for _ in range(40)]
        write(ready, sent[:25])
        publish_all(ready)
        write(ready, sent[25:])  # not on the topics yet: the rows lack them all the same
        hangs(projector, "applying a batch")
        seen = metrics(projector)
        expected = Counter(partition_of(one.subject) for one in sent)
        topic = ready.event_topic("partner")
        for partition in range(12):
            place = {"read_model": "pipeline", "topic": topic, "partition": str(partition)}
            assert seen.value("prm_read_model_lag_events", **place) == expected[partition]
            assert (seen.value("prm_read_model_lag_seconds", **place) > 0) == (expected[partition] > 0)
        assert seen.sum("prm_read_model_lag_events", read_model="pipeline") == 40
        (ago,) = rows(ready, "SELECT extract(epoch FROM clock_timestamp() - %s)::float8 AS s", [told])
        oldest = max(seen.of("prm_read_model_lag_seconds", read_model="pipeline").values())
        assert SOON_S - 2 < oldest < ago["s"]
    recovers(projector)
    publish_all(ready)
    until(lambda: lag(projector, "pipeline") == lag(projector, "leads") == 0, "the rows have caught up")
    assert metrics(projector).sum("prm_read_model_lag_seconds") == 0


def test_a_worker_that_stands_still_does_not_answer(crew: Crew, ready: Settings) -> None:
    worker = active(crew.start("handle"))
    assert reachable(f"{address(worker)}/health")
    worker.pause()
    assert not reachable(f"{address(worker)}/health")
    worker.go_on()
    until(lambda: reachable(f"{address(worker)}/health"), "it answers again")


@pytest.mark.parametrize("name", ["publish", "reactions"])
def test_a_standby_is_well_and_says_that_it_stands_by(crew: Crew, name: str) -> None:
    first = active(crew.start(name))
    second = crew.start(name, **SOON)
    until(lambda: health(second)[1]["state"] == "standby", "the second stands by")
    until(lambda: stood_by(second) > SOON_S, "it stands by for longer than it may hang")
    status, told = health(second)
    assert (status, told["status"], told["state"]) == (200, "ok", "standby")
    assert told["doing"] == "standing by: another process is active"
    assert health(second, "/ready")[0] == 200
    first.kill()
    active(second)


def stood_by(worker: Worker) -> float:
    told = health(worker)[1]
    begun, last = (datetime.fromisoformat(told[name]) for name in ("doing_since", "last_progress"))
    return (last - begun).total_seconds()


# The server


def test_a_port_that_is_taken_keeps_nobody_from_working(crew: Crew, ready: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        worker = active(crew.start("reactions", PRM_METRICS_PORT=port))
    assert worker.logged("worker.watched_elsewhere")
    assert not address(worker).endswith(f":{port}")
    again = active(crew.start("handle", PRM_METRICS_PORT=port))
    assert address(again) == f"http://127.0.0.1:{port}"


def test_a_host_that_is_not_ours_is_a_wrong_setting(crew: Crew) -> None:
    worker = crew.start("handle", PRM_METRICS_HOST="192.0.2.1")
    assert worker.exit_code() == 2
    assert "PRM_METRICS_HOST" in worker.logged("worker.misconfigured")[0]["reason"]


# What waits


def total(asked: ReadModels, name: str) -> float:
    (found,) = (one for one in asked.ask() if one.name == name)
    return sum(sample.value for sample in found.samples)


def catch_up(settings: Settings) -> None:
    """Publish everything and let the rows of pipeline hold it, without a worker."""
    publish_all(settings)
    with closing(Projector(settings, READ_MODELS["pipeline"])) as projector:
        after = projector.behind()
        while after >= 0 and (reached := projector.catch_up(after)) > after:
            after = reached


def of_partition(number: int) -> Envelope:
    return next(one for one in iter(partner, None) if partition_of(one.subject) == number)


def test_a_lag_longer_than_is_counted_is_reckoned(ready: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    catch_up(ready)
    lags = ReadModels(ready, ["pipeline"])
    assert total(lags, "prm_read_model_lag_events") == 0
    write(ready, [partner() for _ in range(300)])
    assert total(lags, "prm_read_model_lag_events") == 300
    monkeypatch.setattr(backlog, "SCAN", 100)
    assert total(lags, "prm_read_model_lag_events") == pytest.approx(300, abs=12)  # each partition's is rounded


def test_a_partition_is_as_late_as_its_own_first_event(ready: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    write(ready, [of_partition(0)])
    catch_up(ready)
    write(ready, [of_partition(1) for _ in range(50)])
    catch_up(ready)
    lags = ReadModels(ready, ["pipeline"])
    assert total(lags, "prm_read_model_lag_events") == 0
    write(ready, [of_partition(0)])
    publish_all(ready)
    monkeypatch.setattr(backlog, "SCAN", 10)  # it does not look through what it has seen complete
    assert total(lags, "prm_read_model_lag_events") == 1
    late = total(lags, "prm_read_model_lag_seconds")
    (age,) = rows(
        ready,
        "SELECT extract(epoch FROM clock_timestamp() - recorded_at)::float8 AS s FROM commits ORDER BY number DESC"
        " LIMIT 1",
    )
    assert 0 < late < age["s"]


def test_what_cannot_be_asked_is_told_as_unknown_and_quickly(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        away = Settings(
            data=tmp_path, kafka=f"127.0.0.1:{port}", postgres=f"host=127.0.0.1 port={port} user=x dbname=x"
        )
        began = monotonic()
        for worker in ("handle", "publish", "pipeline+leads", "conflicts"):
            watch = Watch(worker, Liveness(), 60, backlogs_of(worker, away))
            seen = read(watch.answer("/metrics")[2].decode())
            assert set(seen.of("prm_backlog_known").values()) == {0}
            assert not any("lag" in name or "waiting" in name for name, _labels in seen.samples)
        assert monotonic() - began < 20


def test_what_lies_behind_its_own_floor_is_counted_and_nothing_else() -> None:
    floors = {("a", 0): 5, ("a", 1): 2}
    log = [(3, ("a", 0)), (4, ("a", 1)), (6, ("a", 0)), (7, None), (8, ("b", 0)), (9, ("a", 1))]
    assert missing(floors, log) == {("a", 1): Missing(2, 4), ("a", 0): Missing(1, 6)}
