"""Who asks over HTTP: known by a bearer token, or by the session that the pages' login has begun."""

import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID

from babel import negotiate_locale
from fastapi import Request
from starlette.concurrency import run_in_threadpool

from prm_es.api.problems import Problem, unauthenticated
from prm_es.api.services import Services, services_of
from prm_es.messages import MAX_TEXT, PARTNER_ROLES, VENDOR, Actor, Role
from prm_es.settings import Settings

LOCALES: Final = ("en", "pt_BR")
SESSION_S: Final = 12 * 3600
CSRF_HEADER: Final = "X-CSRF-Token"
CSRF_FIELD: Final = "csrf_token"
MAX_ACTOR: Final = 120
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data")
# The service's own role: nobody comes by HTTP with it, whatever a token says.
_ROLES: Final = {role.value: role for role in Role if role is not Role.SYSTEM}


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says of somebody, checked and in our own terms."""

    actor: str
    role: Role
    org: str
    name: str
    locale: str | None


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. `org` is "vendor" or a partner id; `orgs` whose rows a partner role may see: its own, its children's.

    `csrf` is what an unsafe request must bring back; empty for a bearer token, which no browser sends by itself.
    """

    actor: str
    role: Role
    org: str
    orgs: tuple[UUID, ...]
    name: str
    locale: str
    csrf: str = ""

    @property
    def partner_side(self) -> bool:
        """Tell whether it sees its own organisation's rows only."""
        return self.role in PARTNER_ROLES

    @property
    def as_actor(self) -> Actor:
        """Give who a command of this principal's is by."""
        return Actor(self.actor, self.role, self.org)


async def principal(request: Request) -> Principal:
    """Give who asks. Raises Problem: 401 if nobody is known, 403 without the session's CSRF token, 429 if too often."""
    services = services_of(request.app)
    try:
        claims, csrf = await _claims(request, services)
    except Problem as problem:
        await services.limiter.failed(_client(request))
        raise problem from None
    await services.limiter.asked(f"{claims.org}/{claims.actor}")
    if csrf and request.method not in _SAFE:
        await _check_csrf(request, csrf)
    orgs = await run_in_threadpool(services.database.orgs, UUID(claims.org)) if claims.org != VENDOR else ()
    return Principal(
        actor=claims.actor,
        role=claims.role,
        org=claims.org,
        orgs=orgs,
        name=claims.name,
        locale=locale_of(request, claims.locale),
        csrf=csrf,
    )


async def _claims(request: Request, services: Services) -> tuple[Claims, str]:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme:
        if scheme.lower() != "bearer" or not token:
            raise unauthenticated("the Authorization header must be: Bearer TOKEN")
        said = services.tokens.remembered(token.strip())
        if said is None:
            said = await run_in_threadpool(services.tokens.verified, token.strip())
        return read_claims(said, services.settings), ""
    known = session_claims(request)
    if known is None:
        raise unauthenticated("send a bearer token, or log in")
    return known, str(request.session.get("csrf", ""))


def _client(request: Request) -> str:
    return request.client.host if request.client else "unknown"


# Claims


def read_claims(said: Mapping[str, Any], settings: Settings) -> Claims:
    """Read what a verified token says, by the configured names; raises Problem 401 if it names no role of ours.

    A claim's name may be a path, `realm_access.roles`; of several roles the first that is ours counts.
    """
    actor = _text(said, settings.oidc_actor_claim)
    if not actor or len(actor) > MAX_ACTOR:
        raise unauthenticated(f"the token's {settings.oidc_actor_claim} must name who asks")
    role = next((_ROLES[one] for one in _texts(said, settings.oidc_role_claim) if one in _ROLES), None)
    if role is None:
        raise unauthenticated(f"the token's {settings.oidc_role_claim} names no role")
    return Claims(
        actor=actor,
        role=role,
        org=_organisation(said, role, settings),
        name=_text(said, settings.oidc_name_claim) or actor,
        locale=_text(said, settings.oidc_locale_claim),
    )


def _organisation(said: Mapping[str, Any], role: Role, settings: Settings) -> str:
    """Give the partner of a partner role; the vendor's people have none, whatever is said."""
    if role not in PARTNER_ROLES:
        return VENDOR
    try:
        return str(UUID(_text(said, settings.oidc_org_claim) or ""))
    except ValueError:
        raise unauthenticated(f"the token's {settings.oidc_org_claim} must be a partner id for {role}") from None


def _value(said: Mapping[str, Any], path: str) -> Any:  # noqa: ANN401
    """Find a claim by its own name, dots included, else by the path that the name may be."""
    if path in said:
        return said[path]
    found: Any = said
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _texts(said: Mapping[str, Any], path: str) -> list[str]:
    found = _value(said, path)
    return [one for one in (found if isinstance(found, list) else [found]) if isinstance(one, str)]


def _text(said: Mapping[str, Any], path: str) -> str | None:
    found = next(iter(_texts(said, path)), "").strip()
    return found if found and len(found) <= MAX_TEXT and "\x00" not in found else None


# Sessions


def begin_session(request: Request, claims: Claims) -> None:
    """Let the browser be known from now on; whatever the cookie held before is gone."""
    request.session.clear()
    request.session["claims"] = asdict(claims)
    request.session["csrf"] = secrets.token_urlsafe(24)
    request.session["until"] = int(time.time()) + SESSION_S


def session_claims(request: Request) -> Claims | None:
    """Give who has logged in with this browser, if the session is not over."""
    known = request.session.get("claims")
    if not isinstance(known, dict) or request.session.get("until", 0) < time.time():
        return None
    return Claims(known["actor"], Role(known["role"]), known["org"], known["name"], known["locale"])


async def _check_csrf(request: Request, expected: str) -> None:
    given = request.headers.get(CSRF_HEADER)
    if given is None and request.headers.get("Content-Type", "").startswith(_FORMS):
        field = (await request.form()).get(CSRF_FIELD)
        given = field if isinstance(field, str) else None
    if given is None or not hmac.compare_digest(given.encode(), expected.encode()):
        detail = f"an unsafe request of a session needs its token: {CSRF_HEADER} or the field {CSRF_FIELD}"
        raise Problem(HTTPStatus.FORBIDDEN, "request.csrf", detail)


def locale_of(request: Request, claimed: str | None = None) -> str:
    """Give the language to answer in: the one chosen in this browser, else the token's, else the browser's."""
    accepted = [one.partition(";")[0].strip() for one in request.headers.get("Accept-Language", "").split(",")]
    wanted = [request.cookies.get("prm_locale"), claimed, *accepted]
    preferred = [one.replace("-", "_") for one in wanted if one]
    return negotiate_locale(preferred, LOCALES, aliases={"pt": "pt_BR"}) or LOCALES[0]
