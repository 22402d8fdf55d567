"""All about one dead letter: its place, its bytes in clear, and what was done about it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson
import psycopg
from cryptography.exceptions import InvalidTag
from psycopg import sql

from prm_es.dispatch import Record, unframed
from prm_es.errors import Usage
from prm_es.letters.listing import (
    COLUMNS,
    Letter,
    PlaceKey,
    Row,
    asking,
    event_of,
    found,
    letter_of,
    name_of,
    parked_events,
    place_of,
)
from prm_es.messages import Recorded, recorded, utc_text
from prm_es.settings import Settings
from prm_es.store.vault import all_key_ids, open_bytes, opened
from prm_es.tabular import visible


@dataclass(frozen=True, slots=True)
class Step:
    """Something that was done about a letter, by whom and why, and what came of it."""

    at: datetime
    action: str
    actor: str
    reason: str
    result: str


@dataclass(frozen=True, slots=True)
class Shown:
    """All about one letter. `facts` say where it is, `content` what it holds, in clear, as far as keys still exist."""

    letter: Letter
    facts: Mapping[str, object]
    content: Mapping[str, object] | None
    history: Sequence[Step]

    def as_json(self) -> dict[str, object]:
        """Give plain values for JSON."""
        letter = dict(zip(COLUMNS, self.letter.row, strict=True)) | {"since": utc_text(self.letter.since)}
        steps = [{**_fields(step), "at": utc_text(step.at)} for step in self.history]
        known = {
            name: value if isinstance(value, int) else str(value) for name, value in letter.items() if value is not None
        }
        return {**known, **self.facts, "content": self.content, "history": steps}

    def in_words(self) -> Iterator[str]:
        """Say it in lines."""
        content = self.content or {"content": "gone: its key was destroyed"}
        letter = {name: value for name, value in zip(COLUMNS, self.letter.row, strict=True) if value is not None}
        for name, value in (letter | {"since": utc_text(self.letter.since), **self.facts, **content}).items():
            if name != "headers":
                yield f"{name.replace('_', ' '):<18}{visible(_text(value))}"
            else:
                yield from (f"{'header':<18}{visible(key)}: {visible(_text(raw))}" for key, raw in value)  # type: ignore[attr-defined]
        for step in self.history:
            yield visible(f"{utc_text(step.at)} {step.action} by {step.actor}: {step.reason} ({step.result})")


def _text(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value, default=str).decode()


def _fields(step: Step) -> dict[str, object]:
    return {"at": step.at, "action": step.action, "actor": step.actor, "reason": step.reason, "result": step.result}


def show(settings: Settings, letter: str) -> Shown:
    """Give all about a letter, its original bytes and headers in clear; raises Usage if there is none of this id."""
    with asking(settings) as connection:
        if (event := event_of(letter)) is not None:
            return _show_event(connection, settings, *event)
        return _show_command(connection, found(connection, letter))


_HISTORY: Final = (
    "SELECT a.done_at, a.action, a.actor, a.reason, c.outcome, c.code, r.id AS reused, n.topic, n.partition,"
    " n.record_offset, n.digest, false AS doubtful, n.code AS dead_code FROM dead_letter_actions a"
    " LEFT JOIN commands c ON (c.source, c.id) = (a.source, a.id)"
    " LEFT JOIN reused_ids r ON (r.topic, r.partition, r.digest) = (a.topic, a.partition, a.sent_digest)"
    " LEFT JOIN dead_letters n ON (n.topic, n.partition, n.digest) = (a.topic, a.partition, a.sent_digest)"
    " WHERE (a.topic, a.partition, a.record_offset, a.digest) = (%s, %s, %s, %s) ORDER BY a.number"
)
_RETRY_OF: Final = (
    "SELECT topic, partition, record_offset, digest, false AS doubtful FROM dead_letter_actions"
    " WHERE (topic, partition, sent_digest) = (%s, %s, %s)"
)
SEALED: Final = (
    "SELECT d.topic, d.partition, d.record_offset, d.digest, d.sealed, d.key_id, k.key FROM dead_letters d"
    " LEFT JOIN keys k USING (key_id)"
)


def _show_command(connection: psycopg.Connection[Any], row: Row) -> Shown:
    place = place_of(row)
    sealed = connection.execute(
        f"{SEALED} WHERE (d.topic, d.partition, d.record_offset, d.digest) = (%s, %s, %s, %s)", place
    ).fetchone()
    record = opened_record(sealed) if sealed else None
    facts: dict[str, object] = {"topic": row["topic"], "partition": row["partition"], "offset": row["record_offset"]}
    first = connection.execute(_RETRY_OF, (row["topic"], row["partition"], row["digest"])).fetchone()
    if first:
        facts["retry_of"] = name_of(first)
    history = [
        Step(one["done_at"], one["action"], one["actor"], one["reason"], _result(one))
        for one in connection.execute(_HISTORY, place)
    ]
    return Shown(letter_of(row), facts, _content(record) if record else None, history)


def opened_record(row: Row) -> Record | None:
    """Give the original record of a dead letter, or None if its key is gone."""
    if row["key"] is None:
        return None
    try:
        headers, value = unframed(open_bytes(row["sealed"], row["key_id"], row["key"]))
    except InvalidTag:  # another key under this id: the letter's own is gone
        return None
    return Record(row["topic"], row["partition"], row["record_offset"], headers, value)


def _content(record: Record) -> dict[str, object]:
    return {"headers": [[name, _said(raw)] for name, raw in record.headers], "value": _said(record.value)}


def _said(raw: bytes | None) -> object:
    """Give bytes as text, or in hexadecimal where they are none."""
    if raw is None:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"hex": raw.hex()}


def last_result(connection: psycopg.Connection[Any], place: PlaceKey) -> tuple[str, bool]:
    """Say what came of the last thing that was done about a record, and whether its command was accepted by it."""
    *_, last = connection.execute(_HISTORY, place)
    return _result(last), last["outcome"] == "accepted" and not last["reused"]


def _result(row: Row) -> str:
    if row["action"] == "discard":
        return "closed"
    if row["reused"]:
        return "refused (command.id_reused)"
    if row["topic"]:
        return f"dead again as {name_of(row)} ({row['dead_code']})"
    if row["outcome"]:
        return row["outcome"] if row["code"] is None else f"{row['outcome']} ({row['code']})"
    return "not answered yet"


_EVENT_HISTORY: Final = (
    "SELECT done_at, action, actor, reason, version, folded FROM parked_event_actions"
    " WHERE (model, position) = (%s, %s) ORDER BY number"
)


def _show_event(connection: psycopg.Connection[Any], settings: Settings, model: str, position: int) -> Shown:
    name = f"{model}/{position}"
    letter = next((one for one in parked_events(connection, settings) if one.letter == name), None)
    if letter is None:
        raise Usage(f"there is no dead letter {name}{_behind(connection, settings, model, position)}")
    row = connection.execute(
        "SELECT notification_id, originator_id, originator_version, topic, state FROM events"
        " WHERE notification_id = %s",
        (position,),
    ).fetchone()
    if row is None:
        raise Usage(f"the log has no position {position}")
    event = recorded(*row.values())
    history = [
        Step(one["done_at"], one["action"], one["actor"], one["reason"], _folded(one))
        for one in connection.execute(_EVENT_HISTORY, (model, position))
    ]
    facts = {"position": position, "type": event.type, "aggregate_version": event.version}
    return Shown(letter, facts, _event_content(connection, event), history)


def _behind(connection: psycopg.Connection[Any], settings: Settings, model: str, position: int) -> str:
    query = sql.SQL(
        "SELECT min(o.position) AS first FROM {0}.dead_letters d JOIN {0}.generations g USING (name, generation)"
        " JOIN {0}.dead_letters o USING (name, generation, aggregate_id)"
        " WHERE g.status = 'live' AND d.name = %s AND d.position = %s"
    ).format(sql.Identifier(settings.projections_schema))
    row = connection.execute(query, (model, position)).fetchone()
    return f": it waits behind {model}/{row['first']}" if row and row["first"] else ""


def _event_content(connection: psycopg.Connection[Any], event: Recorded) -> dict[str, object]:
    wanted = list(all_key_ids([event.data.decode()]))
    rows = connection.execute("SELECT key_id, key FROM keys WHERE key_id = ANY(%s) FOR SHARE", (wanted,))
    data = opened(orjson.loads(event.data), {row["key_id"]: row["key"] for row in rows})
    return {
        "subject": str(event.subject),
        "time": utc_text(event.at),
        "actor": event.actor.id,
        "command": [event.command_source, event.command_id],
        "data": data,
    }


def _folded(row: Row) -> str:
    of = f"version {row['version']}"
    if row["folded"] is None:
        return f"{of}: left to its worker"
    return f"{of}: {row['folded']} event{'s' * (row['folded'] != 1)} folded"
