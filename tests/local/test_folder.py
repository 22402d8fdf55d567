"""The data folder's lock, ports, secrets, and what counts as an orphan."""

import os
import socket
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from prm_es.errors import AlreadyRunning, Unavailable
from prm_es.local.folder import MARK, ChildRecord, Folder, Lock, ProcessRecord, StackRecord, end, orphans

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


def record_with(child: ProcessRecord) -> StackRecord:
    return StackRecord(
        state="ready",
        supervisor=ProcessRecord(pid=2**22, started=0),
        started_at=datetime.now(UTC),
        prefix="prm",
        children={"handle": ChildRecord(process=child)},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder.at(tmp_path / "data")
    made.make()
    return made


def test_a_second_hold_is_refused_with_the_pid_of_the_first(folder: Folder) -> None:
    with Lock(folder), pytest.raises(AlreadyRunning, match=rf"process {os.getpid()}$"), Lock(folder):
        pass
    with Lock(folder):
        pass


def test_a_hold_ends_with_its_process(folder: Folder) -> None:
    script = f"""
import os, signal
from pathlib import Path
from prm_es.local.folder import Folder, Lock
with Lock(Folder.at(Path({str(folder.root)!r}))):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    with Lock(folder):
        pass


def test_a_port_is_remembered_while_it_is_free(folder: Folder) -> None:
    first = folder.port("kafka")
    assert folder.port("kafka") == first
    assert folder.port("postgres") != first
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first))
        taken.listen()
        second = folder.port("kafka")
        assert second != first
    assert folder.port("kafka") == second


def test_damaged_ports_are_made_anew(folder: Folder) -> None:
    (folder.root / "ports.json").write_text("{")
    assert folder.port("kafka") == folder.port("kafka")


def test_secrets_are_random_kept_and_private(folder: Folder, tmp_path: Path) -> None:
    secret = folder.secrets().superuser
    assert len(secret) >= 32
    assert folder.secrets().superuser == secret
    assert stat.S_IMODE((folder.root / "secrets.json").stat().st_mode) == 0o600
    other = Folder.at(tmp_path / "other")
    other.make()
    assert other.secrets().superuser != secret


def test_damaged_secrets_are_said_so(folder: Folder) -> None:
    (folder.root / "secrets.json").write_text("{")
    with pytest.raises(Unavailable, match=r"secrets\.json"):
        folder.secrets()


def test_a_damaged_record_reads_as_none(folder: Folder) -> None:
    (folder.root / "stack.json").write_text('{"state": "re')
    assert folder.record() is None


def test_a_recorded_child_is_an_orphan_and_is_ended(folder: Folder) -> None:
    with subprocess.Popen(SLEEPER) as child:
        folder.write_record(record_with(ProcessRecord.of(child.pid)))
        found = orphans(folder)
        assert [process.pid for process in found] == [child.pid]
        end(found)
        assert child.wait(0) == -15
    assert orphans(folder) == []


def test_an_innocent_process_with_a_recycled_pid_is_left_alone(folder: Folder) -> None:
    with subprocess.Popen(SLEEPER) as innocent:
        earlier = ProcessRecord.of(innocent.pid).started - 100
        folder.write_record(record_with(ProcessRecord(pid=innocent.pid, started=earlier)))
        assert orphans(folder) == []
        assert innocent.poll() is None
        innocent.kill()


def test_a_child_that_was_not_yet_recorded_is_found_by_its_mark(folder: Folder, tmp_path: Path) -> None:
    ours = subprocess.Popen(SLEEPER, env={**os.environ, MARK: str(folder.root)})
    theirs = subprocess.Popen(SLEEPER, env={**os.environ, MARK: str(tmp_path / "elsewhere")})
    try:
        assert [process.pid for process in orphans(folder)] == [ours.pid]
    finally:
        for process in (ours, theirs):
            process.kill()
            process.wait()
