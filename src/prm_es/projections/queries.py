"""The questions that people ask of the read models, over the views in schema `read`, as the reader role."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

import psycopg2
from psycopg2 import sql

from prm_es.errors import Usage
from prm_es.settings import Settings


@dataclass(frozen=True, slots=True)
class Filters:
    """What to show. `partner` is a name (part of it is enough) or an id; `period` see period_of.

    `status` of offers is their answer. The days of a period are cut in the report time zone.
    """

    stage: str | None = None
    partner: str | None = None
    status: str | None = None
    territory: str | None = None
    period: str | None = None
    sort: str | None = None
    by: tuple[str, ...] = ("stage",)
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Columns and rows of a query."""

    columns: list[str]
    rows: list[tuple[Any, ...]]


_OPPORTUNITY_COLUMNS: Final = (
    "external_id", "name", "partner", "territory", "customer", "product_lines", "stage", "status", "forecast_category",
    "amount", "currency", "weighted_amount", "owner", "engaged_on", "expected_close_on", "closed_on", "lost_reason",
    "days_in_stage", "age_days", "next_action", "next_action_due_on", "overdue", "stalled", "data_gaps",
    "opportunity_id",
)  # fmt: skip
_PARTNER_COLUMNS: Final = (
    "partner", "status", "types", "country", "territories", "tier", "channel_manager", "parent", "on_notice",
    "data_gaps", "partner_id",
)  # fmt: skip
_LEAD_COLUMNS: Final = (
    "external_id", "origin", "status", "partner", "territory", "customer", "product_lines", "amount", "currency",
    "owner", "came_in_at", "age_days", "sla_colour", "sla_due_at", "next_deadline", "next_deadline_at", "overdue",
    "respond_by", "screened", "in_conflict", "held_until", "asked_for", "protected_until", "orphaned", "data_gaps",
    "lead_id",
)  # fmt: skip
_REGISTRATION_COLUMNS: Final = (
    "external_id", "partner", "territory", "customer", "product_lines", "deal_type", "amount", "currency",
    "submitted_at", "status", "asked_for", "held_until", "decision", "decided_at", "reject_reason", "protected_until",
    "days_left", "extensions", "unprotected_by", "converted", "data_gaps", "opportunity_id", "lead_id",
)  # fmt: skip
_BOOK_COLUMNS: Final = (
    "customer", "customer_keys", "product_lines", "partner", "territory", "protected_from", "protected_until",
    "days_left", "extensions", "extension_requested_at", "owner", "status", "lead_id", "opportunity_id",
)  # fmt: skip
_OFFER_COLUMNS: Final = (
    "partner", "territory", "customer", "country", "product_lines", "amount", "currency", "offered_at", "respond_by",
    "overdue", "opened_at", "answer", "answered_at", "reason", "lead_id",
)  # fmt: skip
_PERFORMANCE_COLUMNS: Final = (
    "partner", "month", "currency", "registered", "approved", "rejected", "approval_rate", "decision_hours_median",
    "decision_hours_p90", "within_sla_share", "expired_share", "offers", "accept_rate", "converted", "won", "lost",
    "win_rate", "won_amount", "lost_amount", "average_deal", "cycle_days_median_won", "cycle_days_mean_closed",
    "activities", "goal", "attainment_percent", "pace_percent", "gap", "coverage", "partner_id",
)  # fmt: skip
_SCORECARD_COLUMNS: Final = (
    "partner", "currency", "status", "tier", "channel_manager", "won_rank", "won_amount_12_months", "won_12_months",
    "lost_12_months", "win_rate", "average_deal", "cycle_days_median_won", "won_amount_month", "won_amount_quarter",
    "open_deals", "open_amount", "weighted_amount", "stalled", "overdue", "live_registrations", "approval_rate",
    "last_act_at", "at_risk", "dormant", "goal_period", "goal", "attainment_percent", "pace_percent", "gap", "coverage",
    "partner_id",
)  # fmt: skip
_GOAL_COLUMNS: Final = (
    "partner", "metric", "period", "product_line", "currency", "target", "actual", "attainment_percent", "pace_percent",
    "gap", "coverage", "owner", "status", "goal_id", "partner_id",
)  # fmt: skip
_CONFLICT_COLUMNS: Final = (
    "status", "strength", "customer", "matched_keys", "common_product_lines", "first_partner", "first_state",
    "first_came_at", "first_protected_until", "second_partner", "second_state", "second_came_at", "first_by",
    "found_at", "outcome", "ended_because", "first_lead_id", "second_lead_id",
)  # fmt: skip
_DEADLINE_COLUMNS: Final = (
    "due_at", "due_in", "kind", "overdue", "partner", "channel_manager", "over_when_set", "aggregate_id",
)  # fmt: skip
_DIMENSIONS: Final[Mapping[str, str]] = {
    "stage": "stage",
    "status": "status",
    "partner": "partner",
    "territory": "territory",
    "forecast": "forecast_category",
    "month": "date_trunc('month', expected_close_on)::date",
}
_STAGES: Final = ("prospect", "qualified", "technical_validation", "business_validation", "committed", "won", "lost")


def opportunities(settings: Settings, filters: Filters) -> Answer:
    """List opportunities, newest change last unless sorted; raises Usage for an unknown column, stage or period."""
    return _run(settings, _list(settings, "opportunities", _OPPORTUNITY_COLUMNS, filters, "updated_position"), filters)


def partners(settings: Settings, filters: Filters) -> Answer:
    """List partners by name unless sorted; raises Usage."""
    return _run(settings, _list(settings, "partners", _PARTNER_COLUMNS, filters, "partner"), filters)


def performance(settings: Settings, filters: Filters) -> Answer:
    """List partners' months, the latest first unless sorted; in a period those that begin in it. Raises Usage."""
    return _run(settings, _list(settings, "partner_performance", _PERFORMANCE_COLUMNS, filters, "-month"), filters)


def scorecard(settings: Settings, filters: Filters) -> Answer:
    """List partners as of today by rank unless sorted; raises Usage."""
    return _run(settings, _list(settings, "partner_scorecard", _SCORECARD_COLUMNS, filters, "won_rank"), filters)


def goals(settings: Settings, filters: Filters) -> Answer:
    """List goals by partner unless sorted, in a period those that share a day with it; raises Usage."""
    return _run(settings, _list(settings, "goals", _GOAL_COLUMNS, filters, "partner"), filters)


def conflicts(settings: Settings, filters: Filters) -> Answer:
    """List conflicts, newest last unless sorted; a partner is either side's, a period that of finding; raises Usage."""
    return _run(settings, _list(settings, "lead_conflicts", _CONFLICT_COLUMNS, filters, "found_at"), filters)


def deadlines(settings: Settings, filters: Filters) -> Answer:
    """List what is due, the earliest first unless sorted; raises Usage."""
    return _run(settings, _list(settings, "deadlines", _DEADLINE_COLUMNS, filters, "due_at"), filters)


def pipeline(settings: Settings, filters: Filters) -> Answer:
    """Count and sum opportunities by the given dimensions and currency; raises Usage."""
    unknown = [name for name in filters.by if name not in _DIMENSIONS]
    if unknown or not filters.by:
        raise Usage(f"pipeline can be shown by {', '.join(_DIMENSIONS)}; not by {', '.join(unknown) or 'nothing'}")
    names = [*filters.by, "currency"]
    measured = ("opportunities", "amount", "weighted_amount")
    if filters.sort and filters.sort.lstrip("-") not in (*names, *measured):
        raise Usage(f"sort by one of {', '.join((*names, *measured))}")
    chosen = sql.SQL(", ").join(
        sql.SQL("{} AS {}").format(sql.SQL(_DIMENSIONS.get(name, "currency")), sql.Identifier(name)) for name in names
    )
    order = (
        _order(filters.sort)
        if filters.sort
        else sql.SQL("min(array_position(%(stages)s, stage)), {}").format(
            sql.SQL(", ").join(map(sql.Identifier, names))
        )
    )
    query = sql.SQL(
        "SELECT {}, count(*) AS opportunities, sum(amount) AS amount, sum(weighted_amount) AS weighted_amount"
        " FROM {}.opportunities{} GROUP BY {} ORDER BY {}{}"
    ).format(
        chosen,
        sql.Identifier(settings.read_schema),
        _where("opportunities", filters),
        sql.SQL(", ").join(sql.SQL(str(number)) for number in range(1, len(names) + 1)),
        order,
        sql.SQL(" LIMIT %(limit)s"),
    )
    return _run(settings, query, filters)


def leads(settings: Settings, filters: Filters) -> Answer:
    """List leads, what is due first on top unless sorted; a period is that of coming in; raises Usage."""
    return _run(settings, _list(settings, "leads", _LEAD_COLUMNS, filters, "next_deadline_at"), filters)


def registrations(settings: Settings, filters: Filters) -> Answer:
    """List registered leads, newest last unless sorted; a period is that of submission; raises Usage."""
    return _run(settings, _list(settings, "registrations", _REGISTRATION_COLUMNS, filters, "submitted_at"), filters)


def protected_customers(settings: Settings, filters: Filters) -> Answer:
    """List the running protections, those that end first on top unless sorted; a period is that of the end."""
    query = _list(settings, "protected_customers", _BOOK_COLUMNS, filters, "protected_until")
    return _run(settings, query, filters)


def offers(settings: Settings, filters: Filters) -> Answer:
    """List offers, newest last unless sorted; a period is that of offering; raises Usage."""
    return _run(settings, _list(settings, "offers", _OFFER_COLUMNS, filters, "offered_at"), filters)


SHOWN: Final[Mapping[str, Callable[[Settings, Filters], Answer]]] = {
    "pipeline": pipeline,
    "opportunities": opportunities,
    "partners": partners,
    "leads": leads,
    "registrations": registrations,
    "protected-customers": protected_customers,
    "offers": offers,
    "conflicts": conflicts,
    "deadlines": deadlines,
    "performance": performance,
    "scorecard": scorecard,
    "goals": goals,
}


def _list(settings: Settings, view: str, columns: Sequence[str], filters: Filters, default: str) -> sql.Composed:
    if filters.sort and filters.sort.lstrip("-") not in columns:
        raise Usage(f"sort by one of {', '.join(columns)}")
    return sql.SQL("SELECT {} FROM {}.{}{} ORDER BY {} LIMIT %(limit)s").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.Identifier(settings.read_schema),
        sql.Identifier(view),
        _where(view, filters),
        _order(filters.sort or default),
    )


def _order(sort: str) -> sql.Composed:
    direction = sql.SQL(" DESC NULLS LAST" if sort.startswith("-") else "")
    return sql.Identifier(sort.lstrip("-")) + direction


_IN_PERIOD: Final = "({} AT TIME ZONE %(tz)s)::date BETWEEN %(first)s AND %(last)s"
_FILTERS: Final[Mapping[str, Mapping[str, str]]] = {
    "opportunities": {
        "stage": "stage = %(stage)s",
        "period": "coalesce(closed_on, expected_close_on) BETWEEN %(first)s AND %(last)s",
    },
    "partners": {"territory": "%(territory)s = ANY(territories)"},
    "leads": {"period": _IN_PERIOD.format("came_in_at")},
    "registrations": {"period": _IN_PERIOD.format("submitted_at")},
    "protected_customers": {"period": _IN_PERIOD.format("protected_until")},
    "offers": {"status": "answer = %(status)s", "period": _IN_PERIOD.format("offered_at")},
    "partner_performance": {"period": "month BETWEEN %(first)s AND %(last)s", "status": "", "territory": ""},
    "partner_scorecard": {"territory": "%(territory)s = ANY(territories)"},
    "goals": {"period": "first_on <= %(last)s AND last_on >= %(first)s", "territory": ""},
    "lead_conflicts": {
        "partner": "(first_partner ILIKE %(like)s OR second_partner ILIKE %(like)s"
        " OR %(partner)s IN (first_partner_id::text, second_partner_id::text))",
        "territory": "",
        "period": _IN_PERIOD.format("found_at"),
    },
    "deadlines": {"status": "", "territory": "", "period": _IN_PERIOD.format("due_at")},
}  # beside those of every view; empty: not to be had there
_FILTERS_OF_ALL: Final[Mapping[str, str]] = {
    "status": "status = %(status)s",
    "partner": "(partner ILIKE %(like)s OR partner_id::text = %(partner)s)",
    "territory": "%(territory)s = ANY(string_to_array(territory, ', '))",
}


def _where(view: str, filters: Filters) -> sql.Composable:
    if filters.stage and filters.stage not in _STAGES:
        raise Usage(f"there is no stage {filters.stage}; there are: {', '.join(_STAGES)}")
    conditions = {**_FILTERS_OF_ALL, **_FILTERS[view]}
    given = [name for name in ("stage", "partner", "status", "territory", "period") if getattr(filters, name)]
    for name in given:
        if not conditions.get(name):
            raise Usage(f"{view.replace('_', ' ')} have no {name} to filter by")
    wanted = [sql.SQL(conditions[name]) for name in given]
    return sql.SQL(" WHERE ") + sql.SQL(" AND ").join(wanted) if wanted else sql.SQL("")


def _run(settings: Settings, query: sql.Composed, filters: Filters) -> Answer:
    first, last = period_of(filters.period, date.today()) if filters.period else (None, None)  # noqa: DTZ011
    like = "%" + re.sub(r"([\\%_])", r"\\\1", filters.partner) + "%" if filters.partner else None
    parameters = {
        "stage": filters.stage,
        "status": filters.status,
        "partner": filters.partner,
        "like": like,
        "territory": filters.territory,
        "first": first,
        "last": last,
        "tz": settings.report_tz,
        "limit": filters.limit,
        "stages": list(_STAGES),
    }
    connection = psycopg2.connect(settings.dsn("reader"))
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(query, parameters)
            return Answer([column.name for column in cursor.description or ()], cursor.fetchall())
    finally:
        connection.close()


_NAMED: Final = ("this-month", "last-month", "this-quarter", "last-quarter", "this-year", "last-year")


def period_of(text: str, today: date) -> tuple[date, date]:
    """Give first and last day of a period: 2026, 2026-Q1, 2026-03, this-month, last-quarter, …, or FROM..TO in days.

    Raises Usage.
    """
    if text in _NAMED:
        which, unit = text.split("-")
        return _around(today, unit, back=which == "last")
    if found := re.fullmatch(r"(\d{4})", text):
        year = int(found.group(1))
        return _from(date(year, 1, 1), 12) if year else _unknown_period(text)
    if (found := re.fullmatch(r"(\d{4})-Q([1-4])", text)) and int(found.group(1)):
        return _from(date(int(found.group(1)), 3 * int(found.group(2)) - 2, 1), 3)
    if (found := re.fullmatch(r"(\d{4})-(0[1-9]|1[0-2])", text)) and int(found.group(1)):
        return _from(date(int(found.group(1)), int(found.group(2)), 1), 1)
    try:
        first, last = (date.fromisoformat(day) for day in text.split(".."))
    except ValueError:
        return _unknown_period(text)
    return first, last


def _unknown_period(text: str) -> tuple[date, date]:
    raise Usage(
        f"{text} is no period: use 2026, 2026-Q1, 2026-03, 2026-03-01..2026-03-31 or one of {', '.join(_NAMED)}"
    )


def _around(today: date, unit: str, *, back: bool) -> tuple[date, date]:
    months = {"month": 1, "quarter": 3, "year": 12}[unit]
    start = date(today.year, (today.month - 1) // months * months + 1, 1)
    if back:
        before = start - timedelta(days=1)
        start = date(before.year, (before.month - 1) // months * months + 1, 1)
    return _from(start, months)


def _from(start: date, months: int) -> tuple[date, date]:
    following = start.year * 12 + start.month - 1 + months
    if following // 12 > date.max.year:
        return start, date.max
    return start, date(following // 12, following % 12 + 1, 1) - timedelta(days=1)
