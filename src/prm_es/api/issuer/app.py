"""The endpoints of the development issuer: discovery, keys, a page to pick a login, codes for tokens, logout."""

import hashlib
import ipaddress
import secrets
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from http import HTTPStatus
from threading import Event
from time import monotonic
from typing import Any, Final
from urllib.parse import urlencode, urlsplit
from uuid import UUID

import psycopg2
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from prm_es.api.issuer.logins import BY_NAME, LOGINS, NOBODY_YET, Login, Organisation, claims_of
from prm_es.api.issuer.signing import ALGORITHM, LASTS_S, Signer
from prm_es.api.serve import run
from prm_es.api.tokens import DISCOVERY
from prm_es.errors import PrmError, Usage
from prm_es.settings import Settings

CODE_S: Final = 60.0
MAX_CODES: Final = 1000
SHOWN: Final = 500
_ASKED: Final = (
    "client_id",
    "redirect_uri",
    "response_type",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
)

Partners = Callable[[], Sequence[Organisation]]


@dataclass(frozen=True, slots=True)
class Grant:
    """A code that was given out, and what it is good for."""

    said: Mapping[str, Any]
    client_id: str
    redirect_uri: str
    challenge: str
    nonce: str | None
    until: float


def address_of(settings: Settings) -> str:
    """Give the issuer's address; raises Usage unless it is on loopback."""
    host = settings.issuer_host
    with suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            shown = f"[{host}]" if ":" in host else host
            return f"http://{shown}:{settings.issuer_port}"
    raise Usage("the development issuer lets anybody be anybody: it listens on a loopback address only")


def work(settings: Settings, stop: Event) -> None:
    """Serve the issuer until stopped; raises Usage unless it is to listen on loopback."""
    run(create_issuer(settings), settings.issuer_host, settings.issuer_port, stop)


def partners_of(settings: Settings) -> Sequence[Organisation]:
    """Give the partners that work, oldest first; two made-up ones while there are fewer than two, or none to ask."""
    found: list[Organisation] = []
    with suppress(psycopg2.Error, PrmError):
        connection = psycopg2.connect(settings.dsn("reader"))
        try:
            with connection.cursor() as cursor:
                cursor.execute(
                    f'SELECT partner_id, partner FROM "{settings.read_schema}".partners'  # noqa: S608 - a setting
                    " WHERE status = 'active' ORDER BY since, partner_id LIMIT %s",
                    (SHOWN,),
                )
                found = [Organisation(UUID(str(id_)), name or str(id_)) for id_, name in cursor]
        finally:
            connection.close()
    return [*found, *NOBODY_YET][: max(len(found), len(NOBODY_YET))]


class _Issuer:
    def __init__(self, settings: Settings, address: str, partners: Partners) -> None:
        self._settings, self._address, self._partners = settings, address, partners
        self._signer = Signer(settings.data, address)
        self._codes: dict[str, Grant] = {}

    def discovery(self, _request: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self._address,
                "authorization_endpoint": f"{self._address}/authorize",
                "token_endpoint": f"{self._address}/token",
                "jwks_uri": f"{self._address}/jwks",
                "end_session_endpoint": f"{self._address}/logout",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": [ALGORITHM],
                "code_challenge_methods_supported": ["S256"],
                "token_endpoint_auth_methods_supported": ["none"],
            }
        )

    def jwks(self, _request: Request) -> Response:
        return JSONResponse(self._signer.public)

    def authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        if wrong := self._wrong(asked):
            return PlainTextResponse(wrong, HTTPStatus.BAD_REQUEST)
        partners = self._partners()
        name = asked.get("login") or asked.get("login_hint", "")
        login = BY_NAME.get(name)
        if login is None:
            return HTMLResponse(_page(asked, partners), headers=_PAGE_HEADERS)
        return self._granted(asked, claims_of(login, partners, _chosen(asked, partners)))

    def _wrong(self, asked: Mapping[str, str]) -> str | None:
        if asked.get("client_id") != self._settings.oidc_client_id:
            return "client_id is not ours"
        if asked.get("response_type") != "code" or asked.get("code_challenge_method") != "S256":
            return "only response_type=code with code_challenge_method=S256"
        if not asked.get("code_challenge") or not _on_loopback(asked.get("redirect_uri", "")):
            return "code_challenge is missing, or redirect_uri is not on loopback"
        return None

    def _granted(self, asked: Mapping[str, str], said: Mapping[str, Any]) -> Response:
        now, code = monotonic(), secrets.token_urlsafe(24)
        self._codes = {key: grant for key, grant in self._codes.items() if grant.until > now}
        if len(self._codes) >= MAX_CODES:
            return PlainTextResponse("too many logins at once", HTTPStatus.TOO_MANY_REQUESTS)
        self._codes[code] = Grant(
            said,
            asked["client_id"],
            asked["redirect_uri"],
            asked["code_challenge"],
            asked.get("nonce"),
            now + CODE_S,
        )
        back = {"code": code, **({"state": asked["state"]} if "state" in asked else {})}
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(back)}", HTTPStatus.SEE_OTHER)

    async def token(self, request: Request) -> Response:
        form = {name: str(value) for name, value in (await request.form()).items()}
        grant = self._codes.pop(form.get("code", ""), None)
        if form.get("grant_type") != "authorization_code" or grant is None or not _redeems(form, grant):
            return JSONResponse({"error": "invalid_grant"}, HTTPStatus.BAD_REQUEST)
        nonce = {"nonce": grant.nonce} if grant.nonce else {}
        return JSONResponse(
            {
                "access_token": self._signer.sign(self._settings.oidc_audience, grant.said),
                "id_token": self._signer.sign(grant.client_id, {**grant.said, **nonce}),
                "token_type": "Bearer",
                "expires_in": LASTS_S,
            },
            headers={"Cache-Control": "no-store"},
        )

    def logout(self, request: Request) -> Response:
        """End nothing, for there is no session here; go back."""
        back = request.query_params.get("post_logout_redirect_uri", "")
        return RedirectResponse(back, HTTPStatus.SEE_OTHER) if _on_loopback(back) else PlainTextResponse("logged out")


def create_issuer(settings: Settings, partners: Partners | None = None) -> Starlette:
    """Put the issuer together; raises Usage unless it is to listen on loopback."""
    issuer = _Issuer(settings, address_of(settings), partners or (lambda: partners_of(settings)))
    return Starlette(
        routes=[
            Route(DISCOVERY, issuer.discovery),
            Route("/jwks", issuer.jwks),
            Route("/authorize", issuer.authorize),
            Route("/token", issuer.token, methods=["POST"]),
            Route("/logout", issuer.logout),
        ],
        # A page elsewhere whose name leads to 127.0.0.1 must not be answered.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"])],
    )


def _redeems(form: Mapping[str, str], grant: Grant) -> bool:
    digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
    same = secrets.compare_digest(urlsafe_b64encode(digest).rstrip(b"=").decode(), grant.challenge)
    return (
        same
        and monotonic() < grant.until
        and form.get("client_id", grant.client_id) == grant.client_id
        and form.get("redirect_uri") == grant.redirect_uri
    )


def _on_loopback(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return parts.scheme == "http" and (
            parts.hostname == "localhost" or ipaddress.ip_address(parts.hostname or "").is_loopback
        )
    except ValueError:
        return False


def _chosen(asked: Mapping[str, str], partners: Sequence[Organisation]) -> UUID | None:
    return next((one.id for one in partners if str(one.id) == asked.get("org")), None)


# The page

_STYLE: Final = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 34rem; margin: 8vh auto; padding: 0 1rem; }
h1 { font-size: 1.25rem; } p { opacity: .75; }
ul { list-style: none; padding: 0; display: grid; gap: .5rem; }
form { display: flex; gap: .5rem; align-items: center; }
button { font: inherit; flex: 1; text-align: left; padding: .6rem .8rem; border-radius: .5rem; border: 1px solid #8886;
  cursor: pointer; background: transparent; color: inherit; }
button:hover, button:focus-visible { border-color: currentColor; }
small { opacity: .75; } select { font: inherit; max-width: 15rem; padding: .5rem; border-radius: .5rem; }
"""
_DIGEST: Final = "sha256-" + b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_PAGE_HEADERS: Final = {
    "Content-Security-Policy": f"default-src 'none'; style-src '{_DIGEST}'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


def _page(asked: Mapping[str, str], partners: Sequence[Organisation]) -> str:
    rows = "".join(f"<li>{_row(login, asked, partners)}</li>" for login in LOGINS)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Log in to prm-es</title><style>{_STYLE}</style>"
        f"<main><h1>Log in as</h1><p>Development logins, on this machine only. There are no passwords.</p>"
        f"<ul>{rows}</ul></main></html>"
    )


def _row(login: Login, asked: Mapping[str, str], partners: Sequence[Organisation]) -> str:
    kept = "".join(
        f'<input type="hidden" name="{name}" value="{escape(asked[name])}">' for name in _ASKED if name in asked
    )
    role = login.role.value.replace("_", " ")
    button = (
        f'<button name="login" value="{login.name}">{escape(login.shown)} <small>{login.name} · {role}</small></button>'
    )
    return f'<form action="/authorize">{kept}{button}{_choice(login, partners)}</form>'


def _choice(login: Login, partners: Sequence[Organisation]) -> str:
    if login.partner is None:
        return ""
    options = "".join(
        f'<option value="{one.id}"{" selected" if number == login.partner else ""}>{escape(one.name)}</option>'
        for number, one in enumerate(partners)
    )
    return f'<select name="org" aria-label="Partner of {escape(login.shown)}">{options}</select>'
