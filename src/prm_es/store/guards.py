"""Guard tables of leads: what is protected, what counts against a cap, what is undecided, who won whom before.

They follow from the log. Each aggregate's rows are replaced whole by what its state says after a batch; releases are
written before anything is taken, so that the exclusion constraint, which must never fire, never fires by the order.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, LiteralString, TypeVar
from uuid import UUID

import psycopg
from psycopg.types.range import Range

from prm_es.aggregates.base import Claim, LiveRegistration, UndecidedMatch
from prm_es.aggregates.opportunity import Incumbency

EVERY_LINE: Final = ""
Key = TypeVar("Key")
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Held:
    """One aggregate's rows in the guard tables."""

    claims: frozenset[Claim] = frozenset()
    registration: LiveRegistration | None = None
    matches: frozenset[UndecidedMatch] = frozenset()
    incumbency: Incumbency | None = None


@dataclass(frozen=True, slots=True)
class Won:
    """One won customer and product line, and by whom."""

    opportunity_id: UUID
    customer_key: str
    product_line: str
    incumbency: Incumbency


class Guards:
    """Reads and writes the guard tables on the connection that holds the append lock."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def claims(self, customer_keys: Iterable[str]) -> list[Claim]:
        """Give the claims on these customer keys, one for each lead and key."""
        rows = self._connection.execute(f"{_CLAIMS} WHERE customer_key = ANY(%s) {_EACH}", (list(customer_keys),))
        return [_claim(row) for row in rows]

    def claims_of(self, lead_ids: Iterable[UUID]) -> list[Claim]:
        """Give the claims that these leads hold, one for each lead and key."""
        rows = self._connection.execute(f"{_CLAIMS} WHERE lead_id = ANY(%s) {_EACH}", (list(lead_ids),))
        return [_claim(row) for row in rows]

    def registrations(self, partner_ids: Iterable[UUID]) -> list[LiveRegistration]:
        """Give the leads that count against these partners."""
        rows = self._connection.execute(
            "SELECT * FROM live_registrations WHERE partner_id = ANY(%s) ORDER BY lead_id", (list(partner_ids),)
        )
        return [_registration(row) for row in rows]

    def registrations_with(self, customer_keys: Iterable[str]) -> list[LiveRegistration]:
        """Give the leads that count against any partner and have one of these customer keys."""
        rows = self._connection.execute(
            "SELECT * FROM live_registrations WHERE customer_keys && %s::text[] ORDER BY lead_id",
            (list(customer_keys),),
        )
        return [_registration(row) for row in rows]

    def registrations_of(self, lead_ids: Iterable[UUID]) -> list[LiveRegistration]:
        """Give those of these leads that count against their partner."""
        rows = self._connection.execute(
            "SELECT * FROM live_registrations WHERE lead_id = ANY(%s) ORDER BY lead_id", (list(lead_ids),)
        )
        return [_registration(row) for row in rows]

    def matches(self, lead_ids: Iterable[UUID]) -> list[UndecidedMatch]:
        """Give the undecided matches that concern these leads, on either side."""
        wanted = list(lead_ids)
        rows = self._connection.execute(
            "SELECT * FROM undecided_matches WHERE lead_id = ANY(%s) OR other_lead_id = ANY(%s)"
            " ORDER BY lead_id, other_lead_id",
            (wanted, wanted),
        )
        return [
            UndecidedMatch(row["lead_id"], row["other_lead_id"], row["strength"], row["earlier_lead_id"])
            for row in rows
        ]

    def won(self, customer_keys: Iterable[str]) -> list[Won]:
        """Give what was won of these customers."""
        rows = self._connection.execute(
            "SELECT * FROM incumbencies WHERE customer_key = ANY(%s)", (list(customer_keys),)
        )
        return [_won(row) for row in rows]

    def replace(self, held: Mapping[UUID, Held]) -> None:
        """Make these aggregates' rows what they hold now."""
        if not held:
            return
        ids = list(held)
        for statement in _RELEASES:
            self._connection.execute(statement, (ids,))
        self._take_claims([claim for one in held.values() for claim in one.claims])
        self._copy(
            "live_registrations (lead_id, partner_id, origin, customer_keys, product_lines)",
            ("uuid", "uuid", "text", "text[]", "text[]"),
            [_registration_row(one.registration) for one in held.values() if one.registration],
        )
        self._copy(
            "undecided_matches (lead_id, other_lead_id, strength, earlier_lead_id)",
            ("uuid", "uuid", "text", "uuid"),
            [
                (match.lead_id, match.other_lead_id, match.strength, match.earlier_lead_id)
                for one in held.values()
                for match in sorted(one.matches, key=lambda match: match.other_lead_id)
            ],
        )
        self._copy(
            "incumbencies (opportunity_id, customer_key, product_line, partner_id, won_at)",
            ("uuid", "text", "text", "uuid", "timestamptz"),
            [row for subject, one in held.items() if one.incumbency for row in _won_rows(subject, one.incumbency)],
        )

    def _copy(self, into: LiteralString, types: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        if not rows:
            return
        statement = f"COPY {into} FROM STDIN (FORMAT binary)"
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(types)
            for row in rows:
                copy.write_row(row)

    def _take_claims(self, claims: Sequence[Claim]) -> None:
        if not claims:
            return
        numbers = self._numbers({line for claim in claims for line in claim.product_lines})
        rows = [
            (
                claim.lead_id,
                claim.customer_key,
                line,
                Range(numbers[line], numbers[line] + 1) if line else Range(None, None, "()"),
                claim.claim_group,
                claim.partner_id,
                Range(claim.valid_from, claim.until),
            )
            for claim in sorted(claims, key=lambda claim: (claim.customer_key, claim.lead_id))
            for line in sorted(claim.product_lines) or [EVERY_LINE]
        ]
        self._copy(
            "claims (lead_id, customer_key, product_line, product_lines, claim_group, partner_id, during)",
            ("uuid", "text", "text", "int4range", "uuid", "uuid", "tstzrange"),
            rows,
        )

    def _numbers(self, lines: Iterable[str]) -> dict[str, int]:
        names = sorted(lines)
        self._connection.execute(
            "INSERT INTO product_lines (name) SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING", (names,)
        )
        rows = self._connection.execute("SELECT name, number FROM product_lines WHERE name = ANY(%s)", (names,))
        return {row["name"]: row["number"] for row in rows}


class KnownGuards:
    """The guard rows as they stood when a batch began, each asked for once.

    Only who holds the append lock writes them, so what was read stays true until the batch writes its own.
    """

    def __init__(self, guards: Guards) -> None:
        self._guards = guards
        self._claims: dict[str, list[Claim]] = {}
        self._registrations: dict[UUID, list[LiveRegistration]] = {}
        self._matches: dict[UUID, list[UndecidedMatch]] = {}
        self._won: dict[str, list[Won]] = {}

    def claims(self, customer_keys: Iterable[str]) -> list[Claim]:
        """Give the claims on these customer keys, in order of key and lead."""
        asked = sorted(customer_keys)
        if new := _unknown(asked, self._claims):
            for claim in self._guards.claims(new):
                self._claims[claim.customer_key].append(claim)
        return [claim for key in asked for claim in self._claims[key]]

    def registrations(self, partner_ids: Iterable[UUID]) -> list[LiveRegistration]:
        """Give the leads that count against these partners, in order of lead."""
        asked = list(partner_ids)
        if new := _unknown(asked, self._registrations):
            for one in self._guards.registrations(new):
                self._registrations[one.partner_id].append(one)
        return sorted((one for it in asked for one in self._registrations[it]), key=lambda one: one.lead_id)

    def matches(self, lead_ids: Iterable[UUID]) -> list[UndecidedMatch]:
        """Give the undecided matches that concern these leads, lead by lead; one between two of them comes twice."""
        asked = list(lead_ids)
        if new := _unknown(asked, self._matches):
            for match in self._guards.matches(new):
                for side in {match.lead_id, match.other_lead_id}.intersection(new):
                    self._matches[side].append(match)
        return [match for one in asked for match in self._matches[one]]

    def won(self, customer_keys: Iterable[str]) -> list[Won]:
        """Give what was won of these customers."""
        asked = list(customer_keys)
        if new := _unknown(asked, self._won):
            for one in self._guards.won(new):
                self._won[one.customer_key].append(one)
        return [one for key in asked for one in self._won[key]]


def _unknown(asked: Iterable[Key], known: dict[Key, list[Row]]) -> list[Key]:
    """Give those that nobody asked for yet, and note that they are asked for now."""
    new = [one for one in dict.fromkeys(asked) if one not in known]
    known |= {one: [] for one in new}
    return new


_RELEASES: Final = (
    "DELETE FROM claims WHERE lead_id = ANY(%s)",
    "DELETE FROM live_registrations WHERE lead_id = ANY(%s)",
    "DELETE FROM undecided_matches WHERE lead_id = ANY(%s)",
    "DELETE FROM incumbencies WHERE opportunity_id = ANY(%s)",
)


_CLAIMS: Final = (
    "SELECT customer_key, array_agg(product_line) AS lines, claim_group, lead_id, partner_id,"
    " lower(during) AS valid_from, upper(during) AS until FROM claims"
)
_EACH: Final = "GROUP BY customer_key, claim_group, lead_id, partner_id, during ORDER BY customer_key, lead_id"


def _claim(row: Mapping[str, Any]) -> Claim:
    return Claim(
        customer_key=row["customer_key"],
        product_lines=frozenset(row["lines"]) - {EVERY_LINE},
        claim_group=row["claim_group"],
        lead_id=row["lead_id"],
        partner_id=row["partner_id"],
        valid_from=row["valid_from"],
        until=row["until"],
    )


def _registration(row: Mapping[str, Any]) -> LiveRegistration:
    return LiveRegistration(
        lead_id=row["lead_id"],
        partner_id=row["partner_id"],
        origin=row["origin"],
        customer_keys=frozenset(row["customer_keys"]),
        product_lines=frozenset(row["product_lines"]),
    )


def _registration_row(one: LiveRegistration) -> tuple[object, ...]:
    return one.lead_id, one.partner_id, one.origin, sorted(one.customer_keys), sorted(one.product_lines)


def _won(row: Mapping[str, Any]) -> Won:
    incumbency = Incumbency(
        partner_id=row["partner_id"],
        customer_keys=frozenset({row["customer_key"]}),
        product_lines=frozenset({row["product_line"]} - {EVERY_LINE}),
        won_at=row["won_at"],
    )
    return Won(row["opportunity_id"], row["customer_key"], row["product_line"], incumbency)


def won_of(opportunity_id: UUID, incumbency: Incumbency) -> list[Won]:
    """Give what one won opportunity says, line by line."""
    return [
        Won(opportunity_id, key, line, incumbency)
        for key in sorted(incumbency.customer_keys)
        for line in sorted(incumbency.product_lines) or [EVERY_LINE]
    ]


def _won_rows(opportunity_id: UUID, incumbency: Incumbency) -> list[tuple[object, ...]]:
    return [
        (one.opportunity_id, one.customer_key, one.product_line, incumbency.partner_id, incumbency.won_at)
        for one in won_of(opportunity_id, incumbency)
    ]
