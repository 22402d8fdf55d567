"""The command door over HTTP: a command is published as everybody's are, its actor taken from the token alone."""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from time import monotonic
from typing import Annotated, Any, Final
from uuid import uuid4

import orjson
from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool

from prm_es.aggregates import catalogue
from prm_es.api.access import Asking, router
from prm_es.api.outcomes import recorded
from prm_es.api.principal import Principal
from prm_es.api.problems import Problem
from prm_es.api.services import Services, services_of
from prm_es.errors import Poison
from prm_es.messages import SPEC_VERSION, Envelope, Role, envelope, write_json
from prm_es.upstream.results import Place

MAX_WAIT_S: Final = 30.0
SOURCE: Final = "api"
_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 0.25
_GIVEN: Final = frozenset(
    {
        *("specversion", "datacontenttype", "type", "subject", "id", "source", "time"),
        *("expectedversion", "correlationid", "causationid"),
    }
)
_OF_IMPORTS: Final = "onbehalfof"
_OF_WHO_ASKS: Final = frozenset({"actor", "actorrole", "actororg", _OF_IMPORTS})

guarded = router()


class CommandSent(BaseModel):
    """A command; of a CloudEvent's attributes those that are the sender's to give."""

    model_config = ConfigDict(extra="forbid", title="Command")
    type: str
    subject: str
    data: dict[str, Any] = {}
    specversion: str = SPEC_VERSION
    datacontenttype: str | None = None
    id: str | None = None
    source: str | None = None
    time: str | None = None
    expectedversion: int | None = None
    correlationid: str | None = None
    causationid: str | None = None
    onbehalfof: str | None = None


class Pending(BaseModel):
    """A command that is on its topic; its outcome is to be asked for by source and id."""

    outcome: str = "pending"
    source: str
    id: str


def read(body: bytes, who: Principal) -> Envelope:
    """Read a command as `who` sends it; raises Problem 422 that names what is missing or not the sender's to give.

    Only an integration names the source itself and speaks for others: nobody else can use up an upstream's ids.
    """
    given = _content(body)
    integration = who.role is Role.INTEGRATION
    allowed = _GIVEN | {"data"} | ({_OF_IMPORTS} if integration else set())
    if strange := sorted(set(given) - allowed):
        taken = "is not to be given here: who asks is taken from the token"
        unknown = f"is nothing that a command has; it may have: {', '.join(sorted(allowed))}"
        raise _wrong(strange[0], "forbidden", taken if strange[0] in _OF_WHO_ASKS else unknown)
    if not isinstance(given.get("type"), str) or given["type"] not in catalogue.COMMANDS:
        raise _wrong("type", "unknown", "is no command; schemas/commands.md lists them")
    own = SOURCE if integration else f"{SOURCE}:{who.org}:{who.actor}"
    source = given.get("source")
    attributes = {
        "specversion": SPEC_VERSION,
        **{name: value for name, value in given.items() if name != "data"},
        "id": str(uuid4()) if given.get("id") is None else given["id"],
        "source": own if source is None else source if integration else f"{own}:{source}",
        "actor": who.actor,
        "actorrole": who.role.value,
        "actororg": who.org,
    }
    try:
        return envelope(attributes, write_json(given.get("data", {})))
    except Poison as poison:
        raise _wrong(poison.code.partition(".")[2], poison.code, poison.sentence) from None


def _content(body: bytes) -> Mapping[str, Any]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "message.not_json", "the body is not JSON") from None
    if not isinstance(content, dict):
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "message.not_object", "the body is not a JSON object")
    return content


def _wrong(field: str, code: str, message: str) -> Problem:
    errors = [{"field": field[:100], "code": code, "message": message}]
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "request.invalid", f"{field[:100]}: {message}", errors=errors)


_PROBLEM: Final[dict[str, Any]] = {"content": {"application/problem+json": {}}}


@guarded.post(
    "/commands",
    tags=["commands"],
    response_model=None,
    responses={
        200: {"description": "Accepted: the recorded outcome, positions and versions of its events."},
        202: {"description": "On its topic; no outcome within the time waited.", "model": Pending},
        403: {"description": "The role or organisation may not.", **_PROBLEM},
        404: {"description": "There is no such aggregate.", **_PROBLEM},
        409: {"description": "Refused: not possible as things stand.", **_PROBLEM},
        422: {"description": "Refused: a field is wrong.", **_PROBLEM},
    },
    openapi_extra={
        "requestBody": {"required": True, "content": {"application/json": {"schema": CommandSent.model_json_schema()}}}
    },
)
async def command(
    request: Request,
    who: Asking,
    wait: Annotated[float, Query(ge=0, le=MAX_WAIT_S, description="Seconds to wait for the outcome.")] = 5.0,
) -> Response:
    """Send a command as whoever asks; the answer is its recorded outcome, or that it has none yet.

    Sending the same id again is safe and gives the first outcome again.
    """
    services = services_of(request.app)
    sent = read(await request.body(), who)
    place = await run_in_threadpool(services.door.send, sent)
    response = await _awaited(services, sent, place, wait)
    return _answer(response, (sent.source, sent.id))


async def _awaited(services: Services, sent: Envelope, place: Place, seconds: float) -> bytes | None:
    until, pause = monotonic() + seconds, _FIRST_PAUSE_S
    while (left := until - monotonic()) > 0:
        await asyncio.sleep(min(pause, left))
        response = await run_in_threadpool(services.door.outcome, sent, place)
        if response is not None:
            return response
        pause = min(pause * 1.5, _LONGEST_PAUSE_S)
    return None


@guarded.get(
    "/commands/{id}",
    tags=["commands"],
    response_model=None,
    responses={
        200: {"description": "The recorded outcome, accepted or refused."},
        404: {"description": "No outcome yet, or not one of yours.", **_PROBLEM},
    },
)
def outcome(request: Request, id: str, source: str, who: Asking) -> Response:  # noqa: A002 - the name in the path
    """Give the recorded outcome of a command that one has sent, byte for byte."""
    found = None
    if "\x00" not in id + source:
        found = services_of(request.app).door.outcome_of((source, id), who.as_actor)
    if found is None:
        raise Problem(HTTPStatus.NOT_FOUND, "command.no_outcome", "no outcome of a command of yours by this id yet")
    return Response(found, media_type="application/json")


def _answer(response: bytes | None, name: tuple[str, str]) -> Response:
    source, id_ = name
    if response is None:
        return JSONResponse(Pending(source=source, id=id_).model_dump(), HTTPStatus.ACCEPTED)
    content = orjson.loads(response)
    if content["outcome"] == "accepted":
        return Response(response, media_type="application/json")
    raise recorded(content)


def include(app: FastAPI) -> None:
    """Add the endpoints."""
    app.include_router(guarded)
