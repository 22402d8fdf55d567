"""A supervised child: restarted with back-off and said so, logged, ended in bounded time."""

import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from prm_es.errors import Unavailable
from prm_es.local import processes
from prm_es.local.processes import Child, Screen, Spec, next_pause, wait_ready


def spec(code: str, name: str = "handle", **more: object) -> Spec:
    return Spec(name, [sys.executable, "-uc", code], dict(os.environ), **more)  # type: ignore[arg-type]


def until(true: Callable[[], object], patience: float = 10) -> None:
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


@pytest.fixture
def shown() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def screen(shown: io.StringIO) -> Screen:
    return Screen(Console(file=shown, width=200))


def test_a_child_that_dies_is_started_again_later_each_time(tmp_path: Path, screen: Screen, shown: io.StringIO) -> None:
    child = Child(spec("raise SystemExit(3)"), tmp_path, screen)
    child.start()
    until(lambda: child.record.restarts >= 3)
    child.stop()
    said = [line for line in shown.getvalue().splitlines() if "starting again" in line]
    assert said[:3] == [f"handle exited with 3, starting again in {pause} s" for pause in (0.2, 0.4, 0.8)]


def test_the_pause_doubles_to_a_limit_and_begins_anew_after_a_long_life() -> None:
    pauses = [0.0]
    for _start in range(9):
        pauses.append(next_pause(pauses[-1], lived=1))
    assert pauses[1:] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10]
    assert next_pause(10, lived=31) == 0.2


def test_sigkill_is_named_and_the_child_comes_back(tmp_path: Path, screen: Screen, shown: io.StringIO) -> None:
    child = Child(spec("import time; time.sleep(60)"), tmp_path, screen)
    child.start()
    until(lambda: child.record.process)
    first = child.record.process
    assert first
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: child.record.process and child.record.process != first)
    child.stop()
    assert "handle was killed by SIGKILL, starting again in 0.2 s" in shown.getvalue()


def test_output_is_prefixed_on_the_console_and_plain_in_the_log(
    tmp_path: Path, screen: Screen, shown: io.StringIO
) -> None:
    child = Child(spec(r"print('\x1b[31mred\x1b[0m [b]'); import time; time.sleep(60)"), tmp_path, screen)
    child.start()
    until(lambda: "red" in shown.getvalue())
    child.stop()
    assert shown.getvalue().startswith("handle      │ red [b]\n")
    assert (tmp_path / "handle.log").read_text() == "red [b]\n"


def test_names_are_coloured_only_where_colours_are_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for wanted in (True, False):
        if not wanted:
            monkeypatch.setenv("NO_COLOR", "1")
        shown = io.StringIO()
        Screen(Console(file=shown, force_terminal=True, color_system="standard")).line("handle", "text")
        assert ("\x1b[36m" in shown.getvalue()) is wanted


def test_a_log_is_rotated_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOG_BYTES", 1000)
    child = Child(spec("for _ in range(500): print('x' * 99)\nimport time; time.sleep(60)"), tmp_path)
    child.start()
    until((tmp_path / "handle.log.3").exists)
    child.stop()
    until(lambda: len(list(tmp_path.iterdir())) == 4)  # the last lines may be on their way still
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())


def test_a_child_that_will_not_end_is_killed_after_its_patience(tmp_path: Path) -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up'); time.sleep(60)"
    child = Child(spec(stubborn, ending=((signal.SIGTERM, 0.5),)), tmp_path)
    child.start()
    until(lambda: "up" in child.last_words())
    began = time.monotonic()
    child.stop()
    assert 0.4 < time.monotonic() - began < 3


def test_hurry_cuts_patience_short(tmp_path: Path) -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up'); time.sleep(60)"
    child = Child(spec(stubborn, ending=((signal.SIGTERM, 60.0),)), tmp_path)
    child.start()
    until(lambda: "up" in child.last_words())
    hurry = threading.Event()
    threading.Timer(0.3, hurry.set).start()
    began = time.monotonic()
    child.stop(hurry)
    assert time.monotonic() - began < 3


def test_stopping_during_a_pause_starts_nothing_more(tmp_path: Path) -> None:
    child = Child(spec("raise SystemExit(1)"), tmp_path)
    child.start()
    until(lambda: child.record.restarts == 2)
    child.stop()
    assert child.record.process is None
    count = child.record.restarts
    time.sleep(1)
    assert child.record.restarts == count


def test_the_terminals_interrupt_does_not_reach_a_child(tmp_path: Path) -> None:
    child = Child(spec("import os; print('session', os.getsid(0), os.getpid()); import time; time.sleep(60)"), tmp_path)
    child.start()
    until(lambda: "session" in child.last_words())
    _word, session, pid = child.last_words().split()
    child.stop()
    assert session == pid != str(os.getsid(0))


def test_a_server_that_keeps_dying_is_reported_with_its_last_words(tmp_path: Path) -> None:
    child = Child(spec("print('no room on disk'); raise SystemExit(1)"), tmp_path)
    child.start()
    with pytest.raises(Unavailable, match=r"handle does not start:\n(.*\n)*no room on disk"):
        wait_ready(child, lambda: False)
    child.stop()


def test_a_program_that_is_not_there_is_reported(tmp_path: Path) -> None:
    child = Child(Spec("handle", ["/nowhere/at-all"], {}), tmp_path)
    child.start()
    with pytest.raises(Unavailable, match="/nowhere/at-all"):
        wait_ready(child, lambda: False)
    child.stop()
