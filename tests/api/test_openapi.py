"""Requests drawn from the OpenAPI, by every role: whatever is sent, it is answered, never with a failure of ours."""

import json
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from prm_es.api import openapi
from prm_es.api.issuer.logins import LOGINS
from tests.api.conftest import Api

COMMITTED = Path(__file__).parents[2] / "schemas" / "openapi.json"
SCHEMA: Any = schemathesis.openapi.from_dict(openapi.document())
OPERATIONS = [one.ok() for one in SCHEMA.get_all_operations() if "live" not in one.ok().path]
WHO = [*(login.name for login in LOGINS if login.name in {"vera", "robo", "pat", "rob", "alba"}), None]


def test_the_committed_document_is_what_the_code_says() -> None:
    assert json.loads(COMMITTED.read_text()) == openapi.document(), "run `make schemas`"


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.label)
def test_whatever_is_sent_nothing_fails(api: Api, operation: Any) -> None:
    @seed(20)
    @settings(
        max_examples=20, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy(), who=st.sampled_from(WHO))
    def ask(case: Any, who: str | None) -> None:
        case.query = {**(case.query or {}), "wait": 0}  # for a position that may never come
        answer = case.call(base_url=api.address, headers=dict(api.headers(who)) if who else {}, timeout=60)
        assert answer.status_code < 500, (case.as_curl_command(), answer.text[:500])
        if answer.status_code >= 400:
            assert answer.headers["content-type"][0] == "application/problem+json"

    ask()
