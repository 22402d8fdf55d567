"""A batch of commands: read, lock, load, decide, write, answer.

Every record gets exactly one recorded outcome, in one transaction: accepted or refused by (source, id), or a dead
letter by its place. A record seen before gets its first outcome again, byte for byte.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache, reduce
from hashlib import sha256
from itertools import islice
from typing import Any, Final
from uuid import UUID, uuid5

import orjson
import structlog

from prm_es.aggregates import catalogue, policy
from prm_es.aggregates.base import (
    NONE,
    Aggregate,
    Command,
    Decision,
    Event,
    Facts,
    FieldError,
    Refused,
    authorise,
    invalid,
)
from prm_es.aggregates.catalogue import MAX_ERRORS, MAX_FIELD
from prm_es.aggregates.partner import Partner, tax_keys_held
from prm_es.aggregates.policy import Policy, PolicyLoaded
from prm_es.errors import Poison, Unavailable, Unreadable
from prm_es.messages import (
    NAMESPACE,
    PARTNER_ROLES,
    Envelope,
    Headers,
    Recorded,
    Role,
    read_command,
    result_headers,
    stored_state,
    utc_text,
    write_json,
)
from prm_es.store.store import Batch, CommandRow, DeadRow, NewEvent, Place, ReusedRow, Store, Writes
from prm_es.store.vault import TOKEN, seal_bytes

log = structlog.get_logger()

PARTNER: Final = catalogue.AGGREGATES["partner"]
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


def dispatch(store: Store, records: Sequence[Record]) -> list[Answer]:
    """Answer a batch of records, in their order, in one transaction of the store.

    Raises Unavailable if the store is away; nothing is then recorded and the same batch can be given again.
    """
    read = [_read(record) for record in records]
    with store.batch() as batch:
        return _Round(batch, read).answers()


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


@dataclass(slots=True)
class _Loaded:
    """An aggregate as of this point of the batch."""

    aggregate: Aggregate
    state: Any
    version: int


@dataclass(slots=True)
class _Round:
    """One batch under the append lock."""

    batch: Batch
    read: Sequence[_Readable | _Dead]
    writes: Writes = field(default_factory=Writes)
    loaded: dict[UUID, _Loaded] = field(default_factory=dict)
    outcomes: dict[tuple[str, str], tuple[bytes, bytes]] = field(default_factory=dict)
    placed: dict[Place, bytes] = field(default_factory=dict)
    policies: Sequence[Policy] = ()
    tax_owners: dict[str, UUID | None] = field(default_factory=dict)

    def answers(self) -> list[Answer]:
        readable = [one for one in self.read if isinstance(one, _Readable)]
        self.outcomes = self.batch.outcomes([one.key for one in readable])
        self.placed = self._placed_before(readable)
        self._load(one for one in readable if one.key not in self.outcomes)
        answers = [self._answer(one) for one in self.read]
        self.batch.write(self.writes)
        return answers

    def _placed_before(self, readable: Sequence[_Readable]) -> dict[Place, bytes]:
        doubtful = [_place(one.record) for one in self.read if isinstance(one, _Dead) or one.key in self.outcomes]
        placed = self.batch.placed(doubtful) if doubtful else {}
        return placed | self.batch.failed([one.key for one in readable])

    def _load(self, fresh: Iterable[_Readable]) -> None:
        """Load what the batch needs, in one query each; a decision that needs more asks for it then."""
        commands = list(fresh)
        subjects = {one.sent.subject for one in commands}
        streams = self.batch.streams({*subjects, policy.STREAM})
        self.policies = [_policy(event.data) for event in streams.get(policy.STREAM, [])]
        for one in commands:
            self._fold(_aggregate(one), one.sent.subject, streams.get(one.sent.subject, []))
        wanted = set(_organisations(commands))
        for one in commands:
            loaded = self.loaded[one.sent.subject]
            if isinstance(one.command, Command) and loaded.aggregate is _aggregate(one) and loaded.state is not None:
                wanted |= loaded.aggregate.needs(loaded.state, one.command).partners
        self._partners(wanted)
        self.batch.load_keys(subjects)

    def _fold(self, wanted: Aggregate, subject: UUID, events: Sequence[Recorded]) -> None:
        if subject in self.loaded:
            return
        aggregate = catalogue.AGGREGATES.get(events[0].aggregate) if events else wanted
        if aggregate is None or subject == policy.STREAM:  # a stream of the store's own, which takes no commands
            self.loaded[subject] = _Loaded(wanted, None, len(events))
            return
        parsed = (catalogue.parse_event(event.type, event.data) for event in events)
        self.loaded[subject] = _Loaded(aggregate, reduce(aggregate.evolve, parsed, aggregate.initial), len(events))

    def _partners(self, ids: Iterable[UUID]) -> dict[UUID, Partner]:
        """Give those partners that exist, and their parents."""
        wanted = set(ids)
        if missing := {one for one in wanted if one not in self.loaded}:
            streams = self.batch.streams(missing)
            for partner_id in missing:
                self._fold(PARTNER, partner_id, streams.get(partner_id, []))
        found = ((one, self.loaded[one].state) for one in wanted)
        existing = {one: state for one, state in found if isinstance(state, Partner) and state.status != NONE}
        parents = {state.parent for state in existing.values() if state.parent} - wanted
        return existing | self._partners(parents) if parents else existing

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
        start, loaded = len(self.writes.events), self.loaded[one.sent.subject]
        before = (loaded.aggregate, loaded.state, loaded.version)
        try:
            outcome, code, response = self._outcome(one)
        except Unavailable:
            raise
        except Exception:
            log.exception("command.failed", source=one.sent.source, id=one.sent.id, type=one.sent.type)
            del self.writes.events[start:]
            loaded.aggregate, loaded.state, loaded.version = before
            return self._bury(one.record, *_FAILED, one.sent)
        self.outcomes[one.key] = (digest, response)
        added = len(self.writes.events) - start
        first = self.batch.head.position + start + 1
        positions = (first, first + added - 1) if added else (None, None)
        self.writes.commands.append(_row(one.sent, digest, outcome, code, response, positions))
        return _result(one.sent, response)

    def _outcome(self, one: _Readable) -> tuple[str, str | None, bytes]:
        sent, start = one.sent, len(self.writes.events)
        decision = one.command if isinstance(one.command, Refused) else self._decision(sent, one.command)
        if isinstance(decision, Refused):
            return "refused", decision.code, self._refusal(sent, decision)
        loaded = self.loaded[sent.subject]
        held = _tax_keys(loaded.state)
        events = [one for one in decision if isinstance(one, Event)]
        self._append(sent, events, self._business_time(sent))
        response = self._acceptance(sent, start)
        self._move_tax_keys(sent.subject, held, _tax_keys(loaded.state))  # last: nothing is to be undone after it
        return "accepted", None, response

    def _decision(self, sent: Envelope, command: Command) -> Decision:
        aggregate = catalogue.AGGREGATES[catalogue.aggregate_of(sent.type)]
        if sent.time and sent.actor.role is Role.INTEGRATION and sent.time > self.batch.head.at + CLOCK_SKEW:
            return invalid("time", "time_in_future", "the business time lies in the future")
        loaded = self.loaded[sent.subject]
        if loaded.aggregate is not aggregate and not loaded.version and loaded.state is not None:
            loaded.aggregate, loaded.state = aggregate, aggregate.initial
        if loaded.aggregate is not aggregate or loaded.state is None:
            return Refused("aggregate.not_found", f"the id belongs to something that is no {aggregate.name}")
        facts = self._facts(sent, aggregate, loaded.state, command)
        if refused := authorise(aggregate, loaded.state, command, facts):
            return refused
        if sent.expected_version is not None and sent.expected_version != loaded.version:
            return Refused(
                "aggregate.version_conflict",
                f"version {sent.expected_version} was expected, the {aggregate.name} is at version {loaded.version}",
            )
        return aggregate.decide(loaded.state, command, facts)

    def _business_time(self, sent: Envelope) -> datetime:
        """Only an import may speak of the past; everybody else acts now."""
        if sent.actor.role is Role.INTEGRATION and sent.time is not None:
            return min(sent.time, self.batch.head.at)
        return self.batch.head.at

    def _facts(self, sent: Envelope, aggregate: Aggregate, state: Any, command: Command) -> Facts:  # noqa: ANN401
        now, needs = self._business_time(sent), aggregate.needs(state, command)
        in_force = policy.in_force(self.policies, now)
        return Facts(
            now=now,
            today=in_force.date_of(now),
            actor=sent.actor,
            policy=in_force,
            subject=sent.subject,
            partners=self._partners({*needs.partners, *_organisation(sent)}),
            tax_owners=self._tax_owners(needs.tax_keys),
        )

    def _tax_owners(self, tax_keys: frozenset[str]) -> dict[str, UUID]:
        if missing := {one for one in tax_keys if one not in self.tax_owners}:
            held = self.batch.tax_owners(missing)
            self.tax_owners |= {tax_key: held.get(tax_key) for tax_key in missing}
        return {tax_key: owner for tax_key in tax_keys if (owner := self.tax_owners[tax_key])}

    def _append(self, sent: Envelope, events: Iterable[Event], at: datetime) -> None:
        aggregate = catalogue.AGGREGATES[catalogue.aggregate_of(sent.type)]
        loaded = self.loaded[sent.subject]
        for event in events:
            wire = catalogue.wire_type(event)
            stored, data = self._sealed(event, wire, sent.subject)
            loaded.state = aggregate.evolve(loaded.state, stored)
            loaded.version += 1
            state = stored_state(at, self.batch.head.at, sent, data)
            self.writes.events.append(NewEvent(sent.subject, loaded.version, wire, state))

    def _sealed(self, event: Event, wire: str, subject: UUID) -> tuple[Event, bytes]:
        sealed = self.batch.vault.seal(event, subject)
        if sealed is None:
            return event, event.model_dump_json(exclude_none=True).encode()
        return catalogue.parse_event(wire, sealed), orjson.dumps(sealed)

    def _move_tax_keys(self, partner_id: UUID, before: frozenset[str], after: frozenset[str]) -> None:
        changes: dict[str, UUID | None] = dict.fromkeys(before - after) | dict.fromkeys(after - before, partner_id)
        self.writes.tax_keys |= changes
        self.tax_owners |= changes

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
                "version": self.loaded[sent.subject].version,
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
            key_id = uuid5(NAMESPACE, f"record\n{place.topic}\n{place.partition}\n{place.offset}\n{place.digest.hex()}")
            self.batch.load_keys((key_id,))
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


def _tax_keys(state: object) -> frozenset[str]:
    return tax_keys_held(state) if isinstance(state, Partner) else frozenset()


@lru_cache(maxsize=64)
def _policy(data: bytes) -> Policy:
    event = PolicyLoaded.model_validate_json(data)
    return Policy.model_validate(event.document)


def _place(record: Record) -> Place:
    return Place(record.topic, record.partition, record.offset, sha256(_framed(record)).digest())


def _framed(record: Record) -> bytes:
    """Give the headers and the value of a record as JSON of hexadecimal texts."""
    headers = [[name, raw.hex() if raw is not None else None] for name, raw in record.headers]
    return orjson.dumps({"headers": headers, "value": record.value.hex() if record.value is not None else None})


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
