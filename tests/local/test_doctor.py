"""The doctor: a finding a line, each bad one with what to do; on real servers, whole and broken."""

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kafka.admin import KafkaAdminClient, NewTopic
from tests.support import partner
from tests.workers import until, write

from prm_es.consumers import topics
from prm_es.consumers.watch import Watch, listen
from prm_es.install import install
from prm_es.liveness import Liveness
from prm_es.local import doctor
from prm_es.local.doctor import Finding, Grade, examine
from prm_es.local.folder import ChildRecord, Folder, ProcessRecord, StackRecord
from prm_es.settings import Settings


def findings(settings: Settings) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(settings)}


def bad(found: dict[str, Finding]) -> dict[str, Grade]:
    return {name: finding.grade for name, finding in found.items() if finding.grade is not Grade.OK}


def test_an_installation_from_nothing_to_whole(settings: Settings) -> None:
    before = findings(settings)
    assert bad(before) == {"migrations": "fail", "topics": "fail"}
    assert "run `prm-es migrate`" in before["migrations"].sentence
    assert "run `prm-es topics`" in before["topics"].sentence

    install(settings)
    admin: Any = KafkaAdminClient(**settings.kafka_client)
    admin.create_topics([NewTopic(settings.results_topic, 3, 1)])
    topics.create(settings)
    names = {name for name, _config in topics.wanted(settings)}
    until(lambda: names <= set(admin.list_topics()), "the topics are there")
    three = findings(settings)
    assert bad(three) == {"topics": "fail"}
    assert f"{settings.results_topic} has 3; each needs 12 partitions" in three["topics"].sentence
    admin.delete_topics([settings.results_topic])
    until(lambda: settings.results_topic not in admin.list_topics(), "the topic is gone")
    topics.create(settings)
    until(lambda: settings.results_topic in admin.list_topics(), "the topic is there")
    admin.close()
    whole = findings(settings)
    assert bad(whole) == {}
    assert {"database", "clocks", "broker", "handle", "publish", "pipeline"} <= set(whole)

    write(settings, [partner()])  # nobody publishes it
    found = findings(settings)
    assert bad(found) == {"publish": "warn"}
    assert "does `prm-es publish` run?" in found["publish"].sentence
    assert settings.postgres.split("password=")[1].split()[0] not in "".join(map(str, found.values()))


def test_servers_that_do_not_answer(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ANSWER_S", 1.0)
    away = settings.model_copy(update={"kafka": "127.0.0.1:1", "postgres": "host=127.0.0.1 port=1 dbname=prm"})
    found = findings(away)
    assert bad(found) == {"database": "fail", "broker": "fail"}
    assert all("Start it, or correct PRM_" in found[name].sentence for name in ("database", "broker"))


def test_a_machine_on_which_nothing_runs_yet(tmp_path: Path) -> None:
    found = findings(Settings(data=tmp_path / "new"))
    assert bad({name: one for name, one in found.items() if name not in ("memory", "disk")}) == {"stack": "warn"}
    assert {"python", "memory", "disk", "data folder", "ports", "java", "kafka jars", "postgres", "clock"} <= set(found)
    assert "prm-es up" in found["stack"].sentence
    assert not (tmp_path / "new").exists()


def test_jars_that_cannot_be_had(tmp_path: Path) -> None:
    found = doctor.kafka_jars(Settings(cache=tmp_path, maven="http://127.0.0.1:1/maven"))
    assert (found.grade, "PRM_MAVEN names a mirror" in found.sentence) == (Grade.FAIL, True)
    assert doctor.kafka_jars(Settings(kafka_jars=tmp_path)).grade is Grade.FAIL
    assert doctor.kafka_jars(Settings()).grade is Grade.OK
    assert list(tmp_path.iterdir()) == []


def test_the_machine() -> None:
    assert [doctor.python(version).grade for version in ((3, 10), (3, 11), (3, 14))] == ["fail", "ok", "warn"]
    assert [doctor.memory(mb * doctor.MB).grade for mb in (200, 700, 4000)] == ["fail", "warn", "ok"]
    assert doctor.local_clock(datetime(2001, 1, 1, tzinfo=UTC)).grade is Grade.FAIL
    assert doctor.local_clock(datetime.now(UTC)).grade is Grade.OK


def test_the_data_folder(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert doctor.data_folder(tmp_path, None).grade is Grade.WARN
    assert doctor.data_folder(tmp_path / "thesis.txt", None).grade is Grade.FAIL
    assert doctor.data_folder(tmp_path / "new" / "er", None).grade is Grade.OK
    assert doctor.data_folder(Path("/proc/here"), None).grade is Grade.FAIL


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_port_that_somebody_took(tmp_path: Path, listener: int) -> None:
    assert doctor.ports(tmp_path, None).grade is Grade.OK
    (tmp_path / "ports.json").write_text(f'{{"kafka": {listener}}}')
    found = doctor.ports(tmp_path, None)
    assert (found.grade, f"kafka {listener}" in found.sentence) == (Grade.WARN, True)
    assert Folder.at(tmp_path).ports() == {"kafka": listener}


def test_children_that_died_or_keep_dying() -> None:
    me = ProcessRecord.of(os.getpid())
    record = StackRecord(state="ready", supervisor=me, started_at=datetime.now(UTC), prefix="prm")
    child = ChildRecord(process=me)
    graded = {
        "ok": {"handle": child},
        "warn": {"handle": child.model_copy(update={"restarts": 9})},
        "fail": {"handle": child, "publish": ChildRecord()},
    }
    for grade, children in graded.items():
        assert doctor.processes(record.model_copy(update={"children": children})).grade == grade


def test_workers_that_hang_or_do_not_answer() -> None:
    me, clock = ProcessRecord.of(os.getpid()), [0.0]
    live = Liveness(lambda: clock[0])
    server = listen("127.0.0.1", 0, Watch("handle", live, 60))
    child = ChildRecord(process=me, watch=f"http://127.0.0.1:{server.server_address[1]}")
    record = StackRecord(state="ready", supervisor=me, started_at=datetime.now(UTC), prefix="prm")
    record.children = {"postgres": ChildRecord(process=me), "publish": ChildRecord(), "handle": child}
    assert list(doctor.workers_health(record)) == []
    live.doing("deciding a batch")
    clock[0] += 61
    (found,) = doctor.workers_health(record)
    assert (found.name, found.grade, "'deciding a batch' since 2" in found.sentence) == ("handle", Grade.FAIL, True)
    server.shutdown()
    server.server_close()
    (found,) = doctor.workers_health(record)
    assert (found.name, found.grade) == ("handle", Grade.WARN)


def test_the_line() -> None:
    finding = replace(doctor.ok("java", "25"), grade=Grade.FAIL)
    assert str(finding) == "fail  java          25"
