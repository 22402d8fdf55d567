"""An aggregate's history in human words, from the log itself."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from prm_es.errors import Usage
from prm_es.messages import Recorded
from prm_es.store.store import Store
from prm_es.store.vault import all_key_ids, opened


@dataclass(frozen=True, slots=True)
class Entry:
    """One event as a person reads it. `at` is business time, `recorded_at` the database's."""

    position: int
    version: int
    at: datetime
    recorded_at: datetime
    actor: str
    what: str
    details: str


def history(store: Store, aggregate: str, subject: UUID) -> list[Entry]:
    """Give the events of an aggregate in order; what was forgotten reads (forgotten). Raises Usage if there is none."""
    events = [event for event in store.stream(subject) if event.aggregate == aggregate]
    if not events:
        raise Usage(f"there is no {aggregate} with id {subject}")
    keys = store.keys(all_key_ids(event.data.decode() for event in events))
    return [_entry(event, keys) for event in events]


def _entry(event: Recorded, keys: Mapping[UUID, bytes]) -> Entry:
    actor = f"{event.actor.id} ({event.actor.role})"
    if event.actor.on_behalf_of:
        actor = f"{event.actor.on_behalf_of}, imported by {event.actor.id}"
    name = event.type.split(".")[2].replace("_", " ")
    details = "; ".join(words("", opened(orjson.loads(event.data), keys)))
    return Entry(event.position, event.version, event.at, event.recorded_at, actor, name, details)


_HIDDEN = frozenset({"policy_version", "person_id", "tax_keys", "closed_at", "imported_at", "rejected_at", "kind"})


def words(name: str, value: Any) -> Iterator[str]:  # noqa: ANN401
    """Give an event's data in words, part by part; what was forgotten reads (forgotten)."""
    label = name.replace("_", " ")
    match value:
        case {"amount": str(amount), "currency": str(currency), **rest} if not rest:
            yield f"{label} {amount} {currency}"
        case dict():
            for inner, part in value.items():
                if inner not in _HIDDEN:
                    yield from words(f"{name}.{inner}" if name else inner, part)
        case list():
            if value:
                parts = [", ".join(words("", one)) if isinstance(one, dict) else str(one) for one in value]
                yield f"{label} {', '.join(parts)}"
        case None:
            yield f"{label} (forgotten)"
        case bool():
            if value:
                yield label
        case _:
            yield f"{label} {value}"
