"""The pages put into the app: their routes, their files, and errors as pages for who looks at them with a browser."""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from importlib import resources
from typing import Any, Final
from urllib.parse import quote
from zoneinfo import ZoneInfo

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import Scope

from prm_es.api.pages import acting, routes
from prm_es.api.pages.doors import Doors
from prm_es.api.pages.frame import alone, is_fragment
from prm_es.api.pages.language import Reader
from prm_es.api.pages.words import _n
from prm_es.api.principal import locale_of
from prm_es.api.services import services_of

Handler = Callable[[Request, Exception], Awaitable[Response]]
YEAR_S: Final = 365 * 86_400
_NOT_PAGES: Final = ("/api/", "/commands")
_WORDS: Final[Mapping[HTTPStatus, tuple[str, str]]] = {
    HTTPStatus.FORBIDDEN: (_n("Not for you"), _n("Your role may not do this, or the page was open for too long.")),
    HTTPStatus.NOT_FOUND: (_n("Not found"), _n("It does not exist, or it is not yours to see.")),
    HTTPStatus.TOO_MANY_REQUESTS: (_n("Too much at once"), _n("Wait a moment and try again.")),
    HTTPStatus.SERVICE_UNAVAILABLE: (_n("Not available"), _n("Something behind it is away. Try again in a moment.")),
}
_OTHERWISE: Final = (_n("Something went wrong"), _n("It is noted. Try again, or go on elsewhere."))


class Files(StaticFiles):
    """Our own files: those that are asked for by their digest never change."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        kept = b"v=" in scope["query_string"] or path.startswith("vendor/")
        response.headers["Cache-Control"] = f"public, max-age={YEAR_S}, immutable" if kept else "no-cache"
        return response


def include(app: FastAPI) -> None:
    """Add the pages."""
    app.state.doors = doors = Doors(services_of(app))
    app.include_router(routes.guarded)
    app.include_router(acting.guarded)
    with resources.as_file(resources.files(__package__) / "static") as folder:
        app.mount("/static", Files(directory=folder), name="static")
    app.add_middleware(GZipMiddleware, minimum_size=1024)
    _show_errors(app, doors.zone)


def _show_errors(app: FastAPI, zone: ZoneInfo) -> None:
    """Let people read errors as pages, and log in where they are not known; programs get what they got before."""
    before: dict[Any, Any] = dict(app.exception_handlers)

    def shown(told: Handler) -> Handler:
        async def handler(request: Request, error: Exception) -> Response:
            response = await told(request, error)
            return _as_page(request, response, zone) if _is_page(request) else response

        return handler

    for kind, told in before.items():
        app.add_exception_handler(kind, shown(told))


def _is_page(request: Request) -> bool:
    looked_at = "text/html" in request.headers.get("accept", "") or is_fragment(request)
    return looked_at and not request.url.path.startswith(_NOT_PAGES)


def _as_page(request: Request, response: Response, zone: ZoneInfo) -> Response:
    status = HTTPStatus(response.status_code)
    if status is HTTPStatus.UNAUTHORIZED:
        return _log_in(request)
    if is_fragment(request):
        return response
    reader = Reader(locale_of(request), zone)
    title, words = _WORDS.get(status, _OTHERWISE)
    page = alone(reader, request, reader.text(title), reader.text(words))
    return HTMLResponse(page, status, {"Cache-Control": "no-store"})


def _log_in(request: Request) -> Response:
    """Send somebody who is not known to log in, and back to where they were."""
    if is_fragment(request):
        return Response(status_code=204, headers={"HX-Redirect": "/login"})
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    to = f"/login?next={quote(here, safe='')}" if request.method == "GET" else "/login"
    return RedirectResponse(to, 303)
