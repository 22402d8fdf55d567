"""What `prm-es show` prints: the lists of the API, with the columns that fit a terminal, read as the reader role."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Final

import psycopg2

from prm_es.api import answers
from prm_es.api.asked import Asked, checked
from prm_es.api.lists import (
    CONFLICTS,
    DEADLINES,
    GOALS,
    LEADS,
    OFFERS,
    OPPORTUNITIES,
    PARTNERS,
    PERFORMANCE,
    PROTECTED,
    REGISTRATIONS,
    SCORECARDS,
    List,
)
from prm_es.api.selecting import ORDER_OF_STAGES, Surroundings
from prm_es.errors import Usage
from prm_es.settings import Settings


@dataclass(frozen=True, slots=True)
class Filters:
    """What to show. `partner` is a name (part of it is enough) or an id; `period` see periods.period_of.

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
    "product_lines", "data_gaps", "partner_id",
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
    "month": "expected_close_month",
}


def opportunities(settings: Settings, filters: Filters) -> Answer:
    """List opportunities, newest change last unless sorted; raises Usage for an unknown column, stage or period."""
    return _show(settings, OPPORTUNITIES, _OPPORTUNITY_COLUMNS, filters, "updated_position")


def partners(settings: Settings, filters: Filters) -> Answer:
    """List partners by name unless sorted; raises Usage."""
    return _show(settings, PARTNERS, _PARTNER_COLUMNS, filters, "partner")


def performance(settings: Settings, filters: Filters) -> Answer:
    """List partners' months, the latest first unless sorted; in a period those that begin in it. Raises Usage."""
    return _show(settings, PERFORMANCE, _PERFORMANCE_COLUMNS, filters, "-month")


def scorecard(settings: Settings, filters: Filters) -> Answer:
    """List partners as of today by rank unless sorted; raises Usage."""
    return _show(settings, SCORECARDS, _SCORECARD_COLUMNS, filters, "won_rank")


def goals(settings: Settings, filters: Filters) -> Answer:
    """List goals by partner unless sorted, in a period those that share a day with it; raises Usage."""
    return _show(settings, GOALS, _GOAL_COLUMNS, filters, "partner")


def conflicts(settings: Settings, filters: Filters) -> Answer:
    """List conflicts, newest last unless sorted; a partner is either side's, a period that of finding; raises Usage."""
    return _show(settings, CONFLICTS, _CONFLICT_COLUMNS, filters, "found_at")


def deadlines(settings: Settings, filters: Filters) -> Answer:
    """List what is due, the earliest first unless sorted; raises Usage."""
    return _show(settings, DEADLINES, _DEADLINE_COLUMNS, filters, "due_at")


def leads(settings: Settings, filters: Filters) -> Answer:
    """List leads, what is due first on top unless sorted; a period is that of coming in; raises Usage."""
    return _show(settings, LEADS, _LEAD_COLUMNS, filters, "next_deadline_at")


def registrations(settings: Settings, filters: Filters) -> Answer:
    """List registered leads, newest last unless sorted; a period is that of submission; raises Usage."""
    return _show(settings, REGISTRATIONS, _REGISTRATION_COLUMNS, filters, "submitted_at")


def protected_customers(settings: Settings, filters: Filters) -> Answer:
    """List the running protections, those that end first on top unless sorted; a period is that of the end."""
    return _show(settings, PROTECTED, _BOOK_COLUMNS, filters, "protected_until")


def offers(settings: Settings, filters: Filters) -> Answer:
    """List offers, newest last unless sorted; a period is that of offering; raises Usage."""
    return _show(settings, OFFERS, _OFFER_COLUMNS, filters, "offered_at")


def pipeline(settings: Settings, filters: Filters) -> Answer:
    """Count and sum opportunities by the given dimensions and currency; raises Usage."""
    unknown = [name for name in filters.by if name not in _DIMENSIONS]
    if unknown or not filters.by:
        raise Usage(f"pipeline can be shown by {', '.join(_DIMENSIONS)}; not by {', '.join(unknown) or 'nothing'}")
    names = {**{name: _DIMENSIONS[name] for name in filters.by}, "currency": "currency", "opportunities": "count"}
    names |= {"amount": "amount", "weighted_amount": "weighted_amount"}
    if filters.sort and filters.sort.removeprefix("-") not in names:
        raise Usage(f"sort by one of {', '.join(names)}")
    column = names.get((filters.sort or "").removeprefix("-"), "")
    sort = f"-{column}" if (filters.sort or "").startswith("-") else column
    asked = _asked(OPPORTUNITIES, filters, sort)
    asked = replace(asked, groups=tuple(_DIMENSIONS[name] for name in filters.by))
    with _Reading(settings) as (cursor, here):
        items = answers.sums(cursor, OPPORTUNITIES, checked(OPPORTUNITIES, asked, here.today), here)
    return Answer(list(names), [tuple(item[name] for name in names.values()) for item in items])


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

_PERIODS: Final[Mapping[str, str]] = {
    "opportunities": "due",
    "leads": "created",
    "registrations": "created",
    "protected-customers": "protected_until",
    "offers": "created",
    "conflicts": "created",
    "deadlines": "due",
}  # the filter that a period means; of the others it has its own name


def _show(settings: Settings, one: List, columns: Sequence[str], filters: Filters, default: str) -> Answer:
    if filters.sort and filters.sort.removeprefix("-") not in columns:
        raise Usage(f"sort by one of {', '.join(columns)}")
    asked = _asked(one, filters, filters.sort or default)
    with _Reading(settings) as (cursor, here):
        items = answers.page(cursor, one, checked(one, asked, here.today), here).items
    return Answer(list(columns), [tuple(item[name] for name in columns) for item in items])


def _asked(one: List, filters: Filters, sort: str) -> Asked:
    if filters.stage and filters.stage not in ORDER_OF_STAGES:
        raise Usage(f"there is no stage {filters.stage}; there are: {', '.join(ORDER_OF_STAGES)}")
    given = {
        "stage": filters.stage,
        "partner": filters.partner,
        "status": filters.status,
        "territory": filters.territory,
        _PERIODS.get(one.name, "period"): filters.period,
    }
    wanted = {name: (value,) for name, value in given.items() if value}
    return Asked(wanted, sort, filters.limit)


class _Reading:
    """A cursor on the views as the reader, and where it asks."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __enter__(self) -> tuple[Any, Surroundings]:
        self._connection = psycopg2.connect(self._settings.dsn("reader"))
        here = Surroundings(self._settings.read_schema, self._settings.report_tz, date.today())  # noqa: DTZ011
        return self._connection.cursor(), here

    def __exit__(self, *_exc: object) -> None:
        self._connection.close()
