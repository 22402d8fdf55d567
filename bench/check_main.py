"""The main jobs, each on a fresh data folder: a CRM export through the whole path, checked against the CSV files
themselves, and the demo's scenario, checked against the log.

    python bench/check_main.py [FOLDER WITH THE EXPORT]

Ends with one line: main: crm=ok twice=ok demo=ok kpis_differ=0 rebuilt_differs=0 unanswered=0 double_claims=0
commands_s=N p50_ms=N p99_ms=N. Exit code 0 if all is well, else 1. Without a folder, an export of the same shape is
made up.
"""

import csv
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import orjson
import psycopg
import psycopg2
import psycopg2.extras
from kafka import KafkaProducer
from rich.console import Console

from crm_export import write as write_export
from kpis import kpis_differ
from prm_es import rebuild, reconcile, status
from prm_es.local import run
from prm_es.local.connect import settings_for
from prm_es.local.demo import settle
from prm_es.local.summary import SECTIONS
from prm_es.messages import Actor, Envelope, Role, aggregate_id, binary_command
from prm_es.projections.registry import named
from prm_es.projections.sql import run_sql
from prm_es.settings import Settings
from prm_es.upstream import mapping as mappings
from prm_es.upstream.demo import world
from prm_es.upstream.planning import plan
from prm_es.upstream.sending import send
from prm_es.upstream.tables import read_tables

RATE, SECONDS, POLL_S = 100, 20, 0.004
STAGES = {"Won": "won", "Lost": "lost", "Engaging": "qualified", "Prospecting": "prospect"}
Figures = Mapping[str, object]

console = Console(stderr=True, highlight=False)


def expected(folder: Path) -> Figures:
    """Work the figures out from the CSV files alone."""
    with (folder / "sales_teams.csv").open(newline="") as file:
        office = {row["sales_agent"]: row["regional_office"] for row in csv.DictReader(file)}
    with (folder / "sales_pipeline.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    counts: dict[str, int] = {}
    won: dict[str, Decimal] = {}
    days: list[int] = []
    for row in rows:
        stage = STAGES[row["deal_stage"]]
        counts[stage] = counts.get(stage, 0) + 1
        if stage == "won":
            territory = office[row["sales_agent"]]
            won[territory] = won.get(territory, Decimal(0)) + Decimal(row["close_value"])
        if stage in {"won", "lost"}:
            days.append((date.fromisoformat(row["close_date"]) - date.fromisoformat(row["engage_date"])).days)
    closed = counts["won"] + counts["lost"]
    return {
        "stages": dict(sorted(counts.items())),
        "won": dict(sorted(won.items())),
        "won_total": sum(won.values()),
        "win_rate": round(Decimal(counts["won"]) / closed, 5),
        "mean_days": round(Decimal(sum(days)) / closed, 3),
        "gaps_amount": sum(row["deal_stage"] in {"Engaging", "Prospecting"} for row in rows),
        "gaps_customer": sum(not row["account"] for row in rows),
    }


def found(settings: Settings) -> Figures:
    """Read the same figures from the views."""
    stages = run_sql(settings, "SELECT stage, count(*) FROM opportunities GROUP BY 1 ORDER BY 1")[1]
    won = run_sql(
        settings, "SELECT territory, sum(amount) FROM opportunities WHERE status = 'won' GROUP BY 1 ORDER BY 1"
    )[1]
    ((total, rate, days),) = run_sql(
        settings,
        "SELECT sum(amount) FILTER (WHERE status = 'won'),"
        " round(count(*) FILTER (WHERE status = 'won')::numeric / count(*), 5),"
        " round(avg(closed_on - engaged_on), 3) FROM opportunities WHERE status IN ('won', 'lost')",
    )[1]
    ((amount, customer),) = run_sql(
        settings,
        "SELECT count(*) FILTER (WHERE 'amount' = ANY(data_gaps) AND status = 'open'),"
        " count(*) FILTER (WHERE 'customer' = ANY(data_gaps)) FROM opportunities",
    )[1]
    return {
        "stages": dict(stages),
        "won": dict(won),
        "won_total": total,
        "win_rate": rate,
        "mean_days": days,
        "gaps_amount": amount,
        "gaps_customer": customer,
    }


def same(label: str, wanted: Figures, settings: Settings) -> bool:
    """Compare and say what differs."""
    got = found(settings)
    differing = {name: (value, got[name]) for name, value in wanted.items() if got[name] != value}
    for name, (value, other) in differing.items():
        console.print(f"{label}: {name} should be {value}, is {other}")
    if not differing:
        console.print(f"{label}: {orjson.dumps(dict(got), default=str).decode()}")
    return not differing


def run_import(settings: Settings, commands: Sequence[Envelope]) -> float:
    """Send the import and give commands a second, from the first sent to the last visible."""
    started = time.monotonic()
    report = send(settings, commands, wait=True)
    status.wait(settings, 120)
    seconds = time.monotonic() - started
    console.print(f"import: {report.accepted} accepted, {report.refused} refused in {seconds:.1f} s")
    return len(commands) / seconds


def latencies(settings: Settings) -> list[float]:
    """Open opportunities at RATE a second and give the milliseconds from publishing to the visible row."""
    psycopg2.extras.register_uuid()  # type: ignore[no-untyped-call]
    ((partner,),) = run_sql(settings, "SELECT partner_id FROM partners ORDER BY 1 LIMIT 1")[1]
    producer = KafkaProducer(**settings.kafka_client, linger_ms=0)
    reader = psycopg2.connect(settings.dsn("reader"))
    reader.autocommit = True
    pending: dict[UUID, float] = {}
    seen: list[float] = []
    begin = time.perf_counter()
    sent = 0
    while len(seen) < RATE * SECONDS and time.perf_counter() - begin < SECONDS + 30:
        while sent < RATE * SECONDS and time.perf_counter() >= begin + sent / RATE:
            key, headers, value = binary_command(_command(sent, partner))
            pending[UUID(key.decode())] = time.perf_counter()
            producer.send(settings.command_topic("opportunity"), value, key=key, headers=list(headers))
            sent += 1
        seen += _visible(reader, pending)
        time.sleep(POLL_S)
    producer.close()
    reader.close()
    return seen


def _command(number: int, partner: UUID) -> Envelope:
    data = {"name": f"Latency {number}", "partner_id": str(partner)}
    actor = Actor("check-main", Role.INTEGRATION)
    run_id = f"{begin_of_run}-{number}"
    subject = aggregate_id("opportunity", "check-main", run_id)
    return Envelope("check-main", run_id, "prm.opportunity.open", subject, actor, orjson.dumps(data))


begin_of_run = datetime.now(UTC).isoformat()


def _visible(reader: "psycopg2.extensions.connection", pending: dict[UUID, float]) -> list[float]:
    if not pending:
        return []
    with reader.cursor() as cursor:
        cursor.execute("SELECT opportunity_id FROM read.opportunities WHERE opportunity_id = ANY(%s)", (list(pending),))
        now = time.perf_counter()
        return [1000 * (now - pending.pop(row[0])) for row in cursor.fetchall()]


@dataclass
class Found:
    """What was found so far; counts are of things that must not be."""

    crm: bool = False
    twice: bool = False
    demo: bool = False
    kpis: int = 0
    rebuilt: int = 0
    unanswered: int = 0
    double_claims: int = 0
    rate: float = 0
    p50: float = 0
    p99: float = 0

    @property
    def well(self) -> bool:
        wrong = self.kpis or self.rebuilt or self.unanswered or self.double_claims
        return self.crm and self.twice and self.demo and not wrong

    def __str__(self) -> str:
        return (
            f"main: crm={_ok(self.crm)} twice={_ok(self.twice)} demo={_ok(self.demo)} kpis_differ={self.kpis}"
            f" rebuilt_differs={self.rebuilt} unanswered={self.unanswered} double_claims={self.double_claims}"
            f" commands_s={self.rate:.0f} p50_ms={self.p50:.0f} p99_ms={self.p99:.0f}"
        )


def check_crm(settings: Settings, folder: Path, found: Found) -> None:
    """Import the export twice, rebuild, and measure how long a command takes to be seen."""
    chosen = mappings.resolve("crm_export")
    planned = plan(chosen, read_tables(chosen, folder))
    if planned.bad:
        console.print("\n".join(map(str, planned.bad[:20])))
        return
    wanted = expected(folder)
    found.rate = run_import(settings, planned.commands)
    found.crm = same("crm", wanted, settings)
    before = _imported(settings)
    run_import(settings, planned.commands)
    found.twice = same("twice", wanted, settings) and _imported(settings) == before == len(planned.commands)
    settle(settings, console)  # open deals of the past are stalled now; no figure changes by that
    found.crm &= same("quiet", wanted, settings)
    rebuild.rebuild(settings, named("pipeline"))
    found.rebuilt += 0 if same("rebuilt", wanted, settings) else 1
    found.rebuilt += reconciled(settings)
    measured = sorted(latencies(settings))
    found.unanswered += (status.wait(settings, 60).unanswered or 0) + RATE * SECONDS - len(measured)
    found.p50, found.p99 = statistics.median(measured), measured[int(len(measured) * 0.99)]


def _imported(settings: Settings) -> int:
    """Count the events that senders have caused, the service's own left out: an import makes one a command."""
    return _count(
        settings,
        "SELECT count(*) FROM events WHERE convert_from(state, 'UTF8')::jsonb ->> 'commandsource' NOT LIKE 'prm-es%'",
    )


def check_demo(settings: Settings, found: Found) -> None:
    """Run the demo's scenario of today: its refusals are those that are meant, and its figures are those of the log."""
    made = world(1, datetime.now(UTC).date())
    report = send(settings, made.told(), wait=True)
    settle(settings, console)
    refused = _rows(settings, f"SELECT id, code FROM commands WHERE outcome = 'refused' AND source = '{made.source}'")
    as_meant = dict(refused) == made.meant and report.refused == len(made.meant) and not report.dead_lettered
    empty = [name for name, section in SECTIONS.items() if not run_sql(settings, section.query)[1]]
    console.print(
        f"demo: {report.accepted} accepted, {report.refused} refused, {len(made.meant)} on purpose; empty: {empty}"
    )
    differ = kpis_differ(settings)
    console.print(f"figures that differ from the log: {differ}")
    found.kpis = len(differ)
    found.demo = as_meant and not empty and not differ
    found.rebuilt += reconciled(settings)
    found.double_claims = double_claims(settings)
    found.unanswered += status.wait(settings, 60).unanswered or 0


def reconciled(settings: Settings) -> int:
    """Count the rows of guard tables and read models that a fresh fold of the log has otherwise, and say which."""
    wrong = 0
    for name in reconcile.chosen(()):
        one = reconcile.reconcile(settings, name, 20)
        wrong += one.total
        for line in reconcile.in_words(one):
            console.print(line)
    return wrong


def double_claims(settings: Settings) -> int:
    """Count protections of one customer and product line by two claim groups at a time: in the guard table and the log.

    The log's run from the approval, acceptance or extension to the event that ends it, or to their own end.
    """
    return _count(settings, _CLAIMS) + _count(settings, _PROTECTED)


_CLAIMS = """
SELECT count(*) FROM claims a JOIN claims b ON a.customer_key = b.customer_key AND a.product_lines && b.product_lines
    AND a.during && b.during AND a.claim_group < b.claim_group
"""
_PROTECTED = """
WITH log AS NOT MATERIALIZED (
    SELECT e.originator_id AS id, e.originator_version AS version, split_part(e.topic, '.', 3) AS event,
        s.state -> 'data' AS data, (s.state ->> 'time')::timestamptz AS at
    FROM events e CROSS JOIN LATERAL (SELECT convert_from(e.state, 'UTF8')::jsonb AS state) s
    WHERE e.topic LIKE 'prm.lead.%'
),
protection AS (
    SELECT given.id, customer.keys, lines.lines, tstzrange(
        (given.data ->> 'protected_from')::timestamptz,
        least((given.data ->> 'protected_until')::timestamptz, (
            SELECT min(ended.at) FROM log ended
            WHERE ended.id = given.id AND ended.version > given.version AND ended.event IN (
                'protection_ended', 'protection_revoked', 'decision_reverted', 'recalled', 'disqualified', 'corrected'
            ) AND ended.at >= (given.data ->> 'protected_from')::timestamptz
        ))
    ) AS during
    FROM log given
    CROSS JOIN LATERAL (
        SELECT l.data -> 'customer_keys' AS keys FROM log l
        WHERE l.id = given.id AND l.version < given.version AND (
            l.event IN ('registered', 'captured')
            OR l.event IN ('resubmitted', 'corrected') AND l.data -> 'changed' ? 'customer'
        )
        ORDER BY l.version DESC LIMIT 1
    ) customer
    CROSS JOIN LATERAL (
        SELECT l.data -> 'product_lines' AS lines FROM log l
        WHERE l.id = given.id AND l.version < given.version AND (
            l.event IN ('registered', 'captured')
            OR l.event IN ('resubmitted', 'corrected') AND l.data -> 'changed' ? 'product_lines'
        )
        ORDER BY l.version DESC LIMIT 1
    ) lines
    WHERE given.event IN ('approved', 'accepted', 'protection_extended')
),
held AS (SELECT id, during, lines, jsonb_array_elements_text(keys) AS key FROM protection)
SELECT count(DISTINCT (a.id, b.id)) FROM held a JOIN held b ON a.key = b.key AND a.id < b.id AND a.during && b.during
WHERE a.lines = '[]' OR b.lines = '[]' OR a.lines ?| ARRAY(SELECT jsonb_array_elements_text(b.lines))
"""


def _rows(settings: Settings, query: str) -> list[tuple[str, str]]:
    with psycopg.connect(settings.dsn("auditor")) as connection:
        return connection.execute(query.encode()).fetchall()


def _count(settings: Settings, query: str) -> int:
    with psycopg.connect(settings.dsn("auditor")) as connection:
        row = connection.execute(query.encode()).fetchone()
        return int(row[0]) if row else 0


def _ok(value: bool) -> str:
    return "ok" if value else "WRONG"


@contextmanager
def _stack(data: Path) -> Iterator[Settings]:
    base = Settings(data=data, import_quiet=5.0)
    run.run_detached(base)
    try:
        yield settings_for(data, base)
    finally:
        run.stop(data)
        shutil.rmtree(data, ignore_errors=True)


def main() -> int:
    """Run each job on a fresh data folder that is removed afterwards."""
    found = Found()
    with tempfile.TemporaryDirectory(prefix="prm-es-check-") as scratch:
        if len(sys.argv) > 1:
            folder = Path(sys.argv[1])
        else:
            folder = Path(scratch) / "export"
            write_export(folder)
        with _stack(Path(scratch) / "crm") as settings:
            check_crm(settings, folder, found)
        with _stack(Path(scratch) / "demo") as settings:
            check_demo(settings, found)
    print(found)
    return 0 if found.well else 1


if __name__ == "__main__":
    sys.exit(main())
