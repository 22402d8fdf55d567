"""Logging in with a browser: authorization code with PKCE, state and nonce; then a signed HttpOnly cookie."""

from typing import Annotated, Any, Final
from urllib.parse import urlencode

import httpx2
import structlog
from authlib.integrations.starlette_client import OAuthError
from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.responses import RedirectResponse, Response

from prm_es.api.access import Asking, router
from prm_es.api.principal import begin_session, read_claims
from prm_es.api.problems import unauthenticated
from prm_es.api.services import services_of
from prm_es.errors import Unavailable

log = structlog.get_logger()

CALLBACK: Final = "/auth/callback"
SEE_OTHER: Final = 303

public = APIRouter(tags=["login"], include_in_schema=False)
guarded = router()


@public.get("/login")
async def login(
    request: Request,
    next_: Annotated[str, Query(alias="next", max_length=2000)] = "/",
    hint: Annotated[str | None, Query(max_length=120)] = None,
) -> Response:
    """Send the browser to the issuer; it comes back to the page that it wanted."""
    services = services_of(request.app)
    if not services.settings.oidc_issuer:
        raise Unavailable("no issuer is configured: set PRM_OIDC_ISSUER")
    request.session.clear()
    request.session["next"] = local_path(next_)
    more = {"login_hint": hint} if hint else {}
    try:
        answer: Response = await services.browser.authorize_redirect(request, _address(request, CALLBACK), **more)
    except httpx2.HTTPError as error:
        raise Unavailable(f"the issuer does not answer: {error}") from error
    return answer


@public.get(CALLBACK)
async def callback(request: Request) -> Response:
    """Take the issuer's word for who it is, and begin a session."""
    services = services_of(request.app)
    wanted = local_path(str(request.session.get("next", "/")))
    try:
        token = await services.browser.authorize_access_token(request)
        claims = read_claims(dict(token["userinfo"]), services.settings)
    except httpx2.HTTPError as error:
        raise Unavailable(f"the issuer does not answer: {error}") from error
    except (OAuthError, KeyError, ValueError) as error:
        log.info("login.refused", reason=type(error).__name__)
        raise unauthenticated("the login did not succeed: begin again at /login") from None
    begin_session(request, claims)
    return RedirectResponse(wanted, SEE_OTHER)


@guarded.post("/logout", include_in_schema=False)
async def logout(request: Request, _who: Asking) -> Response:
    """End the session here and at the issuer."""
    services = services_of(request.app)
    request.session.clear()
    ending = await _end_at_issuer(services.browser)
    back = {"post_logout_redirect_uri": _address(request, "/"), "client_id": services.settings.oidc_client_id}
    return RedirectResponse(f"{ending}?{urlencode(back)}" if ending else "/", SEE_OTHER)


async def _end_at_issuer(browser: Any) -> str | None:  # noqa: ANN401
    """Give where the issuer ends its own session, if it says so and answers: ours is over in any case."""
    try:
        found = (await browser.load_server_metadata()).get("end_session_endpoint")
    except httpx2.HTTPError:
        return None
    return str(found) if found else None


def local_path(wanted: str) -> str:
    """Give a path of ours to go to, the first page for anything that leads elsewhere."""
    plain = wanted.startswith("/") and not wanted.startswith("//") and "\\" not in wanted
    return wanted if plain and wanted.isprintable() else "/"


def _address(request: Request, path: str) -> str:
    """Give the address by which browsers know a path: the configured one, else as this request came."""
    base = services_of(request.app).settings.api_url or str(request.base_url)
    return base.rstrip("/") + path


def include(app: FastAPI) -> None:
    """Add the endpoints."""
    app.include_router(public)
    app.include_router(guarded)
