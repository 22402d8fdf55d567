"""An event as a person reads it: what happened, what was said with it, in their language. Pure.

Only fields that are named here are ever shown, so that an event that gets a new field shows no more than before.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

from prm_es.api.pages.language import EMPTY, Reader
from prm_es.api.pages.words import _n

Data = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a timeline."""

    what: str
    said: str
    by: str
    at: datetime
    tone: str
    internal: bool


# What happened, and the tone of its mark on the line.
HAPPENED: Final[Mapping[str, tuple[str, str]]] = {
    "lead.registered": (_n("Registered"), "info"),
    "lead.captured": (_n("Captured"), "info"),
    "lead.screened": (_n("Screened"), ""),
    "lead.match_resolved": (_n("Conflict decided"), "ok"),
    "lead.review_started": (_n("Review started"), ""),
    "lead.information_requested": (_n("Information requested"), "wait"),
    "lead.resubmitted": (_n("Resubmitted"), "info"),
    "lead.approved": (_n("Approved"), "ok"),
    "lead.rejected": (_n("Rejected"), "late"),
    "lead.withdrawn": (_n("Withdrawn"), "late"),
    "lead.lapsed": (_n("Lapsed without an answer"), "late"),
    "lead.extension_requested": (_n("Extension asked for"), "wait"),
    "lead.protection_extended": (_n("Protection extended"), "ok"),
    "lead.corrected": (_n("Corrected"), ""),
    "lead.transferred": (_n("Transferred"), ""),
    "lead.owner_assigned": (_n("Owner assigned"), ""),
    "lead.sla_warned": (_n("Half of the time to decide is over"), "wait"),
    "lead.sla_breached": (_n("Not decided in time"), "late"),
    "lead.protection_expiring": (_n("Reminder: the protection ends soon"), "wait"),
    "lead.protection_ended": (_n("Protection ended with the deal"), ""),
    "lead.converted": (_n("Converted to a deal"), "ok"),
    "lead.protection_expired": (_n("Protection expired"), "late"),
    "lead.protection_revoked": (_n("Protection revoked"), "late"),
    "lead.decision_reverted": (_n("Decision taken back"), "wait"),
    "lead.activity_logged": (_n("Activity"), ""),
    "lead.commented": (_n("Comment"), ""),
    "lead.qualified": (_n("Qualified"), "info"),
    "lead.offered": (_n("Offered"), "wait"),
    "lead.opened": (_n("Looked at by the partner"), ""),
    "lead.accepted": (_n("Accepted"), "ok"),
    "lead.declined": (_n("Declined"), "late"),
    "lead.offer_expired": (_n("Offer expired"), "late"),
    "lead.recalled": (_n("Recalled"), "late"),
    "lead.contacted": (_n("First contact"), "info"),
    "lead.work_started": (_n("Work started"), "info"),
    "lead.disqualified": (_n("Disqualified"), "late"),
    "lead.contact_overdue": (_n("First contact is late"), "late"),
    "opportunity.opened": (_n("Opened"), "info"),
    "opportunity.stage_changed": (_n("Stage changed"), "info"),
    "opportunity.details_changed": (_n("Details changed"), ""),
    "opportunity.amount_changed": (_n("Amount changed"), ""),
    "opportunity.close_date_changed": (_n("Expected close changed"), ""),
    "opportunity.next_action_set": (_n("Next action"), ""),
    "opportunity.next_action_completed": (_n("Action done"), "ok"),
    "opportunity.forecast_overridden": (_n("Forecast overridden"), ""),
    "opportunity.activity_logged": (_n("Activity"), ""),
    "opportunity.commented": (_n("Comment"), ""),
    "opportunity.help_requested": (_n("Help asked for"), "wait"),
    "opportunity.owner_assigned": (_n("Owner assigned"), ""),
    "opportunity.partner_added": (_n("Partner added"), ""),
    "opportunity.partner_removed": (_n("Partner removed"), ""),
    "opportunity.partner_of_record_changed": (_n("Partner of record changed"), ""),
    "opportunity.credit_split_set": (_n("Credit split"), ""),
    "opportunity.won": (_n("Won"), "ok"),
    "opportunity.lost": (_n("Lost"), "late"),
    "opportunity.reopened": (_n("Reopened"), "info"),
    "opportunity.stalled": (_n("Stalled"), "wait"),
}

_TEXTS: Final = ("text", "summary", "note", "override_reason", "evidence")
_REASONS: Final[Mapping[str, str]] = {
    "lead.rejected": "reject_reason",
    "lead.declined": "decline_reason",
    "lead.disqualified": "disqualify_reason",
    "opportunity.lost": "lost_reason",
}
FORGOTTEN: Final = _n("(forgotten)")


def entry(kind: str, data: Data, *, at: datetime, by: str, reader: Reader, vendor: bool) -> Entry:
    """Tell one event; `kind` is its type without prefix and version, `data` in clear, null what was forgotten."""
    what, tone = HAPPENED.get(kind, (kind.partition(".")[2].replace("_", " ").capitalize(), ""))
    lines = [line for line in _lines(kind, data, reader, vendor) if line]
    return Entry(reader.text(what), "\n".join(lines), by, at, tone, data.get("visibility") == "internal")


def known_facts(data: Data, reader: Reader) -> Iterator[tuple[str, str]]:
    """Give what is known from what was said at the beginning, as name and value."""
    customer = data.get("customer") or {}
    contact = data.get("contact") or {}
    reached = [contact.get(name) for name in ("name", "title", "email", "phone")]
    facts = (
        (_n("Contact"), ", ".join(filter(None, reached))),
        (_n("Tax id"), ", ".join(one["value"] for one in customer.get("tax_ids", ()) if one.get("value"))),
        (_n("Web domain"), ", ".join(customer.get("domains", ()))),
        (_n("City"), customer.get("city")),
        (_n("Competitors"), ", ".join(data.get("competitors", ()))),
        (_n("Business problem"), data.get("business_problem")),
        (_n("Evidence"), data.get("evidence")),
    )
    return ((reader.text(name), str(value)) for name, value in facts if value)


def _lines(kind: str, data: Data, reader: Reader, vendor: bool) -> Iterator[str]:
    yield _TOLD[kind](data, reader, vendor) if kind in _TOLD else ""
    if kind in _REASONS:
        yield reader.code(data.get("reason"), _REASONS[kind])
    elif vendor or kind not in _VENDORS:
        yield _text(data, "reason")
    if kind == "lead.registered" or (kind in _VENDORS and not vendor):
        return
    for name in _TEXTS:
        yield _text(data, name)


# Why these were done is the vendor's to know: it may speak of others.
_VENDORS: Final = frozenset({"lead.match_resolved", "lead.transferred", "lead.recalled", "lead.screened"})


def _text(data: Data, name: str) -> str:
    if name not in data:
        return ""
    return str(data[name]) if data[name] is not None else ""


def _money(money: Data | None, reader: Reader) -> str:
    return reader.money(Decimal(str(money["amount"])), money["currency"]) if money else EMPTY


def _day(text: str | None, reader: Reader) -> str:
    return reader.day(date.fromisoformat(text)) if text else EMPTY


def _moment(text: str | None, reader: Reader) -> str:
    return reader.short_moment(datetime.fromisoformat(text)) if text else EMPTY


def _action(action: Data | None, reader: Reader) -> str:
    if not action:
        return ""
    text = action.get("text") or reader.text(FORGOTTEN)
    return f"{reader.text(_n('Next action'))}: {text} ({_day(action.get('due_on'), reader)})"


def _until(data: Data, reader: Reader, _vendor: bool) -> str:
    return reader.text(_n("until %(time)s")) % {"time": _moment(data.get("protected_until"), reader)}


def _stage(data: Data, reader: Reader, _vendor: bool) -> str:
    moved = f"{reader.code(data.get('previous'), 'stage')} → {reader.code(data.get('stage'), 'stage')}"
    return "\n".join(filter(None, (moved, _action(data.get("next_action"), reader))))


def _opened(data: Data, reader: Reader, _vendor: bool) -> str:
    stage = reader.code(data.get("stage"), "stage")
    amount = _money(data["amount"], reader) if data.get("amount") else ""
    return "\n".join(
        filter(None, (" · ".join(filter(None, (stage, amount))), _action(data.get("next_action"), reader)))
    )


def _registered(data: Data, reader: Reader, _vendor: bool) -> str:
    amount = _money(data["amount"], reader) if data.get("amount") else ""
    return " · ".join(filter(None, (", ".join(data.get("product_lines", ())), amount)))


def _screened(data: Data, reader: Reader, vendor: bool) -> str:
    if not vendor:
        return ""
    if data.get("clear"):
        return reader.text(_n("No other lead is about this customer."))
    found = len(data.get("matches", ()))
    return reader.text(_n("Leads that may be about the same customer: %(count)s")) % {"count": reader.number(found)}


def _fields(name: str) -> Callable[[Data, Reader, bool], str]:
    return lambda data, reader, _vendor: ", ".join(reader.code(one, "detail") for one in data.get(name, ()))


def _won(data: Data, reader: Reader, _vendor: bool) -> str:
    amount = _money(data["amount"], reader) if data.get("amount") else ""
    return " · ".join(filter(None, (amount, _day(data.get("closed_on"), reader), data.get("order_reference"))))


def _activity(data: Data, reader: Reader, _vendor: bool) -> str:
    return f"{reader.code(data.get('kind'), 'activity')} · {_day(data.get('happened_on'), reader)}"


def _offered(data: Data, reader: Reader, _vendor: bool) -> str:
    return reader.text(_n("answer by %(time)s")) % {"time": _moment(data.get("respond_by"), reader)}


def _accepted(data: Data, reader: Reader, vendor: bool) -> str:
    return "\n".join(filter(None, (_until(data, reader, vendor), _action(data.get("next_action"), reader))))


_TOLD: Final[Mapping[str, Callable[[Data, Reader, bool], str]]] = {
    "lead.registered": _registered,
    "lead.captured": _registered,
    "lead.screened": _screened,
    "lead.match_resolved": lambda data, reader, _vendor: reader.code(data.get("outcome"), "outcome"),
    "lead.information_requested": _fields("fields"),
    "lead.resubmitted": _fields("changed"),
    "lead.corrected": _fields("changed"),
    "lead.approved": _until,
    "lead.accepted": _accepted,
    "lead.protection_extended": _until,
    "lead.protection_expiring": _until,
    "lead.owner_assigned": lambda data, _reader, _vendor: str(data.get("owner") or ""),
    "lead.activity_logged": _activity,
    "lead.contacted": lambda data, reader, _vendor: reader.code(data.get("kind"), "activity"),
    "lead.offered": _offered,
    "lead.protection_ended": lambda data, reader, _vendor: reader.code(data.get("outcome"), "opportunity_status"),
    "opportunity.opened": _opened,
    "opportunity.stage_changed": _stage,
    "opportunity.reopened": lambda data, reader, _vendor: reader.code(data.get("stage"), "stage"),
    "opportunity.details_changed": _fields("changed"),
    "opportunity.amount_changed": lambda data, reader, _vendor: (
        f"{_money(data.get('previous'), reader)} → {_money(data.get('amount'), reader)}"
    ),
    "opportunity.close_date_changed": lambda data, reader, _vendor: (
        f"{_day(data.get('previous'), reader)} → {_day(data.get('expected_close_on'), reader)}"
    ),
    "opportunity.next_action_set": lambda data, reader, _vendor: _day(data.get("due_on"), reader),
    "opportunity.forecast_overridden": lambda data, reader, _vendor: (
        f"{reader.code(data.get('stage_category'), 'forecast')}"
        f" → {reader.code(data.get('category') or data.get('stage_category'), 'forecast')}"
    ),
    "opportunity.activity_logged": _activity,
    "opportunity.help_requested": lambda data, reader, _vendor: reader.code(data.get("topic"), "help_topic"),
    "opportunity.owner_assigned": lambda data, _reader, _vendor: str(data.get("owner") or ""),
    "opportunity.won": _won,
    "opportunity.lost": _won,
}
