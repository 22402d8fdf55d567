"""The demo's summary: each figure by plain SQL over the log, and the same text whatever order the partitions make."""

import io
from datetime import UTC, date, datetime

import pytest
from rich.console import Console
from tests.local.printed import COMMITTED, stable
from tests.projections.ordered import service
from tests.support import rows
from tests.upstream.ordering import rounds
from tests.workers import append, write

from kpis import FIGURES, kpis_differ
from prm_es import rebuild
from prm_es.local.summary import SECTIONS, WIDTH, print_summary
from prm_es.projections.registry import ORDERED, READ_MODELS
from prm_es.settings import Settings
from prm_es.upstream.demo import world
from prm_es.upstream.lines import outgoing


def tell(settings: Settings, until: date, *, backwards: bool = False) -> None:
    """Have the demo's scenario decided level by level, all that follows from it, and the read models folded.

    Within a level aggregates may come in any order, as they do from partitions.
    """
    made = world(1, until)
    commands = made.told()
    with service(settings) as prm:
        for level in rounds([outgoing(command).node for command in commands]):
            chosen = [commands[place] for place in level]
            write(settings, sorted(chosen, key=lambda one: one.subject, reverse=True) if backwards else chosen)
            prm.settle(late_too=False)
        prm.settle()
    refused = "SELECT id, code FROM commands WHERE source = %s AND outcome = 'refused'"
    assert {row["id"]: row["code"] for row in rows(settings, refused, [made.source])} == made.meant
    refold(settings)


def refold(settings: Settings) -> None:
    for name in READ_MODELS.keys() - ORDERED.keys():
        rebuild.rebuild(settings, READ_MODELS[name])


def printed(settings: Settings) -> str:
    console = Console(width=WIDTH, highlight=False, file=io.StringIO())
    print_summary(settings, console)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


@pytest.fixture(scope="module")
def until_today(settings: Settings) -> Settings:
    tell(settings, datetime.now(UTC).date())
    return settings


def test_every_figure_of_the_summary_is_what_plain_sql_makes_of_the_log(until_today: Settings) -> None:
    assert FIGURES.keys() == SECTIONS.keys()
    text = printed(until_today)
    assert "none\n" not in text.replace(" ", "")  # every section has something to compare
    assert len(text.splitlines()) < 92
    assert kpis_differ(until_today) == []


def test_a_read_model_that_is_wrong_is_named(until_today: Settings) -> None:
    (deal,) = rows(
        until_today,
        "SELECT originator_id AS id, max(originator_version) AS version FROM events"
        " WHERE topic LIKE 'prm.opportunity.%%' GROUP BY 1 ORDER BY 1 LIMIT 1",
    )
    money = {"amount": {"amount": "1.23", "currency": "JPY"}}
    append(until_today, [(deal["id"], deal["version"] + 1, "prm.opportunity.amount_changed.v1", money)])
    assert "pipeline.amount" in kpis_differ(until_today)
    refold(until_today)
    assert kpis_differ(until_today) == []


def test_the_same_seed_and_day_print_the_same_whatever_order_the_partitions_make(fresh: Settings) -> None:
    tell(fresh, date(2025, 12, 31), backwards=True)  # as `prm-es demo` sends it: in test_demo
    assert stable(printed(fresh)) == stable(COMMITTED.read_text(encoding="utf-8"))
