"""The judge's own reading of the log: what the rows of the read models must be, folded in one pass over plain JSON.

Nothing here is the product's: events are dictionaries, rows are dictionaries, and what an event does stands in tables
of names. Values are compared in a plain form: times as ISO texts in UTC, ids and exact numbers as texts.
Left to `reconcile` are the customers' and people's values in clear, and what rivals.py leaves to it.
"""

import re
from calendar import monthrange
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from tests.chaos.rivals import Rivals

Row = dict[str, Any]
Table = dict[Any, Row]

KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "partner": ("partner_id",),
    "opportunity": ("opportunity_id",),
    "stage_visit": ("opportunity_id", "number"),
    "authorisation": ("partner_id", "product_line"),
    "lead": ("lead_id",),
    "offer": ("lead_id", "number"),
    "lead_match": ("lead_id", "other_lead_id"),
    "deal": ("opportunity_id",),
    "won_customer": ("opportunity_id", "customer_key"),
    "act": ("aggregate_id", "partner_id"),
    "activity": ("aggregate_id", "partner_id", "happened_on"),
    "goal": ("partner_id", "goal_id"),
    "holder": ("aggregate_id",),
    "deadline": ("aggregate_id", "kind", "due_at"),
    "held": ("lead_id",),
}
PARTNER_MODELS: Final = ("pipeline", "leads", "performance", "deadlines", "conflicts")


def key(row: Row, table: str) -> tuple[Any, ...]:
    return tuple(plain(row[name]) for name in KEYS[table])


def plain(value: Any) -> Any:
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat()
        case date():
            return value.isoformat()
        case UUID() | Decimal():
            return str(value)
        case list() | tuple():
            return [plain(one) for one in value]
        case _:
            return value


def read(log: Iterable[Row]) -> "Reading":
    """Read a log whole."""
    reading = Reading()
    for row in log:
        reading.take(_Event(row))
    return reading


class _Event:
    """An event of the log, its content at hand; absent is None."""

    def __init__(self, row: Row) -> None:
        _prm, self.kind, self.name, _version = row["topic"].split(".")
        self.position: int = row["notification_id"]
        self.version: int = row["originator_version"]
        self.subject = str(row["originator_id"])
        content = row["content"]
        self.data: Row = content["data"]
        self.at = at(content["time"])
        self.recorded_at = at(content["recordedtime"])
        self.role: str = content["actorrole"]
        self.org: str = content["actororg"]

    def __getitem__(self, name: str) -> Any:
        return self.data.get(name)

    def time(self, name: str) -> str | None:
        text = self.data.get(name)
        return at(text) if text else None

    @property
    def money(self) -> Row:
        amount = self["amount"] or {}
        return {"amount": amount.get("amount"), "currency": amount.get("currency")}

    @property
    def lines(self) -> list[str]:
        return list(dict.fromkeys(one["line"] for one in self["products"] or ()))


def at(text: str) -> str:
    return datetime.fromisoformat(text).astimezone(UTC).isoformat()


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


_DURATION: Final = re.compile(r"(-?)P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?)?")


def duration(text: str | None) -> timedelta | None:
    if text is None:
        return None
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(text)
    sign, days, hours, minutes, seconds = found.groups()
    whole = timedelta(int(days or 0), 0, 0, 0, int(minutes or 0), int(hours or 0))
    whole += timedelta(microseconds=int(Decimal(seconds or 0) * 1_000_000))
    return -whole if sign else whole


def _less(gaps: Iterable[str], *filled: str) -> list[str]:
    return sorted(set(gaps) - set(filled))


def _more(gaps: Iterable[str], added: Iterable[str] | None) -> list[str]:
    return sorted({*gaps, *(added or ())})


def _later(one: str, other: str) -> str:
    return max(one, other, key=moment)


# What an event's name says

PARTNER_STATUS: Final = {
    "invited": "invited",
    "application_submitted": "applied",
    "invitation_declined": "declined",
    "review_started": "under_review",
    "approved": "approved",
    "rejected": "rejected",
    "onboarding_started": "onboarding",
    "activated": "active",
    "suspended": "suspended",
    "reinstated": "active",
    "terminated": "terminated",
}
LEAD_STATUS: Final = {
    "registered": "submitted",
    "captured": "new",
    "review_started": "in_review",
    "information_requested": "action_required",
    "resubmitted": "submitted",
    "approved": "approved",
    "rejected": "rejected",
    "withdrawn": "withdrawn",
    "lapsed": "lapsed",
    "decision_reverted": "in_review",
    "converted": "converted",
    "qualified": "qualified",
    "offered": "offered",
    "accepted": "accepted",
    "declined": "qualified",
    "offer_expired": "qualified",
    "recalled": "qualified",
    "contacted": "contacted",
    "work_started": "working",
    "disqualified": "disqualified",
}
LOST_HOLD: Final = ("protection_expired", "protection_revoked")  # these name the status that follows
FINAL: Final = ("rejected", "withdrawn", "lapsed", "expired", "revoked", "disqualified")
PROTECTS: Final = ("approved", "accepted", "protection_extended")
LEFT: Final = ("declined", "offer_expired", "recalled")
STAGES: Final = ("prospect", "qualified", "technical_validation", "business_validation", "committed", "won")
STAGED: Final = ("stage_changed", "won", "lost", "reopened")
TOUCHES: Final = (
    *STAGED,
    "activity_logged",
    "commented",
    "help_requested",
    "next_action_set",
    "next_action_completed",
)
LEAD_WORK: Final = (
    "registered",
    "resubmitted",
    "withdrawn",
    "extension_requested",
    "converted",
    "opened",
    "accepted",
    "declined",
    "contacted",
    "work_started",
    "activity_logged",
    "commented",
)
DEAL_WORK: Final = (
    "opened",
    "stage_changed",
    "details_changed",
    "amount_changed",
    "close_date_changed",
    "next_action_set",
    "next_action_completed",
    "activity_logged",
    "commented",
    "help_requested",
    "won",
    "lost",
)
BY_THE_SYSTEM: Final = (
    "screened",
    "sla_warned",
    "sla_breached",
    "lapsed",
    "protection_expiring",
    "protection_expired",
    "protection_ended",
    "offer_expired",
    "contact_overdue",
)
CLOCK: Final = ("sla_warn_at", "sla_due_at", "sla_stopped_at", "sla_warn_left", "sla_left", "place_until", "lapse_at")
IDLE: Final = ("respond_by", "contact_by", "contact_overdue_at", "recall_at")
REVIEW: Final = ("lead.warn_sla", "lead.breach_sla", "lead.lapse")
HANDS: Final = ("lead.expire_offer", "lead.remind_contact", "lead.recall")
HOLD: Final = ("lead.expire", "lead.remind_protection")
WARNINGS: Final = ("lead.warn_sla", "lead.breach_sla", "lead.remind_protection", "lead.remind_contact")
ENDS: Final[Mapping[str, tuple[str, ...]]] = {
    "sla_warned": ("lead.warn_sla",),
    "sla_breached": ("lead.warn_sla", "lead.breach_sla"),
    "information_requested": REVIEW,
    "resubmitted": REVIEW,
    "approved": REVIEW,
    "accepted": ("lead.expire_offer",),
    "contacted": ("lead.remind_contact",),
    "contact_overdue": ("lead.remind_contact",),
    "converted": HANDS,
    "protection_ended": HOLD,
    **dict.fromkeys((*FINAL[:3], *LEFT, *LOST_HOLD, "decision_reverted", "disqualified"), (*REVIEW, *HANDS, *HOLD)),
}
SLA: Final = {"lead.warn_sla": "sla_warn_at", "lead.breach_sla": "sla_due_at"}
SETS: Final[Mapping[str, Mapping[str, str]]] = {
    "registered": SLA,
    "resubmitted": SLA,
    "decision_reverted": SLA,
    "information_requested": {"lead.lapse": "lapse_at"},
    "approved": {"lead.expire": "protected_until", "lead.remind_protection": "remind_at"},
    "protection_extended": {"lead.expire": "protected_until", "lead.remind_protection": "remind_at"},
    "accepted": {
        "lead.expire": "protected_until",
        "lead.remind_protection": "remind_at",
        "lead.remind_contact": "contact_by",
        "lead.recall": "recall_at",
    },
    "offered": {"lead.expire_offer": "respond_by"},
    "contacted": {"lead.recall": "recall_at"},
    "work_started": {"lead.recall": "recall_at"},
    "activity_logged": {"lead.recall": "recall_at"},
}
STALL: Final = "opportunity.mark_stalled"


class Reading:
    """All rows, while the log is read."""

    def __init__(self) -> None:
        self.partners: Table = {}
        self.authorisations: Table = {}
        self.goals: Table = {}
        self.deals: Table = {}
        self.visits: Table = {}
        self.leads: Table = {}
        self.offers: Table = {}
        self.matches: dict[str, Table] = defaultdict(dict)
        self.work_leads: Table = {}
        self.work_offers: Table = {}
        self.work_deals: Table = {}
        self.acts: Table = {}
        self.activities: Table = {}
        self.holders: Table = {}
        self.deadlines: dict[str, Table] = defaultdict(dict)
        self.held: Table = {}
        self.rivals = Rivals()
        self._work_offers_of: dict[str, dict[int, Row]] = defaultdict(dict)
        self._offers: dict[str, int] = defaultdict(int)
        self._visits: dict[str, int] = defaultdict(int)

    def tables(self) -> Iterator[tuple[str, str, Mapping[Any, Row]]]:
        """Give read model, table and the rows that the log gives, by key."""
        for model in PARTNER_MODELS:
            yield model, "partner", self.partners
        yield "pipeline", "opportunity", self.deals
        yield "pipeline", "stage_visit", self.visits
        yield "pipeline", "authorisation", self.authorisations
        yield "leads", "lead", self.leads
        yield "leads", "offer", self.offers
        yield "leads", "lead_match", _flat(self.matches)
        yield "performance", "lead", {(lead,): row for lead, row in self.work_leads.items()}
        yield "performance", "offer", self.work_offers
        yield "performance", "deal", {(deal,): row for deal, row in self.work_deals.items()}
        yield "performance", "won_customer", dict(self._won())
        yield "performance", "act", self.acts
        yield "performance", "activity", dict(self._activities())
        yield "performance", "goal", self.goals
        yield "deadlines", "holder", self.holders
        yield "deadlines", "deadline", _flat(self.deadlines)
        yield "reactions", "held", self.held
        yield "conflicts", "lead", self.rivals.sides

    def take(self, event: _Event) -> None:
        match event.kind:
            case "partner":
                self._partner(event)
                self._goal(event)
                self._act(event, event.subject, (), ())
            case "lead":
                before = self.work_leads.get(event.subject)
                self._work_lead(event)
                self._work_offer(event)
                self._lead(event)
                holder = (before or self.work_leads[event.subject])["partner_id"]
                self._act(event, holder, (), LEAD_WORK)
                self._hold(event)
                self._lead_deadlines(event)
                self._holder(event)
            case "opportunity":
                before = self.work_deals.get(event.subject)
                known = dict(before) if before else None
                self._deal(event)
                self._work_deal(event)
                known = known or self.work_deals[event.subject]
                self._act(event, known["partner_id"], known["attached"], DEAL_WORK)
                self._stall(event)
                self._holder(event)
        self.rivals.take(event, self.held[event.subject,]["status"] if event.kind == "lead" else "")

    # Partners

    def _partner(self, event: _Event) -> None:
        fresh: Row = {
            **dict.fromkeys(("external_id", "name", "legal_name", "country", "tier", "channel_manager", "parent_id")),
            "partner_id": event.subject,
            "status": "",
            "types": [],
            "territories": [],
            "on_notice": False,
            "since": event.at,
            "data_gaps": [],
        }
        row = self.partners.setdefault((event.subject,), fresh)
        row["status"] = event["status"] if event.name == "imported" else PARTNER_STATUS.get(event.name, row["status"])
        if event.name in ("invited", "application_submitted", "imported", "profile_updated"):
            self._profile(row, event)
        match event.name:
            case "imported":
                row |= {name: event[name] for name in ("territories", "tier", "channel_manager", "on_notice")}
                row["data_gaps"] = _more((), event["missing"])
                for given in event["authorisations"] or ():
                    self._authorised(event.subject, given)
            case "authorisation_granted":
                self._authorised(event.subject, event.data)
            case "authorisation_revoked":
                self.authorisations.pop((event.subject, event["product_line"]), None)
            case "application_submitted":
                row["data_gaps"] = _more((), event["missing"])
            case "invited" | "channel_manager_assigned":
                row["channel_manager"] = event["channel_manager"]
            case "territories_set":
                row["territories"] = event["territories"]
            case "tier_changed":
                row["tier"] = event["tier"]
            case "put_on_notice" | "notice_cleared":
                row["on_notice"] = event.name == "put_on_notice"
            case "activated":
                row["data_gaps"] = _more(row["data_gaps"], event["missing"])
            case "agreement_signed":
                row["data_gaps"] = _less(row["data_gaps"], "agreement")
            case "profile_updated":
                row["data_gaps"] = _less(row["data_gaps"], *(name for name in event["changed"] if event[name]))
        row["updated_position"] = event.position

    def _authorised(self, partner: str, given: Row) -> None:
        line = given["product_line"]
        row = {"partner_id": partner, "product_line": line, "valid_to": given.get("valid_to")}
        self.authorisations[partner, line] = row

    def _profile(self, row: Row, event: _Event) -> None:
        columns = {"country": "country", "types": "types", "parent": "parent_id", "external_id": "external_id"}
        said = event["changed"] or [name for name in (*columns, "legal_name", "trade_name") if event[name]]
        trade = row["name"] if row["name"] != row["legal_name"] else None
        trade = event["trade_name"] if "trade_name" in said else trade
        if "legal_name" in said:
            row["legal_name"] = event["legal_name"]
        row["name"] = trade or row["legal_name"]
        for name, column in columns.items():
            if name in said:
                row[column] = event[name]

    def _goal(self, event: _Event) -> None:
        where = (event.subject, event["goal_id"])
        if event.name == "goal_withdrawn":
            self.goals[where]["status"] = "withdrawn"
        elif event.name == "goal_set":
            year, _, part = event["period"].partition("-")
            first, last = 1, 12
            if part:
                first = 3 * int(part[1]) - 2 if part[0] == "Q" else int(part)
                last = first + 2 if part[0] == "Q" else first
            names = ("metric", "period", "product_line", "target", "currency", "distribution", "owner")
            self.goals[where] = {
                **{name: event[name] for name in names},
                "first_on": f"{year}-{first:02d}-01",
                "last_on": f"{year}-{last:02d}-{monthrange(int(year), last)[1]}",
                "status": "active",
            }

    # What partners did

    def _act(self, event: _Event, holder: str | None, attached: Iterable[str], work: tuple[str, ...]) -> None:
        by_partner = event.role in ("partner_admin", "partner_rep")
        if not by_partner and not (event.role == "integration" and event.name in work):
            return
        who = event.org if by_partner and event.org in attached else holder
        if who is None:
            return
        when = event.at
        if event.name == "activity_logged":
            when = event.time("happened_at") or event.at
            day = (event.subject, who, event["happened_on"])
            self.activities.setdefault(day, {"activities": 0})["activities"] += 1
        act = self.acts.setdefault((event.subject, who), {"last_at": when})
        act["last_at"] = _later(act["last_at"], when)

    def _activities(self) -> Iterator[tuple[Any, Row]]:
        for where, row in self.activities.items():
            work = self.work_deals.get(where[0]) or self.work_leads[where[0]]
            yield where, {**row, "currency": work["currency"]}

    # Opportunities

    def _deal(self, event: _Event) -> None:
        where = (event.subject,)
        if event.name == "opened":
            self._opened(event)
            return
        row = self.deals[where]
        if event.name in STAGED:
            self._stage(row, event)
        action = event["next_action"] if event.name == "stage_changed" else None
        match event.name:
            case "won" | "lost":
                self._closed(row, event)
            case "reopened":
                gone = ("lost_reason", "competitor", "final_amount", "order_reference", "closed_on")
                row |= {"closed_on": None, "lost_reason": None, "data_gaps": _less(row["data_gaps"], *gone)}
            case "details_changed":
                self._details(row, event)
            case "amount_changed":
                row |= event.money
                row["data_gaps"] = _less(row["data_gaps"], *(("amount",) if event["amount"] else ()))
            case "close_date_changed":
                row["expected_close_on"] = event["expected_close_on"]
                gap = ("expected_close_on",) if event["expected_close_on"] else ()
                row["data_gaps"] = _less(row["data_gaps"], *gap)
            case "next_action_set":
                action = event.data
            case "next_action_completed":
                row |= dict.fromkeys(("next_action", "next_action_due_on", "next_action_owner"))
            case "forecast_overridden":
                row["forecast_override"] = event["category"]
            case "owner_assigned":
                row["owner"] = event["owner"]
            case "partner_of_record_changed":
                row["partner_id"] = event["partner_id"]
        if action:
            row |= _action(action)
            row["data_gaps"] = _less(row["data_gaps"], "next_action")
        if event.name in TOUCHES:
            row["touched_at"] = event.at
        if event.name == "stalled":
            row["stalled_at"] = event.time("stalled_at")
        elif event.name in ("stage_changed", "activity_logged", "reopened"):
            due, known = event.time("stalls_at"), row["stalls_at"]
            if due and (known is None or moment(due) > moment(known)):
                row |= {"stalls_at": due, "stalled_at": None}
        row["updated_position"] = event.position

    def _opened(self, event: _Event) -> None:
        names = ("external_id", "name", "partner_id", "lead_id", "deal_type", "stage", "probability", "category")
        self.deals[event.subject,] = {
            **{name: event[name] for name in (*names, "owner", "expected_close_on")},
            **event.money,
            **_action(event["next_action"] or {}),
            **dict.fromkeys(("forecast_override", "closed_on", "lost_reason", "stalled_at")),
            "customer": (event["customer"] or {}).get("name"),
            "product_lines": event.lines,
            "status": _status(event["stage"]),
            "opened_at": event.at,
            "engaged_at": event.at if event["stage"] != "prospect" else None,
            "stage_entered_at": event.at,
            "touched_at": event.at,
            "stalls_at": event.time("stalls_at"),
            "data_gaps": _more((), event["missing"]),
            "updated_position": event.position,
        }
        self._visit(event)

    def _stage(self, row: Row, event: _Event) -> None:
        visit = self.visits[event.subject, self._visits[event.subject]]
        visit |= {"left_at": event.at, "left_for": _direction(row["stage"], event["stage"])}
        self._visit(event)
        row |= {name: event[name] for name in ("stage", "probability", "category")}
        row["status"] = _status(event["stage"])
        if row["engaged_at"] is None and event["stage"] not in ("prospect", "lost"):
            row["engaged_at"] = event.at
        row["stage_entered_at"] = event.at
        if event.name == "stage_changed":
            row["data_gaps"] = _more(row["data_gaps"], event["missing"])

    def _visit(self, event: _Event) -> None:
        self._visits[event.subject] += 1
        stay = {"stage": event["stage"], "entered_at": event.at, "left_at": None, "left_for": None}
        self.visits[event.subject, self._visits[event.subject]] = stay

    def _closed(self, row: Row, event: _Event) -> None:
        names = {"reason": "lost_reason", "final_amount": "amount"}
        missing = {names.get(name, name) for name in event["missing"] or ()}
        gaps = set(_less(row["data_gaps"], "next_action", "expected_close_on"))
        if event.name == "won" and event["amount"]:
            gaps.discard("amount")
            row |= event.money
        if event.name == "won":
            missing |= {"lost_reason" if name == "reason" else name for name in event["missing"] or ()}
        else:
            missing |= {name for name in event["missing"] or () if name != "reason"}
            missing |= {"lost_reason"} if event["reason"] == "not_given" else set()
            row["lost_reason"] = event["reason"]
        row |= dict.fromkeys(("next_action", "next_action_due_on", "next_action_owner", "forecast_override"))
        row |= {"closed_on": event["closed_on"], "data_gaps": sorted(gaps | missing)}

    def _details(self, row: Row, event: _Event) -> None:
        for name in event["changed"]:
            if name == "customer":
                row["customer"] = (event["customer"] or {}).get("name")
            elif name == "products":
                row["product_lines"] = event.lines
            elif name in ("name", "external_id", "deal_type"):
                row[name] = event[name]
        row["data_gaps"] = _less(row["data_gaps"], *(name for name in event["changed"] if event[name]))

    def _work_deal(self, event: _Event) -> None:
        if event.name == "opened":
            action = event["next_action"] or {}
            self.work_deals[event.subject] = {
                **{name: event[name] for name in ("partner_id", "lead_id", "probability", "expected_close_on")},
                **event.money,
                "attached": [event["partner_id"]],
                "opened_at": None if "opened_at" in (event["missing"] or ()) else event.at,
                "engaged_at": event.at if event["stage"] != "prospect" else None,
                "status": _status(event["stage"]),
                "product_lines": event.lines,
                "customer_keys": sorted(set(event["customer_keys"] or ())),
                "next_action_due_on": action.get("due_on"),
                "touched_at": event.at,
                "closed_on": None,
                "closed_position": None,
            }
            return
        row = self.work_deals[event.subject]
        if event.name in STAGED:
            row |= {"status": _status(event["stage"]), "probability": event["probability"]}
            if row["engaged_at"] is None and event["stage"] not in ("prospect", "lost"):
                row["engaged_at"] = event.at
        match event.name:
            case "stage_changed" if event["next_action"]:
                row["next_action_due_on"] = event["next_action"]["due_on"]
            case "won" | "lost":
                row |= {"next_action_due_on": None, "closed_on": event["closed_on"], "closed_position": event.position}
                if event.name == "won" and event["amount"]:
                    row |= event.money
            case "reopened":
                row |= {"closed_on": None, "closed_position": None}
            case "partner_added" | "partner_of_record_changed":
                row["attached"] = sorted({*row["attached"], event["partner_id"]})
                if event.name == "partner_of_record_changed":
                    row["partner_id"] = event["partner_id"]
            case "partner_removed":
                row["attached"] = [one for one in row["attached"] if one != event["partner_id"]]
            case "details_changed":
                if "products" in event["changed"]:
                    row["product_lines"] = event.lines
                if "customer" in event["changed"]:
                    row["customer_keys"] = sorted(set(event["customer_keys"] or ()))
            case "amount_changed":
                row |= event.money
            case "close_date_changed":
                row["expected_close_on"] = event["expected_close_on"]
            case "next_action_set" | "next_action_completed":
                row["next_action_due_on"] = event["due_on"] if event.name == "next_action_set" else None
        if event.name in TOUCHES:
            row["touched_at"] = event.at

    def _won(self) -> Iterator[tuple[Any, Row]]:
        for where, row in self.work_deals.items():
            if row["status"] == "won" and row["closed_on"]:
                for one in row["customer_keys"]:
                    yield (where, one), {"won_on": row["closed_on"], "position": row["closed_position"]}

    # Leads

    def _lead(self, event: _Event) -> None:
        if event.name in ("registered", "captured"):
            self._came_in(event)
            return
        row = self.leads[event.subject,]
        held_by_offer = row["respond_by"]
        self._lead_event(row, event)
        row["status"] = event["status"] if event.name in LOST_HOLD else LEAD_STATUS.get(event.name, row["status"])
        when = next((one for name in ("lapsed_at", "expired_at", "happened_at") if (one := event.time(name))), event.at)
        final = row["status"] in FINAL
        row["ended"] = final or (row["status"] == "converted" and row["protected_until"] is None)
        row["ended_at"] = (row["ended_at"] or when) if final else None
        if event.name not in BY_THE_SYSTEM:
            row["touched_at"] = _later(row["touched_at"], when)
        row["updated_position"] = event.position
        self._offer(self.offers, event, held_by_offer)
        self._match(event, row["partner_id"])

    def _came_in(self, event: _Event) -> None:
        registered = event.name == "registered"
        columns = (
            *(
                "customer",
                "country",
                "customer_keys",
                "partner_id",
                "source",
                "score",
                "screened_version",
                "held_until",
            ),
            *CLOCK,
            *("sla_warned_at", "sla_breached_at", "asked_for", "decided_at", "decision", "reject_reason"),
            *("disqualify_reason", "protected_from", "protected_until", "remind_at", "extensions"),
            *("extension_requested_at", "unprotected_at", "unprotected_by", *IDLE, "opportunity_id", "converted_at"),
            "ended_at",
        )
        names = ("external_id", "deal_type", "expected_close_on", "product_lines", "owner")
        row: Row = {**dict.fromkeys(columns), **{name: event[name] for name in names}, **event.money}
        row |= {"customer_keys": [], "asked_for": [], "remind_at": [], "extensions": 0, "screened_version": 0}
        row |= {
            "origin": event.name,
            "status": LEAD_STATUS[event.name],
            "submitted_by": event["submitted_by"] if registered else event["captured_by"],
            "came_in_at": event.at,
            "place_position": event.position,
            "identity_version": event.version,
            "ended": False,
            "data_gaps": _more((), event["missing"]),
            "touched_at": event.at,
            "updated_position": event.position,
        }
        _customer(row, event)
        if registered:
            times = ("held_until", "sla_warn_at", "sla_due_at")
            row |= {"partner_id": event["partner_id"], **{name: event.time(name) for name in times}}
        else:
            row["source"] = event["source"]
        self.leads[event.subject,] = row

    def _lead_event(self, row: Row, event: _Event) -> None:
        gaps = row["data_gaps"]
        match event.name:
            case "resubmitted" | "corrected":
                self._changes(row, event)
                gaps = _less(gaps, *(name for name in event["changed"] if event[name]))
            case "screened":
                gaps = _less(gaps, *(("screening",) if event["version"] >= row["identity_version"] else ()))
                row["screened_version"] = event["version"]
            case "sla_warned":
                row |= {"sla_warn_at": None, "sla_warned_at": event.time("warned_at")}
            case "sla_breached":
                row |= {"sla_warn_at": None, "sla_due_at": None, "sla_breached_at": event.time("breached_at")}
            case "transferred":
                row |= {"partner_id": event["partner_id"], "owner": None}
            case "owner_assigned":
                row["owner"] = event["owner"]
            case "converted":
                row |= dict.fromkeys(IDLE)
                row |= {"opportunity_id": event["opportunity_id"], "converted_at": event.at}
                gaps = _less(gaps, "next_action")
            case "information_requested":
                row |= {name: event.time(name) for name in ("place_until", "lapse_at")}
                row |= {name: duration(event[name]) for name in ("sla_warn_left", "sla_left")}
                row |= {"sla_warn_at": None, "sla_due_at": None, "sla_stopped_at": event.at}
                row["asked_for"] = event["fields"]
            case "rejected":
                _stop_clock(row)
                row |= {"decision": "rejected", "decided_at": event.at, "reject_reason": event["reason"]}
            case "withdrawn" | "lapsed":
                _stop_clock(row)
            case "decision_reverted":
                _unprotect(row, event.at, "reverted")
                _stop_clock(row)
                row |= dict.fromkeys(("sla_warned_at", "sla_breached_at", "decided_at", "decision", "reject_reason"))
                row |= {name: event.time(name) for name in ("sla_warn_at", "sla_due_at")}
                row["identity_version"] = event.version
            case "extension_requested":
                row["extension_requested_at"] = event.at
            case "protection_expiring":
                row["remind_at"] = [one for one in row["remind_at"] if moment(one) > moment(event["remind_at"])]
            case "approved" | "accepted" | "protection_extended":
                self._protect(row, event)
                gaps = _more(gaps, event["missing"])
            case "protection_ended":
                _unprotect(row, event.at, event["outcome"])
            case "protection_expired" | "protection_revoked":
                expired = event.name == "protection_expired"
                when = event.time("expired_at") if expired else event.at
                _unprotect(row, when, "expired" if expired else "revoked")
                if event["status"] == "qualified":
                    row |= dict.fromkeys((*IDLE, "partner_id", "owner"))
            case "qualified":
                row["score"] = event["score"]
            case "offered":
                respond_by = event.time("respond_by")
                row |= {"partner_id": event["partner_id"], "respond_by": respond_by, "owner": None}
            case "declined" | "offer_expired":
                row |= dict.fromkeys((*IDLE, "partner_id", "owner"))
            case "recalled":
                _unprotect(row, event.at, "recalled")
                row |= dict.fromkeys((*IDLE, "partner_id", "owner"))
                gaps = _less(gaps, "next_action")
            case "disqualified":
                _unprotect(row, event.at, "disqualified")
                row |= dict.fromkeys(IDLE)
                row["disqualify_reason"] = event["reason"]
            case "contact_overdue":
                row |= {"contact_by": None, "contact_overdue_at": event.time("contact_by")}
            case "contacted":
                row |= {"contact_by": None, "contact_overdue_at": None, "recall_at": event.time("recall_at")}
            case "work_started":
                row["recall_at"] = event.time("recall_at")
            case "activity_logged":
                row["recall_at"] = event.time("recall_at") or row["recall_at"]
                gaps = _less(gaps, "activity")
        row["data_gaps"] = gaps

    def _changes(self, row: Row, event: _Event) -> None:
        changed = event["changed"] or ()
        for name in ("external_id", "product_lines", "deal_type", "expected_close_on"):
            if name in changed:
                row[name] = event[name]
        if "customer" in changed:
            _customer(row, event)
        if "amount" in changed:
            row |= event.money
        identity = "customer" in changed or "product_lines" in changed
        if identity:
            row["held_until"] = None
        if event.name == "resubmitted":
            _stop_clock(row)
            row |= {name: event.time(name) for name in ("sla_warn_at", "sla_due_at")}
            if not event["keeps_place"]:
                row["place_position"] = event.position
        if identity or event.name == "resubmitted":
            row["identity_version"] = event.version

    def _protect(self, row: Row, event: _Event) -> None:
        row |= {name: event.time(name) for name in ("protected_from", "protected_until")}
        row |= dict.fromkeys(("extension_requested_at", "unprotected_at", "unprotected_by"))
        row["remind_at"] = [at(one) for one in event["remind_at"] or ()]
        row["extensions"] = row["extensions"] + 1 if event.name == "protection_extended" else 0
        if event.name == "approved":
            _stop_clock(row)
            row |= {"decision": "approved", "decided_at": event.at, "held_until": None}
        elif event.name == "accepted":
            row |= dict.fromkeys(IDLE)
            row |= {name: event.time(name) for name in ("contact_by", "recall_at")}

    def _offer(self, offers: Table, event: _Event, held_by_offer: str | None) -> None:
        """Keep the offers of the leads' own read model."""
        last = offers.get((event.subject, self._offers[event.subject]))
        standing = last if last and last["answer"] == "open" else None
        answers = {
            "accepted": event.time("accepted_at"),
            "declined": event.at,
            "offer_expired": event.time("expired_at"),
            "recalled": event.at,
        }
        if event.name == "opened" and standing:
            standing["opened_at"] = event.at
        elif event.name in answers and standing:
            answer = "expired" if event.name == "offer_expired" else event.name
            reason = event["reason"] if event.name == "declined" else None
            standing |= {"answer": answer, "answered_at": answers[event.name], "reason": reason}
        elif event.name == "offered" or (event.name == "transferred" and held_by_offer):
            if standing and event.name == "transferred":
                standing |= {"answer": "transferred", "answered_at": event.at}
            self._offers[event.subject] += 1
            offers[event.subject, self._offers[event.subject]] = {
                "partner_id": event["partner_id"],
                "strategy": event["strategy"],
                "offered_at": event.at,
                "respond_by": event.time("respond_by") or held_by_offer,
                "opened_at": None,
                "answered_at": None,
                "answer": "open",
                "reason": None,
            }
        newest = offers.get((event.subject, self._offers[event.subject]))
        if newest and newest["answer"] == "open":
            lead = self.leads[event.subject,]
            newest |= {name: lead[name] for name in ("country", "product_lines", "amount", "currency")}

    def _match(self, event: _Event, partner_id: str | None) -> None:
        own = {where[1]: row for where, row in self.matches[event.subject].items()}
        if event.name not in ("screened", "match_resolved", "resubmitted", "corrected", "transferred") and not own:
            return
        blank: Row = {"matched_keys": [], "strength": None, "sentence": None, "other_first": None}
        undecided = {"outcome": None, "resolved_at": None}
        match event.name:
            case "screened":
                own = {other: row | blank for other, row in own.items() if row["outcome"]}
                for found in event["matches"] or ():
                    row = own.setdefault(found["lead_id"], {**blank, **undecided})
                    row["strength"] = "hard" if "hard" in (row["strength"], found["strength"]) else found["strength"]
                    row["matched_keys"] = sorted({*row["matched_keys"], *found.get("matched_keys", ())})
                    row["sentence"] = row["sentence"] or found.get("sentence")
                    row["other_first"] = bool(row["other_first"]) or found.get("other_first", True)
            case "match_resolved":
                row = own.setdefault(event["other_lead"], {**blank, **undecided})
                row |= {"outcome": event["outcome"], "resolved_at": event.at}
            case "resubmitted" | "corrected" if {"customer", "product_lines"} & set(event["changed"] or ()):
                own = {other: row | undecided for other, row in own.items() if row["strength"]}
        whole = {(event.subject, other): row | {"partner_id": partner_id} for other, row in own.items()}
        self.matches[event.subject] = whole

    # Leads as work

    def _work_lead(self, event: _Event) -> None:
        if event.name in ("registered", "captured"):
            registered = event.name == "registered"
            columns = ("decided_for", "decided_at", "decision", "reason", "within_sla", "expired_at", "converted_for")
            self.work_leads[event.subject] = {
                **dict.fromkeys((*columns, "converted_at", "opportunity_id")),
                **event.money,
                "origin": event.name,
                "partner_id": event["partner_id"],
                "protected": False,
                "product_lines": event["product_lines"],
                "registered_for": event["partner_id"],
                "registered_at": event.at if registered else None,
                "waits_since": event.at if registered else None,
                "waited_seconds": 0,
                "sla_due_at": event.time("sla_due_at"),
                "status": LEAD_STATUS[event.name],
            }
            return
        row = self.work_leads[event.subject] = dict(self.work_leads[event.subject])
        self._clock(row, event)
        match event.name:
            case "approved" | "rejected":
                row |= {"decided_for": row["partner_id"], "decided_at": event.at, "decision": event.name}
                row["reason"] = event["reason"] if event.name == "rejected" else None
                row["protected"] = event.name == "approved"
            case "converted":
                opportunity = {"opportunity_id": event["opportunity_id"], "converted_at": event.at}
                row |= {"converted_for": row["partner_id"], **opportunity}
            case "offered" | "transferred":
                row["partner_id"] = event["partner_id"]
            case "accepted":
                row["protected"] = True
            case "declined" | "offer_expired" | "recalled":
                row |= {"partner_id": None, "protected": False}
            case "protection_ended" | "disqualified" | "decision_reverted":
                row["protected"] = False
            case "protection_expired" | "protection_revoked":
                row["protected"] = False
                if event["status"] == "qualified":
                    row["partner_id"] = None
                if event.name == "protection_expired" and event["status"] == "expired":
                    row["expired_at"] = event.time("expired_at")
        row["status"] = event["status"] if event.name in LOST_HOLD else LEAD_STATUS.get(event.name, row["status"])
        if event.name in ("resubmitted", "corrected"):
            changed = event["changed"] or ()
            row |= event.money if "amount" in changed else {}
            row |= {"product_lines": event["product_lines"]} if "product_lines" in changed else {}

    def _work_offer(self, event: _Event) -> None:
        mine = [row for where, row in self._work_offers_of[event.subject].items()]
        standing = mine[-1] if mine and mine[-1]["answer"] is None else None
        when = event.time("accepted_at") or event.time("expired_at") or event.at
        if standing and event.name in ("accepted", *LEFT, "transferred"):
            standing |= {"answer": "expired" if event.name == "offer_expired" else event.name, "answered_at": when}
        if event.name == "offered" or (standing and event.name == "transferred"):
            offer = {"partner_id": event["partner_id"], "offered_at": event.at, "answer": None, "answered_at": None}
            self._work_offers_of[event.subject][len(mine) + 1] = offer
            self.work_offers[event.subject, len(mine) + 1] = offer
        for offer in self._work_offers_of[event.subject].values():
            offer["currency"] = self.work_leads[event.subject]["currency"]

    def _clock(self, row: Row, event: _Event) -> None:
        """Count how long the partner has waited, and whether the decision came in time."""
        due, since = row["sla_due_at"], row["waits_since"]
        in_time = due is not None and (since is None or moment(event.at) <= moment(due))
        if event.name in ("approved", "rejected"):
            row["within_sla"] = in_time
        if event.name in ("approved", "rejected", "withdrawn", "lapsed", "information_requested") and since:
            row["waited_seconds"] += (moment(event.at) - moment(since)) // timedelta(seconds=1)
            row["waits_since"] = None
        late = event.name == "information_requested" and due is not None and moment(event.at) > moment(due)
        if late or event.name == "sla_breached":
            row["sla_due_at"] = None
        elif event.name in ("resubmitted", "decision_reverted"):
            row |= {"waits_since": event.at, "sla_due_at": event.time("sla_due_at")}
        if event.name == "decision_reverted":
            row |= dict.fromkeys(("decided_for", "decided_at", "decision", "reason", "within_sla"))

    # Whose it is, and what is due

    def _hold(self, event: _Event) -> None:
        row = self.held.setdefault((event.subject,), {"partner_id": None, "status": "", "protected": False})
        row["status"] = event["status"] if event.name in LOST_HOLD else LEAD_STATUS.get(event.name, row["status"])
        if event.name in ("registered", "offered", "transferred"):
            row["partner_id"] = event["partner_id"]
        elif event.name in LEFT or (event.name in LOST_HOLD and event["status"] == "qualified"):
            row["partner_id"] = None
        if event.name in PROTECTS:
            row["protected"] = True
        elif event.name in (*LEFT, *LOST_HOLD, "protection_ended", "decision_reverted", "disqualified"):
            row["protected"] = False

    def _holder(self, event: _Event) -> None:
        row = self.holders.setdefault((event.subject,), {"partner_id": None, "closed": False})
        if event.kind == "opportunity":
            if event.name in ("opened", "partner_of_record_changed"):
                row["partner_id"] = event["partner_id"]
            if event.name in ("opened", "won", "lost", "reopened"):
                row["closed"] = event["stage"] in ("won", "lost")
        else:
            row["partner_id"] = self.held[event.subject,]["partner_id"]

    def _lead_deadlines(self, event: _Event) -> None:
        mine = list(self.deadlines[event.subject])
        if event.name == "protection_expiring":
            limit = moment(event["remind_at"])
            gone = [one for one in mine if one[1] == "lead.remind_protection" and moment(one[2]) <= limit]
            for where in gone:
                del self.deadlines[event.subject][where]
            return
        sets = SETS.get(event.name, {})
        if event.name == "activity_logged" and not event["recall_at"]:
            sets = {}
        for where in mine:
            if where[1] in (*ENDS.get(event.name, ()), *sets):
                del self.deadlines[event.subject][where]
        for kind, name in sets.items():
            given = event[name] if isinstance(event[name], list) else [event[name]] if event[name] else []
            for text in given:
                late = moment(text) <= moment(event.recorded_at)
                if not (late and kind in WARNINGS):
                    self._due(event, kind, at(text), late=late)

    def _due(self, event: _Event, kind: str, when: str, *, late: bool) -> None:
        own = self.deadlines[event.subject]
        own[event.subject, kind, when] = {"set_position": event.position, "late": late, "done": False}

    def _stall(self, event: _Event) -> None:
        mine = list(self.deadlines[event.subject])
        if event.name == "stalled":
            for where in mine:
                self.deadlines[event.subject][where]["done"] = True
        elif event.name in ("opened", "stage_changed", "activity_logged", "reopened") and event["stalls_at"]:
            when = event.time("stalls_at") or ""
            if any(moment(one[2]) >= moment(when) for one in mine):
                return
            for where in mine:
                del self.deadlines[event.subject][where]
            self._due(event, STALL, when, late=moment(when) <= moment(event.recorded_at))


def _flat(tables: Mapping[str, Table]) -> Table:
    return {where: row for table in tables.values() for where, row in table.items()}


def _status(stage: str) -> str:
    return stage if stage in ("won", "lost") else "open"


def _direction(before: str, after: str) -> str:
    if after in ("won", "lost"):
        return after
    forward = before not in ("won", "lost") and STAGES.index(after) > STAGES.index(before)
    return "forward" if forward else "back"


def _action(action: Row) -> Row:
    return {
        "next_action": action.get("text"),
        "next_action_due_on": action.get("due_on"),
        "next_action_owner": action.get("owner"),
    }


def _customer(row: Row, event: _Event) -> None:
    customer = event["customer"] or {}
    row |= {"customer": customer.get("name"), "country": customer.get("country")}
    row["customer_keys"] = event["customer_keys"] or []


def _stop_clock(row: Row) -> None:
    row |= dict.fromkeys(CLOCK)
    row["asked_for"] = []


def _unprotect(row: Row, when: str | None, by: str) -> None:
    if row["protected_until"] is not None:
        row |= dict.fromkeys(("protected_from", "protected_until", "extension_requested_at"))
        row |= {"remind_at": [], "unprotected_at": when, "unprotected_by": by}
