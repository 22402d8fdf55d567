"""Role x endpoint: every cell of the table, generated from the app itself, so that no endpoint can be left out."""

import re
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute, iter_route_contexts

from prm_es.api.access import ACCESS, PUBLIC, router, unlisted
from prm_es.api.app import create_app
from prm_es.api.issuer.logins import LOGINS
from prm_es.messages import PARTNER_ROLES, Role
from prm_es.settings import Settings
from tests.api.conftest import Api, Running
from tests.api.test_who import problem

ENDLESS = {"GET /api/live"}
# They send a command and wait for its outcome, which nobody decides here: who may is let in by tests of their own.
SENDING = {"POST /register", "POST /conflicts/resolve", "POST /do/{command}/{subject}"}


def _endpoints() -> set[str]:
    contexts = iter_route_contexts(create_app(Settings()).routes)
    routes = [one.original_route for one in contexts if isinstance(one.original_route, APIRoute)]
    return {f"{method} {route.path_format}" for route in routes for method in route.methods or ()} - PUBLIC


def test_the_table_has_every_endpoint_and_no_other() -> None:
    assert _endpoints() == ACCESS.keys()


def test_an_endpoint_that_is_not_in_the_table_or_not_held_to_it_is_found() -> None:
    guarded, bare = router(), APIRouter()

    @guarded.get("/api/forgotten")
    def forgotten() -> None: ...

    @bare.get("/api/me")
    def open_to_all() -> None: ...

    assert unlisted([*guarded.routes, *bare.routes]) == ["GET /api/forgotten", "GET /api/me"]


@pytest.mark.parametrize("key", sorted(ACCESS.keys() - ENDLESS))
def test_each_role_is_let_in_where_the_table_says_so_and_nowhere_else(api: Api, key: str) -> None:
    method, path = key.split()
    address = re.sub(r"\{\w*id\}", "00000000-0000-4000-8000-000000000000", path)
    address = re.sub(r"\{(\w+)\}", r"\1", address)
    logins = {one.role: one for one in LOGINS}.values()
    for login in (one for one in logins if not (key in SENDING and one.role in ACCESS[key])):
        answer = api.ask(method, address, login.name, params={"wait": 0, "limit": 1})
        refused = answer.status_code == 403 and problem(answer) == (403, "actor.forbidden")
        assert refused == (login.role not in ACCESS[key]), (login.role, answer.status_code, answer.text[:300])
        assert answer.status_code < 500, (login.role, answer.text[:300])


def test_no_token_gives_the_services_own_role(api: Api) -> None:
    assert not any(Role.SYSTEM in roles for roles in ACCESS.values())
    answer = api.get("/api/me", headers={"Authorization": f"Bearer {api.token('carla', role='system')}"})
    assert problem(answer) == (401, "actor.unknown")


def test_how_far_everything_is_and_where_the_rivals_are_partners_are_not_told() -> None:
    for key in ("GET /api/status", "GET /api/conflicts"):
        assert not ACCESS.get(key, frozenset()) & PARTNER_ROLES


# What every answer carries


def test_every_answer_has_the_headers_that_keep_a_browser_safe(api: Api) -> None:
    for answer in (api.get("/api/me", "carla"), api.get("/api/me"), api.get("/nowhere"), httpx2.get(api.address)):
        policy = dict(one.strip().split(" ", 1) for one in answer.headers["content-security-policy"].split(";"))
        assert policy["script-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert "unsafe-inline" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert "strict-transport-security" not in answer.headers


def test_behind_tls_the_cookie_is_for_tls_alone_and_browsers_are_told_so(serve: Running) -> None:
    api = serve(api_url="https://channel.example.com")
    answer = httpx2.get(f"{api.address}/login")
    assert "max-age" in answer.headers["strict-transport-security"]
    assert "secure" in answer.headers["set-cookie"].lower()
    assert "redirect_uri=https%3A%2F%2Fchannel.example.com%2Fauth%2Fcallback" in answer.headers["location"]


@pytest.mark.parametrize("path", ["/nowhere", "/api/nowhere", "/commands/x/y"])
def test_what_is_not_there_is_a_problem_too(api: Api, path: str) -> None:
    assert problem(api.get(path, "carla"))[0] == 404
    assert problem(api.ask("DELETE", "/api/me", "carla"))[0] == 405


def test_a_wrong_field_is_named_and_its_value_never_repeated(api: Api) -> None:
    secret: dict[str, Any] = {"tax_ids": [{"country": "BR", "value": "529.982.247-25"}], "name": 7}
    answer = api.ask("POST", "/api/availability", "carla", json=secret)
    assert problem(answer) == (422, "request.invalid")
    assert "529" not in answer.text


# How often


def test_one_person_may_ask_so_often_and_others_go_on(serve: Running) -> None:
    api = serve(api_rate="5/hour", api_failures="3/hour")
    answers = [api.get("/api/me", "carla") for _ in range(7)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
    assert problem(answers[-1]) == (429, "request.too_many")
    assert int(answers[-1].headers["retry-after"]) > 0
    assert api.get("/api/me", "vera").is_success
    unknown = [api.get("/api/me", headers={"Authorization": f"Bearer x.{n}.z"}).status_code for n in range(5)]
    assert unknown == [401] * 3 + [429] * 2
    assert api.get("/api/me", "vera").is_success
