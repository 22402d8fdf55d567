"""Queries over HTTP: lists, single rows, what happened, files, and what changes while one looks."""

import csv
import io
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import httpx2
import orjson
import psycopg2
import pyarrow.parquet as pq
import pytest

from prm_es import rebuild
from prm_es.api import exporting
from prm_es.api.lists import LISTS
from prm_es.api.timelines import Entry, timeline
from prm_es.messages import Actor, Role
from prm_es.projections.ordered import OrderedProjector
from prm_es.projections.registry import ORDERED, READ_MODELS
from prm_es.settings import Settings
from prm_es.store.store import Store
from tests.api.conftest import ONE, TWO, Api
from tests.projections.generations import live
from tests.support import MANAGER, command, opening, partner, rows, today
from tests.test_leads import registration
from tests.workers import write

HANDED_OVER = {"partner_id": str(ONE.id), "reason": "Secret Rival SA gave it up"}
SELLS = {"authorisations": [{"product_line": "scales"}]}
CALLED: dict[str, Any] = {"kind": "call", "summary": "Called", "happened_on": today()}
DEAL, LEAD, RIVAL_LEAD = UUID(int=71), UUID(int=72), UUID(int=73)
ONES, TWOS = (Actor("paula", Role.PARTNER_ADMIN, str(one.id)) for one in (ONE, TWO))


def caught_up(settings: Settings) -> int:
    """Bring every read model to the end of the log, and say so as the publisher does."""
    for model in READ_MODELS.values():
        if model.name not in ORDERED:
            rebuild.rebuild(settings, model)
            continue
        projector = OrderedProjector(settings, ORDERED[model.name], generation=live(settings, model))
        while projector.advance().events:
            pass
        projector.close()
    ((head,),) = [tuple(row.values()) for row in rows(settings, "SELECT max(last_position) AS head FROM commits")]
    connection = psycopg2.connect(settings.dsn("writer"))
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO published (topic, topic_id, partition, position) VALUES ('*', 'tests', 0, %s)"
            " ON CONFLICT (topic, partition) DO UPDATE SET position = excluded.position",
            (head,),
        )
    connection.close()
    return int(head)


@pytest.fixture(scope="module")
def world(api: Api) -> Api:
    """Two partners with a deal and a lead each, the rivals' leads about the same customer."""
    write(
        api.settings,
        [partner(ONE.id, legal_name="=Cmd Ltda", **SELLS), partner(TWO.id, legal_name="Secret Rival SA", **SELLS)],
    )
    write(
        api.settings,
        [
            opening(ONE.id, DEAL, ONES, customer={"name": "=1+1"}, amount={"amount": "1234.50", "currency": "BRL"}),
            command("opportunity.comment", DEAL, {"text": "Seen by both"}, MANAGER),
            command("opportunity.comment", DEAL, {"text": "For us alone", "visibility": "internal"}, MANAGER),
            command(
                "opportunity.log_activity", DEAL, {"kind": "call", "summary": "Called", "happened_on": today()}, ONES
            ),
            replace(registration(TWO.id, "C-1", RIVAL_LEAD), actor=TWOS),
            replace(registration(ONE.id, "C-2", LEAD), actor=ONES),
            *(opening(TWO.id, uuid4(), TWOS, name=f"Deal {n}") for n in range(5)),
        ],
    )
    write(
        api.settings,
        [
            command(
                "lead.transfer",
                RIVAL_LEAD,
                HANDED_OVER,
                MANAGER,
            )
        ],
    )
    caught_up(api.settings)
    return api


def test_the_world_is_as_told(world: Api) -> None:
    assert not rows(world.settings, "SELECT type FROM commands WHERE outcome <> 'accepted'")


def get(api: Api, path: str, login: str = "carla", **more: Any) -> Any:
    answer = api.get(path, login, **more)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("name", sorted(LISTS))
def test_every_list_answers_with_rows_and_the_position_they_are_complete_to(world: Api, name: str) -> None:
    answer = get(world, f"/api/{name}?limit=2")
    head = rows(world.settings, "SELECT max(last_position) AS head FROM commits")[0]["head"]
    assert answer["as_of"]["position"] == head
    assert answer["as_of"]["at"].endswith("Z")
    assert all(set(item) == set(LISTS[name].columns) for item in answer["items"])


def test_money_is_text_beside_its_currency_and_pages_follow_one_another(world: Api) -> None:
    answer = get(world, "/api/opportunities?sort=-amount&limit=1")
    assert (answer["items"][0]["amount"], answer["items"][0]["currency"]) == ("1234.50", "BRL")
    following = get(world, "/api/opportunities", params={"sort": "-amount", "limit": 200, "cursor": answer["next"]})
    assert len(following["items"]) == 5
    assert following["next"] is None


def test_what_cannot_be_asked_names_its_field(world: Api) -> None:
    answer = world.get("/api/leads?colour=red", "carla")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [one["field"] for one in answer.json()["errors"]] == ["colour"]


def test_sums_have_subtotals_by_currency(world: Api) -> None:
    items = get(world, "/api/pipeline?status=open")["items"]
    assert {(one["stage"], one["currency"], one["count"], one["amount"]) for one in items} == {
        ("prospect", "BRL", 1, "1234.50"),
        ("prospect", None, 5, None),
        (None, "BRL", 1, "1234.50"),
        (None, None, 5, None),
    }
    assert get(world, "/api/funnel")["items"][0]["stage"] == "prospect"


def test_an_answer_that_is_known_is_not_sent_again_until_something_changes(world: Api) -> None:
    first = world.get("/api/opportunities", "carla")
    tag = first.headers["etag"]
    again = world.get("/api/opportunities", "carla", headers={"If-None-Match": tag})
    if time.time() % 60 > 1:  # marks end with the minute
        assert (again.status_code, again.content) == (304, b"")
    assert world.get("/api/opportunities?limit=1", "carla", headers={"If-None-Match": tag}).status_code == 200


def test_it_waits_for_a_position_and_says_so_when_it_does_not_come(world: Api) -> None:
    head = get(world, "/api/opportunities")["as_of"]["position"]
    assert get(world, f"/api/opportunities?after={head}")["as_of"]["position"] == head
    answer = world.get(f"/api/opportunities?after={head + 1}&wait=0.1", "carla")
    assert (answer.status_code, answer.json()["code"]) == (412, "read.behind")
    assert answer.headers["retry-after"] == "1"


def test_one_row_has_every_column_and_a_stranger_is_not_found(world: Api) -> None:
    assert get(world, f"/api/opportunities/{DEAL}")["item"]["opportunity_id"] == str(DEAL)
    assert get(world, f"/api/leads/{LEAD}")["item"]["customer"] == "Lojas Sul"
    found = get(world, f"/api/partners/{ONE.id}")
    assert found["item"]["partner"] == "=Cmd Ltda"
    assert [one["partner_id"] for one in found["scorecard"]] == [str(ONE.id)]
    assert world.get(f"/api/opportunities/{uuid4()}", "carla").status_code == 404
    assert world.get("/api/leads/somebody", "carla").status_code == 422


def test_a_timeline_tells_the_vendor_everything(world: Api) -> None:
    items = get(world, f"/api/opportunities/{DEAL}/timeline")["items"]
    assert [one["what"] for one in items][-3:] == ["commented", "commented", "activity_logged"]
    assert [(one["said"], one["internal"]) for one in items if one["what"] == "commented"] == [
        ("text Seen by both; visibility shared", False),
        ("text For us alone; visibility internal", True),
    ]


def seen(api: Api, aggregate: str, subject: UUID, *orgs: UUID) -> list[Entry]:
    with Store(api.settings, "auditor") as store:
        return timeline(store, aggregate, subject, orgs)


def test_a_timeline_tells_a_partner_what_was_its_own_and_never_a_rivals_name(world: Api) -> None:
    own = seen(world, "opportunity", DEAL, ONE.id)
    assert [one.said for one in own if one.what == "commented"] == ["text Seen by both; visibility shared"]
    assert not seen(world, "opportunity", DEAL, TWO.id)
    later = seen(world, "lead", RIVAL_LEAD, ONE.id)
    assert [one.what for one in later][:1] == ["transferred"]
    before = seen(world, "lead", RIVAL_LEAD, TWO.id)
    assert [one.what for one in before][:1] == ["registered"]
    assert "transferred" not in [one.what for one in before]
    told = orjson.dumps([repr(one) for one in (*own, *later)]).decode()
    assert str(TWO.id) not in told
    assert "Secret Rival" not in told


def test_csv_has_every_row_and_no_cell_that_a_spreadsheet_would_run(world: Api) -> None:
    answer = world.get("/api/opportunities?format=csv", "carla")
    assert answer.headers["content-type"].startswith("text/csv")
    assert "opportunities-" in answer.headers["content-disposition"]
    found = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(found) == 6
    (formula,) = [row for row in found if row["opportunity_id"] == str(DEAL)]
    assert (formula["customer"], formula["partner"], formula["amount"]) == ("'=1+1", "'=Cmd Ltda", "1234.50")
    assert (formula["overdue"], formula["product_lines"]) == ("false", "")
    sheet = world.get("/api/opportunities?bom=true&sort=name", "carla", headers={"Accept": "text/csv"})
    assert sheet.content.startswith(b"\xef\xbb\xbfexternal_id,")
    names = [row["name"] for row in csv.DictReader(io.StringIO(sheet.content.decode("utf-8-sig")))]
    assert names == sorted(names)


@pytest.mark.parametrize("name", sorted(LISTS))
def test_every_list_comes_as_a_file_with_the_rows_of_its_pages(world: Api, name: str) -> None:
    items = get(world, f"/api/{name}?limit=500")["items"]
    text = world.get(f"/api/{name}?format=csv", "carla")
    assert text.status_code == 200
    assert len(list(csv.reader(io.StringIO(text.text)))) == len(items) + 1
    table = pq.read_table(io.BytesIO(world.get(f"/api/{name}?format=parquet", "carla").content))
    assert table.column_names == list(LISTS[name].columns)
    assert table.num_rows == len(items)


def test_parquet_keeps_types_and_every_digit(world: Api) -> None:
    content = world.get("/api/opportunities?format=parquet", "carla").content
    (row,) = [one for one in pq.read_table(io.BytesIO(content)).to_pylist() if one["opportunity_id"] == str(DEAL)]
    assert (row["amount"], row["customer"], row["overdue"]) == (Decimal("1234.5"), "=1+1", False)
    assert row["opened_at"].tzinfo is not None


def test_a_file_that_nobody_takes_any_more_is_given_up(world: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "CHUNK", 1)
    before = threading.active_count()
    with world.client.stream("GET", "/api/opportunities?format=csv", headers=world.headers("carla")) as answer:
        next(answer.iter_bytes(10))
    deadline = time.monotonic() + 20
    while any(one.name == "export" for one in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= before + 2


class Listening:
    """Server-Sent Events as a browser reads them."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines

    def following(self) -> dict[str, Any]:
        message: dict[str, Any] = {}
        for line in self._lines:
            if not line and "data" in message:
                return message
            name, _, value = line.partition(": ")
            if name in ("id", "event", "data"):
                message[name] = orjson.loads(value) if name == "data" else value
        raise AssertionError("the stream has ended")


def listening(api: Api, since: str | None = None) -> Any:
    headers = {**api.headers("carla"), **({"Last-Event-ID": since} if since else {})}
    return api.client.stream("GET", "/api/live", headers=headers, timeout=httpx2.Timeout(20))


def test_changes_are_told_as_they_happen_and_whoever_comes_back_hears_what_was_missed(world: Api) -> None:
    with listening(world) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        stream = Listening(answer.iter_lines())
        first = stream.following()
        assert set(first["data"]["lists"]) == set(LISTS)
        write(world.settings, [opening(TWO.id, uuid4(), TWOS)])
        caught_up(world.settings)
        assert "opportunities" in stream.following()["data"]["lists"]
    with listening(world, since=first["id"]) as answer:
        missed = Listening(answer.iter_lines()).following()
    assert "opportunities" in missed["data"]["lists"]


def test_the_description_names_every_list_with_its_filters(world: Api) -> None:
    paths = world.get("/api/openapi.json").json()["paths"]
    for name, one in LISTS.items():
        described = {parameter["name"] for parameter in paths[f"/api/{name}"]["get"]["parameters"]}
        assert {*one.filters, "sort", "cursor", "limit", "after", "format"} <= described
