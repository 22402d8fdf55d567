"""The pages: each asks the read models as the person who is there, and is made on the server."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Final
from urllib.parse import urlencode
from uuid import UUID, uuid4

from fastapi.responses import HTMLResponse

from prm_es.api.access import router
from prm_es.api.asked import LEAST_TEXT
from prm_es.api.lists import LISTS
from prm_es.api.pages import actions, figures, listing, story
from prm_es.api.pages.doors import pairs
from prm_es.api.pages.figures import STAGES, Row
from prm_es.api.pages.frame import query_of
from prm_es.api.pages.language import EMPTY, Reader
from prm_es.api.pages.tables import PROTECTED, TABLES, Table
from prm_es.api.pages.visit import Seen, Visit
from prm_es.api.pages.words import CODES, _n

SPANS: Final = (7, 30, 90)


guarded = router()
show = partial(guarded.get, include_in_schema=False, response_class=HTMLResponse)


@show("/")
def overview(seen: Seen) -> HTMLResponse:
    with seen.reading() as cursor:
        pipeline = figures.pipeline(cursor)
        leads = figures.lead_counts(cursor)
        given = {
            "pipeline": pipeline,
            "goals": figures.running_goals(cursor),
            "won": _by(figures.won_by_month(cursor), "currency"),
            "due": figures.deals_due(cursor),
            "protections": figures.ending_protections(cursor),
            "offers": [] if seen.vendor else figures.waiting_offers(cursor),
            "asked": [] if seen.vendor else figures.asked_back(cursor),
            "decide": figures.to_decide(cursor) if seen.vendor else [],
            "conflicts": figures.open_conflicts(cursor) if seen.vendor else None,
            "as_of": seen.doors.as_of(),
        }
    return seen.page(
        "overview.html",
        title=seen.text(_n("Overview")),
        section="overview",
        live=("opportunities", "leads", "registrations", "offers", "conflicts", "goals", "protected-customers"),
        overdue=sum(row["overdue"] for row in pipeline),
        stalled=sum(row["stalled"] for row in pipeline),
        deciding=_deciding(leads),
        counts=_counted(leads, "status", "leads"),
        today=_today(seen),
        **given,
    )


@show("/pipeline")
def pipeline(seen: Seen, currency: str | None = None) -> HTMLResponse:
    chosen = {"currency": currency or None}
    with seen.reading() as cursor:
        by_stage = figures.stages(cursor, chosen)
        board = figures.board(cursor, chosen)
        funnel = figures.funnel(cursor)
        used = figures.currencies(cursor)
        as_of = seen.doors.as_of()
    for row in funnel:
        ended = row["entered"] - row["still_in"]
        row["on"] = (row["left_forward"] + row["won"]) / ended if ended else None
    return seen.page(
        "pipeline.html",
        title=seen.text(_n("Pipeline")),
        section="pipeline",
        live=("opportunities",),
        money={code: rows for code, rows in _by(by_stage, "currency").items() if code},
        sums=_by(by_stage, "stage"),
        counts=_counted(by_stage, "stage", "deals"),
        board=board,
        funnel=funnel,
        most=max((row["entered"] for row in funnel), default=0),
        currency=currency,
        currencies_used=used,
        today=_today(seen),
        as_of=as_of,
    )


@show("/opportunities/{opportunity_id}")
def opportunity(seen: Seen, opportunity_id: UUID) -> HTMLResponse:
    with seen.reading() as cursor:
        row = figures.opportunity(cursor, opportunity_id)
        as_of = seen.doors.as_of()
    if row is None:
        return missing(seen)
    entries, said = seen.doors.timeline(seen.principal, seen.reader, "opportunity", opportunity_id)
    return seen.page(
        "opportunity.html",
        title=row["name"],
        section="opportunities",
        live=("opportunities",),
        row=row,
        stages=STAGES,
        reached=_reached(row),
        actions=actions.offered(seen.principal.role, "opportunity", row),
        entries=entries,
        known=list(story.known_facts(said, seen.reader)),
        today=_today(seen),
        as_of=as_of,
    )


@show("/leads/{lead_id}")
def lead(seen: Seen, lead_id: UUID) -> HTMLResponse:
    with seen.reading() as cursor:
        row = figures.lead(cursor, lead_id)
        as_of = seen.doors.as_of()
    if row is None:
        return missing(seen)
    # Before it has looked at an offer, a partner is not told what happened to the lead either.
    told = row["came_in_at"] is not None
    entries, said = seen.doors.timeline(seen.principal, seen.reader, "lead", lead_id) if told else ([], {})
    return seen.page(
        "lead.html",
        title=row["customer"] or seen.text(_n("Offered lead")),
        section="leads",
        live=("leads", "offers", "registrations"),
        row=row,
        actions=actions.offered(seen.principal.role, "lead", row),
        entries=entries,
        known=list(story.known_facts(said, seen.reader)),
        as_of=as_of,
    )


@show("/partners/{partner_id}")
def partner(seen: Seen, partner_id: UUID) -> HTMLResponse:
    with seen.reading() as cursor:
        row = figures.partner(cursor, partner_id)
        if row is None:
            return missing(seen)
        given = {
            "cards": figures.scorecard(cursor, partner_id),
            "trend": _trend(figures.performance(cursor, partner_id)),
            "goals": figures.goals_of(cursor, partner_id),
            "deals": figures.open_deals_of(cursor, partner_id),
            "as_of": seen.doors.as_of(),
        }
    return seen.page(
        "partner.html",
        title=row["partner"],
        section="partners",
        live=("partners", "scorecards", "goals", "opportunities", "performance"),
        row=row,
        actions=actions.offered(seen.principal.role, "partner", row),
        **given,
    )


@show("/conflicts")
def conflicts(
    seen: Seen,
    status: str = "open",
    first: UUID | None = None,
    second: UUID | None = None,
    lead: UUID | None = None,
) -> HTMLResponse:
    if not seen.vendor:
        return missing(seen)
    with seen.reading() as cursor:
        pairs = figures.conflicts(cursor, status if status in CODES["conflict_status"] else "open")
        chosen = _chosen(pairs, first, second, lead)
        sides = figures.sides(cursor, (chosen["first_lead_id"], chosen["second_lead_id"])) if chosen else {}
        as_of = seen.doors.as_of()
    return seen.page(
        "conflicts.html",
        title=seen.text(_n("Conflicts")),
        section="conflicts",
        live=("conflicts", "leads"),
        status=status,
        pairs=pairs,
        chosen=chosen,
        compared=_compared(seen, chosen, sides) if chosen else (),
        outcomes=("award", "second_place_benefit", "reject_all", "vendor_direct", "not_a_conflict"),
        form_id=uuid4(),
        as_of=as_of,
    )


@show("/deadlines")
def deadlines(seen: Seen, days: int = SPANS[0], kind: str = "") -> HTMLResponse:
    with seen.reading() as cursor:
        found = figures.deadlines(cursor, [kind] if kind else [], min(max(days, 1), 366))
        as_of = seen.doors.as_of()
    words = seen.text(_n("%(days)s days"))
    return seen.page(
        "deadlines.html",
        title=seen.text(_n("Deadlines")),
        section="deadlines",
        live=("deadlines",),
        groups=_by_day(seen, found),
        spans=[(one, words % {"days": one}) for one in SPANS],
        chosen_days=days,
        kind=kind,
        as_of=as_of,
    )


@show("/keys")
def keys(seen: Seen) -> HTMLResponse:
    return seen.page("keys.html", title=seen.text(_n("Keyboard")))


def missing(seen: Visit) -> HTMLResponse:
    return seen.page(
        "problem.html",
        title=seen.text(_n("Not found")),
        words=seen.text(_n("It does not exist, or it is not yours to see.")),
        status_code=404,
    )


def _table_page(table: Table) -> Callable[[Visit], HTMLResponse]:
    def page(seen: Seen) -> HTMLResponse:
        return table_page(seen, table)

    return page


def table_page(seen: Visit, table: Table, template: str = "table.html", **more: object) -> HTMLResponse:
    """Show a list as its address asks for."""
    if table.vendor_only and not seen.vendor:
        return missing(seen)
    query = dict(seen.request.query_params)
    given = listing.asked(table, query, vendor=seen.vendor)
    if len(given.get("text", "  ")) < LEAST_TEXT:
        del given["text"]
    found = seen.doors.listing(seen.principal, table.name, given)
    only_rows = seen.fragment and query.get("part") == "rows"
    with seen.reading() as cursor:
        used = figures.currencies(cursor)
    return seen.page(
        "rows.html" if only_rows else template,
        title=seen.text(table.title),
        section=table.name,
        live=table.live,
        table=table,
        path=f"/{table.name}",
        api_path=f"/api/{table.name}",
        given=given,
        query=query_of(given, cursor=None),
        rows=found.items,
        next_query=query_of(given, cursor=found.following) if found.following else None,
        columns=listing.heads(table, given, vendor=seen.vendor),
        tabs=[{"title": one.title, "query": one.query, "current": one.current} for one in listing.tabs(table, given)],
        chips=listing.chips(table, given, seen.reader),
        kept=listing.kept(table, given),
        filters=table.filters,
        more_filters=table.more,
        groups=table.groups,
        grouped=listing.grouped(table, given, found.items, seen.reader) if given.get("group_by") else None,
        periods=listing.PERIODS.items(),
        period_codes=listing.PERIODS,
        currencies=used,
        saved=seen.doors.saved_views(seen.principal, table.name),
        saved_name=None,
        export_query=lambda form: urlencode([*pairs(LISTS[table.name], {**given, "cursor": ""}), ("format", form)]),
        link=lambda row: listing.link_of(table, row),
        problem=found.problem,
        today=_today(seen),
        as_of=seen.doors.as_of(),
        **more,
    )


for _name, _table in TABLES.items():
    if _name != PROTECTED.name:
        guarded.add_api_route(
            f"/{_name}", _table_page(_table), methods=["GET"], include_in_schema=False, response_class=HTMLResponse
        )


# Making figures into what a page shows


def _by(rows: Iterable[Row], name: str) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row[name], []).append(row)
    return found


def _counted(rows: Iterable[Row], name: str, number: str) -> dict[str, int]:
    return {key: sum(row[number] for row in some) for key, some in _by(rows, name).items()}


def _deciding(leads: Iterable[Row]) -> dict[str, int]:
    waiting = [row for row in leads if row["status"] in ("submitted", "in_review")]
    colours = _counted(waiting, "sla_colour", "leads")
    return {"all": sum(colours.values()), "red": colours.get("red", 0), "amber": colours.get("amber", 0)}


def _today(seen: Visit) -> date:
    return datetime.now(seen.reader.zone).date()


def _reached(row: Row) -> int:
    """Give the number of the stage that a deal stands in; one that is closed has been through all or lost them all."""
    return STAGES.index(row["stage"]) if row["stage"] in STAGES else len(STAGES) - 1


def _trend(months: Iterable[Row]) -> dict[str, list[Row]]:
    """Give won amount and goal by currency for each of the last twelve months, empty months included."""
    today = datetime.now(UTC).date().replace(day=1)
    starts = [_back(today, back) for back in range(11, -1, -1)]
    found: dict[str, list[Row]] = {}
    for currency, rows in _by((row for row in months if row["currency"]), "currency").items():
        by_month = {row["month"]: row for row in rows}
        if not any(row["won_amount"] or row["goal"] for row in rows):
            continue
        found[currency] = [
            {
                "month": start,
                "won": by_month.get(start, {}).get("won_amount") or Decimal(0),
                "goal": by_month.get(start, {}).get("goal"),
            }
            for start in starts
        ]
    return found


def _back(first: date, months: int) -> date:
    number = first.year * 12 + first.month - 1 - months
    return first.replace(year=number // 12, month=number % 12 + 1)


def _chosen(pairs: list[Row], first: UUID | None, second: UUID | None, lead: UUID | None) -> Row | None:
    wanted = {str(one) for one in (first, second, lead) if one}
    for pair in pairs:
        if wanted and wanted <= {str(pair["first_lead_id"]), str(pair["second_lead_id"])}:
            return pair
    return pairs[0] if pairs else None


def _compared(seen: Visit, pair: Row, sides: Mapping[str, Row]) -> list[tuple[str, str, str, bool]]:
    """Put both leads next to each other, a line a fact: its name, both values, and whether they are the same."""
    a, b = (sides.get(str(pair[f"{one}_lead_id"]), {}) for one in ("first", "second"))
    reader = seen.reader
    lines: list[tuple[str, Callable[[Row], str]]] = [
        (_n("Customer"), lambda row: row.get("customer") or EMPTY),
        (_n("Known by"), lambda row: reader.listed(row.get("customer_keys")) or EMPTY),
        (_n("Country"), lambda row: row.get("country") or EMPTY),
        (_n("Status"), lambda row: _status(row.get("status"), reader) or EMPTY),
        (_n("Came in"), lambda row: reader.moment(row.get("came_in_at")) or EMPTY),
        (_n("Place in the log"), lambda row: reader.number(row.get("place_position")) or EMPTY),
        (_n("Product lines"), lambda row: reader.listed(row.get("product_lines")) or EMPTY),
        (_n("Kind of deal"), lambda row: reader.code(row.get("deal_type"), "deal_type") or EMPTY),
        (_n("Amount"), lambda row: reader.money(row.get("amount"), row.get("currency")) or EMPTY),
        (_n("Expected close"), lambda row: reader.day(row.get("expected_close_on")) or EMPTY),
        (_n("Protected until"), lambda row: reader.moment(row.get("protected_until")) or EMPTY),
        (_n("Owner"), lambda row: row.get("owner") or EMPTY),
    ]
    telling = {_n("Customer"), _n("Known by")}
    return [
        (seen.text(name), left, right, name in telling and left == right != EMPTY)
        for name, value in lines
        for left, right in ((value(a), value(b)),)
    ]


def _status(status: str | None, reader: Reader) -> str:
    """Say the status of a lead or of an opportunity."""
    return reader.code(status, "opportunity_status" if status in CODES["opportunity_status"] else "lead_status")


def _by_day(seen: Visit, found: Iterable[Row]) -> list[tuple[str, list[Row]]]:
    today = _today(seen)
    names = [_n("Overdue"), _n("Today"), _n("Tomorrow"), _n("This week"), _n("Later")]
    groups: list[list[Row]] = [[] for _ in names]
    for row in found:
        day = row["due_at"].astimezone(seen.reader.zone).date()
        ahead = (day - today) / timedelta(days=1)
        place = 0 if row["overdue"] else 1 if ahead <= 0 else 2 if ahead == 1 else 3 if ahead < 7 else 4  # noqa: PLR2004
        groups[place].append(row)
    return [(seen.text(name), rows) for name, rows in zip(names, groups, strict=True)]
