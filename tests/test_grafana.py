"""What Grafana and Prometheus ask is answered: every query of the dashboards and of the alarms, and how it is shown."""

import json
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import Any

import promql_parser
import psycopg
import pytest
import yaml
from kafka import KafkaConsumer, TopicPartition
from kafka.structs import OffsetAndMetadata
from prometheus_client.parser import text_string_to_metric_families
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import tuple_row

import dashboards
from prm_es import metrics, rebuild
from prm_es.consumers.backlog import backlogs_of
from prm_es.consumers.commands import group
from prm_es.consumers.watch import Watch
from prm_es.install import install
from prm_es.liveness import Liveness
from prm_es.local.postgres import program
from prm_es.projections.registry import READ_MODELS
from prm_es.settings import Settings
from tests.projections.ordered import service
from tests.test_compose import OURS, SERVICES
from tests.workers import late_story, write

ROOT = Path(__file__).parents[1] / "grafana"
FILES = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "dashboards").glob("*.json")}
SHOWN = [(name, panel) for name, one in FILES.items() for panel in one["panels"] if panel["type"] != "row"]
ASKED = [(name, panel, target["rawSql"]) for name, panel in SHOWN for target in panel["targets"] if "rawSql" in target]
ALARMS = yaml.safe_load((ROOT / "alarms.yml").read_text(encoding="utf-8"))
SCRAPED = yaml.safe_load((ROOT / "prometheus.yml").read_text(encoding="utf-8"))
SOURCES = yaml.safe_load((ROOT / "provisioning/datasources/prm-es.yaml").read_text(encoding="utf-8"))


def expressions() -> list[str]:
    found = [target["expr"] for _name, panel in SHOWN for target in panel["targets"] if "expr" in target]
    return [*found, *(rule["expr"] for group in ALARMS["groups"] for rule in group["rules"])]


@pytest.fixture(scope="module")
def reader(migrated: Settings) -> Iterator[psycopg.Connection[Any]]:
    """A connection as Grafana has it, to the views with a part of the demo in them."""
    write(migrated, late_story(0.3))
    with service(migrated) as ordered:
        for projector in ordered.projectors.values():
            while projector.advance().events:
                pass
    for name in READ_MODELS.keys() - ordered.projectors.keys():
        rebuild.rebuild(migrated, READ_MODELS[name])
    let_in(migrated, "grafana's own")
    login = make_conninfo(migrated.postgres, user=migrated.db_role("reader"), password="grafana's own")
    with psycopg.connect(login, autocommit=True, row_factory=tuple_row) as connection:
        yield connection


def let_in(settings: Settings, password: str) -> None:
    """Run the service `reader` of docker-compose.yml."""
    given = conninfo_to_dict(settings.admin_dsn)
    names = {"PGHOST": "host", "PGPORT": "port", "PGUSER": "user", "PGDATABASE": "dbname", "PGPASSWORD": "password"}
    environment = {name: str(given[key]) for name, key in names.items() if key in given}
    own = {"PRM_PREFIX": settings.prefix, "READER_PASSWORD": password}
    assert {*own, "PGHOST", "PGUSER", "PGDATABASE", "PGPASSWORD"} == set(SERVICES["reader"]["environment"])
    argv = [*SERVICES["reader"]["command"][:-1], f"--file={ROOT / 'reader.sql'}"]
    subprocess.run([program(argv[0]), *argv[1:]], env=os.environ | environment | own, check=True)


def expanded(connection: psycopg.Connection[Any], dashboard: dict[str, Any], query: str, *, one: bool = False) -> str:
    """Put in what Grafana puts in: the time chosen, and the variables, all of them or `one` alone."""
    chosen = {}
    for variable in dashboard["templating"]["list"]:
        values = [str(row[0]) for row in connection.execute(variable["query"]).fetchall()]
        assert values, variable["name"]
        all_ = variable["includeAll"] and not one
        chosen[variable["name"]] = variable["allValue"] if all_ else "'{}'".format(values[0].replace("'", "''"))
    times = r"\1 BETWEEN '2020-01-01T00:00:00Z' AND '2100-01-01T00:00:00Z'"
    text = re.sub(r"\$__timeFilter\((\w+)\)", times, query)
    text = re.sub(r"\$\{(\w+):sqlstring\}", lambda found: chosen[found[1]], text)
    assert "$" not in text
    return text


def test_the_files_are_those_that_make_dashboards_writes() -> None:
    assert {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "dashboards").iterdir()} == dict(
        dashboards.texts()
    )


@pytest.mark.parametrize(
    ("name", "panel", "query"), ASKED, ids=[f"{name}: {panel['title']}" for name, panel, _query in ASKED]
)
def test_a_panel_gets_rows_that_it_can_show(
    reader: psycopg.Connection[Any], name: str, panel: dict[str, Any], query: str
) -> None:
    cursor = reader.execute(expanded(reader, FILES[name], query))
    columns = {column.name: column.type_code for column in cursor.description or []}
    rows = cursor.fetchall()
    assert rows
    special = {one["matcher"]["options"] for one in panel["fieldConfig"]["overrides"]}
    assert special <= set(columns)
    numbers = {psycopg.adapters.types[kind].oid for kind in ("int4", "int8", "numeric")}
    match panel["type"]:
        case "stat":
            assert len(rows) == 1
            assert set(columns.values()) <= numbers
        case "barchart":
            figures = {kind for column, kind in columns.items() if column != panel["options"]["xField"]}
            assert figures <= numbers
            assert columns[panel["options"]["xField"]] == psycopg.adapters.types["text"].oid
    reader.execute(expanded(reader, FILES[name], query, one=True))


def test_amounts_of_several_currencies_meet_in_no_figure() -> None:
    for _name, panel, query in ASKED:
        if re.search(r"\b(sum|avg)\(\w*amount|won_amount|open_amount|\bgoal\b", query):
            assert "currency = ${currency:sqlstring}" in query, panel["title"]
            assert "${currency}" in panel["title"], panel["title"]


def test_the_reader_may_read_the_views_and_no_more(reader: psycopg.Connection[Any], migrated: Settings) -> None:
    assert reader.execute("SHOW search_path").fetchone() == (migrated.read_schema,)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.execute(f"SELECT * FROM {migrated.store_schema}.events")
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        reader.execute("CREATE TEMPORARY TABLE mine (x int)")


def test_no_panel_lies_on_another_and_each_has_a_title_and_a_source_there_is() -> None:
    known = {(one["type"], one["uid"]) for one in SOURCES["datasources"]}
    for one in FILES.values():
        taken: set[tuple[int, int]] = set()
        assert len({panel["id"] for panel in one["panels"]}) == len(one["panels"])
        for panel in one["panels"]:
            place = panel["gridPos"]
            cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                     for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
            assert not cells & taken
            assert max(x for x, _y in cells) < 24
            taken |= cells
            assert panel["title"]
        used = [panel["datasource"] for panel in one["panels"] if panel["type"] != "row"]
        used += [variable["datasource"] for variable in one["templating"]["list"]]
        assert {(source["type"], source["uid"]) for source in used} <= known
    assert {"pipeline", "partners", "conflicts", "operations"} == set(FILES)
    assert len({one["uid"] for one in FILES.values()}) == len(FILES)


# Metrics


@pytest.fixture(scope="module")
def served(migrated: Settings) -> dict[str, set[str]]:
    """The labels of each sample that some worker serves, once each has counted something."""
    metrics.work("handle").observe(1, perf_counter())
    metrics.applied("pipeline", applied=1)
    metrics.retried("deadline", 1)
    install(migrated)
    join(migrated)
    found: dict[str, set[str]] = {}
    for worker in ("handle", "publish", *READ_MODELS):
        _status, _kind, body = Watch(worker, Liveness(), 60, backlogs_of(worker, migrated)).answer("/metrics")
        for family in text_string_to_metric_families(body.decode()):
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
    return found


def join(settings: Settings) -> None:
    """Make the handlers' group known to the broker, as the first of them does."""
    consumer: Any = KafkaConsumer(**settings.kafka_client, group_id=group(settings))
    with closing(consumer):
        place = TopicPartition(settings.command_topics[0], 0)
        consumer.assign([place])
        consumer.commit({place: OffsetAndMetadata(0, "", -1)})


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_a_query_asks_for_metrics_that_are_served_by_labels_that_they_have(
    served: dict[str, set[str]], expression: str
) -> None:
    parsed = promql_parser.parse(expression.replace("$__rate_interval", "1m"))
    scraped = {"job", "instance"}
    known = {**served, "up": set(), "ALERTS": {"alertname", "alertstate", "service", "read_model", "worker"}}
    asked = list(selectors(parsed))
    assert asked
    for name, labels in asked:
        assert name in known
        assert labels <= known[name] | scraped
    everything = set().union(*(known[name] for name, _labels in asked)) | scraped | {"le"}
    assert grouped(expression) <= everything


def selectors(expression: Any) -> Iterator[tuple[str, set[str]]]:
    """Give each metric that is asked for, with the labels by which it is chosen."""
    match expression:
        case promql_parser.VectorSelector():
            yield str(expression.name), {one.name for one in expression.matchers.matchers}
        case promql_parser.MatrixSelector():
            yield from selectors(expression.vector_selector)
        case promql_parser.BinaryExpr():
            yield from selectors(expression.lhs)
            yield from selectors(expression.rhs)
        case promql_parser.Call():
            for argument in expression.args:
                yield from selectors(argument)
        case promql_parser.AggregateExpr() | promql_parser.ParenExpr() | promql_parser.UnaryExpr():
            yield from selectors(expression.expr)
        case promql_parser.NumberLiteral():
            pass
        case _:
            raise AssertionError(type(expression))


def grouped(expression: str) -> set[str]:
    lists: Sequence[str] = re.findall(r"\b(?:by|on|group_left) \(([^)]*)\)", expression)
    return {name.strip() for one in lists for name in one.split(",") if name.strip()}


def test_every_worker_of_compose_is_scraped() -> None:
    (job,) = SCRAPED["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    workers = {name for name, one in OURS.items() if one["command"][0] not in ("migrate", "topics")}
    assert set(found["names"]) == workers
    assert len(found["names"]) == len(workers)
    for name in workers:
        environment = OURS[name]["environment"]
        assert (environment["PRM_METRICS_HOST"], environment["PRM_METRICS_PORT"]) == ("0.0.0.0", found["port"])
    assert job["job_name"] == "prm-es"
