"""Events of other versions: old ones are read everywhere as the newest; an old worker stops next to a new one."""

from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from prm_es import rebuild
from prm_es.aggregates import catalogue
from prm_es.audit.replay import state_at
from prm_es.consumers.runtime import UNAVAILABLE
from prm_es.errors import SchemaMismatch
from prm_es.install import install
from prm_es.projections.pipeline import MODEL
from prm_es.projections.registry import READ_MODELS
from prm_es.projections.runner import Projector
from prm_es.settings import Settings
from prm_es.store.store import Store
from prm_es.upstream.sending import send
from tests.support import Desk, command, opening, partner, rows
from tests.test_cli import environment, in_process
from tests.workers import Crew, append, head, noted, until, write

CHANGED = "prm.opportunity.amount_changed"

# What the next version of the program is: the event has another shape, its class another type, and an upcast.
NEWER = """
from dataclasses import replace
from typing import ClassVar

from prm_es.aggregates import opportunity as o


class AmountChanged(o.AmountChanged):
    TYPE: ClassVar[str] = "opportunity.amount_changed.v2"
    stated_by: str = "the partner"


o.AGGREGATE = replace(
    o.AGGREGATE, events=tuple(AmountChanged if one is o.AmountChanged else one for one in o.AGGREGATE.events)
)
o.AmountChanged = AmountChanged

from prm_es.aggregates import catalogue

catalogue.UPCASTS = {"prm.opportunity.amount_changed.v1": lambda data: {**data, "stated_by": "unknown"}}
"""


def amounts(settings: Settings) -> dict[str, str]:
    found = rows(settings, f"SELECT name, amount::text FROM {settings.read_schema}.opportunities")
    return {row["name"]: row["amount"] for row in found}


def test_an_event_of_an_older_form_is_read_everywhere_as_the_newest(
    installed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def upcast(data: dict[str, Any]) -> dict[str, Any]:
        return {"amount": {"amount": data["sum"], "currency": data["unit"]}}

    monkeypatch.setattr(catalogue, "UPCASTS", {f"{CHANGED}.v0": upcast})
    seller = partner()
    deal = opening(seller.subject, name="Old")
    write(installed, [seller, deal])
    append(installed, [(deal.subject, 2, f"{CHANGED}.v0", {"sum": "7.50", "unit": "BRL"})])
    with closing(Projector(installed, MODEL)) as projector:
        projector.catch_up(0)
    assert amounts(installed) == {"Old": "7.50"}
    for model in READ_MODELS.values():
        rebuild.rebuild(installed, model)
    assert amounts(installed) == {"Old": "7.50"}
    with Store(installed) as store:
        same = command("opportunity.change_details", deal.subject, {"amount": {"amount": "7.50", "currency": "BRL"}})
        assert Desk(store).accepted(same)[0]["events"] == []  # decided on the state that the old event gives
        assert state_at(store, "opportunity", deal.subject).state["amount"]["amount"] == "7.50"
    stored = rows(installed, "SELECT topic, convert_from(state, 'UTF8') AS state FROM events WHERE notification_id = 3")
    assert (stored[0]["topic"], '"sum":' in stored[0]["state"].replace(" ", "")) == (f"{CHANGED}.v0", True)


def test_an_old_projector_stops_beside_a_new_one_which_goes_on_and_loses_nothing(
    installed: Settings, crew: Crew, tmp_path: Path
) -> None:
    newer = tmp_path / "newer"
    newer.mkdir()
    (newer / "sitecustomize.py").write_text(NEWER)
    crew.start("publish")
    old = crew.start("project", "pipeline")
    seller = partner()
    deals = [opening(seller.subject, name=f"Deal {n}") for n in range(24)]
    write(installed, [seller, *deals])
    write(installed, [_amount(deal.subject, "1.00") for deal in deals])
    until(lambda: set(amounts(installed).values()) == {"1.00"}, "the old one has the old events")
    new = crew.start("project", "pipeline", PYTHONPATH=str(newer))
    handler = crew.start("handle", PYTHONPATH=str(newer))
    new.until_logged("projector.active")
    send(installed, [_amount(deal.subject, "2.00") for deal in deals], wait=True)
    assert old.exit_code() == UNAVAILABLE
    (said,) = old.logged("worker.unavailable")
    assert said["reason"] == (
        f"TooOld: this program does not know events of type {CHANGED}.v2: start the version that wrote them"
    )
    until(lambda: set(amounts(installed).values()) == {"2.00"}, "the new one has all of them")
    assert noted(installed) == head(installed)
    assert len(amounts(installed)) == len(deals)
    assert not rows(installed, f"SELECT 1 FROM {installed.projections_schema}.dead_letters")
    kinds = rows(installed, "SELECT topic, count(*) AS n FROM events WHERE topic LIKE %s GROUP BY 1", [f"{CHANGED}.%"])
    assert {row["topic"]: row["n"] for row in kinds} == {f"{CHANGED}.v1": 24, f"{CHANGED}.v2": 24}
    assert (new.end(), handler.end()) == (0, 0)
    again = crew.start("rebuild", "pipeline", PYTHONPATH=str(newer))
    assert again.exit_code() == 0
    assert set(amounts(installed).values()) == {"2.00"}


def _amount(subject: Any, amount: str) -> Any:
    return command("opportunity.change_details", subject, {"amount": {"amount": amount, "currency": "BRL"}})


def test_migrate_says_what_is_pending_and_changes_nothing(fresh: Settings) -> None:
    def check() -> tuple[int, str]:
        ran = in_process(environment(fresh), "migrate", "--check")
        return ran.code, ran.out + ran.err

    code, said = check()
    assert code == 1
    assert "migrations pending: [1, 2, 3," in said
    assert "pipeline" in said
    assert not rows(fresh, "SELECT 1 FROM pg_namespace WHERE nspname LIKE %s", [f"{fresh.prefix}%"])
    install(fresh)
    assert check() == (0, "migrations pending: none; read models to be made: none, to be made anew: none\n")
    generations = f"{fresh.projections_schema}.generations"
    _change(fresh, f"UPDATE {generations} SET version = 0 WHERE name = 'pipeline'")
    assert check() == (1, "migrations pending: none; read models to be made: none, to be made anew: ['pipeline']\n")
    for change, said in (
        (f"UPDATE {generations} SET version = 99 WHERE name = 'pipeline'", "read model pipeline has version 99"),
        ("INSERT INTO schema_migrations VALUES (9999)", "the database has migration 9999"),
    ):
        _change(fresh, change)
        for arguments in (("migrate", "--check"), ("migrate",)):
            ran = in_process(environment(fresh), *arguments)
            assert (ran.code, said in ran.err, "older program" in ran.err) == (UNAVAILABLE, True, True)
    with pytest.raises(SchemaMismatch, match="older program"):
        Store(fresh)


def _change(settings: Settings, statement: str) -> None:
    with psycopg.connect(settings.postgres, options=f"-c search_path={settings.store_schema}") as connection:
        assert connection.execute(statement.encode()).rowcount == 1
