"""Read model conflicts: live leads of different partners that are about the same customer, found in the log's order.

Every lead that comes in, changes what it is about, or comes back is compared with all that are live at its position,
by exact keys: the tax id's root or the vendor's customer id make a hard match, a shared web domain a probable one, if
there is a common product line (none named: every line). The answer to each is the command `screen`, which names the
version that was looked at. Who was first is the position at which a lead took its place.
The same holder twice is a duplicate and no conflict.
Source of the rule: prm-domain R-SD-1 to R-SD-4, after Siebel's "same end customer and at least one product in common".
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from psycopg2 import sql

from prm_es.aggregates import lead_messages as lead
from prm_es.aggregates.base import Event
from prm_es.aggregates.lead import FINAL, IDENTITY, STATUS_AFTER
from prm_es.frozen import replace
from prm_es.messages import Envelope, Recorded
from prm_es.projections import partners
from prm_es.projections.base import Rows, Table
from prm_es.projections.ordered import Book, OrderedModel, Parsed, ask
from prm_es.projections.partners import fold_partner

MOST: Final = 200  # matches in one screening, those that were first before others
HARD, PROBABLE = "hard", "probable"


@dataclass(frozen=True)
class Lead:
    """A lead as the comparison needs it; `place` is the position that says who was first."""

    lead_id: UUID
    origin: str
    status: str
    partner_id: UUID | None
    version: int
    place: int
    came_at: datetime
    protected_until: datetime | None
    customer: str | None
    customer_keys: list[str]
    domain_keys: list[str]
    product_lines: list[str]


@dataclass(frozen=True)
class LeadKey:
    """A key under which a live lead is found."""

    lead_id: UUID
    key: str


@dataclass(frozen=True)
class Conflict:
    """Two leads from the position at which they were found to match to the one at which they no longer did.

    The ids are in order, so that a pair is one row a round; `first_lead_id` is the one that was first.
    """

    low_lead_id: UUID
    high_lead_id: UUID
    round: int
    first_lead_id: UUID
    strength: str
    matched_keys: list[str]
    found_position: int
    found_at: datetime
    outcome: str | None
    decided_by_lead: UUID | None
    decided_position: int | None
    ended_position: int | None
    ended_at: datetime | None
    ended_because: str | None

    @property
    def ids(self) -> tuple[UUID, UUID]:
        """The two leads."""
        return self.low_lead_id, self.high_lead_id


def fold(rows: Rows, recorded: Recorded, event: Event) -> Rows:
    """Give the rows of a partner or lead after its own event; conflicts follow in `react`."""
    if recorded.aggregate == "partner":
        return fold_partner(rows, recorded, event)
    if recorded.aggregate != "lead":
        return rows
    row = _lead(next(iter(rows["lead"]), None), recorded, event)
    keys = () if _ended(row) else tuple(LeadKey(row.lead_id, key) for key in sorted(_keys(row)))
    return {**rows, "lead": (row,), "lead_key": keys}


def _lead(before: Lead | None, recorded: Recorded, event: Event) -> Lead:
    if isinstance(event, lead.Registered | lead.Captured) or before is None:
        before = Lead(
            lead_id=recorded.subject,
            origin="captured" if isinstance(event, lead.Captured) else "registered",
            status="",
            partner_id=event.partner_id if isinstance(event, lead.Registered) else None,
            version=recorded.version,
            place=recorded.position,
            came_at=recorded.at,
            protected_until=None,
            customer=None,
            customer_keys=[],
            domain_keys=[],
            product_lines=[],
        )
    row = replace(before, version=recorded.version, status=STATUS_AFTER.get(type(event), before.status))
    match event:
        case lead.Registered() | lead.Captured():
            return _details(row, event, ("customer", "product_lines"))
        case lead.Resubmitted():
            placed = row if event.keeps_place else replace(row, place=recorded.position)
            return _details(placed, event, event.changed)
        case lead.Corrected():
            return _details(row, event, event.changed)
        case lead.Protection():
            return replace(row, protected_until=event.protected_until)
        case lead.ProtectionEnded() | lead.DecisionReverted() | lead.Disqualified():
            return replace(row, protected_until=None)
        case lead.ProtectionExpired() | lead.ProtectionRevoked():
            held = row.partner_id if event.status != "qualified" else None
            return replace(row, status=event.status, partner_id=held, protected_until=None)
        case lead.Offered() | lead.Transferred():
            return replace(row, partner_id=event.partner_id)
        case lead.Declined() | lead.OfferExpired() | lead.Recalled():
            return replace(row, partner_id=None, protected_until=None)
        case _:
            return row


def _details(row: Lead, event: lead.Details, changed: Iterable[str]) -> Lead:
    if "customer" in changed:
        name = event.customer.name if event.customer else None
        row = replace(row, customer=name, customer_keys=list(event.customer_keys), domain_keys=list(event.domain_keys))
    return replace(row, product_lines=list(event.product_lines)) if "product_lines" in changed else row


def _ended(row: Lead) -> bool:
    return row.status in FINAL or (row.status == "converted" and row.protected_until is None)


def _keys(row: Lead) -> set[str]:
    return {*row.customer_keys, *row.domain_keys}


# Comparing


def strength_of(one: Lead, other: Lead) -> tuple[str, list[str]] | None:
    """Give how strongly two live leads match and by which keys, or None if they do not."""
    if one.partner_id == other.partner_id or not _common_line(one, other):
        return None
    if keys := sorted(set(one.customer_keys) & set(other.customer_keys)):
        return HARD, keys
    keys = sorted(set(one.domain_keys) & set(other.domain_keys))
    return (PROBABLE, keys) if keys else None


def _common_line(one: Lead, other: Lead) -> bool:
    return not (one.product_lines and other.product_lines) or bool(set(one.product_lines) & set(other.product_lines))


def react(book: Book, before: Rows, parsed: Parsed) -> Sequence[Envelope]:
    """Bring the conflicts of the lead up to its position; gives the screenings that this asks for."""
    recorded, event = parsed.recorded, parsed.event
    if recorded.aggregate != "lead":
        return ()
    row: Lead = book[recorded.subject]["lead"][0]
    if isinstance(event, lead.MatchResolved):
        _resolve(book, row, event, recorded)
        return ()
    was = next(iter(before["lead"]), None)
    asks = isinstance(event, _SCREENED)
    if not asks and was is not None and (was.partner_id, _ended(was)) == (row.partner_id, _ended(row)):
        return ()
    again = _compare(book, row, parsed) | ({row.lead_id} if asks else set())
    return [_screen(book, book[one]["lead"][0], recorded) for one in sorted(again)]


# What a lead is screened after; a transfer because the new partner may have a rival in the old one's place.
_SCREENED: Final = (
    lead.Registered,
    lead.Captured,
    lead.Resubmitted,
    lead.Corrected,
    lead.DecisionReverted,
    lead.Transferred,
)


def _compare(book: Book, row: Lead, parsed: Parsed) -> set[UUID]:
    """Begin and end conflicts of one lead; gives the leads whose last screening is not true any more.

    Those are the later of two that match now or matched before, while both live, and both if their order has changed.
    """
    recorded, event = parsed.recorded, parsed.event
    again: set[UUID] = set()
    standing = {_other(one, row.lead_id): one for one in _standing(book, row.lead_id)}
    found = {} if _ended(row) else _matches(book, row)
    changed = isinstance(event, lead.Details) and not IDENTITY.isdisjoint(getattr(event, "changed", IDENTITY))
    for other_id, one in standing.items():
        match = found.get(other_id)
        if match is None:
            _put(book, _over(one, row, recorded, event))
            if not (_ended(row) or _ended(book[other_id]["lead"][0])):
                again.add(_other(one, one.first_lead_id))
        else:
            first = _first(row, book[other_id]["lead"][0])
            _put(book, _renewed(one, match, first, row, changed=changed))
            if first != one.first_lead_id:
                again |= {row.lead_id, other_id}
    for other_id, match in found.items():
        if other_id not in standing:
            one = _new(book, row.lead_id, other_id, _first(row, book[other_id]["lead"][0]), match, recorded)
            _put(book, one)
            again.add(_other(one, one.first_lead_id))
    return again


def _first(one: Lead, other: Lead) -> UUID:
    return min((one.place, one.lead_id), (other.place, other.lead_id))[1]


def _matches(book: Book, row: Lead) -> dict[UUID, tuple[str, list[str]]]:
    found = {}
    for other_id in book.find(*_keys(row)):
        match = strength_of(row, book[other_id]["lead"][0])
        if match and other_id != row.lead_id:
            found[other_id] = match
    return found


def _standing(book: Book, lead_id: UUID) -> list[Conflict]:
    return [
        one
        for low in book.find(lead_id)
        for one in book[low]["conflict"]
        if one.ended_position is None and lead_id in one.ids
    ]


def index(rows: Rows) -> Iterator[Hashable]:
    """Give the keys of a live lead, and the leads with which it stands in conflict."""
    yield from (row.key for row in rows["lead_key"])
    yield from (one for row in rows["conflict"] if row.ended_position is None for one in row.ids)


def wanted(book: Book, command: Envelope) -> bool:
    """Tell whether a lead is still to be screened: not once it has ended."""
    return not _ended(book[command.subject]["lead"][0])


def _other(one: Conflict, lead_id: UUID) -> UUID:
    return one.high_lead_id if one.low_lead_id == lead_id else one.low_lead_id


def _new(book: Book, one: UUID, other: UUID, first: UUID, match: tuple[str, list[str]], recorded: Recorded) -> Conflict:
    low, high = sorted((one, other))
    rounds = [past.round for past in book[low]["conflict"] if past.high_lead_id == high]
    return Conflict(
        low_lead_id=low,
        high_lead_id=high,
        round=max(rounds, default=0) + 1,
        first_lead_id=first,
        strength=match[0],
        matched_keys=match[1],
        found_position=recorded.position,
        found_at=recorded.recorded_at,
        outcome=None,
        decided_by_lead=None,
        decided_position=None,
        ended_position=None,
        ended_at=None,
        ended_because=None,
    )


def _renewed(one: Conflict, match: tuple[str, list[str]], first: UUID, row: Lead, *, changed: bool) -> Conflict:
    """Keep a conflict that still stands; a decision of the lead falls with what it was about."""
    kept = replace(one, strength=match[0], matched_keys=match[1], first_lead_id=first)
    if changed and one.decided_by_lead == row.lead_id:
        return replace(kept, outcome=None, decided_by_lead=None, decided_position=None)
    return kept


def _over(one: Conflict, row: Lead, recorded: Recorded, event: Event) -> Conflict:
    because = row.status if _ended(row) else "transferred" if isinstance(event, lead.Transferred) else "changed"
    if _ended(row) and isinstance(event, lead.ProtectionEnded):
        because = event.outcome
    return replace(one, ended_position=recorded.position, ended_at=recorded.recorded_at, ended_because=because)


def _resolve(book: Book, row: Lead, event: lead.MatchResolved, recorded: Recorded) -> None:
    for one in _standing(book, row.lead_id):
        if event.other_lead in one.ids:
            decided = replace(
                one, outcome=event.outcome, decided_by_lead=row.lead_id, decided_position=recorded.position
            )
            _put(book, decided)


def _put(book: Book, one: Conflict) -> None:
    rows = book[one.low_lead_id]
    key = (one.high_lead_id, one.round)
    others = [row for row in rows["conflict"] if (row.high_lead_id, row.round) != key]
    ordered = sorted([*others, one], key=lambda row: (row.high_lead_id, row.round))
    book[one.low_lead_id] = {**rows, "conflict": tuple(ordered)}


# Asking


def _screen(book: Book, row: Lead, recorded: Recorded) -> Envelope:
    standing = sorted(_standing(book, row.lead_id), key=lambda one: book[_other(one, row.lead_id)]["lead"][0].place)
    matches = [
        {
            "lead_id": str(_other(one, row.lead_id)),
            "strength": one.strength,
            "matched_keys": one.matched_keys[:50],
            "sentence": sentence(one.strength, one.matched_keys, first=one.first_lead_id == row.lead_id),
            "other_first": one.first_lead_id != row.lead_id,
        }
        for one in standing[:MOST]
    ]
    data = {"version": row.version, "matches": matches}
    return ask(
        "conflicts", f"screen/{row.lead_id}/{recorded.position}", "lead.screen", row.lead_id, data, cause=recorded
    )


_WORDS: Final = {"tax": "same tax id", "id": "same customer id", "domain": "same web domain"}


def sentence(strength: str, keys: Sequence[str], *, first: bool) -> str:
    """Say in words why two leads match and who was first, without saying who the other is."""
    kinds = dict.fromkeys(key.partition(":")[0] for key in keys)
    order = "registered before the other" if first else "the other was registered before"
    return f"{', '.join(_WORDS[kind] for kind in kinds)} ({strength}); {order}"


# What a batch must know


def related(cursor: Any, schema: str, events: Sequence[Parsed]) -> set[UUID]:  # noqa: ANN401
    """Give the leads that share a key with one of the batch, those in conflict with them, and theirs in turn."""
    subjects = {one.recorded.subject for one in events if one.recorded.aggregate == "lead"}
    if not subjects:
        return set()
    given = {
        key
        for one in events
        if isinstance(one.event, lead.Details)
        for key in (*one.event.customer_keys, *one.event.domain_keys)
    }
    names = {name: sql.Identifier(schema, name) for name in ("lead_key", "lead", "conflict")}
    cursor.execute(
        sql.SQL(
            "SELECT DISTINCT k.lead_id FROM {lead_key} k WHERE k.key = ANY(%(given)s) OR k.key IN"
            " (SELECT unnest(l.customer_keys || l.domain_keys) FROM {lead} l WHERE l.lead_id = ANY(%(subjects)s))"
        ).format(**names),
        {"given": list(given), "subjects": list(subjects)},
    )
    found = subjects | {row[0] for row in cursor}
    for _hop in range(2):
        cursor.execute(
            sql.SQL(
                "SELECT low_lead_id, high_lead_id FROM {conflict}"
                " WHERE ended_position IS NULL AND (low_lead_id = ANY(%(ids)s) OR high_lead_id = ANY(%(ids)s))"
            ).format(**names),
            {"ids": list(found)},
        )
        found |= {one for row in cursor for one in row}
    return found


MODEL = OrderedModel(
    name="conflicts",
    version=2,
    aggregates=("partner", "lead"),
    tables=(
        Table(Lead, ("lead_id",), sealed=("customer",)),
        Table(LeadKey, ("lead_id", "key")),
        Table(Conflict, ("low_lead_id", "high_lead_id", "round")),
        partners.TABLE,
    ),
    fold=fold,
    views=("lead_conflicts",),
    shared_sql=(partners.SQL,),
    related=related,
    index=index,
    react=react,
    wanted=wanted,
)
