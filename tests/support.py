"""What the tests of the store and of dispatch share: commands to send, a desk that answers them, and an independent
reading of the log that checks its chain.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from struct import pack
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import dict_row

from prm_es.dispatch import Answer, Record, dispatch
from prm_es.messages import Actor, Envelope, Role, binary_command, structured_command
from prm_es.settings import Settings
from prm_es.store.store import Store
from prm_es.workspace import Memory

MANAGER = Actor("carla", Role.CHANNEL_MANAGER)
ADMIN = Actor("vera", Role.VENDOR_ADMIN)
IMPORTER = Actor("crm", Role.INTEGRATION)
STRUCTURED = (("content-type", b"application/cloudevents+json"),)
PROBLEM = "Their stock counts are two weeks old when they reach head office."


def today(days: int = 0) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).date().isoformat()


def command(
    kind: str,
    subject: UUID | None = None,
    data: dict[str, Any] | bytes | None = None,
    actor: Actor = MANAGER,
    **attributes: Any,
) -> Envelope:
    """Make a command with an id of its own; `attributes` are those of the envelope."""
    content = data if isinstance(data, bytes) else json.dumps(data or {}).encode()
    fixed: dict[str, Any] = {"source": "tests", "id": str(uuid4())}
    return Envelope(
        type=f"prm.{kind}", subject=subject or uuid4(), actor=actor, data=content, **{**fixed, **attributes}
    )


def partner(subject: UUID | None = None, **data: Any) -> Envelope:
    """Make the import of an active partner."""
    given = {"legal_name": "Acme Ltda", "status": "active", "country": "BR", "types": ["reseller"], **data}
    return command("partner.import", subject, given, IMPORTER)


def opening(by: UUID, subject: UUID | None = None, actor: Actor = MANAGER, **data: Any) -> Envelope:
    """Make the opening of an opportunity by a partner, whole unless a field is given as None, which leaves it out."""
    given: dict[str, Any] = {
        "partner_id": str(by),
        "name": "Stock counts",
        "customer": {"name": "Lojas Sul"},
        "deal_type": "new",
        "next_action": {"text": "Call the head of stores", "due_on": today(7)},
        **data,
    }
    return command(
        "opportunity.open", subject, {name: value for name, value in given.items() if value is not None}, actor
    )


def changed(sent: Envelope, **data: Any) -> Envelope:
    """Give the same command, id included, with other data."""
    return replace(sent, data=json.dumps({**json.loads(sent.data), **data}).encode())


def outcome(answer: Answer) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(answer.value)
    return content


@dataclass
class Desk:
    """Gives records their place, as a broker would, and hands them to dispatch."""

    store: Store
    topic: str = "prm.commands.any"
    offset: int = field(default=0)
    memory: Memory = field(default_factory=Memory)

    def record(self, sent: Envelope, *, structured: bool = False) -> Record:
        if structured:
            return self.raw(json.dumps(structured_command(sent)).encode(), STRUCTURED)
        _key, headers, value = binary_command(sent)
        return self.raw(value, headers)

    def raw(self, value: bytes | None, headers: Sequence[tuple[str, bytes | None]] = STRUCTURED) -> Record:
        self.offset += 1
        return Record(self.topic, 0, self.offset, headers, value)

    def give(self, *records: Record) -> list[Answer]:
        answers = dispatch(self.store, records, self.memory)
        assert len(answers) == len(records)
        return answers

    def ask(self, *sent: Envelope) -> list[dict[str, Any]]:
        return [outcome(answer) for answer in self.give(*map(self.record, sent))]

    def one(self, sent: Envelope) -> dict[str, Any]:
        (answer,) = self.ask(sent)
        return answer

    def accepted(self, *sent: Envelope) -> list[dict[str, Any]]:
        answers = self.ask(*sent)
        assert [answer["outcome"] for answer in answers] == ["accepted"] * len(sent), answers
        return answers

    def active_partner(self, **data: Any) -> UUID:
        sent = partner(**data)
        self.accepted(sent)
        return sent.subject


def refusal(answer: dict[str, Any]) -> tuple[str, list[tuple[str, str]]]:
    """Give the code of a refusal and its errors as (field, code)."""
    assert answer["outcome"] == "refused", answer
    assert answer["message"]
    return answer["code"], [(error["field"], error["code"]) for error in answer["errors"]]


def rows(settings: Settings, query: str, parameters: Sequence[object] = ()) -> list[dict[str, Any]]:
    """Ask the database as its superuser, inside the store's schema."""
    options = f"-c search_path={settings.store_schema} -c timezone=UTC"
    with psycopg.connect(settings.postgres, options=options, row_factory=dict_row) as connection:
        return connection.execute(query.encode(), parameters).fetchall()


def dead_letters(settings: Settings) -> list[dict[str, Any]]:
    return rows(settings, "SELECT * FROM dead_letters ORDER BY commit_number, record_offset")


_COMMAND = (
    "source", "id", "digest", "type", "subject", "actor", "actor_role", "actor_org", "on_behalf_of", "sent_time",
    "outcome", "code", "response", "first_position", "last_position",
)  # fmt: skip
_PLACE = ("topic", "partition", "record_offset", "digest")


def check_log(settings: Settings) -> None:
    """Read the whole log back and check it: positions and versions without gaps, times in order, the chain unbroken.

    The digest of a commit is computed anew from the rows as they lie in the tables.
    """
    events = rows(settings, "SELECT * FROM events ORDER BY notification_id")
    assert [event["notification_id"] for event in events] == list(range(1, len(events) + 1))
    _check_versions(events)
    first, *commits = rows(settings, "SELECT * FROM commits ORDER BY number")
    assert (first["number"], first["last_position"], first["digest"]) == (0, 0, sha256(b"prm-es").digest())
    parts = {name: _by_commit(settings, name) for name in ("commands", "reused_ids", "dead_letters")}
    last = first
    for commit in commits:
        assert commit["number"] == last["number"] + 1
        assert commit["recorded_at"] >= last["recorded_at"]
        mine = events[last["last_position"] : commit["last_position"]]
        assert commit["first_position"] == (mine[0]["notification_id"] if mine else None)
        rest = {name: found.get(commit["number"], []) for name, found in parts.items()}
        assert {row["recorded_at"] for found in rest.values() for row in found} <= {commit["recorded_at"]}
        assert commit["digest"] == _digest(last, commit, mine, rest), commit["number"]
        for event in mine:
            meta = json.loads(event["state"])
            assert datetime.fromisoformat(meta["recordedtime"]) == commit["recorded_at"]
        last = commit
    assert last["last_position"] == len(events)


def _by_commit(settings: Settings, table: str) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for row in rows(settings, f"SELECT * FROM {table}"):
        found.setdefault(row["commit_number"], []).append(row)
    return found


def _check_versions(events: Iterable[dict[str, Any]]) -> None:
    versions: dict[UUID, int] = {}
    for event in events:
        versions[event["originator_id"]] = versions.get(event["originator_id"], 0) + 1
        assert event["originator_version"] == versions[event["originator_id"]]


def _digest(
    last: dict[str, Any],
    commit: dict[str, Any],
    events: list[dict[str, Any]],
    rest: dict[str, list[dict[str, Any]]],
) -> bytes:
    digest = sha256(last["digest"])

    def frame(*parts: object) -> None:
        for part in parts:
            raw = part if isinstance(part, bytes) else str(part).encode()
            digest.update(pack(">q", len(raw)) + raw)

    def framed(kind: str, table: str, key: Sequence[str], names: Sequence[str]) -> None:
        for row in sorted(rest[table], key=lambda row: tuple(row[name] for name in key)):
            frame(kind, *(row[name] for name in names))

    frame(commit["number"], commit["recorded_at"].isoformat())
    for event in events:
        frame("event", event["notification_id"], event["originator_id"], event["originator_version"])
        frame(event["topic"], event["state"])
    framed("command", "commands", ("source", "id"), _COMMAND)
    framed("reused", "reused_ids", _PLACE, (*_PLACE, "source", "id", "actor", "response"))
    framed("dead", "dead_letters", _PLACE, (*_PLACE, "code", "sentence", "source", "id", "sealed", "key_id"))
    return digest.digest()
