"""What the demo prints of an installation: pipeline, inbox, registrations, conflicts, protections, deadlines, partners.

Each section is one query of the views. The same data prints the same bytes, as far as no clock runs in it any more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from prm_es.projections.sql import run_sql
from prm_es.settings import Settings

WIDTH: Final = 100
BAR: Final = 30
TOP: Final = 4
STAGES: Final = ("prospect", "qualified", "technical_validation", "business_validation", "committed", "won", "lost")
STATUSES: Final = (
    "submitted",
    "in_review",
    "action_required",
    "new",
    "qualified",
    "offered",
    "accepted",
    "contacted",
    "working",
    "approved",
    "converted",
    "rejected",
    "withdrawn",
    "lapsed",
    "expired",
    "revoked",
    "disqualified",
)
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A table of the summary; the query's columns are its figures, in schema `read`."""

    title: str
    query: str


SECTIONS: Final[Mapping[str, Section]] = {
    "pipeline": Section(
        "Opportunities by stage and currency",
        f"""
SELECT stage, currency, count(*) AS deals, sum(amount) AS amount, round(sum(weighted_amount), 2) AS weighted
FROM opportunities
GROUP BY stage, currency
ORDER BY array_position(ARRAY{list(STAGES)}, stage), currency NULLS LAST
""",  # noqa: S608 - constants of ours
    ),
    "leads": Section(
        "Leads by status and clock of the decision",
        f"""
SELECT
    status,
    count(*) AS leads,
    count(*) FILTER (WHERE sla_colour = 'green') AS green,
    count(*) FILTER (WHERE sla_colour = 'amber') AS amber,
    count(*) FILTER (WHERE sla_colour = 'red') AS red,
    count(*) FILTER (WHERE sla_colour = 'grey') AS grey
FROM leads
GROUP BY status
ORDER BY array_position(ARRAY{list(STATUSES)}, status), status
""",  # noqa: S608
    ),
    "registrations": Section(
        "Registrations",
        """
SELECT
    count(*) AS registered,
    count(decision) AS decided,
    count(*) FILTER (WHERE decision = 'approved') AS approved,
    round(100.0 * count(*) FILTER (WHERE decision = 'approved') / nullif(count(decision), 0), 1) AS "approved %",
    round(extract(epoch FROM percentile_cont(0.5) WITHIN GROUP (ORDER BY decided_in)) / 3600, 1) AS "median hours"
FROM registrations
""",
    ),
    "conflicts": Section(
        "Hard conflicts between leads",
        """
SELECT
    strength,
    count(*) FILTER (WHERE status = 'open') AS open,
    count(*) FILTER (WHERE status = 'decided') AS decided,
    count(*) FILTER (WHERE status = 'past') AS past
FROM lead_conflicts
WHERE strength = 'hard' AND first_kind = 'lead' AND second_kind = 'lead'
GROUP BY strength
""",
    ),
    "protected": Section(
        "Protections that run",
        """
SELECT
    count(*) AS customers,
    count(DISTINCT partner_id) AS partners,
    count(*) FILTER (WHERE protected_until <= now() + interval '30 days') AS "end in 30 days",
    count(*) FILTER (WHERE extensions > 0) AS extended
FROM protected_customers
""",
    ),
    "deadlines": Section(
        "Deadlines ahead",
        """
SELECT
    kind AS deadline,
    count(*) FILTER (WHERE due_at <= now() + interval '1 day') AS "1 day",
    count(*) FILTER (WHERE due_at <= now() + interval '7 days') AS "7 days",
    count(*) AS "all"
FROM deadlines
WHERE NOT overdue
GROUP BY kind
ORDER BY kind
""",
    ),
    "partners": Section(
        "Partners by status",
        "SELECT status, count(*) AS partners FROM partners GROUP BY status ORDER BY count(*) DESC, status",
    ),
    "top": Section(
        f"The {TOP} partners with most won in each currency, in the year of the last deal won",
        f"""
WITH year AS (
    SELECT extract(year FROM max(closed_on))::int AS year FROM opportunities WHERE status = 'won'
),
closed AS (
    SELECT
        partner_id,
        currency,
        count(*) FILTER (WHERE status = 'won') AS won,
        count(*) FILTER (WHERE status = 'lost') AS lost,
        sum(amount) FILTER (WHERE status = 'won') AS won_amount
    FROM opportunities JOIN year ON extract(year FROM closed_on) = year.year
    WHERE currency IS NOT NULL
    GROUP BY partner_id, currency
),
ranked AS (
    SELECT *, row_number() OVER (PARTITION BY currency ORDER BY won_amount DESC, partner_id) AS place
    FROM closed WHERE won_amount > 0
),
goal AS (
    SELECT
        partner_id,
        currency,
        sum(target) AS target,
        sum(actual) AS actual,
        sum(target * elapsed_share) AS due
    FROM goals JOIN year ON extract(year FROM first_on) = year.year
    WHERE status = 'active' AND metric = 'won_amount' AND product_line IS NULL
    GROUP BY partner_id, currency
)
SELECT
    r.currency,
    p.partner,
    r.won,
    r.lost,
    r.won_amount AS "won amount",
    g.target AS goal,
    round(100 * g.actual / g.target, 1) AS "attained %",
    round(100 * g.actual / nullif(g.due, 0), 1) AS "pace %"
FROM ranked r
JOIN partners p USING (partner_id)
LEFT JOIN goal g USING (partner_id, currency)
WHERE r.place <= {TOP}
ORDER BY r.currency, r.place
""",  # noqa: S608
    ),
}


def print_summary(settings: Settings, console: Console | None = None) -> None:
    """Print every section, on less than two pages of a terminal."""
    console = console or Console(width=WIDTH, highlight=False)
    found = {name: run_sql(settings, section.query) for name, section in SECTIONS.items()}
    tables = {name: _table(SECTIONS[name].title, columns, rows) for name, (columns, rows) in found.items()}
    console.print(tables["pipeline"], "")
    _bars(console, found["pipeline"][1])
    pages = Table.grid(padding=(0, 4), pad_edge=False)
    pages.add_column(no_wrap=True)
    pages.add_column(no_wrap=True)
    pages.add_row(tables["leads"], _stacked([tables["partners"], tables["conflicts"], tables["protected"]]))
    console.print(pages, "", tables["registrations"], "", tables["deadlines"], "", tables["top"])


def _stacked(tables: Sequence[Table]) -> Table:
    grid = Table.grid()
    for place, table in enumerate(tables):
        if place:
            grid.add_row("")
        grid.add_row(table)
    return grid


def _table(title: str, columns: Sequence[str], rows: Sequence[Row]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, header_style="dim", pad_edge=False)
    for number, name in enumerate(columns):
        numeric = any(isinstance(row[number], int | Decimal) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(_cell, row))
    if not rows:
        table.add_row("none")
    return table


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int | Decimal) else str(value)


def _bars(console: Console, rows: Sequence[Row]) -> None:
    counts = {stage: sum(row[2] for row in rows if row[0] == stage) for stage in STAGES}
    longest = max(counts.values(), default=0) or 1
    for stage, count in counts.items():
        console.print(f"{stage:<21} [cyan]{'█' * round(BAR * count / longest)}[/cyan] {count:,}")
    console.print()
