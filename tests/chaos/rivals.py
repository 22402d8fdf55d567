"""The judge's own reading of who competes for a customer: the sides of the conflicts, and their hard matches.

Left to `reconcile` are what is alike and not equal, values that are folded or digested, versions, which are those of
the last event that says something of the customer, and conflicts of the past.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Row = dict[str, Any]
Pair = tuple[str, str]

OVER: Final = ("rejected", "withdrawn", "lapsed", "expired", "revoked", "disqualified")
LOSSES: Final = ("protection_ended", "decision_reverted", "disqualified", "protection_expired", "protection_revoked")


@dataclass
class Rivals:
    """The sides, while the log is read."""

    sides: dict[tuple[str], Row] = field(default_factory=dict)

    def take(self, event: Any, status: str) -> None:
        """Take an event of a lead, which leaves it in this status, or of an opportunity."""
        if event.kind not in ("lead", "opportunity"):
            return
        row = self.sides.setdefault((event.subject,), _side(event))
        if event.kind == "lead":
            _lead(row, event, status)
        else:
            _opportunity(row, event)
        if _tells(event, "customer"):
            row["customer_keys"] = list(event["customer_keys"] or ())
        name = "products" if event.kind == "opportunity" else "product_lines"
        if _tells(event, name):
            given = [one["line"] for one in event[name] or ()] if name == "products" else event[name]
            row["product_lines"] = list(given or ())

    def hard(self) -> Iterator[tuple[Pair, str, bool]]:
        """Give each two live sides in different hands that have an exact key and a line in common, and who was first.

        And whether that must be in the book: what a lead has become may be told by the lead alone, while that lives.
        """
        by_key: dict[str, list[str]] = defaultdict(list)
        for (one,), row in self.sides.items():
            if not _ended(row):
                for key in row["customer_keys"]:
                    by_key[key].append(one)
        pairs = {(low, high) for ids in by_key.values() for low in ids for high in ids if low < high}
        for low, high in pairs:
            sides = self.sides[low,], self.sides[high,]
            if _rivals(*sides):
                _place, first = min((sides[0]["place"], low), (sides[1]["place"], high))
                yield (low, high), first, not any(map(self._told_by_its_lead, sides))

    def _told_by_its_lead(self, row: Row) -> bool:
        lead = self.sides.get((row["linked"],)) if row["kind"] == "opportunity" else None
        return lead is not None and not _ended(lead)


def _side(event: Any) -> Row:
    registered = event.kind == "lead" and event.name == "registered"
    return {
        "kind": event.kind,
        "origin": "" if event.kind == "opportunity" else "registered" if registered else "captured",
        "status": "",
        "partner_id": event["partner_id"] if registered or event.kind == "opportunity" else None,
        "linked": None,
        "place": event.position,
        "protected_until": None,
        "customer_keys": [],
        "product_lines": [],
    }


def _tells(event: Any, name: str) -> bool:
    if event.name in (("opened",) if event.kind == "opportunity" else ("registered", "captured")):
        return True
    changes = event.name in ("resubmitted", "corrected", "details_changed")
    return changes and name in (event["changed"] or ())


def _lead(row: Row, event: Any, status: str) -> None:
    row["status"] = status
    if event.name == "resubmitted" and not event["keeps_place"]:
        row["place"] = event.position
    if event.name in ("approved", "accepted", "protection_extended"):
        row["protected_until"] = event.time("protected_until")
    if event.name in LOSSES:
        row["protected_until"] = None
    if event.name in ("declined", "offer_expired", "recalled"):
        row |= {"partner_id": None, "protected_until": None}
    if event.name in ("protection_expired", "protection_revoked") and event["status"] == "qualified":
        row["partner_id"] = None
    if event.name in ("offered", "transferred"):
        row["partner_id"] = event["partner_id"]
    if event.name == "converted":
        row["linked"] = event["opportunity_id"]


def _opportunity(row: Row, event: Any) -> None:
    match event.name:
        case "opened":
            row |= {"status": "open", "linked": event["lead_id"]}
        case "partner_of_record_changed":
            row["partner_id"] = event["partner_id"]
        case "won" | "lost":
            row["status"] = event.name
        case "reopened":
            row["status"] = "open"


def _ended(row: Mapping[str, Any]) -> bool:
    if row["kind"] == "opportunity":
        return bool(row["status"] == "lost")
    return row["status"] in OVER or (row["status"] == "converted" and row["protected_until"] is None)


def _rivals(one: Row, other: Row) -> bool:
    lines = one["product_lines"], other["product_lines"]
    common = not all(lines) or not set(lines[0]).isdisjoint(lines[1])
    return common and one["partner_id"] != other["partner_id"] and "lead" in (one["kind"], other["kind"])
