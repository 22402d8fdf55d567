"""What each list looks like as a table: columns in the words of people, the filters at hand, the views given."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from prm_es.api.pages.words import _n


@dataclass(frozen=True, slots=True)
class Column:
    """A column by its name in the list.

    `kind` says how its values are written, `of` what belongs to it: the kind of a code, the column of the currency.
    `under` is a column whose value stands below in small print.
    """

    name: str
    title: str
    kind: str = "text"
    of: str = ""
    under: str = ""
    vendor_only: bool = False


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter offered above the table: codes to choose from, a yes or no, a range, or words to find."""

    name: str
    title: str
    kind: str = "code"
    of: str = ""
    vendor_only: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A list as a page.

    `tabs` are views that everybody has: a title and a query. `link` opens a row. `find` is the filter that a few
    letters are looked for with. `first` is the query with which a partner's people begin, the first tab's if empty.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    link: str
    row_key: str
    tabs: tuple[tuple[str, str], ...] = ()
    filters: tuple[Filter, ...] = ()
    more: tuple[Filter, ...] = ()
    groups: tuple[tuple[str, str], ...] = ()
    live: tuple[str, ...] = ()
    vendor_only: bool = False
    empty: str = ""
    find: str = "text"
    first: str = ""


_PARTNER = Column("partner", _n("Partner"), vendor_only=True)
_DUE = Filter("due", _n("Close"), "period")
_CREATED = Filter("created", _n("Came in"), "period")
_ENDS = Filter("protected_until", _n("Ends"), "period")
_PERIOD = Filter("period", _n("Period"), "period")
_CURRENCY = Filter("currency", _n("Currency"), "currency")
_AMOUNT = Filter("amount", _n("Amount"), "range")
_LINE = Filter("product_line", _n("Product line"), "text")
_PARTNER_FILTER = Filter("partner", _n("Partner"), "text", vendor_only=True)
_TERRITORY = Filter("territory", _n("Territory"), "text", vendor_only=True)
_MANAGER = Filter("channel_manager", _n("Channel manager"), "text", vendor_only=True)
_OWNER = Filter("owner", _n("Owner"), "text")
_DEAL_TYPE = Filter("deal_type", _n("Kind of deal"), of="deal_type")

OPPORTUNITIES: Final = Table(
    "opportunities",
    _n("Opportunities"),
    (
        Column("name", _n("Opportunity"), "title", under="customer"),
        _PARTNER,
        Column("stage", _n("Stage"), "pill", "stage"),
        Column("amount", _n("Amount"), "money", "currency"),
        Column("expected_close_on", _n("Expected close"), "due"),
        Column("next_action", _n("Next action"), "next", "next_action_due_on"),
        Column("days_in_stage", _n("Days here"), "number"),
        Column("flags", _n("Signs"), "deal_flags"),
    ),
    "/opportunities/{opportunity_id}",
    "opportunity_id",
    (
        (_n("Open"), "status=open&sort=-amount"),
        (_n("Overdue"), "status=open&overdue=true"),
        (_n("Stalled"), "status=open&stalled=true"),
        (_n("Commit"), "status=open&forecast_category=commit&sort=expected_close_on"),
        (_n("Won"), "status=won&sort=-closed_on"),
        (_n("Lost"), "status=lost&sort=-closed_on"),
        (_n("All"), ""),
    ),
    (Filter("stage", _n("Stage"), of="stage"), _CURRENCY, _DUE),
    (
        _PARTNER_FILTER,
        _TERRITORY,
        _MANAGER,
        _OWNER,
        _DEAL_TYPE,
        _LINE,
        Filter("forecast_category", _n("Forecast"), of="forecast"),
        _AMOUNT,
    ),
    (("stage", _n("Stage")), ("partner", _n("Partner")), ("territory", _n("Territory")), ("owner", _n("Owner"))),
    ("opportunities",),
    empty=_n("No opportunity matches. Take a filter away to see more."),
)

LEADS: Final = Table(
    "leads",
    _n("Leads"),
    (
        Column("customer", _n("Customer"), "title", under="external_id"),
        _PARTNER,
        Column("status", _n("Status"), "pill", "lead_status"),
        Column("sla_colour", _n("Decision"), "sla"),
        Column("next_deadline_at", _n("Next"), "deadline", "next_deadline"),
        Column("amount", _n("Amount"), "money", "currency"),
        Column("came_in_at", _n("Came in"), "relative"),
        Column("product_lines", _n("Product lines"), "list"),
        Column("flags", _n("Signs"), "lead_flags"),
    ),
    "/leads/{lead_id}",
    "lead_id",
    (
        (_n("To decide"), "status=submitted,in_review&sort=sla_due_at"),
        (_n("With the partner"), "status=action_required&sort=next_deadline_at"),
        (_n("To hand out"), "status=new,qualified&sort=-came_in_at"),
        (_n("Handed out"), "status=offered,accepted,contacted,working&sort=next_deadline_at"),
        (_n("Protected"), "status=approved&sort=protected_until"),
        (_n("All"), "sort=-came_in_at"),
    ),
    (
        Filter("status", _n("Status"), of="lead_status"),
        Filter("sla_colour", _n("Decision"), of="sla"),
        _CREATED,
    ),
    (
        _PARTNER_FILTER,
        _TERRITORY,
        _MANAGER,
        _OWNER,
        _DEAL_TYPE,
        _LINE,
        _CURRENCY,
        _AMOUNT,
        Filter("origin", _n("Origin"), of="origin"),
        Filter("in_conflict", _n("In conflict"), "flag"),
        Filter("overdue", _n("Overdue"), "flag"),
    ),
    (("status", _n("Status")), ("partner", _n("Partner")), ("owner", _n("Owner"))),
    ("leads",),
    empty=_n("Nothing waits here."),
    first="sort=-came_in_at",
)

REGISTRATIONS: Final = Table(
    "registrations",
    _n("Registrations"),
    (
        Column("customer", _n("Customer"), "title", under="external_id"),
        _PARTNER,
        Column("status", _n("Status"), "pill", "lead_status"),
        Column("decision", _n("Decision"), "decision"),
        Column("amount", _n("Amount"), "money", "currency"),
        Column("submitted_at", _n("Submitted"), "day"),
        Column("decided_in", _n("Decided in"), "span"),
        Column("protected_until", _n("Protected until"), "until", "days_left"),
        Column("product_lines", _n("Product lines"), "list"),
    ),
    "/leads/{lead_id}",
    "lead_id",
    (
        (_n("All"), "sort=-submitted_at"),
        (_n("Undecided"), "status=submitted,in_review,action_required&sort=submitted_at"),
        (_n("Approved"), "decision=approved&sort=-decided_at"),
        (_n("Rejected"), "decision=rejected&sort=-decided_at"),
    ),
    (Filter("status", _n("Status"), of="lead_status"), _CURRENCY, _CREATED),
    (_PARTNER_FILTER, _TERRITORY, _OWNER, _DEAL_TYPE, _LINE, _AMOUNT),
    (("status", _n("Status")), ("partner", _n("Partner")), ("reject_reason", _n("Reason for the rejection"))),
    ("registrations", "leads"),
    empty=_n("No registration matches."),
)

OFFERS: Final = Table(
    "offers",
    _n("Offers"),
    (
        Column("customer", _n("Customer"), "title", under="country"),
        _PARTNER,
        Column("answer", _n("Answer"), "pill", "answer"),
        Column("respond_by", _n("Answer by"), "deadline"),
        Column("amount", _n("Amount"), "money", "currency"),
        Column("product_lines", _n("Product lines"), "list"),
        Column("offered_at", _n("Offered"), "relative"),
        Column("answered_in", _n("Answered in"), "span"),
        Column("reason", _n("Reason"), "code", "decline_reason"),
    ),
    "/leads/{lead_id}",
    "lead_id",
    (
        (_n("Waiting"), "status=open&sort=respond_by"),
        (_n("Accepted"), "status=accepted&sort=-answered_at"),
        (_n("Declined"), "status=declined&sort=-answered_at"),
        (_n("All"), "sort=-offered_at"),
    ),
    (Filter("status", _n("Answer"), of="answer"), _CREATED),
    (_TERRITORY, _LINE, _CURRENCY),
    (("status", _n("Answer")), ("partner", _n("Partner"))),
    ("offers", "leads"),
    empty=_n("No offer matches."),
    find="partner",
)

PROTECTED: Final = Table(
    "protected-customers",
    _n("Protected customers"),
    (
        Column("customer", _n("Customer"), "title", under="country"),
        _PARTNER,
        Column("product_lines", _n("Product lines"), "list"),
        Column("protected_from", _n("From"), "day"),
        Column("protected_until", _n("Until"), "until", "days_left"),
        Column("extensions", _n("Extensions"), "number"),
        Column("extension_requested_at", _n("Extension asked"), "relative"),
        Column("status", _n("Lead"), "pill", "lead_status"),
        Column("owner", _n("Owner")),
    ),
    "/leads/{lead_id}",
    "lead_id",
    (
        (_n("Ending first"), "sort=protected_until"),
        (_n("Newest"), "sort=-protected_from"),
    ),
    (_ENDS,),
    (_PARTNER_FILTER, _TERRITORY, _OWNER, _LINE),
    (("partner", _n("Partner")), ("territory", _n("Territory"))),
    ("protected-customers", "leads"),
    empty=_n("No protection runs."),
)

PARTNERS: Final = Table(
    "partners",
    _n("Partners"),
    (
        Column("partner", _n("Partner"), "title", under="legal_name"),
        Column("status", _n("Status"), "pill", "partner_status"),
        Column("types", _n("Kind"), "codes", "partner_type"),
        Column("tier", _n("Tier"), "tier"),
        Column("country", _n("Country")),
        Column("territories", _n("Territories"), "list"),
        Column("channel_manager", _n("Channel manager")),
        Column("parent", _n("Parent")),
        Column("since", _n("Since"), "month"),
        Column("data_gaps", _n("Gaps"), "gaps"),
        Column("product_lines", _n("Product lines"), "list"),
    ),
    "/partners/{partner_id}",
    "partner_id",
    (
        (_n("Active"), "status=active&sort=partner"),
        (_n("On the way in"), "status=invited,applied,under_review,approved,onboarding&sort=partner"),
        (_n("All"), "sort=partner"),
    ),
    (Filter("status", _n("Status"), of="partner_status"),),
    (_TERRITORY, _MANAGER, _LINE),
    (("status", _n("Status")), ("channel_manager", _n("Channel manager")), ("tier", _n("Tier"))),
    ("partners",),
    vendor_only=True,
    empty=_n("No partner matches."),
)

SCORECARDS: Final = Table(
    "scorecards",
    _n("Scorecard"),
    (
        Column("partner", _n("Partner"), "title", under="tier"),
        Column("currency", _n("Currency")),
        Column("won_rank", _n("Rank"), "rank"),
        Column("won_amount_12_months", _n("Won, 12 months"), "money", "currency"),
        Column("attainment_percent", _n("Goal"), "attainment", "pace_percent"),
        Column("win_rate", _n("Win rate"), "share"),
        Column("average_deal", _n("Average deal"), "money", "currency"),
        Column("cycle_days_median_won", _n("Days to win"), "number"),
        Column("open_amount", _n("Open pipeline"), "money", "currency"),
        Column("open_deals", _n("Open deals"), "number"),
        Column("approval_rate", _n("Approved"), "share"),
        Column("last_act_at", _n("Last act"), "last_act"),
    ),
    "/partners/{partner_id}",
    "partner_id",
    (
        (_n("By rank"), "sort=won_rank"),
        (_n("Behind the goal"), "sort=pace_percent"),
        (_n("At risk"), "at_risk=true&sort=last_act_at"),
    ),
    (_CURRENCY,),
    (_TERRITORY, _MANAGER),
    (),
    ("scorecards",),
    vendor_only=True,
    empty=_n("No partner matches."),
    find="partner",
)

GOALS: Final = Table(
    "goals",
    _n("Goals"),
    (
        Column("partner", _n("Partner"), "title", under="owner"),
        Column("metric", _n("Goal for"), "code", "metric"),
        Column("period", _n("Period"), "period"),
        Column("product_line", _n("Product line")),
        Column("target", _n("Target"), "money", "currency"),
        Column("actual", _n("Reached"), "money", "currency"),
        Column("attainment_percent", _n("Attainment"), "attainment", "pace_percent"),
        Column("gap", _n("Gap"), "money", "currency"),
        Column("coverage", _n("Coverage"), "factor"),
    ),
    "/partners/{partner_id}",
    "goal_id",
    (
        (_n("Running"), "current=true&sort=pace_percent"),
        (_n("All"), "sort=partner"),
    ),
    (Filter("metric", _n("Goal for"), of="metric"), _CURRENCY, _PERIOD),
    (_OWNER, Filter("status", _n("Status"), of="goal_status")),
    (),
    ("goals",),
    empty=_n("No goal matches."),
    find="partner",
)

TABLES: Final[Mapping[str, Table]] = {
    one.name: one for one in (OPPORTUNITIES, LEADS, REGISTRATIONS, OFFERS, PROTECTED, PARTNERS, SCORECARDS, GOALS)
}
