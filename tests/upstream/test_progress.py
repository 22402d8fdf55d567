"""The progress bar: there for people, silent for programs."""

import io

import pytest

from prm_es.upstream.progress import bar, counter, silent


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_how_many_are_answered_and_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    file = Terminal()
    with bar("sending", 40, file=file) as show:
        show(30, 20)
    assert "20/40" in file.getvalue()
    assert "30 sent" in file.getvalue()
    assert "\x1b[38" in file.getvalue()


def test_without_answers_it_shows_how_many_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    file = Terminal()
    with bar("sending", 40, answers=False, file=file) as show:
        show(30, 0)
    assert "30/40" in file.getvalue()


def test_no_colour_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    file = Terminal()
    with bar("sending", 40, file=file) as show:
        show(30, 20)
    assert "\x1b[38" not in file.getvalue()


def test_nothing_at_all_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    file = io.StringIO()
    with bar("sending", 40, file=file) as show:
        assert show is silent
        show(30, 20)
    assert file.getvalue() == ""


def test_a_counter_shows_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    file = Terminal()
    with counter("events", file=file) as show:
        for done in range(0, 40, 10):
            show(done, 40)
    assert "30/40" in file.getvalue()
    assert "left" in file.getvalue()
