"""`prm-es demo`: a generated scenario through the whole path, and what the read model says of it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from shutil import which
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from prm_es.errors import Usage
from prm_es.local import run
from prm_es.local.connect import running, settings_for
from prm_es.projections.sql import run_sql
from prm_es.settings import Settings
from prm_es.status import wait
from prm_es.upstream.demo import scenario
from prm_es.upstream.progress import bar
from prm_es.upstream.sending import send

WIDTH: Final = 100
BAR: Final = 40
TOP: Final = 12
_STAGES: Final = ("prospect", "qualified", "technical_validation", "business_validation", "committed", "won", "lost")
SETTLE_S: Final = 300.0


def run_demo(settings: Settings, seed: int, until: str | None, *, keep: bool) -> int:
    """Start what is not running, send the scenario, print the summary, stop what was started; gives the exit code."""
    console = Console(stderr=True, highlight=False)
    commands = scenario(seed, _day(until))
    with _stack(settings, console, keep=keep) as connected:
        with bar("commands", len(commands)) as on_progress:
            report = send(connected, commands, wait=True, on_progress=on_progress)
        wait(connected, SETTLE_S)
        console.print(
            f"{report.accepted} accepted, {report.refused} refused (some on purpose: a refusal is an answer)\n"
        )
        print_summary(connected)
    _say_what_next(console, settings, keep=keep)
    return 0 if not report.dead_lettered else 1


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
        console.print(f"starting PostgreSQL, Kafka and the workers in {settings.data} …")
        run.run_detached(settings, console=Console(stderr=True, quiet=True))
    try:
        yield settings_for(settings.data, settings)
    finally:
        if mine and not keep:
            console.print("\nstopping everything …")
            run.stop(settings.data)


def print_summary(settings: Settings, console: Console | None = None) -> None:
    """Print counts and amounts by stage and by partner, from the views; the same data prints the same bytes."""
    console = console or Console(width=WIDTH, highlight=False)
    columns, stages = run_sql(settings, _BY_STAGE)
    _table(console, "Opportunities by stage and currency", columns, stages)
    _bars(console, stages)
    columns, rows = run_sql(settings, _BY_PARTNER)
    _table(console, f"The {TOP} partners with most won deals: opportunities by stage", columns, rows)
    columns, rows = run_sql(settings, _PARTNERS)
    _table(console, "Partners by status", columns, rows)


_BY_STAGE: Final = f"""
SELECT stage, currency, count(*) AS opportunities, sum(amount) AS amount, round(sum(weighted_amount), 2) AS weighted
FROM opportunities GROUP BY stage, currency
ORDER BY array_position(ARRAY{list(_STAGES)}, stage), currency NULLS LAST
"""  # noqa: S608 - constants of ours
_BY_PARTNER: Final = f"""
SELECT
    partner,
    count(*) FILTER (WHERE stage = 'prospect') AS prospect,
    count(*) FILTER (WHERE stage = 'qualified') AS qualified,
    count(*) FILTER (WHERE stage = 'technical_validation') AS technical,
    count(*) FILTER (WHERE stage = 'business_validation') AS business,
    count(*) FILTER (WHERE stage = 'committed') AS committed,
    count(*) FILTER (WHERE stage = 'won') AS won,
    count(*) FILTER (WHERE stage = 'lost') AS lost
FROM opportunities GROUP BY partner_id, partner
ORDER BY won DESC, partner, partner_id LIMIT {TOP}
"""  # noqa: S608 - a constant of ours
_PARTNERS: Final = "SELECT status, count(*) AS partners FROM partners GROUP BY status ORDER BY 2 DESC, 1"


def _table(console: Console, title: str, columns: list[str], rows: list[tuple[Any, ...]]) -> None:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, header_style="dim", pad_edge=False)
    for number, name in enumerate(columns):
        numeric = any(isinstance(row[number], int | Decimal) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        table.add_row(
            *("" if cell is None else f"{cell:,}" if isinstance(cell, int | Decimal) else str(cell) for cell in row)
        )
    console.print(table)
    console.print()


def _bars(console: Console, rows: list[tuple[Any, ...]]) -> None:
    counts = {stage: sum(row[2] for row in rows if row[0] == stage) for stage in _STAGES}
    longest = max(counts.values(), default=0) or 1
    for stage, count in counts.items():
        console.print(f"{stage:<21} [cyan]{'█' * round(BAR * count / longest)}[/cyan] {count}")
    console.print()


def _say_what_next(console: Console, settings: Settings, *, keep: bool) -> None:
    program = _program()
    if settings.data != Settings.model_fields["data"].default:
        program = f"PRM_DATA={settings.data} {program}"
    lines = [
        *([] if keep else ["up --detach"]),
        "show opportunities --status open --sort -amount --limit 10",
        "history opportunity ID",
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
