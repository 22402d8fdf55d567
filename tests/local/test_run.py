"""`up`, `down` and `up --reset` as processes: a clean end, a second start refused, recovery after SIGKILL of all."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from prm_es.errors import AlreadyRunning, Unavailable, Usage
from prm_es.local.connect import running, settings_for
from prm_es.local.folder import Folder, Lock, StackRecord
from prm_es.local.run import reset, run_detached, stop
from prm_es.local.stack import clear
from prm_es.settings import Settings

SCRIPT = """
import sys
from prm_es.local.run import run_foreground
from prm_es.local.stack import Worker
from prm_es.settings import Settings
note = '''
import pathlib, signal, sys, time
def end(*_):
    with pathlib.Path({order!r}).open("a") as file: file.write(sys.argv[1] + " ")
    sys.exit()
signal.signal(15, end)
pathlib.Path({order!r} + "-" + sys.argv[1]).touch()
time.sleep(600)
'''
workers = [Worker(name, [sys.executable, "-c", note, name], ["writer"]) for name in ("handle", "publish")]
run_foreground(Settings(), workers=workers)
"""


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    folder = Folder.at(tmp_path / "data")
    yield folder.root
    record = running(folder.root)
    supervisor = record.supervisor.find() if record else None
    if supervisor:
        supervisor.kill()
    with Lock(folder):
        clear(folder)


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    return [sys.executable, "-c", SCRIPT.replace("{order!r}", repr(str(tmp_path / "order")))]


def until(true: Callable[[], object], patience: float = 120) -> None:
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def pids(record: StackRecord) -> list[int]:
    return [child.process.pid for child in record.children.values() if child.process]


def test_it_recovers_from_sigkill_of_the_supervisor_and_of_all(data: Path, command: list[str]) -> None:
    record = run_detached(Settings(data=data), command=command)
    with pytest.raises(AlreadyRunning, match=f"process {record.supervisor.pid}"):
        run_detached(Settings(data=data), command=command)
    with psycopg.connect(settings_for(data, Settings()).postgres) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")

    # The supervisor alone: its children live on as orphans and are ended by the next start.
    os.kill(record.supervisor.pid, signal.SIGKILL)
    until(lambda: running(data) is None)
    with pytest.raises(Unavailable, match="nothing runs in"):
        settings_for(data, Settings())
    assert all(psutil.pid_exists(pid) for pid in pids(record))
    second = run_detached(Settings(data=data), command=command)
    assert not any(child.process and child.process.find() for child in record.children.values())
    assert (second.kafka, second.postgres) == (record.kafka, record.postgres)

    # Everything at once.
    for pid in [second.supervisor.pid, *pids(second)]:
        os.kill(pid, signal.SIGKILL)
    until(lambda: running(data) is None)
    third = run_detached(Settings(data=data), command=command)
    with psycopg.connect(settings_for(data, Settings()).postgres) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)
    assert stop(data) == f"stopped process {third.supervisor.pid} and its 4 children"


def test_workers_are_stopped_in_order_and_nothing_is_left(data: Path, command: list[str], tmp_path: Path) -> None:
    record = run_detached(Settings(data=data), command=command)
    until(lambda: all((tmp_path / f"order-{name}").exists() for name in ("handle", "publish")))
    stop(data)
    assert (tmp_path / "order").read_text() == "handle publish "
    assert not any(psutil.pid_exists(pid) for pid in pids(record))
    assert "shut down" in (data / "logs" / "postgres.log").read_text().splitlines()[-1]
    assert running(data) is None
    assert stop(data) == f"nothing runs in {data}"


def test_down_ends_the_orphans_of_a_killed_run(data: Path, command: list[str]) -> None:
    record = run_detached(Settings(data=data), command=command)
    with pytest.raises(AlreadyRunning):
        reset(data)
    os.kill(record.supervisor.pid, signal.SIGKILL)
    until(lambda: running(data) is None)
    assert "that a killed run had left behind" in stop(data)
    assert not any(child.process and child.process.find() for child in record.children.values())
    reset(data)
    assert [path.name for path in data.iterdir()] == ["lock"]


def test_an_interrupt_during_the_start_ends_it_cleanly(data: Path, command: list[str]) -> None:
    process = subprocess.Popen(command, env={**os.environ, "PRM_DATA": str(data)}, stderr=subprocess.PIPE, text=True)
    until(lambda: (record := running(data)) and "kafka" in record.children)
    record = running(data)
    process.send_signal(signal.SIGINT)
    _output, errors = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in errors
    assert record
    assert not any(psutil.pid_exists(pid) for pid in pids(record))
    assert running(data) is None


def test_a_start_that_dies_is_reported_with_its_reason(data: Path) -> None:
    failing = [sys.executable, "-c", "raise SystemExit('no space left on device')"]
    with pytest.raises(Unavailable, match=r"exit code 1(.*\n)*.*no space left on device"):
        run_detached(Settings(data=data, kafka="127.0.0.1:1"), command=failing)


def test_reset_leaves_folders_alone_that_are_not_ours(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(Usage, match="not a data folder"):
        reset(tmp_path)
    assert (tmp_path / "thesis.txt").exists()
    reset(tmp_path / "nowhere")
