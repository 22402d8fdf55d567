"""The HTTP side put together: who may ask, the endpoints, and what every answer carries."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Final

import structlog
from fastapi import FastAPI
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.sessions import SessionMiddleware

from prm_es.api import basics, commands, headers, login, problems, queries
from prm_es.api.access import unlisted
from prm_es.api.pages import mount
from prm_es.api.principal import SESSION_S
from prm_es.api.services import Services
from prm_es.settings import Settings

log = structlog.get_logger()

COOKIE: Final = "prm_session"
_PARTS: Final = (basics, commands, queries, login, mount)


def create_app(settings: Settings) -> FastAPI:
    """Put the app together; nothing connects before it is asked. Raises Usage or ValueError for wrong settings.

    An endpoint that the table of `access.py` does not know is a defect, and no app is made with it.
    """
    services = Services(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        services.close()

    app = FastAPI(
        title="prm-es",
        description="Partners, leads, opportunities: what stands, as far as you may see it, and commands.",
        version=version("prm-es"),
        openapi_url="/api/openapi.json",
        docs_url=None,  # its page takes scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.services = services
    problems.install(app)
    for part in _PARTS:
        part.include(app)
    if strange := unlisted(app.routes):
        raise AssertionError(f"not in the table of access.py: {', '.join(strange)}")
    app.add_middleware(
        SessionMiddleware,
        secret_key=_secret(settings),
        session_cookie=COOKIE,
        max_age=SESSION_S,
        same_site="lax",  # the way back from the issuer is another site's link
        https_only=settings.api_url.startswith("https://"),
    )
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=settings.api_body)
    app.add_middleware(problems.TooLarge, limit=settings.api_body)
    headers.install(app, settings)
    return app


def _secret(settings: Settings) -> str:
    if not settings.session_secret:
        log.info("api.sessions_end_with_it", reason="PRM_SESSION_SECRET is not set")
    return settings.session_secret or secrets.token_urlsafe(32)
