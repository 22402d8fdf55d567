"""The lists, what stands behind one row, sums, and what changes: all that is read over HTTP."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from hashlib import blake2b
from http import HTTPStatus
from typing import Annotated, Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from fastapi import FastAPI, Header, Query, Request
from fastapi.responses import Response, StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from psycopg2 import sql
from starlette.concurrency import run_in_threadpool

from prm_es.api import answers, exporting, selecting
from prm_es.api.access import Asking, router
from prm_es.api.asked import MAX_LIMIT, Asked, Wrong, read
from prm_es.api.freshness import Model
from prm_es.api.indexed import walks
from prm_es.api.lists import LEADS, LISTS, OPPORTUNITIES, PARTNERS, PERFORMANCE, SCORECARDS, List
from prm_es.api.live import id_of, marks, marks_of, told
from prm_es.api.principal import Principal
from prm_es.api.problems import Problem
from prm_es.api.selecting import Surroundings
from prm_es.api.services import Services, services_of
from prm_es.api.timelines import timeline
from prm_es.errors import Usage
from prm_es.settings import Settings

WAIT_S: Final = 5.0
MAX_WAIT_S: Final = 15.0
PAUSE_S: Final = 0.02
EXPORT_S: Final = 600.0
JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
_FORMATS: Final = {"json": JSON, "csv": CSV, "parquet": PARQUET}
_OURS: Final = frozenset({"after", "wait", "format", "bom"})
_SPOKEN_NAMES: Final = {"application/x-parquet": PARQUET}

guarded = router()


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of a list, the cursor of the next, and up to which position of the log it is complete."""

    items: list[dict[str, Any]]
    next: str | None
    as_of: Model


def surroundings(settings: Settings) -> Surroundings:
    """Give where questions are asked now."""
    return Surroundings(settings.read_schema, settings.report_tz, today(settings))


def today(settings: Settings) -> date:
    """Give the day in the report time zone."""
    return datetime.now(ZoneInfo(settings.report_tz)).date()


def listing(services: Services, who: Principal, name: str, given: Sequence[tuple[str, str]]) -> Listing:
    """Give a page as the endpoint of a list does, for the pages; raises Wrong for what cannot be asked."""
    one = LISTS[name]
    here = surroundings(services.settings)
    asked = read(one, given, here.today)
    as_of = services.freshness.models()[one.model]
    with _reading(services, who, one, asked) as cursor:
        if asked.groups:
            return Listing(answers.groups(cursor, one, asked, here)[0], None, as_of)
        page = answers.page(cursor, one, asked, here)
    return Listing(page.items, page.following, as_of)


def _reading(services: Services, who: Principal, one: List, asked: Asked) -> AbstractContextManager[Any]:
    walked = not asked.groups and walks(one.name, asked.filters, asked.sort)
    return services.database.reading(who, parallel=not walked)


# Lists


Handler = Callable[..., Coroutine[Any, Any, Response]]


def _handler(one: List) -> Handler:
    async def ask(request: Request, who: Asking) -> Response:
        return await _answered(request, who, one, request.query_params.multi_items())

    ask.__name__ = one.name.replace("-", "_")
    ask.__doc__ = one.about
    return ask


async def _answered(request: Request, who: Principal, one: List, given: Sequence[tuple[str, str]]) -> Response:
    services = services_of(request.app)
    own = {name: value for name, value in given if name in _OURS and value}
    here = surroundings(services.settings)
    asked = _read(one, [pair for pair in given if pair[0] not in _OURS], here.today)
    as_of = await _reached(services, one.model, own)
    media = _media(request, own)
    if media != JSON:
        if not any(name == "sort" and value for name, value in given):
            asked = replace(asked, sort="")  # the first row need not wait for the last
        return _exported(services, who, one, asked, media, bom=own.get("bom") == "true")
    tag = _tag(who, as_of, f"{request.url.path}?{request.url.query}")
    if _known(request, tag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=_headers(tag))
    content = await run_in_threadpool(_content, services, who, one, asked, here)
    return Response(answers.encoded({**content, "as_of": _as_of(as_of)}), media_type=JSON, headers=_headers(tag))


def _read(one: List, given: Sequence[tuple[str, str]], day: date) -> Asked:
    try:
        return read(one, given, day)
    except Wrong as wrong:
        raise _problem(wrong) from None


def _problem(wrong: Wrong) -> Problem:
    errors = [{"field": wrong.field, "code": "query.invalid", "message": wrong.message}]
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "request.invalid", str(wrong), errors=errors)


def _content(services: Services, who: Principal, one: List, asked: Asked, here: Surroundings) -> dict[str, Any]:
    with _reading(services, who, one, asked) as cursor:
        if asked.groups:
            items, more = answers.groups(cursor, one, asked, here)
            return {"items": items, "next": None, "more": more}
        page = answers.page(cursor, one, asked, here)
        return {"items": page.items, "next": page.following}


def _media(request: Request, own: Mapping[str, str]) -> str:
    if "format" in own:
        if own["format"] not in _FORMATS:
            raise _problem(Wrong("format", f"one of {', '.join(_FORMATS)}"))
        return _FORMATS[own["format"]]
    for part in request.headers.get("Accept", "").split(","):
        media = part.partition(";")[0].strip().lower()
        if media in _FORMATS.values() or media in _SPOKEN_NAMES:
            return _SPOKEN_NAMES.get(media, media)
    return JSON


def _exported(services: Services, who: Principal, one: List, asked: Asked, media: str, *, bom: bool) -> Response:
    if asked.groups:
        raise _problem(Wrong("format", "groups come as JSON"))
    here = surroundings(services.settings)
    if media == CSV:
        writer, suffix, kind = exporting.csv(one, asked, here, bom=bom), "csv", f"{CSV}; charset=utf-8; header=present"
    else:
        try:
            writer, suffix, kind = exporting.parquet(one, asked, here), "parquet", PARQUET
        except Usage as error:
            raise Problem(HTTPStatus.NOT_IMPLEMENTED, "export.unavailable", str(error)) from None
    headers = {
        "Content-Disposition": f'attachment; filename="{one.name}-{here.today}.{suffix}"',
        "Cache-Control": "no-store",
    }
    stream = exporting.streamed(lambda: services.database.reading(who), writer, EXPORT_S)
    return StreamingResponse(stream, media_type=kind, headers=headers)


# As of


async def _reached(services: Services, model: str, own: Mapping[str, str]) -> Model:
    """Give how far a read model is, once it contains the position that was asked for; raises Problem 412."""
    position = _number("after", own.get("after", "0"), 2**62)
    patience = _number("wait", own.get("wait", str(WAIT_S)), MAX_WAIT_S)
    deadline = time.monotonic() + patience
    while True:
        models = services.freshness.recent()
        if models is None:
            models = await run_in_threadpool(services.freshness.models)
        reached = models[model]
        if reached.position >= position:
            return reached
        if time.monotonic() > deadline:
            detail = f"{model} is complete up to position {reached.position}, not yet {position:.0f}"
            raise Problem(HTTPStatus.PRECONDITION_FAILED, "read.behind", detail, headers={"Retry-After": "1"})
        await asyncio.sleep(PAUSE_S)


def _number(name: str, text: str, highest: float) -> float:
    whole, dot, part = text.partition(".")
    if not (text.isascii() and whole.isdigit() and (part.isdigit() or not dot) and len(text) < 20):  # noqa: PLR2004
        raise _problem(Wrong(name, "a number"))
    return min(float(text), highest)


def _as_of(model: Model) -> dict[str, Any]:
    return {"position": model.position, "at": model.at}


def _tag(who: Principal, model: Model, address: str) -> str:
    """Give the mark of an answer: it changes with the rows, with who asks, and every minute: much depends on now."""
    parts = (who.role.value, *map(str, who.orgs), model.mark, str(model.position), str(int(time.time() // 60)), address)
    return f'W/"{blake2b(chr(0).join(parts).encode(), digest_size=12).hexdigest()}"'


def _known(request: Request, tag: str) -> bool:
    given = [one.strip() for one in request.headers.get("If-None-Match", "").split(",")]
    return tag in given


def _headers(tag: str) -> dict[str, str]:
    return {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Accept, Authorization, Cookie"}


# One row, sums, what happened


async def _one(request: Request, who: Principal, model: str, ask: Callable[[Any, Surroundings], Any]) -> Response:
    """Answer what is no list: `ask` gives the content, or None if there is nothing for who asks."""
    services = services_of(request.app)
    as_of = await _reached(services, model, {name: it for name, it in request.query_params.items() if it})
    tag = _tag(who, as_of, f"{request.url.path}?{request.url.query}")
    if _known(request, tag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=_headers(tag))

    def asked() -> Any:  # noqa: ANN401
        with services.database.reading(who) as cursor:
            return ask(cursor, surroundings(services.settings))

    content = await run_in_threadpool(asked)
    if content is None:
        raise _missing()
    return Response(answers.encoded({**content, "as_of": _as_of(as_of)}), media_type=JSON, headers=_headers(tag))


def _missing() -> Problem:
    return Problem(HTTPStatus.NOT_FOUND, "aggregate.not_found", "there is none with this id, or it is not yours")


_AFTER: Final = f"Answer once this position is visible; 412 if it is not within `wait` seconds, {WAIT_S:.0f} or less."
After = Annotated[int, Query(ge=0, le=2**62, description=_AFTER)]


def _item(listed: List, subject: UUID) -> Callable[[Any, Surroundings], Any]:
    def ask(cursor: Any, here: Surroundings) -> Any:  # noqa: ANN401
        found = answers.row(cursor, listed, (str(subject),), here)
        return found and {"item": found}

    return ask


@guarded.get("/api/opportunities/{opportunity_id}", tags=["opportunities"])
async def opportunity(opportunity_id: UUID, request: Request, who: Asking, after: After = 0) -> Response:
    """Give one opportunity as it stands, with its stays in each stage."""
    _ = after
    return await _one(request, who, OPPORTUNITIES.model, _item(OPPORTUNITIES, opportunity_id))


@guarded.get("/api/leads/{lead_id}", tags=["leads"])
async def lead(lead_id: UUID, request: Request, who: Asking, after: After = 0) -> Response:
    """Give one lead as it stands."""
    _ = after
    return await _one(request, who, LEADS.model, _item(LEADS, lead_id))


@guarded.get("/api/partners/{partner_id}", tags=["partners"])
async def partner(partner_id: UUID, request: Request, who: Asking, after: After = 0) -> Response:
    """Give one partner with its scorecard, a row a currency, and its months."""
    _ = after

    def ask(cursor: Any, here: Surroundings) -> Any:  # noqa: ANN401
        found = answers.row(cursor, PARTNERS, (str(partner_id),), here)
        if found is None:
            return None
        own = {"partner": (str(partner_id),)}
        months = Asked(own, "-month", MAX_LIMIT)
        return {
            "item": found,
            "scorecard": answers.page(cursor, SCORECARDS, Asked(own, "won_rank", None), here).items,
            "months": answers.page(cursor, PERFORMANCE, months, here).items,
        }

    return await _one(request, who, PARTNERS.model, ask)


@guarded.get("/api/opportunities/{opportunity_id}/timeline", tags=["opportunities"])
async def opportunity_timeline(opportunity_id: UUID, request: Request, who: Asking, after: After = 0) -> Response:
    """Give what happened on an opportunity, in order."""
    _ = after
    return await _timeline(request, who, OPPORTUNITIES, opportunity_id)


@guarded.get("/api/leads/{lead_id}/timeline", tags=["leads"])
async def lead_timeline(lead_id: UUID, request: Request, who: Asking, after: After = 0) -> Response:
    """Give what happened on a lead, in order."""
    _ = after
    return await _timeline(request, who, LEADS, lead_id)


async def _timeline(request: Request, who: Principal, one: List, subject: UUID) -> Response:
    services = services_of(request.app)

    def ask(cursor: Any, here: Surroundings) -> Any:  # noqa: ANN401
        if answers.row(cursor, one, (str(subject),), here) is None:
            return None
        entries = timeline(
            services.history(),
            one.name.removesuffix("s") if one is LEADS else "opportunity",
            subject,
            who.orgs if who.partner_side else None,
        )
        return {"items": [asdict(entry) for entry in entries]}

    return await _one(request, who, one.model, ask)


@guarded.get("/api/pipeline", tags=["opportunities"])
async def pipeline(request: Request, who: Asking) -> Response:
    """Count and sum opportunities by stage and currency, or by group_by, with subtotals; filtered as the list is."""
    given = request.query_params.multi_items()
    named = any(name == "group_by" and value for name, value in given)
    return await _answered(request, who, OPPORTUNITIES, given if named else [*given, ("group_by", "stage")])


@guarded.get("/api/funnel", tags=["opportunities"])
async def funnel(request: Request, who: Asking, after: After = 0) -> Response:
    """Say what becomes of the stays in each stage."""
    _ = after

    def ask(cursor: Any, here: Surroundings) -> Any:  # noqa: ANN401
        stages = sql.Literal(list(selecting.ORDER_OF_STAGES))
        query = sql.SQL("SELECT * FROM {} ORDER BY array_position({}, stage)").format(here.view("funnel"), stages)
        return {"items": answers.rows(cursor, query)}

    return await _one(request, who, OPPORTUNITIES.model, ask)


# What changes


@guarded.get("/api/live", tags=["about"], response_class=EventSourceResponse)
async def live(
    request: Request, last_event_id: Annotated[str | None, Header(max_length=2000)] = None
) -> AsyncIterator[ServerSentEvent]:
    """Tell which lists change, as Server-Sent Events; whoever comes back with an id is told what changed since."""
    hub = services_of(request.app).hub
    known = dict(marks_of(last_event_id) or {})
    async for changed in hub.changes(marks_of(last_event_id)):
        if changed is None:
            yield ServerSentEvent(comment="here")
            continue
        known |= marks(changed)
        yield ServerSentEvent(event="changed", id=id_of(known), data=told(changed))


# Described


def _parameters(one: List) -> list[dict[str, Any]]:
    """Describe what a list can be asked, for OpenAPI."""
    own = [_parameter(name, wanted.about) for name, wanted in one.filters.items()]
    sorts = ", ".join(one.columns)
    rest = [
        _parameter("sort", f"Column to sort by, - before it for the highest first: {sorts}. Else {one.sort}."),
        _parameter("limit", f"Rows of a page, at most {MAX_LIMIT}."),
        _parameter("cursor", "`next` of the page before."),
        _parameter("after", "Answer once this position of the log is visible; 412 if it is not in time."),
        _parameter("wait", f"For so many seconds at most, {WAIT_S:.0f} unless said, never more than {MAX_WAIT_S:.0f}."),
        _parameter("format", "json, csv or parquet; else by Accept. csv and parquet give all rows."),
        _parameter("bom", "true: CSV begins with a byte order mark, for spreadsheets that need one."),
    ]
    if one.groups:
        rest.insert(1, _parameter("group_by", f"Count and sum by these, with subtotals: {', '.join(one.groups)}."))
    return own + rest


def _parameter(name: str, about: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": about, "schema": {"type": "string"}}


_JSON_TYPES: Final[Mapping[str, dict[str, Any]]] = {
    "text": {"type": "string"},
    "text[]": {"type": "array", "items": {"type": "string"}},
    "numeric": {"type": "string", "format": "decimal"},
    "integer": {"type": "integer"},
    "bigint": {"type": "integer"},
    "boolean": {"type": "boolean"},
    "date": {"type": "string", "format": "date"},
    "timestamptz": {"type": "string", "format": "date-time"},
    "interval": {"type": "integer", "description": "seconds"},
    "uuid": {"type": "string", "format": "uuid"},
    "jsonb": {},
}


def _answer(one: List) -> dict[str, Any]:
    """Describe what a list answers, for OpenAPI."""
    columns = {name: _nullable(_JSON_TYPES[kind]) for name, kind in one.columns.items()}
    return {
        "type": "object",
        "required": ["items", "next", "as_of"],
        "properties": {
            "items": {"type": "array", "items": {"type": "object", "properties": columns}},
            "next": {"type": ["string", "null"], "description": "Cursor of the next page; null on the last."},
            "as_of": AS_OF,
        },
    }


def _nullable(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {**schema, "type": [schema["type"], "null"]} if "type" in schema else dict(schema)


AS_OF: Final = {
    "type": "object",
    "description": "The position of the log up to which the rows are complete, and when that was recorded.",
    "properties": {"position": {"type": "integer"}, "at": {"type": ["string", "null"], "format": "date-time"}},
}


def _responses(one: List) -> dict[int | str, dict[str, Any]]:
    file = {"schema": {"type": "string", "format": "binary"}}
    content = {JSON: {"schema": _answer(one)}, CSV: {"schema": {"type": "string"}}, PARQUET: file}
    return {200: {"description": one.about, "content": content}, 304: {"description": "As it was."}}


for _list in LISTS.values():
    guarded.add_api_route(
        f"/api/{_list.name}",
        _handler(_list),
        methods=["GET"],
        tags=["lists"],
        summary=_list.about,
        openapi_extra={"parameters": _parameters(_list)},
        responses=_responses(_list),
        response_class=Response,
    )


def include(app: FastAPI) -> None:
    """Add the endpoints."""
    app.include_router(guarded)
