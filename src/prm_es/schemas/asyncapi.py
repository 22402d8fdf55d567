"""The AsyncAPI 3.0 document: topics as channels, and what goes over them, by reference to the schemas beside it."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from prm_es.aggregates.catalogue import AGGREGATES, COMMANDS, EVENTS
from prm_es.messages import STRUCTURED
from prm_es.schemas import envelopes
from prm_es.schemas.models import Schema
from prm_es.settings import PARTITIONS, Settings

_TOPICS: Final = Settings.model_construct()  # the defaults, whatever the environment says
_KAFKA: Final = "0.5.0"
_KEYS: Final[Mapping[str, Schema]] = {
    "aggregate": {"type": "string", "format": "uuid", "description": "Aggregate id, canonical lower-case UUID."},
    "topic": {"type": "string", "description": "The topic of the record."},
}


def asyncapi() -> Schema:
    """Give the document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "prm-es",
            "version": "1.0.0",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
            "description": "Commands in, events, results and dead letters out; every message is a CloudEvent 1.0.",
        },
        "defaultContentType": envelopes.JSON,
        "channels": _channels(),
        "operations": _operations(),
        "components": {"messages": _messages(), "schemas": _schemas()},
    }


def _of(aggregate: str, types: Iterable[str]) -> list[str]:
    return [wire for wire in types if wire.split(".")[1] == aggregate]


def _published() -> list[str]:
    """Give the event types that have a topic; some streams live in the store only."""
    return [wire for wire in EVENTS if wire.split(".")[1] in AGGREGATES]


def _channels() -> Schema:
    channels: Schema = {}
    for aggregate in AGGREGATES:
        commands = [*_of(aggregate, COMMANDS), "structured"]
        channels[f"{aggregate}-commands"] = _channel(
            _TOPICS.command_topic(aggregate), f"Commands for the aggregate {aggregate}.", commands
        )
        channels[f"{aggregate}-events"] = _channel(
            _TOPICS.event_topic(aggregate), f"Events of the aggregate {aggregate}.", _of(aggregate, EVENTS)
        )
    channels["results"] = _channel(_TOPICS.results_topic, "The one outcome of every command.", ["result"])
    channels["dead-letters"] = _channel(
        _TOPICS.dead_letters_topic, "Records that no command could be read from.", ["dead-letter"]
    )
    return channels


def _channel(topic: str, description: str, messages: Iterable[str]) -> Schema:
    return {
        "address": topic,
        "description": description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {"kafka": {"topic": topic, "partitions": PARTITIONS, "bindingVersion": _KAFKA}},
    }


def _operations() -> Schema:
    operations: Schema = {}
    for aggregate in AGGREGATES:
        operations[f"{aggregate}-decide"] = {
            **_operation("receive", f"{aggregate}-commands", f"Decide the commands for the aggregate {aggregate}."),
            "reply": {"channel": {"$ref": "#/channels/results"}},
        }
        operations[f"{aggregate}-publish"] = _operation(
            "send", f"{aggregate}-events", f"Publish the events of the aggregate {aggregate}."
        )
    operations["answer"] = _operation("send", "results", "Answer each command.")
    operations["bury"] = _operation("send", "dead-letters", "Report what could not be read.")
    return operations


def _operation(action: str, channel: str, summary: str) -> Schema:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}


def _messages() -> Schema:
    messages: Schema = {wire: _message(wire, f"./commands/{wire}.json", "command-headers") for wire in COMMANDS}
    messages |= {wire: _message(wire, f"./events/{wire}.json", "event-headers") for wire in _published()}
    messages["structured"] = {
        **_bare("structured", "Any command as one structured CloudEvent.", "./command.json", "aggregate"),
        "contentType": STRUCTURED,
    }
    messages["result"] = {
        **_bare("result", "The outcome of a command.", "./result.json", "aggregate"),
        "headers": {"$ref": "#/components/schemas/result-headers"},
    }
    messages["dead-letter"] = {
        **_bare("dead-letter", "A record that no command could be read from.", "./dead-letter.json", "topic"),
        "headers": {"$ref": "#/components/schemas/dead-letter-headers"},
    }
    return messages


def _message(wire: str, payload: str, headers: str) -> Schema:
    typed = {"type": "object", "properties": {"ce_type": {"const": wire}}}
    return {
        **_bare(wire, " ".join(wire.removeprefix("prm.").replace("_", " ").split(".")), payload, "aggregate"),
        "headers": {"allOf": [{"$ref": f"#/components/schemas/{headers}"}, typed]},
    }


def _bare(name: str, summary: str, payload: str, key: str) -> dict[str, Any]:
    return {
        "name": name,
        "summary": summary,
        "contentType": envelopes.JSON,
        "payload": {"$ref": payload},
        "bindings": {"kafka": {"key": _KEYS[key], "bindingVersion": _KAFKA}},
    }


def _schemas() -> Schema:
    return {
        "command-headers": envelopes.command_headers(),
        "event-headers": envelopes.event_headers(),
        "result-headers": envelopes.result_headers(),
        "dead-letter-headers": envelopes.dead_letter_headers(),
    }
