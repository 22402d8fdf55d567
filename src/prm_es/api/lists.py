"""Every list there is: the view that it reads, its columns, what it can be filtered and grouped by.

A new list is an entry here. A column's type is PostgreSQL's; a money column names the column of its currency, for a sum
never mixes currencies.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from prm_es.errors import Usage

FilterKind = Literal[
    "one_of", "partner", "of_partner", "among", "flag", "lowest", "highest", "period", "text", "during"
]

SEARCHED: Final = "searched"  # the column of a view that a text is looked for in, no part of what is shown

# What shrinks while one looks at it would move under the pages: it is sorted by what stands still.
_SORTED_AS: Final[Mapping[str, str]] = {"due_in": "due_at", "sla_left": "sla_due_at", "time_left": "respond_by"}


@dataclass(frozen=True, slots=True)
class Filter:
    """One thing to filter by.

    one_of: a column equals one of the values. partner: ids, or parts of names. of_partner: a column of the partner (or
    of either, where the list has two). among: a value is in an array. flag: a column is true or false. lowest, highest:
    bounds of a range, both inclusive. period: a day or time lies in it. during: two days enclose a part of it. text: a
    part of what the column holds in lower case.
    """

    kind: FilterKind
    columns: tuple[str, ...]
    about: str


@dataclass(frozen=True, slots=True)
class List:
    """One list. `key` makes the order of rows total; `measures` can be summed, with the column of their currency.

    `summed` says that its rows are sums themselves, by partner.
    """

    name: str
    view: str
    model: str
    about: str
    key: tuple[str, ...]
    columns: Mapping[str, str]
    filters: Mapping[str, Filter]
    sort: str
    groups: Mapping[str, str] = field(default_factory=dict)
    measures: Mapping[str, str | None] = field(default_factory=dict)
    partners: tuple[str, ...] = ("partner_id",)
    summed: bool = False

    def compared(self, sort: str) -> str:
        """Give the column that rows sorted so are compared by."""
        column = sort.removeprefix("-")
        return _SORTED_AS.get(column, column)


def _columns(text: str) -> dict[str, str]:
    """Read `name type, name type`; a column without a type is text."""
    words = [one.split() for one in text.split(",")]
    return {name: "".join(kind) or "text" for name, *kind in words}


def _one_of(about: str, *columns: str) -> Filter:
    return Filter("one_of", columns, about)


def _period(about: str, *columns: str) -> Filter:
    return Filter("period", columns, about)


def _flag(about: str, column: str) -> Filter:
    return Filter("flag", (column,), about)


_PARTNER: Final = {
    "partner": Filter("partner", (), "Id of a partner, or part of its name."),
    "territory": Filter("of_partner", ("territories",), "Territory of the partner."),
    "channel_manager": Filter("of_partner", ("channel_manager",), "Who looks after the partner."),
}
_LINE: Final = {"product_line": Filter("among", ("product_lines",), "Product line.")}
_CURRENCY: Final = {"currency": _one_of("ISO 4217 code.", "currency")}
_DEAL: Final = {
    **_LINE,
    "deal_type": _one_of("new, expansion or renewal.", "deal_type"),
    **_CURRENCY,
    "amount_from": Filter("lowest", ("amount",), "At least this amount, in each row's currency."),
    "amount_to": Filter("highest", ("amount",), "At most this amount, in each row's currency."),
    "owner": _one_of("Who works it.", "owner"),
}
_MONTH: Final = "date_trunc('month', {}::timestamp)::date"

OPPORTUNITIES: Final = List(
    name="opportunities",
    view="opportunities",
    model="pipeline",
    about="Every opportunity as it stands.",
    key=("opportunity_id",),
    columns=_columns(
        "external_id, name, partner, territory, customer, product_lines text[], stage, status, forecast_category,"
        " probability integer, amount numeric, currency, weighted_amount numeric, deal_type, owner,"
        " opened_at timestamptz, engaged_on date, expected_close_on date, closed_on date, lost_reason,"
        " stage_entered_at timestamptz, days_in_stage integer, age_days integer, next_action, next_action_due_on date,"
        " overdue boolean, stalled boolean, stalled_at timestamptz, data_gaps text[], touched_at timestamptz,"
        " updated_position bigint, lead_id uuid, partner_id uuid, opportunity_id uuid"
    ),
    filters={
        **_PARTNER,
        "stage": _one_of("Stage.", "stage"),
        "status": _one_of("open, won or lost.", "status"),
        "forecast_category": _one_of("pipeline, best_case, commit, closed or omitted.", "forecast_category"),
        **_DEAL,
        "lost_reason": _one_of("Why it was lost.", "lost_reason"),
        "created": _period("When it was opened.", "opened_at"),
        "updated": _period("When something last happened on it.", "touched_at"),
        "expected_close": _period("When it is expected to close.", "expected_close_on"),
        "closed": _period("When it was won or lost.", "closed_on"),
        "due": _period("When it closed, or is expected to.", "closed_on", "expected_close_on"),
        "overdue": _flag("Whether its next action or expected close lies in the past.", "overdue"),
        "stalled": _flag("Whether nothing has happened for too long.", "stalled"),
        "text": Filter("text", (SEARCHED,), "Part of its name, customer or external id."),
    },
    sort="-opened_at",
    groups={
        "stage": "stage",
        "status": "status",
        "forecast_category": "forecast_category",
        "partner": "partner",
        "territory": "territory",
        "owner": "owner",
        "deal_type": "deal_type",
        "lost_reason": "lost_reason",
        "expected_close_month": _MONTH.format("expected_close_on"),
        "closed_month": _MONTH.format("closed_on"),
    },
    measures={"amount": "currency", "weighted_amount": "currency"},
)
LEADS: Final = List(
    name="leads",
    view="leads",
    model="leads",
    about="Every lead as it stands.",
    key=("lead_id",),
    columns=_columns(
        "external_id, origin, status, partner, territory, channel_manager, customer, country, product_lines text[],"
        " deal_type, amount numeric, currency, expected_close_on date, submitted_by, owner, source, score integer,"
        " came_in_at timestamptz, age_days integer, sla_colour, sla_due_at timestamptz, sla_left interval,"
        " sla_breached boolean, next_deadline, next_deadline_at timestamptz, overdue boolean, respond_by timestamptz,"
        " screened boolean, in_conflict boolean, held_until timestamptz, asked_for text[], decision,"
        " decided_at timestamptz, reject_reason, disqualify_reason, protected_until timestamptz,"
        " extension_requested_at timestamptz, orphaned boolean, data_gaps text[], touched_at timestamptz,"
        " place_position bigint, updated_position bigint, partner_id uuid, opportunity_id uuid, lead_id uuid"
    ),
    filters={
        **_PARTNER,
        "origin": _one_of("registered or captured.", "origin"),
        "status": _one_of("Status.", "status"),
        "sla_colour": _one_of("green, amber, red or grey.", "sla_colour"),
        "decision": _one_of("approved or rejected.", "decision"),
        "next_deadline": _one_of("What is due next.", "next_deadline"),
        **_DEAL,
        "country": _one_of("Country of the customer.", "country"),
        "created": _period("When it came in.", "came_in_at"),
        "updated": _period("When somebody last did something on it.", "touched_at"),
        "expected_close": _period("When it is expected to close.", "expected_close_on"),
        "decided": _period("When it was decided.", "decided_at"),
        "overdue": _flag("Whether its next deadline lies in the past.", "overdue"),
        "in_conflict": _flag(
            "Whether another lead is the same customer, surely or probably, undecided.", "in_conflict"
        ),
        "screened": _flag("Whether it was screened as it is now.", "screened"),
        "orphaned": _flag("Whether its partner is gone.", "orphaned"),
        "text": Filter("text", (SEARCHED,), "Part of its customer's name or external id."),
    },
    sort="-came_in_at",
    groups={
        "status": "status",
        "origin": "origin",
        "partner": "partner",
        "territory": "territory",
        "channel_manager": "channel_manager",
        "owner": "owner",
        "sla_colour": "sla_colour",
        "decision": "decision",
        "country": "country",
        "created_month": "date_trunc('month', came_in_at AT TIME ZONE {tz})::date",
    },
    measures={"amount": "currency"},
)
REGISTRATIONS: Final = List(
    name="registrations",
    view="registrations",
    model="leads",
    about="Every registered lead with its course.",
    key=("lead_id",),
    columns=_columns(
        "external_id, partner, territory, customer, product_lines text[], deal_type, amount numeric, currency,"
        " submitted_by, owner, submitted_at timestamptz, status, asked_for text[], answer_by timestamptz,"
        " held_until timestamptz, decision, decided_at timestamptz, decided_in interval, reject_reason,"
        " sla_breached boolean, protected_from timestamptz, protected_until timestamptz, days_left integer,"
        " extensions integer, extension_requested_at timestamptz, unprotected_at timestamptz, unprotected_by,"
        " converted boolean, converted_at timestamptz, data_gaps text[], updated_position bigint, partner_id uuid,"
        " opportunity_id uuid, lead_id uuid"
    ),
    filters={
        **_PARTNER,
        "status": _one_of("Status.", "status"),
        "decision": _one_of("approved or rejected.", "decision"),
        "reject_reason": _one_of("Why it was rejected.", "reject_reason"),
        **_DEAL,
        "created": _period("When it was submitted.", "submitted_at"),
        "decided": _period("When it was decided.", "decided_at"),
        "protected_until": _period("When its protection ends.", "protected_until"),
        "converted": _flag("Whether it became an opportunity.", "converted"),
        "sla_breached": _flag("Whether its last decision was late.", "sla_breached"),
        "text": Filter("text", (SEARCHED,), "Part of its customer's name or external id."),
    },
    sort="-submitted_at",
    groups={
        "status": "status",
        "decision": "decision",
        "reject_reason": "reject_reason",
        "partner": "partner",
        "territory": "territory",
        "created_month": "date_trunc('month', submitted_at AT TIME ZONE {tz})::date",
    },
    measures={"amount": "currency"},
)
PROTECTED: Final = List(
    name="protected-customers",
    view="protected_customers",
    model="leads",
    about="The book: the protections that run.",
    key=("lead_id",),
    columns=_columns(
        "customer, customer_keys text[], country, product_lines text[], partner, territory,"
        " protected_from timestamptz, protected_until timestamptz, days_left integer, extensions integer,"
        " extension_requested_at timestamptz, next_reminder_at timestamptz, owner, origin, status,"
        " updated_position bigint, partner_id uuid, opportunity_id uuid, lead_id uuid"
    ),
    filters={
        **_PARTNER,
        **_LINE,
        "owner": _one_of("Who works it.", "owner"),
        "country": _one_of("Country of the customer.", "country"),
        "origin": _one_of("registered or captured.", "origin"),
        "status": _one_of("Status of the lead.", "status"),
        "protected_until": _period("When the protection ends.", "protected_until"),
        "text": Filter("text", (SEARCHED,), "Part of the customer's name."),
    },
    sort="protected_until",
    groups={"partner": "partner", "territory": "territory", "country": "country", "status": "status"},
)
OFFERS: Final = List(
    name="offers",
    view="offers",
    model="leads",
    about="Every offer of a captured lead to a partner.",
    key=("lead_id", "number"),
    columns=_columns(
        "partner, territory, customer, country, product_lines text[], amount numeric, currency, strategy,"
        " offered_at timestamptz, respond_by timestamptz, time_left interval, overdue boolean, opened_at timestamptz,"
        " answer, answered_at timestamptz, answered_in interval, reason, number integer, partner_id uuid, lead_id uuid"
    ),
    filters={
        **_PARTNER,
        "status": _one_of("What was answered: open, accepted, declined, expired, recalled, transferred.", "answer"),
        "reason": _one_of("Why it was declined.", "reason"),
        **_LINE,
        **_CURRENCY,
        "country": _one_of("Country of the customer.", "country"),
        "created": _period("When it was offered.", "offered_at"),
        "overdue": _flag("Whether the answer is late.", "overdue"),
    },
    sort="-offered_at",
    groups={"status": "answer", "reason": "reason", "partner": "partner", "territory": "territory"},
)
CONFLICTS: Final = List(
    name="conflicts",
    view="lead_conflicts",
    model="conflicts",
    about="Leads of different holders about the same customer.",
    key=("first_lead_id", "second_lead_id", "round"),
    columns=_columns(
        "status, strength, score numeric, sentence, customer, matched_keys text[], common_product_lines text[],"
        " first_kind, first_partner, first_state, first_came_at timestamptz, first_protected_until timestamptz,"
        " second_kind, second_partner, second_state, second_came_at timestamptz, second_protected_until timestamptz,"
        " first_by interval, found_at timestamptz, outcome, ended_at timestamptz, ended_because,"
        " found_position bigint, decided_position bigint, round integer,"
        " first_partner_id uuid, second_partner_id uuid, first_lead_id uuid, second_lead_id uuid"
    ),
    filters={
        **_PARTNER,
        "status": _one_of("open, decided or past.", "status"),
        "strength": _one_of("hard or probable.", "strength"),
        "outcome": _one_of("What was decided.", "outcome"),
        "product_line": Filter("among", ("common_product_lines",), "Product line that both name."),
        "created": _period("When it was found.", "found_at"),
        "text": Filter("text", (SEARCHED,), "Part of the customer's name."),
    },
    sort="-found_at",
    groups={"status": "status", "strength": "strength", "outcome": "outcome"},
    partners=("first_partner_id", "second_partner_id"),
)
PARTNERS: Final = List(
    name="partners",
    view="partners",
    model="pipeline",
    about="Every partner as it stands.",
    key=("partner_id",),
    columns=_columns(
        "external_id, partner, legal_name, status, types text[], country, territories text[], tier, channel_manager,"
        " parent, on_notice boolean, since timestamptz, product_lines text[], data_gaps text[],"
        " updated_position bigint, parent_id uuid, partner_id uuid"
    ),
    filters={
        **_PARTNER,
        "status": _one_of("Status.", "status"),
        "type": Filter("among", ("types",), "Type of partner."),
        **_LINE,
        "tier": _one_of("Tier.", "tier"),
        "country": _one_of("ISO 3166 code.", "country"),
        "on_notice": _flag("Whether a notice stands.", "on_notice"),
        "created": _period("When it was first heard of.", "since"),
        "text": Filter("text", (SEARCHED,), "Part of a name or external id."),
    },
    sort="partner",
    groups={"status": "status", "tier": "tier", "country": "country", "channel_manager": "channel_manager"},
)
PERFORMANCE: Final = List(
    name="performance",
    view="partner_performance",
    model="performance",
    summed=True,
    about="Each partner's months.",
    key=("partner_id", "month", "currency"),
    columns=_columns(
        "partner, month date, currency, registered bigint, registered_amount numeric, approved bigint,"
        " rejected bigint, rejected_by_reason jsonb, decided bigint, approval_rate numeric,"
        " decision_hours_median numeric, decision_hours_p90 numeric, within_sla_share numeric,"
        " approved_converted bigint, converted_share numeric, approved_expired bigint, expired_share numeric,"
        " offers bigint, offers_accepted bigint, accept_rate numeric, accept_hours_median numeric, converted bigint,"
        " won bigint, lost bigint, win_rate numeric, won_amount numeric, lost_amount numeric,"
        " win_rate_by_value numeric, average_deal numeric, cycle_days_median_won numeric,"
        " cycle_days_mean_closed numeric, activities bigint, goal numeric, attainment_percent numeric,"
        " pace_percent numeric, gap numeric, coverage numeric, partner_id uuid"
    ),
    filters={**_PARTNER, **_CURRENCY, "period": _period("Months that begin in it.", "month")},
    sort="-month",
    groups={"partner": "partner", "month": "month"},
    measures={
        "registered": None,
        "approved": None,
        "rejected": None,
        "offers": None,
        "converted": None,
        "won": None,
        "lost": None,
        "activities": None,
        "registered_amount": "currency",
        "won_amount": "currency",
        "lost_amount": "currency",
        "goal": "currency",
    },
)
SCORECARDS: Final = List(
    name="scorecards",
    view="partner_scorecard",
    model="performance",
    summed=True,
    about="Each partner as of today.",
    key=("partner_id", "currency"),
    columns=_columns(
        "partner, currency, status, tier, channel_manager, territories text[], won_rank bigint,"
        " won_amount_12_months numeric, won_12_months bigint, lost_12_months bigint, lost_amount_12_months numeric,"
        " win_rate numeric, win_rate_by_value numeric, average_deal numeric, cycle_days_median_won numeric,"
        " cycle_days_mean_closed numeric, won_month bigint, won_amount_month numeric, lost_month bigint,"
        " won_quarter bigint, won_amount_quarter numeric, open_deals bigint, open_amount numeric,"
        " weighted_amount numeric, stalled bigint, overdue bigint, live_registrations bigint, approval_rate numeric,"
        " last_act_at timestamptz, at_risk boolean, dormant boolean, goal_period, goal numeric, goal_actual numeric,"
        " attainment_percent numeric, pace_percent numeric, gap numeric, coverage numeric, goals jsonb,"
        " partner_id uuid"
    ),
    filters={
        **_PARTNER,
        **_CURRENCY,
        "status": _one_of("Status of the partner.", "status"),
        "tier": _one_of("Tier.", "tier"),
        "at_risk": _flag("Whether it has not acted for 90 days.", "at_risk"),
        "dormant": _flag("Whether it has not acted for 180 days.", "dormant"),
    },
    sort="won_rank",
)
GOALS: Final = List(
    name="goals",
    view="goals",
    model="performance",
    about="Goals and what was reached.",
    key=("partner_id", "goal_id"),
    columns=_columns(
        "partner, metric, period, first_on date, last_on date, product_line, currency, target numeric, actual numeric,"
        " attainment_percent numeric, pace_percent numeric, elapsed_share numeric, gap numeric, coverage numeric,"
        " owner, status, current boolean, goal_id uuid, partner_id uuid"
    ),
    filters={
        **_PARTNER,
        **_CURRENCY,
        "metric": _one_of("What is counted.", "metric"),
        "status": _one_of("Status of the goal.", "status"),
        "owner": _one_of("Whose goal it is.", "owner"),
        "product_line": _one_of("Product line; goals of all lines have none.", "product_line"),
        "current": _flag("Whether it runs today.", "current"),
        "period": Filter("during", ("first_on", "last_on"), "Goals that share a day with it."),
    },
    sort="partner",
)
DEADLINES: Final = List(
    name="deadlines",
    view="deadlines",
    model="deadlines",
    about="What is due when.",
    key=("aggregate_id", "kind", "due_at"),
    columns=_columns(
        "due_at timestamptz, due_in interval, kind, overdue boolean, over_when_set boolean, partner, channel_manager,"
        " aggregate, set_position bigint, partner_id uuid, aggregate_id uuid"
    ),
    filters={
        **_PARTNER,
        "kind": _one_of("The command that is due.", "kind"),
        "aggregate": _one_of("lead or opportunity.", "aggregate"),
        "overdue": _flag("Whether it is due and not answered yet.", "overdue"),
        "over_when_set": _flag("Whether it was over when it was set.", "over_when_set"),
        "due": _period("When it is due.", "due_at"),
    },
    sort="due_at",
    groups={"kind": "kind", "partner": "partner", "channel_manager": "channel_manager"},
)

LISTS: Final[Mapping[str, List]] = {
    one.name: one
    for one in (
        OPPORTUNITIES,
        LEADS,
        REGISTRATIONS,
        PROTECTED,
        OFFERS,
        CONFLICTS,
        PARTNERS,
        PERFORMANCE,
        SCORECARDS,
        GOALS,
        DEADLINES,
    )
}


def named(name: str) -> List:
    """Give the list with this name; raises Usage with the names there are."""
    try:
        return LISTS[name]
    except KeyError:
        raise Usage(f"there is no list {name}; there are: {', '.join(LISTS)}") from None
