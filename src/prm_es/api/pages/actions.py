"""What people can do to a lead, a deal or a partner from its page: which command, in which state, with which fields.

Who may send a command at all is the domain's table of permissions; what it answers is the command's own outcome.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from prm_es.aggregates.lead import HELD, IN_HANDS
from prm_es.aggregates.permissions import may
from prm_es.api.pages.words import _n
from prm_es.messages import PARTNER_ROLES, Role


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a form, named by its path in the command's data.

    Kinds: text, area, code (of the codes `of`), codes, money, day, number, partner.
    """

    name: str
    title: str
    kind: str = "text"
    of: str = ""
    required: bool = False
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Action:
    """A command with its form. `states` are those in which it makes sense; none: any.

    `leaves_to` is the page to go to for a partner's people, who see nothing of it any more.
    """

    command: str
    title: str
    states: tuple[str, ...] = ()
    fields: tuple[Field, ...] = ()
    tone: str = ""
    hint: str = ""
    done: str = _n("Done")
    needs: str = field(default="", kw_only=True)
    leaves_to: str = field(default="", kw_only=True)

    @property
    def aggregate(self) -> str:
        return self.command.partition(".")[0]


_NOTE: Final = Field("note", _n("Note"), "area")
_REASON: Final = Field("reason", _n("Reason"), "area", required=True)
_NEXT: Final = (
    Field("next_action.text", _n("Next action"), required=True, hint=_n("What happens next, in a few words")),
    Field("next_action.due_on", _n("Due on"), "day", required=True),
)
_DECIDING: Final = ("submitted", "in_review")
_OPEN: Final = ("open",)

ACTIONS: Final[tuple[Action, ...]] = (
    # Leads, to decide
    Action("lead.approve", _n("Approve"), _DECIDING, (_NOTE,), "primary",
           _n("The customer is then protected for this partner."), _n("Approved")),
    Action("lead.reject", _n("Reject"), (*_DECIDING, "action_required"),
           (Field("reason", _n("Reason"), "code", "reject_reason", required=True), _NOTE), "danger",
           _n("The partner sees the reason and the note."), _n("Rejected")),
    Action("lead.request_information", _n("Request information"), _DECIDING,
           (Field("fields", _n("About"), "codes", "asked_for"),
            Field("note", _n("What is missing"), "area", required=True)),
           hint=_n("The clock stops until the partner answers."), done=_n("The partner was asked")),
    Action("lead.start_review", _n("Start the review"), ("submitted",), done=_n("In review")),
    # Leads, the part of partners
    Action("lead.open", _n("Show the customer"), ("offered",), needs="unopened",
           hint=_n("The vendor sees that you looked."), done=_n("Opened")),
    Action("lead.accept", _n("Accept"), ("offered",), _NEXT, "primary",
           _n("The lead is yours; name what you will do next."), _n("Accepted")),
    Action("lead.decline", _n("Decline"), ("offered",),
           (Field("reason", _n("Reason"), "code", "decline_reason", required=True), _NOTE), "danger",
           done=_n("Declined"), leaves_to="/offers"),
    Action("lead.record_contact", _n("Record the first contact"), ("accepted",),
           (Field("kind", _n("How"), "code", "activity", required=True), _NOTE), "primary", done=_n("Recorded")),
    Action("lead.start_work", _n("Start work"), ("contacted",), (_NOTE,), "primary", done=_n("In work")),
    Action("lead.resubmit", _n("Answer and resubmit"), ("action_required",),
           (Field("business_problem", _n("Business problem"), "area"), Field("evidence", _n("Evidence"), "area"),
            Field("amount", _n("Amount"), "money"), Field("expected_close_on", _n("Expected close"), "day"), _NOTE),
           "primary", _n("Give what was asked for; what you leave empty stays as it is."), _n("Resubmitted")),
    Action("lead.convert", _n("Convert to a deal"), ("approved", "accepted", "contacted", "working"),
           (Field("name", _n("Name of the deal"), required=True), *_NEXT,
            Field("amount", _n("Amount"), "money", hint=_n("Left out: that of the lead")),
            Field("expected_close_on", _n("Expected close"), "day")),
           "primary", done=_n("Converted")),
    Action("lead.request_extension", _n("Ask for an extension"), ("approved", "converted"),
           (Field("evidence", _n("Why, with what you have done"), "area", required=True),), needs="protected",
           done=_n("Asked for")),
    Action("lead.extend", _n("Extend the protection"), HELD, (Field("evidence", _n("Evidence"), "area"),),
           needs="protected", done=_n("Extended")),
    Action("lead.withdraw", _n("Withdraw"), (*_DECIDING, "action_required"), (_NOTE,), "danger", done=_n("Withdrawn")),
    # Leads, to hand out
    Action("lead.qualify", _n("Qualify"), ("new",), (Field("score", _n("Score, 0 to 100"), "number"), _NOTE), "primary",
           done=_n("Qualified")),
    Action("lead.offer", _n("Offer to a partner"), ("new", "qualified"),
           (Field("partner_id", _n("Partner"), "partner", required=True),), "primary", done=_n("Offered")),
    Action("lead.recall", _n("Recall"), IN_HANDS, (_REASON,), "danger", done=_n("Recalled")),
    Action("lead.disqualify", _n("Disqualify"), ("new", "qualified", "accepted", "contacted", "working"),
           (Field("reason", _n("Reason"), "code", "disqualify_reason", required=True), _NOTE), "danger",
           done=_n("Disqualified")),
    # Leads, at any time
    Action("lead.log_activity", _n("Log an activity"), needs="live",
           fields=(Field("kind", _n("Kind"), "code", "activity", required=True),
                   Field("summary", _n("What happened"), "area", required=True),
                   Field("happened_on", _n("On"), "day"), Field("visibility", _n("Who sees it"), "visibility")),
           done=_n("Logged")),
    Action("lead.comment", _n("Comment"), needs="live",
           fields=(Field("text", _n("Comment"), "area", required=True),
                   Field("visibility", _n("Who sees it"), "visibility")), done=_n("Commented")),
    Action("lead.transfer", _n("Transfer"), needs="live",
           fields=(Field("partner_id", _n("Partner"), "partner", required=True), _REASON), done=_n("Transferred")),
    Action("lead.assign_owner", _n("Assign the owner"), needs="live",
           fields=(Field("owner", _n("Owner"), required=True),), done=_n("Assigned")),
    Action("lead.revoke", _n("Revoke the protection"), HELD, (_REASON,), "danger", needs="protected",
           done=_n("Revoked")),
    Action("lead.revert", _n("Take the decision back"), ("approved", "rejected"), (_REASON,), "danger",
           done=_n("Back in review")),
    # Opportunities
    Action("opportunity.change_stage", _n("Move the stage"), _OPEN,
           (Field("stage", _n("Stage"), "code", "open_stage", required=True),
            Field("next_action.text", _n("Next action"), hint=_n("Needed on each step forward")),
            Field("next_action.due_on", _n("Due on"), "day"),
            Field("reason", _n("Reason"), "area", hint=_n("Needed on a step back"))), "primary", done=_n("Moved")),
    Action("opportunity.set_next_action", _n("Set the next action"), _OPEN,
           (Field("text", _n("Next action"), required=True), Field("due_on", _n("Due on"), "day", required=True)),
           done=_n("Set")),
    Action("opportunity.complete_next_action", _n("Action done"), _OPEN, (_NOTE,), needs="next_action",
           done=_n("Completed")),
    Action("opportunity.change_details", _n("Change details"), _OPEN,
           (Field("name", _n("Name")), Field("amount", _n("Amount"), "money"),
            Field("expected_close_on", _n("Expected close"), "day"),
            Field("contact.name", _n("Contact"), hint=_n("Name of the person at the customer")),
            Field("contact.email", _n("E-mail of the contact")),
            Field("business_problem", _n("Business problem"), "area"),
            Field("products", _n("Product and quantity"), "product"),
            Field("price_proposed.amount", _n("Proposed price"), "money"),
            Field("contract_in_progress", _n("Contract in progress"), hint=_n("Its reference"))),
           hint=_n("What you leave empty stays as it is."), done=_n("Changed")),
    Action("opportunity.win", _n("Win"), _OPEN,
           (Field("final_amount", _n("Final amount"), "money"),
            Field("order_reference", _n("Order reference")),
            Field("closed_on", _n("Closed on"), "day", hint=_n("Left out: today")), _NOTE), "primary", done=_n("Won")),
    Action("opportunity.lose", _n("Lose"), _OPEN,
           (Field("reason", _n("Reason"), "code", "lost_reason", required=True), Field("competitor", _n("Competitor")),
            _NOTE), "danger", done=_n("Lost")),
    Action("opportunity.reopen", _n("Reopen"), ("won", "lost"), (_REASON,), done=_n("Reopened")),
    Action("opportunity.log_activity", _n("Log an activity"),
           fields=(Field("kind", _n("Kind"), "code", "activity", required=True),
                   Field("summary", _n("What happened"), "area", required=True),
                   Field("happened_on", _n("On"), "day"), Field("visibility", _n("Who sees it"), "visibility")),
           done=_n("Logged")),
    Action("opportunity.comment", _n("Comment"),
           fields=(Field("text", _n("Comment"), "area", required=True),
                   Field("visibility", _n("Who sees it"), "visibility")), done=_n("Commented")),
    Action("opportunity.request_help", _n("Ask for help"), _OPEN,
           (Field("topic", _n("About"), "code", "help_topic", required=True),
            Field("note", _n("What you need"), "area", required=True)), done=_n("Asked for")),
    Action("opportunity.override_forecast", _n("Override the forecast"), _OPEN,
           (Field("category", _n("Forecast"), "code", "forecast_override", required=True), _REASON), done=_n("Set")),
    Action("opportunity.assign_owner", _n("Assign the owner"), _OPEN, (Field("owner", _n("Owner"), required=True),),
           done=_n("Assigned")),
    # Partners
    Action("partner.start_review", _n("Start the review"), ("applied",), done=_n("In review")),
    Action("partner.approve", _n("Approve"), ("applied", "under_review"), tone="primary", done=_n("Approved")),
    Action("partner.reject", _n("Reject"), ("applied", "under_review"), (_REASON,), "danger", done=_n("Rejected")),
    Action("partner.start_onboarding", _n("Start onboarding"), ("approved",), tone="primary", done=_n("Started")),
    Action("partner.activate", _n("Activate"), ("approved", "onboarding"), tone="primary", done=_n("Active")),
    Action("partner.suspend", _n("Suspend"), ("active",), (_REASON,), "danger", done=_n("Suspended")),
    Action("partner.reinstate", _n("Reinstate"), ("suspended",), tone="primary", done=_n("Active again")),
)  # fmt: skip
BY_COMMAND: Final[Mapping[str, Action]] = {one.command: one for one in ACTIONS}
_CUSTOMER_HELD: Final = frozenset({"lead.open", "lead.accept", "lead.decline"})


def offered(role: Role, aggregate: str, row: Mapping[str, Any]) -> list[Action]:
    """Give the actions that make sense to this role for a row as it stands, the most fitting first."""
    return [
        one
        for one in ACTIONS
        if one.aggregate == aggregate
        and may(role, one.command)
        and (not one.states or row["status"] in one.states)
        and _fits(one.needs, row)
    ]


def _fits(needs: str, row: Mapping[str, Any]) -> bool:
    match needs:
        case "protected":
            return row.get("protected_until") is not None
        case "unopened":
            return not row.get("opened")
        case "live":
            return row["status"] not in _ENDED
        case "next_action":
            return row.get("next_action_due_on") is not None
        case _:
            return True


_ENDED: Final = frozenset({"rejected", "withdrawn", "lapsed", "expired", "revoked", "disqualified"})


def sees_visibility(role: Role) -> bool:
    """Tell whether the role may write what only the vendor's people see."""
    return role not in PARTNER_ROLES


def data_of(action: Iterable[Field], form: Mapping[str, list[str]]) -> dict[str, Any]:
    """Make a command's data of what was typed; an empty field is left out."""
    data: dict[str, Any] = {}
    for one in action:
        value = _value(one, form)
        if value not in (None, "", []):
            _put(data, one.name.split("."), value)
    return data


def _value(one: Field, form: Mapping[str, list[str]]) -> Any:  # noqa: ANN401
    given = [text.strip() for text in form.get(one.name, []) if text.strip()]
    match one.kind:
        case "money":
            amount = next(iter(form.get(f"{one.name}.amount", [])), "").strip()
            currency = next(iter(form.get(f"{one.name}.currency", [])), "").strip()
            return {"amount": plain_number(amount), "currency": currency} if amount else None
        case "product":
            line = next(iter(form.get(f"{one.name}.0.line", [])), "").strip()
            quantity = next(iter(form.get(f"{one.name}.0.quantity", [])), "").strip()
            return [{"line": line, **({"quantity": plain_number(quantity)} if quantity else {})}] if line else None
        case "codes" | "lines":
            return given
        case "number":
            return int(given[0]) if given and given[0].isdecimal() else (given[0] if given else None)
        case _:
            return given[0] if given else None


def _put(data: dict[str, Any], path: list[str], value: object) -> None:
    for part in path[:-1]:
        data = data.setdefault(part, {})
    data[path[-1]] = value


def plain_number(text: str) -> str:
    """Read 1.234,56 and 1,234.56 alike: the last sign before one or two closing digits is the decimal one."""
    text = text.replace("\u00a0", "").replace(" ", "")
    head, sign, tail = _split(text)
    return f"{head}.{tail}" if sign else head


def _split(text: str) -> tuple[str, str, str]:
    last = max(text.rfind("."), text.rfind(","))
    if last < 0:
        return text, "", ""
    head, tail = text[:last], text[last + 1 :]
    grouped = len(tail) == 3 or text.count(text[last]) > 1  # noqa: PLR2004
    clean = head.replace(".", "").replace(",", "")
    return (clean + tail, "", "") if grouped else (clean, text[last], tail)
