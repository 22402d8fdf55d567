"""The main job on a fresh data folder: a CRM export through the whole path, checked against the CSV files themselves.

    python bench/check_main.py [FOLDER WITH THE EXPORT]

Ends with one line: main: crm=ok twice=ok rebuilt_differs=0 unanswered=0 commands_s=N p50_ms=N p99_ms=N
Exit code 0 if all is well, else 1. Without a folder, an export of the same shape is made up.
"""

import csv
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import orjson
import psycopg2
import psycopg2.extras
from kafka import KafkaProducer
from rich.console import Console

from crm_export import write as write_export
from prm_es import rebuild, status
from prm_es.local import run
from prm_es.local.connect import settings_for
from prm_es.messages import Actor, Envelope, Role, aggregate_id, binary_command
from prm_es.projections.registry import named
from prm_es.projections.sql import run_sql
from prm_es.settings import Settings
from prm_es.upstream import mapping as mappings
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


def check(settings: Settings, folder: Path) -> bool:
    """Do it all on a running stack and print the line."""
    chosen = mappings.resolve("crm_export")
    planned = plan(chosen, read_tables(chosen, folder))
    if planned.bad:
        console.print("\n".join(map(str, planned.bad[:20])))
        return False
    wanted = expected(folder)
    rate = run_import(settings, planned.commands)
    crm = same("crm", wanted, settings)
    run_import(settings, planned.commands)
    with status.Observer(settings) as observer:
        twice = same("twice", wanted, settings) and observer.status().head == _events(settings)
    model = named("pipeline")
    differs = sum(rebuild.compare(settings, model).differs.values())
    rebuild.rebuild(settings, model)
    differs += 0 if same("rebuilt", wanted, settings) else 1
    measured = sorted(latencies(settings))
    settled = status.wait(settings, 60)
    unanswered = settled.unanswered + RATE * SECONDS - len(measured)
    p50, p99 = statistics.median(measured), measured[int(len(measured) * 0.99)]
    print(
        f"main: crm={_ok(crm)} twice={_ok(twice)} rebuilt_differs={differs} unanswered={unanswered}"
        f" commands_s={rate:.0f} p50_ms={p50:.0f} p99_ms={p99:.0f}"
    )
    return crm and twice and not differs and not unanswered


def _events(settings: Settings) -> int:
    """Count the events that the first import made: one a command."""
    with status.Observer(settings) as observer:
        return observer.status().accepted


def _ok(value: bool) -> str:
    return "ok" if value else "WRONG"


def main() -> int:
    """Run on a fresh data folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="prm-es-check-") as scratch:
        data = Path(scratch) / "data"
        if len(sys.argv) > 1:
            folder = Path(sys.argv[1])
        else:
            folder = Path(scratch) / "export"
            write_export(folder)
        base = Settings(data=data)
        run.run_detached(base)
        try:
            return 0 if check(settings_for(data, base), folder) else 1
        finally:
            run.stop(data)
            shutil.rmtree(data, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
