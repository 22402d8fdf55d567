"""Refusals in a person's language: by their code; the sentence of the domain where there is no better word."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from prm_es.api.pages.language import Reader
from prm_es.api.pages.words import _n

SENTENCES: Final[Mapping[str, str]] = {
    "command.invalid": _n("Something is missing or cannot be read. Look at the fields that are marked."),
    "command.id_reused": _n("This form was sent before with something else in it. Open it again."),
    "command.too_large": _n("That is too much text for one request."),
    "actor.forbidden": _n("Your role may not do this."),
    "actor.unknown_user": _n("You are not among the registered users of the partner."),
    "aggregate.not_found": _n("It does not exist."),
    "aggregate.already_exists": _n("It exists already."),
    "aggregate.version_conflict": _n("Somebody changed it in the meantime. Look at it again."),
    "state.not_allowed": _n("That is not possible any more in its present state."),
    "partner.not_active": _n("The partner is not active."),
    "partner.not_authorised": _n("The partner is not authorised for one of the product lines."),
    "partner.not_found": _n("There is no such partner."),
    "partner.agreement_missing": _n("The partner has not signed the agreement yet."),
    "partner.duplicate": _n("Another partner has this tax id."),
    "partner.goal_overlaps": _n("A goal for the same metric overlaps with it."),
    "lead.already_protected": _n("The customer is protected for somebody else."),
    "lead.in_conflict": _n("Another lead may be about the same customer. Decide the conflict first."),
    "lead.not_screened": _n("It is still being compared with all others. Try again in a moment."),
    "lead.cap_reached": _n("The partner has as many live registrations as it may have."),
    "lead.below_minimum": _n("The amount is below the minimum of the programme."),
    "lead.duplicate_registration": _n("You have registered this customer for one of these product lines already."),
    "lead.outside_territory": _n("The customer lies outside the territory."),
    "lead.extension_limit": _n("The protection was extended as often as it may be."),
    "lead.no_recent_activity": _n("An extension needs a recent activity on the lead or its deal."),
    "lead.not_protected": _n("No protection runs."),
    "lead.not_assigned": _n("No partner has it."),
    "lead.incumbent_renewal": _n("Renewals go to the partner of the last deal won there."),
    "lead.partner_declined_before": _n("This partner has declined it before."),
    "lead.partner_at_capacity": _n("This partner has as many leads as it can take."),
    "lead.owner_outside_organisation": _n("The owner must belong to the partner."),
    "opportunity.entry_fields_missing": _n("The stage needs more to be known. Add what is listed, then move it."),
    "opportunity.owner_outside_organisation": _n("The owner must belong to the partner."),
    "opportunity.reopen_too_late": _n("It was closed too long ago to be reopened."),
    "availability.cap_reached": _n("Your company has asked as often as it may today."),
}

FIELDS: Final[Mapping[str, str]] = {
    "missing": _n("Needed"),
    "required": _n("Needed"),
    "string_too_short": _n("Too short"),
    "string_too_long": _n("Too long"),
    "text_nul": _n("Contains a sign that cannot be stored"),
    "tax_id_invalid": _n("Not a valid tax id of this country"),
    "tax_id_individual": _n("The id of a person cannot be asked for"),
    "country_unknown": _n("Not a known country"),
    "currency_unknown": _n("Not a known currency"),
    "money_decimals": _n("More decimals than the currency has"),
    "decimal_parsing": _n("Not a number"),
    "decimal_type": _n("Not a number"),
    "int_parsing": _n("Not a whole number"),
    "int_type": _n("Not a whole number"),
    "greater_than": _n("Too small"),
    "greater_than_equal": _n("Too small"),
    "less_than_equal": _n("Too large"),
    "date_from_datetime_parsing": _n("Not a day"),
    "date_parsing": _n("Not a day"),
    "past": _n("Lies in the past"),
    "future": _n("Lies in the future"),
    "not_authorised": _n("The partner is not authorised for it"),
    "taken": _n("Belongs to another partner"),
    "vendor_only": _n("Only the vendor's people may choose that"),
    "string_pattern_mismatch": _n("Not written as it should be"),
    "literal_error": _n("Choose one of the list"),
    "too_short": _n("At least one is needed"),
    "contact_empty": _n("A contact needs a name, an e-mail or a phone"),
    "uuid_parsing": _n("Choose one of the list"),
}


@dataclass(frozen=True, slots=True)
class FieldError:
    field: str
    words: str


@dataclass(frozen=True, slots=True)
class Notice:
    """What became of a command, as a person reads it."""

    title: str
    words: str
    tone: str


def refused(reader: Reader, code: str, message: str) -> Notice:
    known = SENTENCES.get(code)
    if known is None:
        return Notice(reader.text(_n("Refused")), message, "late")
    words = message if reader.language == "en" and code not in _GENERAL else ""
    return Notice(reader.text(known), words, "late")


def pending(reader: Reader) -> Notice:
    return Notice(
        reader.text(_n("Sent, not answered yet")),
        reader.text(_n("The answer shows here as soon as it is there.")),
        "wait",
    )


def field_errors(reader: Reader, errors: Iterable[Mapping[str, Any]]) -> list[FieldError]:
    return [
        FieldError(
            str(one["field"]),
            reader.text(FIELDS[one["code"]]) if one.get("code") in FIELDS else str(one["message"]),
        )
        for one in errors
    ]


_GENERAL: Final = frozenset({"command.invalid", "actor.forbidden", "state.not_allowed", "lead.not_screened"})
