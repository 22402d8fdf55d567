"""Read model conflicts: live leads and what else may be about the same customer, found in the log's order.

Every lead that comes in, changes what it is about, or comes back is compared, as of its position, with the leads that
are live there, the opportunities that are open or won, and the policy's named accounts, if there is a common product
line (none named: every line). The tax id's root or the vendor's customer id make a hard match; the rest is for the
matcher to judge, from names, addresses, phones and domains. The answer to each is the command `screen`, which names the
version that was looked at. Who was first is the position at which a lead took its place; a named account precedes all.
The same holder twice is a duplicate and no conflict.
Only what shares a candidate key is compared. A key under which too many stand says nothing and is passed over.
Source of the rule: prm-domain R-SD-1 to R-SD-4, after Siebel's "same end customer and at least one product in common".
"""

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from heapq import nlargest
from typing import Any, Final
from uuid import UUID

from psycopg2 import sql

from prm_es.aggregates import lead_messages as lead
from prm_es.aggregates import opportunity as deal
from prm_es.aggregates.base import Event
from prm_es.aggregates.catalogue import AGGREGATES
from prm_es.aggregates.fields import Customer
from prm_es.aggregates.lead import IDENTITY, STATUS_AFTER
from prm_es.aggregates.person import Forgotten
from prm_es.aggregates.policy import STREAM, NamedAccount, Policy, PolicyLoaded
from prm_es.frozen import replace
from prm_es.matching.sentence import span
from prm_es.messages import Envelope, Recorded
from prm_es.projections import partners
from prm_es.projections import rows as tables
from prm_es.projections.base import Rows, Table
from prm_es.projections.known import Known, Told, exact_keys, known_of, known_of_each
from prm_es.projections.likeness import (
    HARD,
    IN_DOUBT,
    POSSIBLE,
    PROBABLE,
    RELATED,
    Found,
    candidates,
    comparable,
    counts_of,
    crowd,
    match,
    sharing,
    weights_in,
)
from prm_es.projections.ordered import PART, Around, Book, OrderedModel, Parsed, ask
from prm_es.projections.sides import (
    ACCOUNT,
    Lead,
    LeadKey,
    Rules,
    about,
    blank,
    ended,
    fold,
    found_under,
    kind_of,
    postings,
    same_postings,
)

MOST: Final = 200  # matches in one screening, those that were first before others


@dataclass(frozen=True)
class Conflict:
    """Two sides from the position at which they were found to match to the one at which they no longer did.

    The ids are in order, so that a pair is one row a round; `first_lead_id` is the one that was first.
    """

    low_lead_id: UUID
    high_lead_id: UUID
    round: int
    first_lead_id: UUID
    strength: str
    score: Decimal
    matched_keys: list[str]
    reasons: str
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
        """The two sides."""
        return self.low_lead_id, self.high_lead_id


# What says something of who it is, in whose hands and how it stands; half of the log does not.
READS: Final[tuple[type[Event], ...]] = (
    *STATUS_AFTER,
    lead.Details,
    lead.MatchResolved,
    lead.Protection,
    lead.ProtectionEnded,
    lead.ProtectionExpired,
    lead.ProtectionRevoked,
    lead.Transferred,
    deal.Opened,
    deal.DetailsChanged,
    deal.PartnerOfRecordChanged,
    deal.Won,
    deal.Lost,
    deal.Reopened,
    *AGGREGATES["partner"].events,
    PolicyLoaded,
    Forgotten,
)


def heeds(event: Event) -> bool:
    """Tell whether an event says something of a customer, or of what is sold to it: most details are others."""
    return not isinstance(event, deal.DetailsChanged) or not {"customer", "products"}.isdisjoint(event.changed)


def _first(one: Lead, other: Lead) -> UUID:
    return min((one.place, one.lead_id), (other.place, other.lead_id))[1]


def _matches(book: Book, row: Lead, standing: Iterable[UUID]) -> dict[UUID, Found]:
    """Give what one side matches as of now; what it matched before is looked at whatever keys they share."""
    found = {}
    counts, weights = counts_of(book, row), weights_in(book)
    others = {other.lead_id: other for other in candidates(book, row)}
    others |= {one: other for one in standing if comparable(row, other := book[one]["lead"][0])}
    for other in others.values():
        if (alike := match(row, other, counts, weights)) is not None:
            found[other.lead_id] = alike
    # What a lead has become is told by the lead itself, as long as it is live.
    told = {one for one in found if (it := book[one]["lead"][0]).kind == "opportunity" and it.linked in found}
    return {one: match for one, match in found.items() if one not in told}


def react(book: Book, before: Rows, parsed: Parsed) -> Sequence[Envelope]:
    """Bring the conflicts of what the event is about up to its position; gives the screenings that this asks for."""
    recorded, event = parsed.recorded, parsed.event
    if isinstance(event, Forgotten):
        return _screenings(book, _forget(book, parsed), recorded)
    if isinstance(event, PolicyLoaded):
        return _screenings(book, _name_accounts(book, event, parsed), recorded)
    if recorded.aggregate not in ("lead", "opportunity"):
        return ()
    row: Lead = book[recorded.subject]["lead"][0]
    if isinstance(event, lead.MatchResolved):
        _resolve(book, row, event, recorded)
        return ()
    was = next(iter(before["lead"]), None)
    asks = isinstance(event, _SCREENED)
    if not asks and was is not None and _compared_as(was) == _compared_as(row):
        return ()
    again = _compare(book, row, parsed) | ({row.lead_id} if asks else set())
    if ended(row) and row.linked and (opened := book.get(row.linked)):
        again |= _compare(book, opened["lead"][0], parsed)  # nothing tells of it any more but itself
    return _screenings(book, again, recorded)


def _screenings(book: Book, again: Iterable[UUID], recorded: Recorded) -> list[Envelope]:
    sides = (book[one]["lead"][0] for one in sorted(again))
    return [_screen(book, side, recorded) for side in sides if side.kind == "lead"]


def _forget(book: Book, parsed: Parsed) -> set[UUID]:
    """Let nothing be found by a person any more; gives the leads to be screened."""
    person = parsed.recorded.subject
    (gone,) = exact_keys((), (person,))
    again: set[UUID] = set()
    for one in book.find(gone):
        rows = book[one]
        row: Lead = rows["lead"][0]
        people, keys = [it for it in row.people if it != person], [key for key in row.keys if key != gone]
        after = replace(row, people=people, keys=keys)
        book[one] = {**rows, "lead": (after,)}
        if not ended(after):
            again |= _compare(book, after, parsed)
    return again


def _name_accounts(book: Book, event: PolicyLoaded, parsed: Parsed) -> set[UUID]:
    """Make the named accounts those of the policy that was loaded last; gives the leads to be screened."""
    named = {one.subject: one for one in _named(event)}
    again: set[UUID] = set()
    for one in sorted({*named, *book.find(ACCOUNT)}):
        rows = book.get(one)
        row = rows["lead"][0] if rows else blank(parsed.recorded, ACCOUNT, "", None)
        after = _account(row, one, named.get(one))
        if rows is None or _compared_as(row) != _compared_as(after):
            book[one] = {**(rows or MODEL.empty()), "lead": (after,)}
            again |= _compare(book, after, parsed)
    return again


def _named(event: PolicyLoaded) -> Sequence[NamedAccount]:
    return Policy.model_validate(event.document).named_accounts


def _account(row: Lead, subject: UUID, account: NamedAccount | None) -> Lead:
    if account is None:
        return replace(row, status="dropped")
    lines = list(account.product_lines)
    row = replace(row, lead_id=subject, status="named", version=0, place=0, product_lines=lines)
    return about(row, account.customer, account.customer_keys)


# What a lead is screened after; a transfer because the new partner may have a rival in the old one's place.
_SCREENED: Final = (
    lead.Registered,
    lead.Captured,
    lead.Resubmitted,
    lead.Corrected,
    lead.DecisionReverted,
    lead.Transferred,
)


def _compared_as(row: Lead) -> tuple[object, ...]:
    return row.partner_id, ended(row), row.keys, row.product_lines, row.identity


def _compare(book: Book, row: Lead, parsed: Parsed) -> set[UUID]:
    """Begin and end conflicts of one side; gives the leads whose last screening is not true any more.

    Those are the later of two that match now or matched before, while both live, and both if their order has changed.
    """
    recorded, event = parsed.recorded, parsed.event
    again: set[UUID] = set()
    standing = {_other(one, row.lead_id): one for one in _standing(book, row.lead_id)}
    found = {} if ended(row) else _matches(book, row, standing)
    changed = isinstance(event, lead.Details) and not IDENTITY.isdisjoint(getattr(event, "changed", IDENTITY))
    for other_id, one in standing.items():
        match = found.get(other_id)
        if match is None:
            _put(book, _over(one, row, recorded, event))
            if not (ended(row) or ended(book[other_id]["lead"][0])):
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


def _standing(book: Book, lead_id: UUID) -> list[Conflict]:
    return [
        one
        for low in book.find(lead_id)
        for one in book[low]["conflict"]
        if one.ended_position is None and lead_id in one.ids
    ]


def index(rows: Rows, asked: frozenset[int] | None = None) -> list[Hashable]:
    """Give the keys under which it is found, of those that are asked for, and those with which it is in conflict."""
    found: list[Hashable] = [one for row in rows["conflict"] if row.ended_position is None for one in row.ids]
    for row in rows["lead"]:
        keys = found_under(row)
        found += keys if asked is None else asked.intersection(keys)
        if row.kind == ACCOUNT and not ended(row):
            found.append(ACCOUNT)
    return found


def wanted(book: Book, command: Envelope) -> bool:
    """Tell whether a lead is still to be screened: not once it has ended."""
    return not ended(book[command.subject]["lead"][0])


def _other(one: Conflict, lead_id: UUID) -> UUID:
    return one.high_lead_id if one.low_lead_id == lead_id else one.low_lead_id


def _new(book: Book, one: UUID, other: UUID, first: UUID, match: Found, recorded: Recorded) -> Conflict:
    low, high = sorted((one, other))
    rounds = [past.round for past in book[low]["conflict"] if past.high_lead_id == high]
    return Conflict(
        low_lead_id=low,
        high_lead_id=high,
        round=max(rounds, default=0) + 1,
        first_lead_id=first,
        strength=match.strength,
        score=match.score,
        matched_keys=match.keys,
        reasons=match.reasons,
        found_position=recorded.position,
        found_at=recorded.recorded_at,
        outcome=None,
        decided_by_lead=None,
        decided_position=None,
        ended_position=None,
        ended_at=None,
        ended_because=None,
    )


def _renewed(one: Conflict, match: Found, first: UUID, row: Lead, *, changed: bool) -> Conflict:
    """Keep a conflict that still stands; a decision of the lead falls with what it was about."""
    told = {"strength": match.strength, "score": match.score, "matched_keys": match.keys, "reasons": match.reasons}
    kept = replace(one, **told, first_lead_id=first)
    if changed and one.decided_by_lead == row.lead_id:
        return replace(kept, outcome=None, decided_by_lead=None, decided_position=None)
    return kept


def _over(one: Conflict, row: Lead, recorded: Recorded, event: Event) -> Conflict:
    because = row.status if ended(row) else "transferred" if isinstance(event, lead.Transferred) else "changed"
    if ended(row) and isinstance(event, lead.ProtectionEnded):
        because = event.outcome
    if isinstance(event, Forgotten):
        because = "forgotten"
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
    sides = [(one, book[_other(one, row.lead_id)]["lead"][0]) for one in _standing(book, row.lead_id)]
    sides.sort(key=lambda pair: (_WEIGHTS[pair[0].strength], pair[1].place))
    matches = [_told(row, other, one) for one, other in sides[:MOST]]
    data = {"version": row.version, "matches": matches}
    return ask(
        "conflicts", f"screen/{row.lead_id}/{recorded.position}", "lead.screen", row.lead_id, data, cause=recorded
    )


_WEIGHTS: Final = {HARD: 0, PROBABLE: 0, POSSIBLE: 1, RELATED: 2}  # those that hold up an approval go first


def _told(row: Lead, other: Lead, one: Conflict) -> Mapping[str, Any]:
    other_first = one.first_lead_id != row.lead_id
    return {
        "lead_id": str(other.lead_id),
        "kind": kind_of(other),
        "strength": one.strength,
        "score": str(one.score),
        "matched_keys": [key[:120] for key in one.matched_keys[:50]],
        "sentence": sentence(one.reasons, other, other.came_at - row.came_at, other_first=other_first)[:255],
        "other_first": other_first,
    }


_NAMES: Final = {
    "lead": "registered",
    "opportunity": "an open opportunity since",
    "customer": "a customer won before",
    "named_account": "a named account of the vendor",
}


def sentence(reasons: str, other: Lead, after: timedelta, *, other_first: bool) -> str:
    """Say in words why two sides match and who was first, without saying who the other is."""
    kind = kind_of(other)
    if kind != "lead":
        return f"{reasons}; {_NAMES[kind]}" if kind != "opportunity" else f"{reasons}; an open opportunity"
    return f"{reasons}; registered {span(abs(after))} {'earlier' if other_first else 'later'}"


# What a batch must know


# What can begin a match of something that stands already: it changes, comes into other hands, or lives again.
_BEGINS: Final = (
    lead.Details,
    lead.DecisionReverted,
    lead.Transferred,
    lead.Offered,
    lead.Declined,
    lead.OfferExpired,
    lead.Recalled,
    lead.ProtectionExpired,
    lead.ProtectionRevoked,
    lead.ProtectionEnded,
    deal.DetailsChanged,
    deal.PartnerOfRecordChanged,
    deal.Reopened,
)


def related(cursor: Any, schema: str, events: Sequence[Parsed]) -> Around:  # noqa: ANN401
    """Give what shares a key with one of the batch, those in conflict with them, and theirs in turn.

    Of a key under which so many stand that they are a crowd whoever leaves it within the batch, none is read.
    """
    mine = [one for one in events if one.recorded.aggregate in ("lead", "opportunity")]
    subjects = {one.recorded.subject for one in mine}
    subjects |= {one.event.opportunity_id for one in mine if isinstance(one.event, lead.Converted)}
    policies = [one.event for one in events if isinstance(one.event, PolicyLoaded)]
    forgotten = [one.recorded.subject for one in events if isinstance(one.event, Forgotten)]
    if not subjects and not policies and not forgotten:
        return Around()
    named = {name: sql.Identifier(schema, name) for name in ("lead", "conflict")}
    cursor.execute(sql.SQL(_STANDING).format(**named), {"ids": list(subjects), "accounts": bool(policies)})
    standing = {row[0]: row[1:] for row in cursor}
    begins = {one.recorded.subject for one in mine if isinstance(one.event, _BEGINS)}
    begins |= {linked for one in begins if one in standing and (linked := standing[one][0])}
    told = [_keys_of(*_customer_of(one.event)) for one in mine if one.recorded.subject in standing]
    told += [_keys_of(one.customer, one.customer_keys) for event in policies for one in _named(event)]
    told += [(keys, keys) for keys in (exact_keys((), (one,)) for one in forgotten)]
    told += [(exact_keys(*row[1:3]), row[3]) for one, row in standing.items() if one in begins]
    leaving = Counter(key for *_row, keys in standing.values() for key in keys)
    found = _under(cursor, schema, _most(told, leaving))
    # What comes in now comes after all that stands there: of that nothing changes but what it is in conflict with.
    newly = [one.event for one in mine if one.recorded.subject not in standing]
    beside, likely = _beside(cursor, schema, newly, leaving)
    ids = subjects | standing.keys() | set().union(*found.standing.values()) | {STREAM}
    for _hop in range(2):
        cursor.execute(sql.SQL(_IN_CONFLICT).format(**named), {"ids": list(ids)})
        ids |= {one for row in cursor for one in row}
    asked = found.asked | beside.asked
    return Around(ids, beside.standing, likely, found.crowded | beside.crowded, partial(index, asked=asked))


@dataclass(frozen=True)
class _Under:
    """What stands under the keys asked for but the crowded ones."""

    asked: frozenset[int] = frozenset()
    standing: Mapping[Hashable, Collection[UUID]] = field(default_factory=dict)
    crowded: frozenset[int] = frozenset()


_Keys = tuple[Collection[int], Collection[int]]  # exact ones, and all


def _most(told: Collection[_Keys], leaving: Mapping[int, int]) -> dict[int, int | None]:
    """Give how many must stand under each of these keys to be a crowd even when so many leave; for exact ones None."""
    exact = {key for own, _keys in told for key in own}
    return {key: None if key in exact else crowd(key) + 1 + leaving.get(key, 0) for _own, keys in told for key in keys}


def _under(cursor: Any, schema: str, most: Mapping[int, int | None]) -> _Under:  # noqa: ANN401
    """Give what stands under these keys; of those with so many, that they are a crowd."""
    if not most:
        return _Under()
    query = sql.SQL(_UNDER).format(lead_key=sql.Identifier(schema, "lead_key"))
    keys = sorted(most)  # the index is gone through once
    cursor.execute(query, {"keys": tables.array(keys), "most": tables.array(most[key] for key in keys)})
    standing = dict(cursor)
    crowded = frozenset(key for key, ids in standing.items() if ids is None)
    return _Under(frozenset(most), {key: ids for key, ids in standing.items() if ids}, crowded)


def _beside(
    cursor: Any,  # noqa: ANN401
    schema: str,
    newly: Sequence[Event],
    leaving: Mapping[int, int],
) -> tuple[_Under, set[UUID]]:
    """Give what stands under the keys of what comes in, and who of them is likely to be looked at.

    While the server looks under the keys of some, those of the next are made.
    """
    told: list[_Keys] = []
    asked: set[int] = set()
    parts = [[_customer_of(event) for event in newly[start : start + PART]] for start in range(0, len(newly), PART)]
    with (
        cursor.connection.cursor() as own,
        ThreadPoolExecutor(1, thread_name_prefix="keys") as thread,
        closing(known_of_each(parts)) as made,
    ):
        waiting: list[Future[_Under]] = []
        for part, known in zip(parts, made, strict=True):
            keys = [_keys(one, customer_keys) for one, (_customer, customer_keys) in zip(known, part, strict=True)]
            most = {key: number for key, number in _most(keys, leaving).items() if key not in asked}
            waiting.append(thread.submit(_under, own, schema, most))
            asked |= most.keys()
            told += keys
        under = _together([one.result() for one in waiting])
    return under, {one for each in told for one in _likely(under, each)}


def _together(parts: Sequence[_Under]) -> _Under:
    return _Under(
        frozenset().union(*(one.asked for one in parts)),
        dict(pair for one in parts for pair in one.standing.items()),
        frozenset().union(*(one.crowded for one in parts)),
    )


def _likely(under: _Under, told: _Keys) -> Iterable[UUID]:
    """Give those that `candidates` is likely to look at, by what stands under the keys before the batch."""
    exact, keys = told
    shared: dict[UUID, int] = {}
    for _key, weight, standing in sharing(keys, exact, lambda key: under.standing.get(key, ())):
        for one in standing:
            shared[one] = shared.get(one, 0) + weight
    return nlargest(_LIKELY, shared, key=shared.__getitem__) if len(shared) > _LIKELY else shared


_LIKELY: Final = IN_DOUBT + 4  # some are in the same hands, or have no product line in common


def spelled_alike(
    cursor: Any,  # noqa: ANN401
    schema: str,
    customer: Customer,
    product_lines: Iterable[str],
) -> Mapping[str, Sequence[Lead]]:
    """Give, by strength, the live leads about a customer that is spelled like this one."""
    asked = replace(about(_ASKED, customer, ()), product_lines=list(product_lines))
    book = around(cursor, schema, asked)
    found: dict[str, list[Lead]] = {}
    for one, alike in _matches(book, asked, ()).items():
        if (row := book[one]["lead"][0]).kind == "lead":
            found.setdefault(alike.strength, []).append(row)
    return found


def around(cursor: Any, schema: str, asked: Lead) -> Book:  # noqa: ANN401
    """Give a book of what shares a key with one side now."""
    exact = exact_keys(asked.customer_keys, asked.people)
    under = _under(cursor, schema, _most([(exact, asked.keys)], {}))
    rows = tables.load(cursor, MODEL, schema, {STREAM}, (_RULES,))

    def look(ids: AbstractSet[UUID]) -> Mapping[UUID, Rows]:
        return tables.load(cursor, MODEL, schema, ids, (_LEADS,))

    book = Book(partial(index, asked=under.asked), rows, under.crowded, under.standing, look)
    book.read(_likely(under, (exact, asked.keys)))
    return book


_NOBODY: Final = UUID(int=0)
_ASKED: Final = Lead(
    lead_id=_NOBODY,
    kind="lead",
    origin="",
    status="",
    partner_id=_NOBODY,
    linked=None,
    version=0,
    place=0,
    came_at=datetime.max.replace(tzinfo=UTC),
)


_STANDING: Final = """
SELECT lead_id, linked, customer_keys, people, keys FROM {lead}
WHERE lead_id = ANY(%(ids)s || ARRAY(SELECT linked FROM {lead} WHERE lead_id = ANY(%(ids)s) AND linked IS NOT NULL))
UNION
SELECT lead_id, linked, customer_keys, people, keys FROM {lead} WHERE kind = 'named_account' AND %(accounts)s
"""
_UNDER: Final = """
SELECT asked.key, CASE WHEN asked.most IS NULL OR cardinality(under.ids) < asked.most THEN under.ids END
FROM unnest(%(keys)s::bigint[], %(most)s::bigint[]) AS asked (key, most)
CROSS JOIN LATERAL (
    SELECT array_agg(one.lead_id) AS ids
    FROM (SELECT k.lead_id FROM {lead_key} k WHERE k.key = asked.key LIMIT asked.most) one
) under
WHERE under.ids IS NOT NULL
"""
_IN_CONFLICT: Final = """
SELECT low_lead_id, high_lead_id FROM {conflict}
WHERE ended_position IS NULL AND (low_lead_id = ANY(%(ids)s) OR high_lead_id = ANY(%(ids)s))
"""


def _customer_of(event: Event) -> Told:
    """Give the customer that an event tells of."""
    match event:
        case lead.Details() | deal.Opened() | deal.DetailsChanged():
            return event.customer, tuple(event.customer_keys)
        case _:
            return None, ()


def _keys_of(customer: Customer | None, customer_keys: Iterable[str]) -> _Keys:
    given = tuple(customer_keys)
    return _keys(known_of(customer, given), given)


def _keys(known: Known, customer_keys: Iterable[str]) -> _Keys:
    return exact_keys(customer_keys, known.people), known.keys


_LEADS: Final = Table(Lead, ("lead_id",), sealed=("customer",))
_RULES: Final = Table(Rules, ("stream_id",))
MODEL = OrderedModel(
    name="conflicts",
    version=13,
    aggregates=("partner", "lead", "opportunity", "policy", "person"),
    tables=(
        _LEADS,
        Table(LeadKey, ("key", "lead_id"), derived=postings, derives_same=same_postings),
        Table(Conflict, ("low_lead_id", "high_lead_id", "round")),
        _RULES,
        partners.TABLE,
    ),
    fold=fold,
    views=("lead_conflicts",),
    shared_sql=(partners.SQL,),
    reads=READS,
    heeds=heeds,
    looked_at=(_LEADS,),
    related=related,
    index=index,
    react=react,
    wanted=wanted,
    for_partners=False,  # it tells who the rivals are
)
