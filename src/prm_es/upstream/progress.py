"""A progress bar on standard error; silent without a terminal, plain with NO_COLOR."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

OnProgress = Callable[[int, int], None]


def silent(_sent: int, _answered: int) -> None:
    """Take progress and show nothing."""


@contextmanager
def bar(label: str, total: int, *, answers: bool = True, file: TextIO | None = None) -> Iterator[OnProgress]:
    """Give a callback `(sent, answered)` that moves a bar from 0 to `total`, gone silent where nobody watches.

    With `answers` the bar stands for the answers and the text counts what was sent; without, for what was sent.
    """
    console = Console(file=file, stderr=file is None)
    if not console.is_terminal:
        yield silent
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=console) as progress:
        task = progress.add_task(label, total=total, note="")

        def show(sent: int, answered: int) -> None:
            note = f"{sent} sent" if answers else ""
            progress.update(task, completed=answered if answers else sent, note=note)

        yield show


class _Rate(ProgressColumn):
    """How many a second, once it is known."""

    def render(self, task: Task) -> Text:
        """Write it."""
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


@contextmanager
def counter(label: str, file: TextIO | None = None) -> Iterator[Callable[[int, int], None]]:
    """Give a callback `(done, total)` that moves a bar, with the rate and the time left; silent as `bar` is."""
    console = Console(file=file, stderr=file is None)
    if not console.is_terminal:
        yield silent
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task(label, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def steps(file: TextIO | None = None) -> Iterator[Callable[[str, int, int], None]]:
    """Give a callback `(step, done, total)` that moves a bar a step, one below the other; silent as `bar` is."""
    console = Console(file=file, stderr=file is None)
    if not console.is_terminal:
        yield lambda _step, _done, _total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console) as progress:
        tasks: dict[str, TaskID] = {}

        def show(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = progress.add_task(step, total=total)
            progress.update(tasks[step], completed=done, total=total)

        yield show
