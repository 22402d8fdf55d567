"""What every message carries: commands and events as CloudEvents 1.0 over Kafka.

Both content modes are read: binary (`ce_*` headers, the data as value) and structured
(`application/cloudevents+json`, everything in the value). Binary is written.
Source of the mapping: CloudEvents Kafka protocol binding 1.0.2, sections 3.2 and 3.3.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final
from uuid import UUID, uuid5

import orjson

from prm_es.errors import Unreadable

Headers = Sequence[tuple[str, bytes]]

SPEC_VERSION: Final = "1.0"
STRUCTURED: Final = "application/cloudevents+json"
SERVICE: Final = "prm-es"
RESERVED: Final = "prm-es:"  # sources of the service's own commands begin so: no sender can use up their ids
VENDOR: Final = "vendor"
NAMESPACE: Final = UUID("6f0e9f3c-5d0b-5c59-9d3e-2f6a3b1c7a10")
MAX_TEXT: Final = 255


class Role(StrEnum):
    VENDOR_ADMIN = "vendor_admin"
    CHANNEL_MANAGER = "channel_manager"
    SELLER = "seller"
    ADJUDICATOR = "adjudicator"
    FINANCE = "finance"
    AUDITOR = "auditor"
    PARTNER_ADMIN = "partner_admin"
    PARTNER_REP = "partner_rep"
    INTEGRATION = "integration"
    SYSTEM = "system"


_ROLES: Final = {role.value: role for role in Role}
PARTNER_ROLES: Final = frozenset({Role.PARTNER_ADMIN, Role.PARTNER_REP})


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks. `org` is "vendor" or a partner id; `on_behalf_of` says who did it then, for imports and reactions."""

    id: str
    role: Role
    org: str = VENDOR
    on_behalf_of: str | None = None


@dataclass(frozen=True, slots=True)
class Envelope:
    """A command as it was sent: the CloudEvents attributes and the raw JSON of its data."""

    source: str
    id: str
    type: str
    subject: UUID
    actor: Actor
    data: bytes
    time: datetime | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    expected_version: int | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """One event of the log. `at` is business time, `recorded_at` the database's; both UTC. `data` is stored bytes."""

    position: int
    subject: UUID
    version: int
    type: str
    at: datetime
    recorded_at: datetime
    actor: Actor
    command_source: str
    command_id: str
    correlation_id: str | None
    data: bytes

    @property
    def aggregate(self) -> str:
        """Name the aggregate that the event belongs to."""
        return self.type.split(".", 2)[1]


def aggregate_id(aggregate: str, source: str, external_id: str) -> UUID:
    """Give the id of an aggregate that another system knows by a key of its own.

    The rule: uuid5 of NAMESPACE over the three texts joined by a line feed, in UTF-8.
    """
    return uuid5(NAMESPACE, f"{aggregate}\n{source}\n{external_id}")


@lru_cache(maxsize=256)  # the time of a batch is written with every event and answer of it
def utc_text(at: datetime) -> str:
    """Write a time as RFC 3339 in UTC, to the microsecond."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def read_command(headers: Iterable[tuple[str, bytes | None]], value: bytes | None) -> Envelope:
    """Read one Kafka record as a command envelope.

    Raises Unreadable with a code that names what is missing or malformed.
    """
    if value is None:
        raise Unreadable("message.empty", "the record has no value")
    head = {name.lower(): raw for name, raw in headers if raw is not None}
    content_type = head.get("content-type", b"").decode("utf-8", "replace").partition(";")[0].strip().lower()
    if content_type == STRUCTURED or (not content_type and "ce_specversion" not in head):
        return _structured(value)
    if "ce_specversion" not in head:
        raise Unreadable("message.not_cloudevent", "neither ce_ headers nor application/cloudevents+json")
    return _binary(head, value)


def _binary(head: Mapping[str, bytes], value: bytes) -> Envelope:
    try:
        attributes = {name[3:]: raw.decode() for name, raw in head.items() if name.startswith("ce_")}
    except UnicodeDecodeError:
        raise Unreadable("message.not_utf8", "a ce_ header is not UTF-8") from None
    return envelope(attributes, value)


def _structured(value: bytes) -> Envelope:
    content = _json(value)
    data = content.pop("data", None)
    if "data_base64" in content:
        raise Unreadable("message.data_base64", "data must be a JSON object, not base64")
    return envelope(content, write_json(data if data is not None else {}))


def write_json(content: object, option: int = 0) -> bytes:
    """Write what was read from JSON as JSON again; raises Unreadable if it is nested deeper than can be written."""
    try:
        return orjson.dumps(content, option=option)
    except orjson.JSONEncodeError:
        raise Unreadable("message.too_deep", "the JSON is nested too deeply") from None


def _json(value: bytes) -> dict[str, Any]:
    try:
        content = orjson.loads(value)
    except orjson.JSONDecodeError:
        raise Unreadable("message.not_json", "the value is not JSON") from None
    if not isinstance(content, dict):
        raise Unreadable("message.not_object", "the value is not a JSON object")
    return content


def envelope(attributes: Mapping[str, Any], data: bytes) -> Envelope:
    """Check the CloudEvents attributes of a command; raises Unreadable."""
    if _text(attributes, "specversion") != SPEC_VERSION:
        raise Unreadable("message.specversion", "specversion must be 1.0")
    return Envelope(
        source=_source(attributes),
        id=_text(attributes, "id"),
        type=_text(attributes, "type"),
        subject=_subject(_text(attributes, "subject")),
        actor=_actor(attributes),
        data=data,
        time=_time(_optional(attributes, "time")),
        correlation_id=_optional(attributes, "correlationid"),
        causation_id=_optional(attributes, "causationid"),
        expected_version=_version(attributes.get("expectedversion")),
    )


def _optional(attributes: Mapping[str, Any], name: str) -> str | None:
    value = attributes.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_TEXT or "\x00" in value:
        raise Unreadable(f"message.{name}", f"{name} must be a text of 1 to {MAX_TEXT} characters")
    return value


def _text(attributes: Mapping[str, Any], name: str) -> str:
    value = _optional(attributes, name)
    if value is None:
        raise Unreadable(f"message.{name}", f"{name} is missing")
    return value


def _source(attributes: Mapping[str, Any]) -> str:
    source = _text(attributes, "source")
    if source.startswith(RESERVED) and attributes.get("actorrole") != Role.SYSTEM:
        raise Unreadable("message.source", f"sources that begin with {RESERVED} are the service's own")
    return source


def _subject(text: str) -> UUID:
    try:
        subject = UUID(text)
    except ValueError:
        raise Unreadable("message.subject", "subject must be a UUID, the aggregate's id") from None
    if str(subject) != text:
        raise Unreadable("message.subject", "subject must be a UUID in its canonical lower-case form")
    return subject


def _actor(attributes: Mapping[str, Any]) -> Actor:
    role = _text(attributes, "actorrole")
    if role not in _ROLES:
        raise Unreadable("message.actorrole", f"actorrole must be one of {', '.join(Role)}")
    return Actor(
        id=_text(attributes, "actor"),
        role=_ROLES[role],
        org=_optional(attributes, "actororg") or VENDOR,
        on_behalf_of=_optional(attributes, "onbehalfof"),
    )


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Unreadable("message.time", "time must be RFC 3339") from None
    if at.tzinfo is None:
        raise Unreadable("message.time", "time must name its offset from UTC")
    if not 1 < at.year < MAXYEAR:  # a day or an offset from it must still be a date
        raise Unreadable("message.time", "time is out of range")
    return at.astimezone(UTC)


def _version(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:  # noqa: PLR2004
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9:
        return value
    raise Unreadable("message.expectedversion", "expectedversion must be a whole number from 0 on")


def structured_command(sent: Envelope) -> dict[str, Any]:
    """Give the command as one structured CloudEvent, ready for JSON."""
    return {**dict(_attributes(sent)), "datacontenttype": "application/json", "data": orjson.loads(sent.data)}


def binary_command(sent: Envelope) -> tuple[bytes, Headers, bytes]:
    """Give key, headers and value of the Kafka record that carries the command."""
    headers = [(f"ce_{name}", str(text).encode()) for name, text in _attributes(sent)]
    headers.append(("content-type", b"application/json"))
    return str(sent.subject).encode(), headers, sent.data


def _attributes(sent: Envelope) -> Iterable[tuple[str, Any]]:
    yield from (
        ("specversion", SPEC_VERSION),
        ("id", sent.id),
        ("source", sent.source),
        ("type", sent.type),
        ("subject", str(sent.subject)),
        ("actor", sent.actor.id),
        ("actorrole", sent.actor.role.value),
        ("actororg", sent.actor.org),
    )
    optional = (
        ("time", utc_text(sent.time) if sent.time else None),
        ("onbehalfof", sent.actor.on_behalf_of),
        ("correlationid", sent.correlation_id),
        ("causationid", sent.causation_id),
        ("expectedversion", sent.expected_version),
    )
    yield from ((name, text) for name, text in optional if text is not None)


# Events

_DATA: Final = b',"data":'


def stored_state(at: datetime, recorded_at: datetime, cause: Envelope, data: bytes) -> bytes:
    """Give the bytes of an event in the log: one JSON object of its CloudEvents attributes, the data last."""
    meta = {
        "time": utc_text(at),
        "recordedtime": utc_text(recorded_at),
        "actor": cause.actor.id,
        "actorrole": cause.actor.role.value,
        "actororg": cause.actor.org,
        "onbehalfof": cause.actor.on_behalf_of,
        "commandsource": cause.source,
        "causationid": cause.id,
        "correlationid": cause.correlation_id,
    }
    head = orjson.dumps({name: text for name, text in meta.items() if text is not None})
    return head[:-1] + _DATA + data + b"}"


def split_state(state: bytes) -> tuple[dict[str, str], bytes]:
    """Give the attributes and the data of a stored event.

    The attributes are flat texts, in which a quotation mark is escaped: the first `,"data":` is the data's.
    """
    end = state.index(_DATA)
    meta: dict[str, str] = orjson.loads(state[:end] + b"}")
    return meta, state[end + len(_DATA) : -1]


def recorded(position: int, subject: UUID, version: int, wire_type: str, state: bytes) -> Recorded:
    """Read a row of the log."""
    meta, data = split_state(state)
    return _recorded(position, subject, version, wire_type, meta, data)


def _recorded(
    position: int, subject: UUID, version: int, wire_type: str, meta: Mapping[str, str], data: bytes
) -> Recorded:
    return Recorded(
        position=position,
        subject=subject,
        version=version,
        type=wire_type,
        at=datetime.fromisoformat(meta["time"]),
        recorded_at=datetime.fromisoformat(meta["recordedtime"]),
        actor=Actor(meta["actor"], _ROLES[meta["actorrole"]], meta["actororg"], meta.get("onbehalfof")),
        command_source=meta["commandsource"],
        command_id=meta["causationid"],
        correlation_id=meta.get("correlationid"),
        data=data,
    )


@dataclass(frozen=True, slots=True)
class Published:
    """An event as it stands on its topic: `previous` is the position before it in the same topic-partition."""

    event: Recorded
    store_id: str
    previous: int


def event_headers(
    event_id: str, wire_type: str, subject: UUID, meta: Mapping[str, str], chain: Mapping[str, str]
) -> Headers:
    """Give the headers of an event's record; `chain` holds sequence, previous, version and store id."""
    fixed = {"specversion": SPEC_VERSION, "id": event_id, "source": SERVICE, "type": wire_type, "subject": str(subject)}
    headers = [(f"ce_{name}", text.encode()) for name, text in {**fixed, **meta, **chain}.items()]
    headers.append(("content-type", b"application/json"))
    return headers


def read_event(headers: Iterable[tuple[str, bytes]], value: bytes) -> Published:
    """Read an event's record; raises KeyError or ValueError if it was not written by the publisher."""
    head = {name[3:]: raw.decode() for name, raw in headers if name.startswith("ce_")}
    event = _recorded(
        int(head["sequence"]), UUID(head["subject"]), int(head["aggregateversion"]), head["type"], head, value
    )
    return Published(event, head["storeid"], int(head["previous"]))


# Results


def result_headers(outcome: str, command: Envelope) -> Headers:
    """Give the headers of the record that carries a command's outcome."""
    attributes = {
        "specversion": SPEC_VERSION,
        "id": f"{command.source}#{command.id}",
        "source": SERVICE,
        "type": f"prm.command.{outcome}",
        "subject": str(command.subject),
        "commandsource": command.source,
        "causationid": command.id,
        "correlationid": command.correlation_id,
    }
    headers = [(f"ce_{name}", text.encode()) for name, text in attributes.items() if text is not None]
    headers.append(("content-type", b"application/json"))
    return headers
