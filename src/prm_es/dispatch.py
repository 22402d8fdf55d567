"""A batch of commands: read, lock, load, decide, write, answer.

Every record gets exactly one recorded outcome, in one transaction: accepted or refused by (source, id), or a dead
letter by its place. A record seen before gets its first outcome again, byte for byte.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import islice
from typing import Final
from uuid import UUID, uuid5

import orjson
import structlog

from prm_es import metrics
from prm_es.aggregates import catalogue
from prm_es.aggregates.base import (
    Aggregate,
    Command,
    Decision,
    Event,
    Facts,
    FieldError,
    FollowUp,
    Needs,
    Refused,
    authorise,
    decide_follow_up,
    invalid,
)
from prm_es.aggregates.catalogue import MAX_ERRORS, MAX_FIELD
from prm_es.errors import Poison, Unavailable, Unreadable
from prm_es.messages import (
    NAMESPACE,
    PARTNER_ROLES,
    Envelope,
    Headers,
    Role,
    read_command,
    result_headers,
    utc_text,
    write_json,
)
from prm_es.store.store import Batch, CommandRow, DeadRow, Head, Place, ReusedRow, Store, Writes
from prm_es.store.vault import TOKEN, seal_bytes
from prm_es.workspace import Memory, Workspace, tax_keys

log = structlog.get_logger()

CLOCK_SKEW: Final = timedelta(minutes=5)  # how far an importer's clock may run ahead of the database's
MAX_DATA: Final = 262_144  # bytes; its events then fit a Kafka record with room for encryption
_FAILED: Final = ("command.failed", "deciding this command failed: a defect of prm-es")


@dataclass(frozen=True, slots=True)
class Record:
    """A record of a command topic, as it came."""

    topic: str
    partition: int
    offset: int
    headers: Sequence[tuple[str, bytes | None]]
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back to Kafka for one record: its result, or its dead letter."""

    dead: bool
    subject: UUID | None
    key: bytes
    headers: Headers
    value: bytes


@dataclass(frozen=True, slots=True)
class _Readable:
    record: Record
    sent: Envelope
    command: Command | Refused
    canonical: bytes

    @property
    def key(self) -> tuple[str, str]:
        return self.sent.source, self.sent.id


@dataclass(frozen=True, slots=True)
class _Dead:
    record: Record
    code: str
    sentence: str
    sent: Envelope | None


def dispatch(store: Store, records: Sequence[Record], memory: Memory | None = None) -> list[Answer]:
    """Answer a batch of records, in their order, in one transaction of the store; `memory` is kept between batches.

    Raises Unavailable if the store is away; nothing is then recorded and the same batch can be given again.
    """
    read = [_read(record) for record in records]
    memory = memory or Memory()
    with store.batch() as batch:
        this = _Round(batch, read, memory)
        answers, end = this.answers()
    memory.keep(this.space.loaded, end)
    outcomes = Counter(row.outcome for row in this.writes.commands)
    metrics.decided(len(records), outcomes, reused=len(this.writes.reused), dead=len(this.writes.dead))
    return answers


def _read(record: Record) -> _Readable | _Dead:
    sent = None
    try:
        sent = read_command(record.headers, record.value)
        canonical = canonical_content(sent)
        return _Readable(record, sent, _parsed(sent, canonical), canonical)
    except Poison as poison:
        return _Dead(record, poison.code, poison.sentence, sent)


def _parsed(sent: Envelope, canonical: bytes) -> Command | Refused:
    if sent.type in catalogue.COMMANDS:
        if len(sent.data) > MAX_DATA:
            return Refused("command.too_large", f"the data has more than {MAX_DATA} bytes")
        if b"~" in canonical and (forged := tuple(islice(_tokens("", orjson.loads(sent.data)), MAX_ERRORS))):
            return Refused("command.invalid", "a field looks like an encrypted value", forged)
    return catalogue.parse_command(sent.type, sent.data)


def _tokens(path: str, value: object) -> Iterator[FieldError]:
    """Find what would be taken for a value encrypted here: whoever sent it would have it decrypted for the readers."""
    match value:
        case str() if TOKEN.search(value):
            yield FieldError(path, "text_token", "may not look like an encrypted value")
        case dict():
            for name, part in value.items():
                yield from _tokens(f"{path}.{name}"[:MAX_FIELD] if path else name[:MAX_FIELD], part)
        case list():
            for number, part in enumerate(value):
                yield from _tokens(f"{path}.{number}", part)


def canonical_content(sent: Envelope) -> bytes:
    """Give what makes a command the same command: all but its time, its tracing and the way its JSON is written.

    Raises Unreadable if the data is not JSON, or nested too deeply.
    """
    try:
        data = orjson.loads(sent.data)
    except orjson.JSONDecodeError:
        raise Unreadable("message.not_json", "the command's data is not JSON") from None
    actor = sent.actor
    content = [sent.type, str(sent.subject), actor.id, actor.role, actor.org, sent.expected_version, data]
    return write_json(content, orjson.OPT_SORT_KEYS)


class _FollowUpRefusedError(Exception):
    """What a command implies for another aggregate was refused, so the command is."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.code)
        self.refused = refused


@dataclass(slots=True)
class _Round:
    """One batch under the append lock."""

    batch: Batch
    read: Sequence[_Readable | _Dead]
    memory: Memory
    writes: Writes = field(default_factory=Writes)
    outcomes: dict[tuple[str, str], tuple[bytes, bytes]] = field(default_factory=dict)
    placed: dict[Place, bytes] = field(default_factory=dict)
    space: Workspace = field(init=False)

    def __post_init__(self) -> None:
        self.space = Workspace(self.batch, self.writes, self.memory)

    def answers(self) -> tuple[list[Answer], Head]:
        """Decide and write everything; gives the answers and the end of the log behind it."""
        readable = [one for one in self.read if isinstance(one, _Readable)]
        self.outcomes = self.batch.outcomes([one.key for one in readable])
        self.placed = self._placed_before(readable)
        self._load([one for one in readable if one.key not in self.outcomes])
        self.batch.load_keys(_key_of(_place(one.record)) for one in self.read if isinstance(one, _Dead))
        answers = [self._answer(one) for one in self.read]
        self.space.guard()
        return answers, self.batch.write(self.writes)

    def _placed_before(self, readable: Sequence[_Readable]) -> dict[Place, bytes]:
        doubtful = [_place(one.record) for one in self.read if isinstance(one, _Dead) or one.key in self.outcomes]
        placed = self.batch.placed(doubtful) if doubtful else {}
        return placed | self.batch.failed([one.key for one in readable])

    def _load(self, fresh: Sequence[_Readable]) -> None:
        """Load what the batch needs, in one query each; a decision that needs more asks for it then."""
        self.space.load({one.sent.subject: _aggregate(one) for one in fresh})
        self.space.look_ahead(self._possible(fresh), _organisations(fresh))

    def _possible(self, fresh: Iterable[_Readable]) -> Iterator[tuple[UUID, Command]]:
        for one in fresh:
            loaded = self.space.loaded[one.sent.subject]
            if isinstance(one.command, Command) and loaded.aggregate is _aggregate(one) and loaded.state is not None:
                yield one.sent.subject, one.command

    def _answer(self, one: _Readable | _Dead) -> Answer:
        if isinstance(one, _Dead):
            return self._bury(one.record, one.code, one.sentence, one.sent)
        digest = self.batch.vault.digest(one.canonical)
        first = self.outcomes.get(one.key)
        if first is None:
            return self._decide(one, digest)
        if first[0] == digest:
            return _result(one.sent, first[1])
        return self._reused(one)

    def _reused(self, one: _Readable) -> Answer:
        place = _place(one.record)
        response = self.placed.get(place)
        if response is None:
            sentence = "another command with this source and id was answered before; its outcome stands"
            response = self._refusal(one.sent, Refused("command.id_reused", sentence))
            sent = one.sent
            self.writes.reused.append(ReusedRow(place, sent.source, sent.id, sent.actor.id, response))
            self.placed[place] = response
        return _result(one.sent, response)

    def _decide(self, one: _Readable, digest: bytes) -> Answer:
        if self.placed and _place(one.record) in self.placed:
            return self._bury(one.record, *_FAILED, one.sent)
        start = len(self.writes.events)
        held = tax_keys(self.space.loaded[one.sent.subject].state)
        try:
            outcome, code, response = self._outcome(one)
        except Unavailable:
            raise
        except Exception:
            log.exception("command.failed", source=one.sent.source, id=one.sent.id, type=one.sent.type)
            return self._bury(one.record, *_FAILED, one.sent)
        self.space.note_tax_keys(one.sent.subject, held)  # last: nothing is to be undone after it
        self.outcomes[one.key] = (digest, response)
        added = len(self.writes.events) - start
        first = self.batch.head.position + start + 1
        positions = (first, first + added - 1) if added else (None, None)
        self.writes.commands.append(_row(one.sent, digest, outcome, code, response, positions))
        return _result(one.sent, response)

    def _outcome(self, one: _Readable) -> tuple[str, str | None, bytes]:
        sent, start = one.sent, len(self.writes.events)
        try:
            with self.space.attempt():
                decision = one.command if isinstance(one.command, Refused) else self._decision(sent, one.command)
                if not isinstance(decision, Refused):
                    self._apply(sent, sent.subject, decision)
                    return "accepted", None, self._acceptance(sent, start)
        except _FollowUpRefusedError as implied:
            decision = implied.refused
        return "refused", decision.code, self._refusal(sent, decision)

    def _apply(self, sent: Envelope, subject: UUID, decided: Iterable[Event | FollowUp]) -> None:
        """Append the events; decide what they imply for other aggregates, in the same commit."""
        at = self._business_time(sent)
        for one in decided:
            if isinstance(one, Event):
                self.space.append(subject, sent, (one,), at)
                continue
            implied = self._implied(sent, one)
            if not isinstance(implied, Refused):
                self._apply(sent, one.subject, implied)
            elif one.required:
                raise _FollowUpRefusedError(implied)

    def _implied(self, sent: Envelope, one: FollowUp) -> Decision:
        aggregate = catalogue.AGGREGATES[catalogue.aggregate_of(catalogue.wire_type(one.command))]
        loaded = self.space.get(aggregate, one.subject)
        if loaded is None:
            return Refused("aggregate.not_found", f"the id belongs to something that is no {aggregate.name}")
        facts = self._facts(sent, one.subject, aggregate.needs(loaded.state, one.command))
        return decide_follow_up(aggregate, loaded.state, one.command, facts)

    def _decision(self, sent: Envelope, command: Command) -> Decision:
        aggregate = catalogue.AGGREGATES[catalogue.aggregate_of(sent.type)]
        if sent.time and sent.actor.role is Role.INTEGRATION and sent.time > self.batch.head.at + CLOCK_SKEW:
            return invalid("time", "time_in_future", "the business time lies in the future")
        loaded = self.space.get(aggregate, sent.subject)
        if loaded is None:
            return Refused("aggregate.not_found", f"the id belongs to something that is no {aggregate.name}")
        facts = self._facts(sent, sent.subject, aggregate.needs(loaded.state, command))
        if refused := authorise(aggregate, loaded.state, command, facts):
            return refused
        if sent.expected_version is not None and sent.expected_version != loaded.version:
            return Refused(
                "aggregate.version_conflict",
                f"version {sent.expected_version} was expected, the {aggregate.name} is at version {loaded.version}",
            )
        return aggregate.decide(loaded.state, command, facts)

    def _facts(self, sent: Envelope, subject: UUID, needs: Needs) -> Facts:
        return self.space.facts(subject, sent.actor, self._business_time(sent), needs, _organisation(sent))

    def _business_time(self, sent: Envelope) -> datetime:
        """Only an import may speak of the past; everybody else acts now."""
        if sent.actor.role is Role.INTEGRATION and sent.time is not None:
            return min(sent.time, self.batch.head.at)
        return self.batch.head.at

    def _acceptance(self, sent: Envelope, start: int) -> bytes:
        first = self.batch.head.position + start + 1
        events = [
            {"type": event.type, "subject": str(event.subject), "position": position, "version": event.version}
            for position, event in enumerate(self.writes.events[start:], first)
        ]
        return orjson.dumps(
            {
                "outcome": "accepted",
                **_identity(sent),
                "version": self.space.loaded[sent.subject].version,
                "events": events,
                "recorded_at": utc_text(self.batch.head.at),
            }
        )

    def _refusal(self, sent: Envelope, refused: Refused) -> bytes:
        errors = [{"field": e.field, "code": e.code, "message": e.message} for e in refused.errors]
        return orjson.dumps(
            {
                "outcome": "refused",
                **_identity(sent),
                "code": refused.code,
                "message": refused.sentence,
                "errors": errors,
                "recorded_at": utc_text(self.batch.head.at),
            }
        )

    def _bury(self, record: Record, code: str, sentence: str, sent: Envelope | None) -> Answer:
        place = _place(record)
        if place not in self.placed:
            key_id = _key_of(place)
            sealed = seal_bytes(_framed(record), key_id, self.batch.vault.key(key_id, "record"))
            source, command_id = (sent.source, sent.id) if sent else (None, None)
            self.writes.dead.append(DeadRow(place, code, sentence, source, command_id, sealed, key_id))
            self.placed[place] = b""
        return _dead_letter(place, code, sentence, sent)


def _row(
    sent: Envelope,
    digest: bytes,
    outcome: str,
    code: str | None,
    response: bytes,
    positions: tuple[int, int] | tuple[None, None],
) -> CommandRow:
    return CommandRow(
        source=sent.source,
        id=sent.id,
        digest=digest,
        type=sent.type,
        subject=sent.subject,
        actor=sent.actor.id,
        actor_role=sent.actor.role.value,
        actor_org=sent.actor.org,
        on_behalf_of=sent.actor.on_behalf_of,
        sent_time=sent.time,
        outcome=outcome,
        code=code,
        response=response,
        first_position=positions[0],
        last_position=positions[1],
    )


def _aggregate(one: _Readable) -> Aggregate:
    return catalogue.AGGREGATES[catalogue.aggregate_of(one.sent.type)]


def _organisation(sent: Envelope) -> Iterator[UUID]:
    if sent.actor.role in PARTNER_ROLES:
        try:
            yield UUID(sent.actor.org)
        except ValueError:
            return


def _organisations(commands: Iterable[_Readable]) -> Iterator[UUID]:
    for one in commands:
        yield from _organisation(one.sent)


def _place(record: Record) -> Place:
    return Place(record.topic, record.partition, record.offset, digest_of(record))


def digest_of(record: Record) -> bytes:
    """Give the digest of a record's headers and value, by which its place is told from another topic's of that name."""
    return sha256(_framed(record)).digest()


def _key_of(place: Place) -> UUID:
    """Give the id of the key under which a record that is a dead letter is encrypted."""
    return uuid5(NAMESPACE, f"record\n{place.topic}\n{place.partition}\n{place.offset}\n{place.digest.hex()}")


def _framed(record: Record) -> bytes:
    """Give the headers and the value of a record as JSON of hexadecimal texts."""
    headers = [[name, raw.hex() if raw is not None else None] for name, raw in record.headers]
    return orjson.dumps({"headers": headers, "value": record.value.hex() if record.value is not None else None})


def unframed(framed: bytes) -> tuple[Sequence[tuple[str, bytes | None]], bytes | None]:
    """Give the headers and the value of a record back from what its dead letter keeps, decrypted."""
    content = orjson.loads(framed)
    headers = [(name, bytes.fromhex(raw) if raw is not None else None) for name, raw in content["headers"]]
    return headers, bytes.fromhex(content["value"]) if content["value"] is not None else None


def _identity(sent: Envelope) -> dict[str, str]:
    return {"source": sent.source, "id": sent.id, "type": sent.type, "subject": str(sent.subject)}


def _result(sent: Envelope, response: bytes) -> Answer:
    outcome = "accepted" if response.startswith(b'{"outcome":"accepted"') else "refused"
    return Answer(
        dead=False,
        subject=sent.subject,
        key=str(sent.subject).encode(),
        headers=result_headers(outcome, sent),
        value=response,
    )


def _dead_letter(place: Place, code: str, sentence: str, sent: Envelope | None) -> Answer:
    headers = [
        ("prm_topic", place.topic.encode()),
        ("prm_partition", str(place.partition).encode()),
        ("prm_offset", str(place.offset).encode()),
        ("prm_code", code.encode()),
        ("prm_reason", sentence.encode()),
    ]
    if sent:
        headers += [("ce_commandsource", sent.source.encode()), ("ce_causationid", sent.id.encode())]
    value = {
        "topic": place.topic,
        "partition": place.partition,
        "offset": place.offset,
        "code": code,
        "message": sentence,
    }
    return Answer(dead=True, subject=None, key=place.topic.encode(), headers=headers, value=orjson.dumps(value))
