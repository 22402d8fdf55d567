"""`prm-es demo`: a generated scenario through the whole path, what the read models say of it, and deadlines at work."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from shutil import which
from time import monotonic, sleep
from typing import Final

from rich.console import Console

from prm_es.errors import Unavailable, Usage
from prm_es.local import run
from prm_es.local.connect import running, settings_for
from prm_es.local.finale import play
from prm_es.local.summary import print_summary
from prm_es.projections.sql import run_sql
from prm_es.settings import Settings
from prm_es.status import wait
from prm_es.upstream.demo import world
from prm_es.upstream.progress import bar
from prm_es.upstream.sending import send

QUIET_S: Final = 5.0  # an import of the past that has been still for so long is over
SETTLE_S: Final = 300.0
POLL_S: Final = 0.2


def run_demo(settings: Settings, seed: int, until: str | None, *, keep: bool) -> int:
    """Start what is not running, send the scenario, print the summary, stop what was started; gives the exit code.

    The summary goes to standard output, all else to standard error. Raises Unavailable if something takes too long.
    """
    console = Console(stderr=True, highlight=False)
    made = world(seed, _day(until))
    commands = made.told()
    with _stack(settings, console, keep=keep) as connected:
        with bar("commands", len(commands)) as on_progress:
            report = send(connected, commands, wait=True, on_progress=on_progress)
        console.print(f"{report.accepted:,} accepted, {report.refused} refused, {len(made.meant)} of them on purpose")
        settle(connected, console)
        print_summary(connected)
        play(connected, made.selling(made.end - timedelta(seconds=1)), console)
    _say_what_next(console, settings, keep=keep)
    return 0 if not report.dead_lettered else 1


def settle(settings: Settings, console: Console, timeout: float = SETTLE_S) -> None:
    """Wait until every read model has caught up and nothing is overdue, and say so; raises Unavailable.

    What an import has left to expire is acted upon once it has been quiet for a while, as the running stack has it.
    """
    wait(settings, timeout)
    until = monotonic() + timeout
    overdue = _overdue(settings)
    if overdue:
        console.print(
            f"{overdue:,} deadlines of the past are acted upon once the import has been quiet for a while …",
            soft_wrap=True,
        )
    while overdue:
        if monotonic() > until:
            raise Unavailable(
                f"{overdue} deadlines are still overdue after {timeout:.0f} s: see `prm-es show deadlines`"
            )
        sleep(POLL_S)
        overdue = _overdue(settings)
    wait(settings, timeout)
    console.print()


def _overdue(settings: Settings) -> int:
    ((overdue,),) = run_sql(settings, "SELECT count(*) FROM deadlines WHERE overdue")[1]
    return int(overdue)


def _day(text: str | None) -> date:
    if text is None:
        return datetime.now(UTC).date()
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Usage(f"--until: {text} is no date, write 2026-06-30") from None


@contextmanager
def _stack(settings: Settings, console: Console, *, keep: bool) -> Iterator[Settings]:
    """Give the settings of a running stack; one that was started here is stopped again, whatever happens."""
    mine = running(settings.data) is None
    if mine:
        if "import_quiet" not in settings.model_fields_set:
            settings = settings.model_copy(update={"import_quiet": QUIET_S})
        console.print(f"starting PostgreSQL, Kafka and the workers in {settings.data} …")
        run.run_detached(settings, console=Console(stderr=True, quiet=True))
    try:
        yield settings_for(settings.data, settings)
    finally:
        if mine and not keep:
            console.print("\nstopping everything …")
            run.stop(settings.data)


def _say_what_next(console: Console, settings: Settings, *, keep: bool) -> None:
    program = _program()
    if settings.data != Settings.model_fields["data"].default:
        program = f"PRM_DATA={settings.data} {program}"
    lines = [
        *([] if keep else ["up --detach"]),
        "show opportunities --status open --sort -amount --limit 10",
        "history opportunity ID",
        "show conflicts --status open",
        'sql "SELECT * FROM funnel"',
        "status",
        "down",
    ]
    console.print(f"\nThe data stays in {settings.data}. Try next:")
    for line in lines:
        console.print(f"  {program} {line}", soft_wrap=True)


def _program() -> str:
    """Give what to type for this program: its name if the shell finds it, else its path."""
    if which("prm-es"):
        return "prm-es"
    beside = Path(sys.executable).with_name("prm-es")
    return str(beside.relative_to(Path.cwd())) if beside.is_relative_to(Path.cwd()) else str(beside)
