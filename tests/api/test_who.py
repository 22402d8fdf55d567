"""Who asks: bearer tokens, logins with a browser, and what each gets that is not let in."""

import hmac
import re
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import orjson
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from prm_es.api.access import ACCESS
from prm_es.api.issuer.app import create_issuer
from prm_es.api.issuer.logins import LOGINS
from prm_es.errors import Usage
from prm_es.settings import Settings
from tests.api.conftest import ONE, Api
from tests.workers import until


def problem(answer: httpx2.Response) -> tuple[int, str]:
    content = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert content["status"] == answer.status_code
    assert content["title"]
    assert content["detail"]
    return answer.status_code, content["code"]


@pytest.mark.parametrize("login", LOGINS, ids=lambda login: login.name)
def test_everybody_is_told_who_they_are(api: Api, login: Any) -> None:
    me = api.get("/api/me", login.name).json()
    assert (me["actor"], me["role"]) == (login.name, login.role)
    own = [str(api.partners[login.partner].id)] if login.partner is not None else []
    assert me["orgs"] == own
    assert me["locale"] == login.locale.replace("-", "_")


@pytest.mark.parametrize("key", sorted(ACCESS))
def test_nobody_unknown_is_let_in(api: Api, key: str) -> None:
    method, path = key.split()
    answer = api.ask(method, path.replace("{id}", "x"))
    assert problem(answer) == (401, "actor.unknown")
    assert answer.headers["www-authenticate"] == "Bearer"


def _claims(api: Api, **changes: Any) -> dict[str, Any]:
    known = jwt.decode(api.token("carla"), api.signer._key).claims
    return {**known, **changes}


def test_a_token_of_another_key_issuer_audience_or_time_is_refused(api: Api) -> None:
    key = api.signer._key
    stranger = ECKey.generate_key("P-256", {"kid": str(key.kid)})
    head = {"alg": "ES256", "kid": key.kid}
    bad = {
        "signed by a stranger under our key's name": jwt.encode(head, _claims(api), stranger),
        "of a key that nobody has": jwt.encode({**head, "kid": "none"}, _claims(api), stranger),
        "signed with the public key as a secret": _by_secret(api.token("carla"), key.as_pem(private=False)),
        "of another issuer": jwt.encode(head, _claims(api, iss="http://127.0.0.1:1"), key),
        "for somebody else": jwt.encode(head, _claims(api, aud=api.settings.oidc_client_id), key),
        "over": jwt.encode(head, _claims(api, exp=1_000_000_000), key),
        "not yet": jwt.encode(head, _claims(api, nbf=4_000_000_000), key),
        "without an end": jwt.encode(head, {k: v for k, v in _claims(api).items() if k != "exp"}, key),
        "with a role of nobody's": jwt.encode(head, _claims(api, role="root"), key),
        "with the service's own role": jwt.encode(head, _claims(api, role="system"), key),
        "of a partner's person without a partner": jwt.encode(head, _claims(api, role="partner_rep", org="x"), key),
        "unsigned": "eyJhbGciOiJub25lIn0." + api.token("carla").split(".")[1] + ".",
        "no token": "x.y.z",
    }
    found = {why: problem(api.get("/api/me", headers={"Authorization": f"Bearer {one}"})) for why, one in bad.items()}
    assert found == dict.fromkeys(bad, (401, "actor.unknown"))
    assert api.get("/api/me", headers={"Authorization": f"Bearer {jwt.encode(head, _claims(api), key)}"}).is_success


def test_a_token_that_was_let_in_is_refused_once_it_is_over(api: Api) -> None:
    key = api.signer._key
    ends = int(time.time()) - api.settings.oidc_leeway + 3
    token = jwt.encode({"alg": "ES256", "kid": key.kid}, _claims(api, exp=ends), key)
    asked = {"Authorization": f"Bearer {token}"}
    assert [api.get("/api/me", headers=asked).status_code for _time in range(2)] == [200, 200]

    def refused() -> httpx2.Response | None:
        answer = api.get("/api/me", headers=asked)
        return None if answer.is_success else answer

    over = until(refused, "its end")
    assert over is not None
    assert problem(over) == (401, "actor.unknown")


def _by_secret(token: str, secret: bytes) -> str:
    """Sign the claims of a token with a key that everybody knows, which a careless verifier takes for a secret."""
    head = urlsafe_b64encode(orjson.dumps({"alg": "HS256", "typ": "JWT"})).decode().rstrip("=")
    signed = f"{head}.{token.split('.')[1]}"
    return f"{signed}.{urlsafe_b64encode(hmac.digest(secret, signed.encode(), 'sha256')).decode().rstrip('=')}"


def test_the_vendor_cannot_be_somebody_of_a_partner(api: Api) -> None:
    token = api.token("carla", org=str(ONE.id))
    assert api.get("/api/me", headers={"Authorization": f"Bearer {token}"}).json()["org"] == "vendor"


# With a browser


@contextmanager
def log_in(api: Api, login: str, wanted: str = "/api/me") -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=api.address, follow_redirects=True) as browser:
        answer = browser.get("/login", params={"next": wanted, "hint": login})
        assert answer.is_success, answer.text
        yield browser


def test_a_login_begins_a_session_that_ends_with_logout(api: Api) -> None:
    with log_in(api, "vera") as browser:
        me = browser.get("/api/me").json()
        assert (me["actor"], me["role"]) == ("vera", "vendor_admin")
        refused = browser.post("/logout")
        assert problem(refused) == (403, "request.csrf")
        assert problem(browser.post("/logout", data={"csrf_token": "guessed"})) == (403, "request.csrf")
        left = browser.post("/logout", data={"csrf_token": me["csrf"]}, follow_redirects=False)
        assert left.status_code == 303
        assert left.headers["location"].startswith(api.settings.oidc_issuer)
        assert problem(browser.get("/api/me")) == (401, "actor.unknown")


def test_an_unsafe_request_of_a_session_needs_its_token_in_a_header_or_the_form(api: Api) -> None:
    question = {"tax_ids": [{"country": "BR", "value": "11.222.333/0001-81"}]}
    with log_in(api, "carla") as browser:
        csrf = browser.get("/api/me").json()["csrf"]
        assert problem(browser.post("/api/availability", json=question)) == (403, "request.csrf")
        given = browser.post("/api/availability", json=question, headers={"X-CSRF-Token": csrf})
        assert given.json()["answer"] == "free"


def test_the_session_cookie_is_out_of_reach_of_scripts_and_other_sites(api: Api) -> None:
    answer = httpx2.get(f"{api.address}/login")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie


def test_login_uses_a_code_with_pkce_state_and_nonce(api: Api) -> None:
    asked = parse_qs(urlsplit(httpx2.get(f"{api.address}/login").headers["location"]).query)
    assert (asked["response_type"], asked["code_challenge_method"]) == (["code"], ["S256"])
    assert all(len(asked[name][0]) >= 20 for name in ("state", "nonce", "code_challenge"))


def test_a_code_without_its_state_or_with_anothers_verifier_lets_nobody_in(api: Api) -> None:
    with httpx2.Client(base_url=api.address) as browser, httpx2.Client(base_url=api.address) as other:
        to_issuer = browser.get("/login", params={"hint": "vera"}).headers["location"]
        back = httpx2.get(to_issuer).headers["location"]
        assert problem(other.get(back)) == (401, "actor.unknown")  # a browser that has not asked
        theirs = parse_qs(urlsplit(other.get("/login").headers["location"]).query)["state"][0]
        code = parse_qs(urlsplit(back).query)["code"][0]
        stolen = other.get("/auth/callback", params={"code": code, "state": theirs})
        assert problem(stolen) == (401, "actor.unknown")  # the code is bound to the verifier of the one that asked
        assert problem(other.get("/api/me")) == (401, "actor.unknown")


@pytest.mark.parametrize("wanted", ["//evil.example", "https://evil.example", "/\\evil.example", "evil", "/a\nb"])
def test_login_leads_back_to_a_page_of_ours_only(api: Api, wanted: str) -> None:
    with httpx2.Client(base_url=api.address) as browser:
        to_issuer = browser.get("/login", params={"next": wanted, "hint": "vera"}).headers["location"]
        back = browser.get(httpx2.get(to_issuer).headers["location"])
        assert back.headers["location"] == "/"


# The development issuer


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.com", "localhost"])
def test_the_development_issuer_listens_on_loopback_only(host: str) -> None:
    with pytest.raises(Usage, match="loopback"):
        create_issuer(Settings(issuer_host=host))


def test_the_development_issuer_answers_to_no_other_name_and_sends_codes_nowhere_else(api: Api) -> None:
    issuer = api.settings.oidc_issuer
    assert httpx2.get(f"{issuer}/jwks", headers={"Host": "evil.example"}).status_code == 400
    asked = dict(parse_qs(urlsplit(httpx2.get(f"{api.address}/login").headers["location"]).query))
    for changed in ({"redirect_uri": "http://evil.example/"}, {"client_id": "x"}, {"code_challenge_method": "plain"}):
        assert httpx2.get(f"{issuer}/authorize", params={**asked, **changed, "login": "vera"}).status_code == 400
    assert "d" not in httpx2.get(f"{issuer}/jwks").json()["keys"][0]


def test_the_page_of_logins_names_each_role(api: Api) -> None:
    page = httpx2.get(httpx2.get(f"{api.address}/login").headers["location"]).text
    assert set(re.findall(r'value="(\w+)">[^<]+<small>', page)) == {login.name for login in LOGINS}
    assert ONE.name in page
