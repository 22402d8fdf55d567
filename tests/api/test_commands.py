"""Commands over HTTP, handled by a real handler: one recorded outcome each, by whom the token says."""

import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import httpx2
import orjson
import pytest

from prm_es.aggregates.permissions import ROLES
from prm_es.api.issuer.logins import BY_NAME, LOGINS
from prm_es.consumers.commands import work
from prm_es.settings import Settings
from tests.api.conftest import ONE, TWO, Api
from tests.api.test_who import problem
from tests.support import check_log, rows

WAIT = {"wait": 30}


@pytest.fixture(scope="module")
def door(api: Api, migrated: Settings) -> Iterator[Api]:
    stop = threading.Event()
    handler = threading.Thread(target=work, args=(migrated, stop))
    handler.start()
    for one in (ONE, TWO):
        data = {"legal_name": one.name, "status": "active", "country": "BR", "types": ["reseller"]}
        assert send(api, "robo", "partner.import", one.id, data).status_code == 200
    yield api
    stop.set()
    handler.join()
    check_log(migrated)


def send(
    api: Api, login: str, kind: str, subject: UUID | None = None, data: Any = None, **more: Any
) -> httpx2.Response:
    body = {"type": f"prm.{kind}", "subject": str(subject or uuid4()), "data": data or {}, **more}
    return api.ask("POST", "/commands", login, params=WAIT, json=body)


def opening(by: UUID) -> dict[str, Any]:
    return {
        "partner_id": str(by),
        "name": "Stock counts",
        "customer": {"name": "Lojas Sul"},
        "deal_type": "new",
        "next_action": {"text": "Call", "due_on": "2099-01-01"},
    }


def test_the_answer_is_the_recorded_outcome_byte_for_byte(door: Api, migrated: Settings) -> None:
    answer = send(door, "carla", "partner.invite", data={"legal_name": "Gama", "country": "BR"})
    assert answer.status_code == 200
    content = answer.json()
    query = "SELECT response, actor, actor_role, actor_org FROM commands WHERE source = %s AND id = %s"
    (stored,) = rows(migrated, query, (content["source"], content["id"]))
    assert bytes(stored["response"]) == answer.content
    assert (stored["actor"], stored["actor_role"], stored["actor_org"]) == ("carla", "channel_manager", "vendor")
    again = door.get(f"/commands/{content['id']}", "carla", params={"source": content["source"]})
    assert again.content == answer.content


def test_who_asks_is_taken_from_the_token_and_nowhere_else(door: Api) -> None:
    forged: list[dict[str, Any]] = [
        {"actor": "vera"},
        {"actorrole": "vendor_admin"},
        {"actororg": "vendor"},
        {"onbehalfof": "vera"},
    ]
    for given in forged:
        answer = send(door, "rui", "opportunity.open", data=opening(ONE.id), **given)
        assert problem(answer) == (422, "request.invalid")


def test_the_same_id_again_gives_the_first_outcome_and_with_other_content_is_refused(door: Api) -> None:
    subject, id_ = uuid4(), str(uuid4())
    data = {"legal_name": "Delta", "country": "BR"}
    first = send(door, "carla", "partner.invite", subject, data, id=id_)
    assert send(door, "carla", "partner.invite", subject, data, id=id_).content == first.content
    other = send(door, "carla", "partner.invite", subject, {**data, "country": "PT"}, id=id_)
    assert problem(other) == (409, "command.id_reused")
    assert send(door, "carla", "partner.invite", subject, data, id=id_).content == first.content


def test_nobody_uses_up_the_ids_of_another(door: Api) -> None:
    id_ = str(uuid4())
    theirs = send(door, "rui", "opportunity.open", data=opening(ONE.id), id=id_, source="crm")
    assert theirs.json()["source"] == f"api:{ONE.id}:rui:crm"
    assert (
        send(door, "robo", "partner.import", data={"legal_name": "E", "status": "active"}, id=id_, source="crm").json()[
            "source"
        ]
        == "crm"
    )
    assert send(door, "rob", "opportunity.open", data=opening(TWO.id), id=id_, source="crm").status_code == 200
    assert problem(send(door, "robo", "partner.import", source="prm-es:deadlines")) == (422, "request.invalid")


def test_a_refusal_says_which_field_and_why(door: Api) -> None:
    answer = send(door, "carla", "partner.invite", data={"legal_name": "", "country": "XX", "odd": 1})
    assert problem(answer) == (422, "command.invalid")
    assert {one["field"] for one in answer.json()["errors"]} == {"legal_name", "country", "odd"}
    assert answer.json()["outcome"]["outcome"] == "refused"


def test_refusals_have_the_status_of_their_kind(door: Api) -> None:
    mine = uuid4()
    assert send(door, "rui", "opportunity.open", mine, opening(ONE.id)).status_code == 200
    comment = {"text": "Good news"}
    assert problem(send(door, "rob", "opportunity.comment", mine, comment)) == (403, "actor.forbidden")
    assert problem(send(door, "rob", "opportunity.open", data=opening(ONE.id))) == (403, "actor.forbidden")
    assert problem(send(door, "rui", "opportunity.comment", uuid4(), comment)) == (404, "aggregate.not_found")
    again = send(door, "rui", "opportunity.open", mine, opening(ONE.id))
    assert problem(again) == (409, "aggregate.already_exists")
    old = send(door, "rui", "opportunity.comment", mine, comment, expectedversion=9)
    assert problem(old) == (409, "aggregate.version_conflict")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b"[" * 5000,
        orjson.dumps({"type": "prm.nothing.at_all", "subject": str(uuid4())}),
        orjson.dumps({"type": "prm.partner.invite", "subject": "x"}),
        orjson.dumps({"type": "prm.partner.invite", "subject": str(uuid4()), "id": ""}),
        orjson.dumps({"type": "prm.partner.invite", "subject": str(uuid4()), "time": "yesterday"}),
        orjson.dumps({"type": "prm.partner.invite", "subject": str(uuid4()), "expectedversion": -1}),
        orjson.dumps({"type": ["prm.partner.invite"], "subject": str(uuid4())}),
    ],
)
def test_what_is_no_command_is_told_so_and_sent_nowhere(door: Api, body: bytes, migrated: Settings) -> None:
    before = rows(migrated, "SELECT count(*) AS n FROM dead_letters")
    answer = door.ask("POST", "/commands", "carla", content=body, params={"wait": 0})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert rows(migrated, "SELECT count(*) AS n FROM dead_letters") == before


def test_without_waiting_the_outcome_is_to_be_asked_for(door: Api) -> None:
    body = {"type": "prm.partner.invite", "subject": str(uuid4()), "data": {"legal_name": "F", "country": "BR"}}
    answer = door.ask("POST", "/commands", "carla", params={"wait": 0}, json=body)
    assert answer.status_code == 202
    sent = answer.json()
    found = door.ask("POST", "/commands", "carla", params=WAIT, json={**body, "id": sent["id"]})
    assert found.json()["id"] == sent["id"]
    assert found.status_code == 200


def test_an_outcome_is_told_to_who_has_sent_the_command_alone(door: Api) -> None:
    sent = send(door, "rui", "opportunity.open", data=opening(ONE.id)).json()
    for login in LOGINS:
        answer = door.get(f"/commands/{sent['id']}", login.name, params={"source": sent["source"]})
        assert answer.is_success == (login.name == "rui"), login


def test_a_command_that_is_too_large_is_refused(door: Api) -> None:
    huge = {"type": "prm.partner.invite", "subject": str(uuid4()), "data": {"legal_name": "x" * 600_000}}
    assert problem(door.ask("POST", "/commands", "carla", json=huge))[0] == 413


@pytest.mark.parametrize("kind", sorted(ROLES))
def test_a_role_that_may_not_send_a_command_is_refused(door: Api, kind: str) -> None:
    refused = [one for one in LOGINS if one.role not in ROLES[kind]]
    for login in {one.role: one for one in refused}.values():
        body = {"type": f"prm.{kind}", "subject": str(uuid4()), "data": {}}
        answer = door.ask("POST", "/commands", login.name, params={"wait": 0}, json=body)
        senders = BY_NAME[login.name].role.value in {"auditor", "finance"}
        assert answer.status_code == (403 if senders else 202)


def test_the_envelope_of_a_cloudevent_is_taken_and_what_is_no_part_of_it_is_named(door: Api) -> None:
    data = {"legal_name": "Eta", "country": "BR"}
    whole: dict[str, Any] = {"specversion": "1.0", "datacontenttype": "application/json"}
    assert send(door, "carla", "partner.invite", data=data, **whole).status_code == 200
    for given, name, message in (
        ({"specversion": "2.0"}, "specversion", "specversion must be 1.0"),
        ({"dta": {}}, "dta", "is nothing that a command has"),
        ({"actor": "vera"}, "actor", "taken from the token"),
    ):
        (error,) = send(door, "carla", "partner.invite", data=data, **given).json()["errors"]
        assert error["field"] == name
        assert message in error["message"]
