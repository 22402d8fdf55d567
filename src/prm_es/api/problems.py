"""Errors over HTTP: problem details as in RFC 9457, for whatever went wrong. They repeat no value that was sent."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import psycopg
import psycopg2
import psycopg2.errors
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from kafka.errors import KafkaError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from prm_es.errors import PrmError, Unavailable

log = structlog.get_logger()

MEDIA_TYPE: Final = "application/problem+json"
RETRY_S: Final = 5
_AWAY: Final = (Unavailable, KafkaError, psycopg.OperationalError, psycopg2.OperationalError, psycopg2.InterfaceError)


class Problem(PrmError):  # noqa: N818 - as in errors.py
    """An answer that is not what was asked for; `code` is stable, `errors` says which fields are wrong and why."""

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.errors, self.headers, self.more = errors, headers, more


def unauthenticated(detail: str) -> Problem:
    """Give the problem of somebody who is not known."""
    return Problem(HTTPStatus.UNAUTHORIZED, "actor.unknown", detail, headers={"WWW-Authenticate": "Bearer"})


def response(problem: Problem) -> Response:
    """Write a problem."""
    content = {
        **(problem.more or {}),
        "type": "about:blank",
        "title": problem.status.phrase,
        "status": problem.status.value,
        "code": problem.code,
        "detail": problem.detail,
        **({"errors": list(problem.errors)} if problem.errors else {}),
    }
    headers = {"Cache-Control": "no-store", **(problem.headers or {})}
    return JSONResponse(content, problem.status, headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Let every error of the app be answered as a problem."""
    app.add_exception_handler(Problem, _told)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(psycopg2.errors.QueryCanceled, _too_long)
    for away in _AWAY:
        app.add_exception_handler(away, _away)
    app.add_exception_handler(Exception, _failed)


class TooLarge:
    """Refuses a request that says itself that it is too large; one that does not say is read no further than that."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        said = Headers(scope=scope).get("content-length", "") if scope["type"] == "http" else ""
        if said.isascii() and said.isdigit() and int(said[:_DIGITS]) > self._limit:
            detail = f"a request has at most {self._limit} bytes"
            answer = response(Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "request.too_large", detail))
            await answer(scope, receive, send)
        else:
            await self._app(scope, receive, send)


_DIGITS: Final = 18


async def _told(_request: Request, error: Exception) -> Response:
    return response(error) if isinstance(error, Problem) else await _failed(_request, error)


async def _http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return await _failed(request, error)
    status = HTTPStatus(error.status_code)
    detail = error.detail if isinstance(error.detail, str) else status.phrase
    return response(Problem(status, f"http.{status.phrase.lower().replace(' ', '_')}", detail, headers=error.headers))


async def _invalid(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        return await _failed(request, error)
    errors = [{"field": _place(one["loc"]), "code": one["type"], "message": one["msg"]} for one in error.errors()]
    detail = "; ".join(f"{one['field']}: {one['message']}" for one in errors)
    return response(Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "request.invalid", detail, errors=errors))


def _place(location: Sequence[Any]) -> str:
    """Name a field without the part of the request that it stands in."""
    return ".".join(map(str, location[1:])) or str(location[0])


async def _too_long(_request: Request, _error: Exception) -> Response:
    detail = "the question took too long: narrow it"
    return response(Problem(HTTPStatus.SERVICE_UNAVAILABLE, "query.timeout", detail))


async def _away(_request: Request, error: Exception) -> Response:
    log.warning("api.unavailable", reason=f"{type(error).__name__}: {error}")
    headers = {"Retry-After": str(RETRY_S)}
    return response(
        Problem(HTTPStatus.SERVICE_UNAVAILABLE, "service.unavailable", "a server is away: try again", headers=headers)
    )


async def _failed(_request: Request, error: Exception) -> Response:
    log.error("api.failed", exc_info=error)
    return response(Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "service.failed", "this is a defect of prm-es"))
