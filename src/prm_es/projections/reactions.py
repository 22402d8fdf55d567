"""Reactions: what follows for others from one decision, and is too much for its commit.

A partner that is terminated loses its protections, and the offers and leads in its hands go back to the vendor, on
behalf of who terminated it. Its submitted leads and open opportunities stay for the channel manager to see to.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from psycopg2 import sql

from prm_es.aggregates import lead_messages as lead
from prm_es.aggregates.base import Event
from prm_es.aggregates.lead import IN_HANDS, STATUS_AFTER
from prm_es.aggregates.partner import Terminated
from prm_es.frozen import replace
from prm_es.messages import Envelope, Recorded
from prm_es.projections.base import Rows, Table
from prm_es.projections.ordered import Around, Book, OrderedModel, Parsed, ask

REASON: Final = "the partner was terminated"


@dataclass(frozen=True)
class Held:
    """What a partner has of a lead: its protection, or the lead in its hands."""

    lead_id: UUID
    partner_id: UUID | None
    status: str
    protected: bool


def fold(rows: Rows, recorded: Recorded, event: Event) -> Rows:
    """Give the lead's row after the event."""
    if recorded.aggregate != "lead":
        return rows
    row = next(iter(rows["held"]), None) or Held(recorded.subject, None, "", protected=False)
    return {**rows, "held": (_held(row, event),)}


def _held(row: Held, event: Event) -> Held:
    row = replace(row, status=STATUS_AFTER.get(type(event), row.status))
    match event:
        case lead.Registered() | lead.Offered() | lead.Transferred():
            return replace(row, partner_id=event.partner_id)
        case lead.Protection():
            return replace(row, protected=True)
        case lead.ProtectionEnded() | lead.DecisionReverted():
            return replace(row, protected=False)
        case lead.ProtectionExpired() | lead.ProtectionRevoked():
            partner_id = None if event.status == "qualified" else row.partner_id
            return replace(row, status=event.status, partner_id=partner_id, protected=False)
        case lead.Declined() | lead.OfferExpired() | lead.Recalled():
            return replace(row, partner_id=None, protected=False)
        case lead.Disqualified():
            return replace(row, protected=False)
        case _:
            return row


def index(rows: Rows) -> Iterator[Hashable]:
    """Give the partner that has the lead."""
    yield from (row.partner_id for row in rows["held"] if row.partner_id)


def related(cursor: Any, schema: str, events: Sequence[Parsed]) -> Around:  # noqa: ANN401
    """Give the leads of partners that are terminated."""
    gone = [one.recorded.subject for one in events if isinstance(one.event, Terminated)]
    if not gone:
        return Around()
    query = sql.SQL("SELECT lead_id FROM {} WHERE partner_id = ANY(%s)").format(sql.Identifier(schema, "held"))
    cursor.execute(query, (gone,))
    return Around({row[0] for row in cursor})


def react(book: Book, _before: Rows, parsed: Parsed) -> Sequence[Envelope]:
    """Revoke and recall what a terminated partner has, as of the position of its termination."""
    if not isinstance(parsed.event, Terminated):
        return ()
    held: list[Held] = [book[one]["held"][0] for one in book.find(parsed.recorded.subject)]
    return [_ask(row, parsed.recorded) for row in held if row.protected or row.status in IN_HANDS]


def _ask(row: Held, cause: Recorded) -> Envelope:
    kind = "lead.recall" if row.status in IN_HANDS else "lead.revoke"
    data = {"reason": REASON, "deciding_event": f"{cause.subject}/{cause.version}"}
    key = f"terminated/{row.lead_id}/{cause.position}"
    by = cause.actor.on_behalf_of or cause.actor.id
    return ask("reactions", key, kind, row.lead_id, data, cause=cause, on_behalf_of=by)


MODEL = OrderedModel(
    name="reactions",
    version=1,
    aggregates=("partner", "lead"),
    tables=(Table(Held, ("lead_id",)),),
    fold=fold,
    views=(),
    related=related,
    index=index,
    react=react,
    for_partners=False,
)
