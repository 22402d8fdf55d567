"""What surrounds the data of messages: the attributes of each kind, as JSON Schema, and the outcome documents."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from prm_es.aggregates.catalogue import COMMANDS
from prm_es.messages import MAX_TEXT, SERVICE, SPEC_VERSION, STRUCTURED, VENDOR, Role
from prm_es.schemas.models import Schema, document

JSON: Final = "application/json"

_TEXT: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}
_TIME: Final[Schema] = {"type": "string", "format": "date-time"}
_UUID: Final[Schema] = {"type": "string", "format": "uuid"}
_NUMBER: Final[Schema] = {"type": "string", "pattern": "^[0-9]+$"}
_SPEC: Final[Schema] = {"const": SPEC_VERSION}


def _said(schema: Schema, description: str) -> Schema:
    return {**schema, "description": description}


COMMAND: Final[Mapping[str, Schema]] = {
    "specversion": _said(_SPEC, "Version of CloudEvents."),
    "id": _said(_TEXT, "Chosen by the sender, unique for its source: the same command sent again has the same id."),
    "source": _said(_TEXT, "The system that sends."),
    "type": _said(_TEXT, "The command."),
    "subject": _said(_UUID, "Aggregate id, canonical lower-case UUID; also the record's key."),
    "actor": _said(_TEXT, "The user who asks."),
    "actorrole": _said({"enum": [role.value for role in Role]}, "The role in which the user asks."),
    "actororg": _said({**_TEXT, "default": VENDOR}, "`vendor`, or the id of the user's partner."),
    "onbehalfof": _said(_TEXT, "For imports: who did it then."),
    "time": _said(_TIME, "When it happened; heeded for role integration only."),
    "correlationid": _said(_TEXT, "Copied to events and results."),
    "causationid": _said(_TEXT, "What made the sender send it."),
    "expectedversion": _said(
        {"type": ["string", "integer"], "pattern": "^[0-9]{1,9}$", "minimum": 0, "maximum": 10**9 - 1},
        "Refused unless the aggregate is at this version.",
    ),
}
COMMAND_REQUIRED: Final = ("specversion", "id", "source", "type", "subject", "actor", "actorrole")

EVENT: Final[Mapping[str, Schema]] = {
    "specversion": _said(_SPEC, "Version of CloudEvents."),
    "id": _said(_TEXT, "The event's own, the same however often it is read: subject and version."),
    "source": {"const": SERVICE},
    "type": _said(_TEXT, "The event, with the version of its form."),
    "subject": _said(_UUID, "Aggregate id; also the record's key."),
    "time": _said(_TIME, "Business time: when it happened."),
    "recordedtime": _said(_TIME, "When it was stored; never goes back."),
    "actor": _said(_TEXT, "The user who asked."),
    "actorrole": _said({"enum": [role.value for role in Role]}, "The role in which the user asked."),
    "actororg": _said(_TEXT, "`vendor`, or the id of the user's partner."),
    "onbehalfof": _said(_TEXT, "For imports: who did it then."),
    "commandsource": _said(_TEXT, "Source of the command that caused it."),
    "causationid": _said(_TEXT, "Id of the command that caused it."),
    "correlationid": _said(_TEXT, "As the command gave it."),
    "sequence": _said(_NUMBER, "Position in the log, gapless over all aggregates."),
    "previous": _said(_NUMBER, "Position of the event before it in the same topic and partition; 0 for the first."),
    "aggregateversion": _said(_NUMBER, "Version of the aggregate after this event, from 1 on."),
    "storeid": _said(_UUID, "The history that the event belongs to; changes when a backup is restored."),
}
_EVENT_OPTIONAL: Final = ("onbehalfof", "correlationid")

RESULT: Final[Mapping[str, Schema]] = {
    "specversion": _said(_SPEC, "Version of CloudEvents."),
    "id": _said({"type": "string"}, "Source and id of the command."),
    "source": {"const": SERVICE},
    "type": {"enum": ["prm.command.accepted", "prm.command.refused"]},
    "subject": _said(_UUID, "The command's subject; also the record's key."),
    "commandsource": _said(_TEXT, "Source of the command."),
    "causationid": _said(_TEXT, "Id of the command."),
    "correlationid": _said(_TEXT, "As the command gave it."),
}


def headers(attributes: Mapping[str, Schema], required: Iterable[str]) -> Schema:
    """Give the schema of the headers that carry the attributes in binary mode; all are texts."""
    properties = {f"ce_{name}": _as_text(schema) for name, schema in attributes.items()}
    properties["content-type"] = {"type": "string", "const": JSON}
    return {"type": "object", "properties": properties, "required": sorted(f"ce_{name}" for name in required)}


def _as_text(schema: Schema) -> Schema:
    return {**{key: part for key, part in schema.items() if key not in ("minimum", "maximum")}, "type": "string"}


def command_headers() -> Schema:
    """Give the headers of a command in binary mode."""
    return headers(COMMAND, COMMAND_REQUIRED)


def event_headers() -> Schema:
    """Give the headers of an event."""
    return headers(EVENT, (name for name in EVENT if name not in _EVENT_OPTIONAL))


def result_headers() -> Schema:
    """Give the headers of a result."""
    return headers(RESULT, (name for name in RESULT if name != "correlationid"))


def dead_letter_headers() -> Schema:
    """Give the headers of a dead letter; the last two only where the command could be told."""
    names = ("prm_topic", "prm_partition", "prm_offset", "prm_code", "prm_reason")
    told = ("ce_commandsource", "ce_causationid")
    properties = {name: {"type": "string"} for name in (*names, *told)}
    return {"type": "object", "properties": properties, "required": sorted(names)}


def structured_command() -> Schema:
    """Give the schema of a command as one structured CloudEvent."""
    properties = {
        **COMMAND,
        "type": _said({"enum": sorted(COMMANDS)}, "The command; `commands/` has the schema of each one's data."),
        "datacontenttype": {"const": JSON},
        "data": {"type": "object", "default": {}, "description": "What the command says."},
    }
    schema: Schema = {
        "description": f"A command as a record value of content type {STRUCTURED}, or a line of a file to send.",
        "type": "object",
        "properties": properties,
        "required": sorted(COMMAND_REQUIRED),
    }
    return document("command", "command", schema)


def _object(description: str, properties: Mapping[str, Any]) -> Schema:
    return {
        "description": description,
        "type": "object",
        "properties": dict(properties),
        "required": sorted(properties),
    }


def _identified(outcome: str) -> Mapping[str, Schema]:
    return {
        "outcome": {"const": outcome},
        "source": _said(_TEXT, "Source of the command."),
        "id": _said(_TEXT, "Id of the command."),
        "type": _said(_TEXT, "Type of the command."),
        "subject": _said(_UUID, "Aggregate id."),
        "recorded_at": _said(_TIME, "When the outcome was recorded."),
    }


def result() -> Schema:
    """Give the schema of an outcome on the results topic."""
    whole: Schema = {"type": "integer", "minimum": 0}
    event = _object(
        "An event that the command caused.",
        {"type": {"type": "string"}, "subject": _UUID, "position": whole, "version": whole},
    )
    error = _object(
        "One thing wrong with one field.",
        {
            "field": _said({"type": "string"}, "Dotted path into the command's data."),
            "code": {"type": "string"},
            "message": _said({"type": "string"}, "A sentence; never repeats the value."),
        },
    )
    accepted = _object(
        "The command was taken; without events nothing was left to change.",
        {
            **_identified("accepted"),
            "version": _said(whole, "Version of the aggregate after the command."),
            "events": {"type": "array", "items": {"$ref": "#/$defs/event"}},
        },
    )
    refused = _object(
        "The command was refused; nothing changed.",
        {
            **_identified("refused"),
            "code": _said({"type": "string"}, "Stable reason, for programs."),
            "message": _said({"type": "string"}, "The reason as a sentence."),
            "errors": {"type": "array", "items": {"$ref": "#/$defs/error"}},
        },
    )
    schema: Schema = {
        "description": "The one outcome of a command, on the results topic. A repetition is the same byte for byte.",
        "oneOf": [{"$ref": "#/$defs/accepted"}, {"$ref": "#/$defs/refused"}],
        "$defs": {"accepted": accepted, "refused": refused, "event": event, "error": error},
    }
    return document("result", "result", schema)


def dead_letter() -> Schema:
    """Give the schema of a dead letter."""
    whole: Schema = {"type": "integer", "minimum": 0}
    schema = _object(
        "A record that no command could be read from, by its place; its bytes are kept encrypted in the store.",
        {
            "topic": {"type": "string"},
            "partition": whole,
            "offset": whole,
            "code": _said({"type": "string"}, "Stable reason, for programs."),
            "message": _said({"type": "string"}, "The reason as a sentence."),
        },
    )
    return document("dead-letter", "dead letter", schema)
