"""What people do on the pages: a form becomes a command, its recorded outcome becomes words beside the form."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any, Final
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

import orjson
from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from prm_es.aggregates.permissions import may
from prm_es.api.access import router
from prm_es.api.pages import figures
from prm_es.api.pages.actions import BY_COMMAND, Action, Field, data_of, plain_number
from prm_es.api.pages.figures import STAGES, Row
from prm_es.api.pages.frame import LANGUAGE_COOKIE, THEME_COOKIE, THEMES, country_names
from prm_es.api.pages.language import LANGUAGES, Reader
from prm_es.api.pages.refusals import Notice, field_errors, pending, refused
from prm_es.api.pages.routes import missing, table_page
from prm_es.api.pages.tables import PROTECTED, TABLES
from prm_es.api.pages.visit import Seen, Visit
from prm_es.api.pages.words import CODES, _n

YEAR_S: Final = 365 * 86_400
ASKED_FOR: Final = (
    "customer", "contact", "product_lines", "deal_type", "amount", "expected_close_on", "business_problem",
    "competitors", "evidence",
)  # fmt: skip
CODE_LISTS: Final[Mapping[str, tuple[str, ...]]] = {
    **{kind: tuple(words) for kind, words in CODES.items()},
    "asked_for": ASKED_FOR,
    "open_stage": STAGES,
    "forecast_override": ("pipeline", "best_case", "commit", "omitted"),
}
WORD_KINDS: Final[Mapping[str, str]] = {
    **{kind: kind for kind in CODES}, "open_stage": "stage", "forecast_override": "forecast", "asked_for": "detail",
}  # fmt: skip
Form = Mapping[str, list[str]]


@dataclass(frozen=True, slots=True)
class Answered:
    """What a question about a customer gave, in words; `holders` for the vendor's people only."""

    title: str
    words: str
    tone: str
    holders: tuple[Mapping[str, str], ...] = ()


guarded = router()
show = partial(guarded.get, include_in_schema=False, response_class=HTMLResponse)
act = partial(guarded.post, include_in_schema=False, response_model=None)


def _subject_row(seen: Visit, aggregate: str, subject: UUID) -> Row | None:
    find = {"lead": figures.lead, "opportunity": figures.opportunity, "partner": figures.partner}[aggregate]
    with seen.reading() as cursor:
        return find(cursor, subject)


def _form_page(
    seen: Visit, action: Action, subject: UUID, row: Row, given: Form, sent: Mapping[str, Any] | None = None
) -> HTMLResponse:
    with seen.reading() as cursor:
        wants_partner = any(one.kind == "partner" for one in action.fields)
        partners = figures.active_partners(cursor) if wants_partner else []
        wants_lines = any(one.kind == "product" for one in action.fields)
        lines = figures.product_lines(cursor) if wants_lines else []
    notice, errors = _answer(seen, sent, action.fields) if sent else (None, ())
    return seen.page(
        "do.html",
        title=seen.text(action.title),
        action=action,
        subject=subject,
        about=row.get("name") or row.get("customer") or row.get("partner"),
        back=_page_of(action.aggregate, subject),
        form_id=uuid4(),
        given=given,
        currency=row.get("currency") or "USD",
        code_lists=CODE_LISTS,
        word_kinds=WORD_KINDS,
        partners=partners,
        lines=lines,
        outcome=notice,
        errors=errors,
        status_code=200 if sent is None else 422,
    )


@show("/do/{command}/{subject}")
def form(seen: Seen, command: str, subject: UUID) -> HTMLResponse:
    action = BY_COMMAND.get(command)
    if action is None or not may(seen.principal.role, command):
        return missing(seen)
    row = _subject_row(seen, action.aggregate, subject)
    return _form_page(seen, action, subject, row, {}) if row else missing(seen)


@act("/do/{command}/{subject}")
async def do(seen: Seen, command: str, subject: UUID) -> Response:
    action = BY_COMMAND.get(command)
    if action is None or not may(seen.principal.role, command):
        return missing(seen)
    given = await _form(seen.request)

    def answer() -> Response:
        row = _subject_row(seen, action.aggregate, subject)
        if row is None:
            return missing(seen)
        sent = seen.doors.send(seen.principal, action.command, subject, data_of(action.fields, given), _id(given))
        if sent.get("outcome") == "accepted":
            gone = "" if seen.vendor else action.leaves_to
            return _done(seen, action.done, gone or _page_of(action.aggregate, subject), stay=not gone)
        return _form_page(seen, action, subject, row, given, sent)

    return await run_in_threadpool(answer)


# Registering


def _register_page(
    seen: Visit, given: Form, sent: Mapping[str, Any] | None = None, lead: str | None = None
) -> HTMLResponse:
    with seen.reading() as cursor:
        partners = figures.active_partners(cursor)
        lines = figures.product_lines(cursor)
        home = _home(cursor, seen)
    notice, errors = _answer(seen, sent, _REGISTER) if sent else (None, ())
    choose = seen.vendor or len(partners) > 1
    return seen.page(
        "register.html",
        title=seen.text(_n("Register a lead")),
        section="registrations",
        form_id=uuid4(),
        lead_id=lead or uuid4(),
        partners=partners,
        choose_partner=choose,
        lines=lines,
        chosen_lines=given.get("product_lines", []),
        countries=country_names(seen.reader.language),
        home=home,
        currency=_CURRENCIES.get(home, "USD"),
        v=lambda name: next(iter(given.get(name, [])), ""),
        asked_answer=None,
        outcome=notice,
        errors=errors,
        steps=_steps(seen),
        status_code=200 if sent is None else 422,
    )


@show("/register")
def registering(seen: Seen) -> HTMLResponse:
    return _register_page(seen, {}) if may(seen.principal.role, "lead.register") else missing(seen)


@act("/register")
async def register(seen: Seen) -> Response:
    given = await _form(seen.request)

    def answer() -> Response:
        lead = _uuid(given, "lead")
        sent = seen.doors.send(seen.principal, "lead.register", lead, _registration(seen, given), _id(given))
        if sent.get("outcome") == "accepted":
            return _done(seen, _n("Registered"), f"/leads/{lead}")
        return _register_page(seen, given, sent, str(lead))

    return await run_in_threadpool(answer)


@act("/register/free")
async def free_to_register(seen: Seen) -> Response:
    given = await _form(seen.request)
    tax_id, country = _first(given, "tax_id"), _first(given, "customer.country")
    asked = None
    if tax_id:
        asked = await run_in_threadpool(_ask, seen, country, tax_id, "", given.get("product_lines", []))
    return seen.page("free.html", title="", asked_answer=asked)


# Is it free?


def _ask(seen: Visit, country: str, tax_id: str, customer_id: str, lines: list[str]) -> Answered | None:
    if not tax_id and not customer_id:
        return Answered(seen.text(_n("Name a tax id or a customer number.")), "", "wait")
    question = {
        "tax_ids": [{"country": country, "value": tax_id}] if tax_id else [],
        "customer_ids": [customer_id] if customer_id else [],
        "product_lines": lines,
    }
    return _answered(seen, seen.doors.ask(seen.principal, question))


def _book(seen: Visit, given: Form, asked: Answered | None) -> HTMLResponse:
    with seen.reading() as cursor:
        lines, home = figures.product_lines(cursor), _home(cursor, seen)
    names = ("country", "tax_id", "customer_id", "product_line")
    return table_page(
        seen,
        PROTECTED,
        "protected.html",
        may_ask=seen.doors.may_ask(seen.principal),
        asked_form={name: _first(given, name) for name in names},
        asked_answer=asked,
        countries=country_names(seen.reader.language),
        home=home,
        lines=lines,
    )


@show("/protected-customers")
def protected(seen: Seen) -> HTMLResponse:
    return _book(seen, {}, None)


@act("/protected-customers")
@act("/protected-customers/free")
async def free(seen: Seen) -> Response:
    given = await _form(seen.request)

    def answer() -> Response:
        line = _first(given, "product_line")
        country, tax_id = _first(given, "country"), _first(given, "tax_id")
        asked = _ask(seen, country, tax_id, _first(given, "customer_id"), [line] if line else [])
        if seen.fragment:
            return seen.page("free.html", title="", asked_answer=asked)
        return _book(seen, given, asked)

    return await run_in_threadpool(answer)


# Conflicts


@act("/conflicts/resolve")
async def resolve(seen: Seen) -> Response:
    given = await _form(seen.request)

    def answer() -> Response:
        first, second = _uuid(given, "first"), _uuid(given, "second")
        sent = _resolve(seen, given, first, second)
        if sent.get("outcome") == "accepted":
            return _done(seen, _n("The decision is recorded"), "/conflicts")
        notice, _errors = _answer(seen, sent, ())
        return seen.page("said.html", title=seen.text(_n("Conflicts")), outcome=notice, back="/conflicts")

    return await run_in_threadpool(answer)


# What a person keeps


@act("/views/{name}")
async def save_view(seen: Seen, name: str) -> Response:
    given = await _form(seen.request)
    if name not in TABLES:
        return missing(seen)
    title, query = _first(given, "name")[:60], _first(given, "query")[:2000]
    if title:
        await run_in_threadpool(seen.doors.save_view, seen.principal, name, title, query)
    return RedirectResponse(f"/{name}?{query}", 303)


@act("/views/{name}/remove")
async def remove_view(seen: Seen, name: str) -> Response:
    given = await _form(seen.request)
    await run_in_threadpool(seen.doors.remove_view, seen.principal, name, _first(given, "name"))
    return RedirectResponse(_inside(_first(given, "back")), 303)


@act("/preferences")
async def prefer(seen: Seen) -> Response:
    given = await _form(seen.request)
    response = RedirectResponse(_inside(_first(given, "back")), 303)
    language, theme = _first(given, "language"), _first(given, "theme")
    if language in LANGUAGES:
        response.set_cookie(LANGUAGE_COOKIE, language, max_age=YEAR_S, httponly=True, samesite="lax")
    if theme in THEMES:
        response.set_cookie(THEME_COOKIE, theme, max_age=YEAR_S, httponly=True, samesite="lax")
    elif theme:
        response.delete_cookie(THEME_COOKIE)
    return response


@show("/requests")
def requests(seen: Seen) -> HTMLResponse:
    return seen.page(
        "requests.html",
        title=seen.text(_n("What became of my requests")),
        section="requests",
        live=("leads", "opportunities"),
        requests=[_request(seen, row) for row in seen.doors.requests(seen.principal)],
    )


# Forms


async def _form(request: Request) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in (await request.form()).multi_items():
        if isinstance(value, str):
            found.setdefault(name, []).append(value)
    return found


def _first(given: Form, name: str) -> str:
    return next(iter(given.get(name, [])), "").strip()


def _uuid(given: Form, name: str) -> UUID:
    try:
        return UUID(_first(given, name))
    except ValueError:
        return uuid4()


def _id(given: Form) -> str:
    """Give the id of a form's command: the form's own with what was typed, so that sending it twice is sending once."""
    form, typed = _first(given, "id"), {name: value for name, value in given.items() if name != "csrf_token"}
    return str(uuid5(NAMESPACE_URL, form + orjson.dumps(typed, option=orjson.OPT_SORT_KEYS).decode()))


def _inside(back: str) -> str:
    """Give an address of ours to go back to, whatever was sent."""
    return back if back.startswith("/") and not back.startswith(("//", "/\\")) else "/"


_REGISTER: Final = (
    Field("customer.name", ""), Field("customer.country", ""), Field("customer.tax_ids", ""),
    Field("customer.domains", ""), Field("customer.city", ""), Field("contact", ""), Field("product_lines", ""),
    Field("deal_type", ""), Field("amount", ""), Field("expected_close_on", ""), Field("business_problem", ""),
    Field("evidence", ""), Field("partner_id", ""),
)  # fmt: skip


def _registration(seen: Visit, given: Form) -> dict[str, Any]:
    """Make the data of lead.register of the form; what is empty is left out and asked for by the domain."""
    tax_id, country = _first(given, "tax_id"), _first(given, "customer.country")
    domains = [one for one in _first(given, "customer.domains").replace(",", " ").split() if one]
    customer = {
        "name": _first(given, "customer.name"),
        "country": country,
        "city": _first(given, "customer.city"),
        "tax_ids": [{"country": country, "value": tax_id}] if tax_id else [],
        "domains": domains,
    }
    contact = {name: _first(given, f"contact.{name}") for name in ("name", "email")}
    amount = _first(given, "amount.amount")
    other = [one.strip() for one in _first(given, "other_lines").split(",") if one.strip()]
    partner = _first(given, "partner_id") or (seen.principal.org if not seen.vendor else "")
    data: dict[str, Any] = {
        "partner_id": partner,
        "customer": _filled(customer) if customer["name"] else None,
        "contact": _filled(contact),
        "product_lines": [*given.get("product_lines", []), *other],
        "deal_type": _first(given, "deal_type"),
        "amount": {"amount": plain_number(amount), "currency": _first(given, "amount.currency")} if amount else None,
        "expected_close_on": _first(given, "expected_close_on"),
        "business_problem": _first(given, "business_problem"),
        "evidence": _first(given, "evidence"),
    }
    return _filled(data)


def _filled(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if value not in (None, "", [], {})}


_CURRENCIES: Final[Mapping[str, str]] = {
    "BR": "BRL", "US": "USD", "GB": "GBP", "MX": "MXN", "AR": "ARS", "CL": "CLP", "CO": "COP",
    **dict.fromkeys(("DE", "FR", "ES", "PT", "IT", "NL", "IE", "AT", "BE"), "EUR"),
}  # fmt: skip


def _home(cursor: Cursor, seen: Visit) -> str:
    """Give the country that somebody most probably means: that of the partner, else that of the language."""
    if not seen.vendor:
        row = figures.partner(cursor, UUID(seen.principal.org))
        if row and row["country"]:
            return str(row["country"])
    return "BR" if seen.reader.language == "pt_BR" else "US"


def _steps(seen: Visit) -> list[tuple[str, str]]:
    return [
        (seen.text(_n("You register")), seen.text(_n("Your place in the queue is the place in the log."))),
        (seen.text(_n("It is screened")), seen.text(_n("Compared with every other lead, within a second."))),
        (seen.text(_n("The vendor decides")), seen.text(_n("In working time; you see the clock."))),
        (seen.text(_n("You are protected")), seen.text(_n("Nobody else is approved for this customer meanwhile."))),
    ]


# Outcomes


def _answer(seen: Visit, sent: Mapping[str, Any], fields: tuple[Field, ...]) -> tuple[Notice, Any]:
    """Say a refusal; what is wrong with fields that the form does not have is said with it."""
    if sent.get("outcome") != "refused":
        return pending(seen.reader), ()
    errors = sent.get("errors", ())
    here = [one for one in errors if any(_within(str(one["field"]), known.name) for known in fields)]
    elsewhere = [one for one in errors if one not in here]
    notice = refused(seen.reader, str(sent["code"]), str(sent["message"]))
    if elsewhere:
        named = ", ".join(seen.reader.code(str(one["field"]).partition(".")[0], "detail") for one in elsewhere)
        notice = Notice(notice.title, named, notice.tone)
    return notice, field_errors(seen.reader, here)


def _within(field: str, name: str) -> bool:
    return field == name or field.startswith(f"{name}.")


def _done(seen: Visit, words: str, to: str, *, stay: bool = False) -> Response:
    said = seen.text(words)
    if not seen.fragment:
        return RedirectResponse(to, 303)
    told: dict[str, str] = {"words": said} if stay else {"words": said, "to": to}
    return Response(status_code=204, headers={"HX-Trigger": orjson.dumps({"done": told}).decode("ascii", "ignore")})


def _page_of(aggregate: str, subject: UUID) -> str:
    return f"/{ {'lead': 'leads', 'opportunity': 'opportunities', 'partner': 'partners'}[aggregate] }/{subject}"


def _answered(seen: Visit, said: Mapping[str, Any]) -> Answered:
    reader = seen.reader
    until = reader.short_moment(said["until"]) if said.get("until") else ""
    match said["answer"], said.get("yours", False):
        case "free", _:
            return Answered(reader.text(_n("Free")), reader.text(_n("Nobody is protected for this customer.")), "ok")
        case "protected", True:
            return Answered(reader.text(_n("Protected for you")), _until(reader, until), "ok")
        case "protected", False:
            return Answered(reader.text(_n("Already protected")), _until(reader, until), "late", _holders(seen, said))
        case "under_review", True:
            words = reader.text(_n("Your own registration is not decided yet."))
            return Answered(reader.text(_n("Under review")), words, "wait")
        case "under_review", _:
            words = reader.text(_n("A registration of this customer is not decided yet."))
            return Answered(reader.text(_n("Under review")), words, "wait", _holders(seen, said))
        case _:
            errors = field_errors(reader, said.get("errors", ()))
            notice = refused(reader, str(said.get("code", "")), str(said.get("message", "")))
            return Answered(notice.title, "; ".join(one.words for one in errors) or notice.words, "wait")


def _until(reader: Reader, until: str) -> str:
    return reader.text(_n("until %(time)s")) % {"time": until}


def _holders(seen: Visit, said: Mapping[str, Any]) -> tuple[Mapping[str, str], ...]:
    return tuple(
        {"lead_id": str(one["lead_id"]), "words": one.get("partner") or seen.text(_n("Open the lead"))}
        for one in said.get("holders", ())
    )


def _resolve(seen: Visit, given: Form, first: UUID, second: UUID) -> Mapping[str, Any]:
    """Record a decision on the later lead; a split on both, which then hold one claim group."""
    outcome, note, command_id = _first(given, "outcome"), _first(given, "note"), _id(given)
    said = _filled({"outcome": outcome, "note": note})
    if outcome != "split":
        data = {"other_lead": str(first), **said}
        sent: Mapping[str, Any] = seen.doors.send(seen.principal, "lead.resolve_match", second, data, command_id)
        return sent
    share = plain_number(_first(given, "share") or "50")
    group = str(uuid5(NAMESPACE_URL, f"{first}{second}{command_id}"))
    for subject, other, part in ((second, first, _rest(share)), (first, second, share)):
        data = {"other_lead": str(other), "claim_group": group, "share": part, **said}
        sent = seen.doors.send(seen.principal, "lead.resolve_match", subject, data, f"{command_id}-{subject}")
        if sent.get("outcome") != "accepted":
            return sent
    return sent


def _rest(share: str) -> str:
    try:
        return str(100 - Decimal(share))
    except InvalidOperation:
        return share


def _request(seen: Visit, row: Row) -> Row:
    """Say what became of a command."""
    reader = seen.reader
    command = row["type"].removeprefix("prm.")
    action = BY_COMMAND.get(command)
    aggregate = command.partition(".")[0]
    accepted = row["outcome"] == "accepted"
    notice = None if accepted else refused(reader, row["code"], row["message"])
    what = reader.text(action.title) if action else reader.text(_TITLES.get(command, command.replace("_", " ")))
    return {
        "id": row["id"],
        "what": what,
        "href": _page_of(aggregate, row["subject"]) if aggregate != "partner" or seen.vendor else None,
        "answer": reader.text(_n("Accepted")) if accepted else reader.text(_n("Refused")),
        "tone": "ok" if accepted else "late",
        "words": "" if notice is None else notice.title,
        "by": row["actor"],
        "at": row["recorded_at"],
    }


_TITLES: Final[Mapping[str, str]] = {"lead.register": _n("Register a lead"), "lead.resolve_match": _n("Decide")}
