"""JSON Schema (2020-12) of commands and events, from the classes that read and write them.

A command's schema is what the door accepts; what JSON Schema cannot say (check digits, codes in use) the door still
checks. An event's schema is what its readers find: absent instead of null, sealed fields as encrypted tokens.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from pydantic_core import core_schema

from prm_es.aggregates.base import Command, Event
from prm_es.aggregates.catalogue import AGGREGATES, COMMANDS, EVENTS, aggregate_of
from prm_es.aggregates.permissions import ROLES
from prm_es.messages import Role
from prm_es.store.vault import TOKEN_PATTERN, plan_of

Schema = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
DECIMAL_PATTERN: Final = r"^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$"
_SEALED: Final = {
    "aggregate": "Encrypted token: free text, under a key of the aggregate.",
    "person": "Encrypted token, under a key of the person.",
    "customer": "In clear for a company; an encrypted token when the tax id is an individual's.",
}
_BOUNDS: Final = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
_DIGITS: Final = ("max_digits", "decimal_places")


class _Generator(GenerateJsonSchema):
    """Leaves out the titles that pydantic makes from names; events hold no nulls and decimals as text."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401, ARG002
        return False

    def nullable_schema(self, schema: core_schema.NullableSchema) -> Schema:
        if self.mode == "serialization":
            return self.generate_inner(schema["schema"])
        return super().nullable_schema(schema)

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> Schema:
        if self.mode == "serialization":
            return {"type": "string", "pattern": DECIMAL_PATTERN}
        bounds = {name: schema[name] for name in (*_BOUNDS, *_DIGITS) if name in schema}  # type: ignore[literal-required]
        return {"anyOf": [{"type": "number"}, {"type": "string"}], **bounds}


def identity(path: str) -> str:
    """Give the $id of a schema from its path without suffix."""
    return f"urn:prm-es:schemas:{path.replace('/', ':')}"


def document(path: str, title: str, schema: Schema) -> Schema:
    """Give a schema with what every published one carries."""
    return {**schema, "$schema": DIALECT, "$id": identity(path), "title": title}


def command_schema(wire: str) -> Schema:
    """Give the schema of a command's data, as the door accepts it."""
    command = COMMANDS[wire]
    schema = _schema(command, "validation")
    schema["description"] = " ".join(_sentences(_doc(command), _who_and_when(command)))
    return document(f"commands/{wire}", wire, schema)


def event_schema(wire: str) -> Schema:
    """Give the schema of an event's data, as its readers find it."""
    event = EVENTS[wire]
    schema = _schema(event, "serialization")
    _mark_sealed(schema, schema.get("$defs", {}), plan_of(event))
    aggregate, name, _version = wire.removeprefix("prm.").split(".")
    schema["description"] = " ".join(_sentences(f"{aggregate}: {name.replace('_', ' ')}".capitalize(), _doc(event)))
    return document(f"events/{wire}", wire, schema)


def roles_of(command: type[Command]) -> list[str]:
    """Give the roles that may send a command, in their order."""
    return [role.value for role in Role if role in ROLES[command.NAME]]


def states_for(command: type[Command]) -> list[str]:
    """Give the states in which a command is possible."""
    return list(AGGREGATES[aggregate_of(f"prm.{command.NAME}")].table[command])


def _who_and_when(command: type[Command]) -> str:
    return f"Roles: {', '.join(roles_of(command))}. States: {', '.join(states_for(command))}."


def _sentences(*texts: str) -> Iterator[str]:
    return (text if text.endswith(".") else f"{text}." for text in texts if text)


def _doc(message: type[Command | Event]) -> str:
    """Give the message's docstring, or else that of what it shares with others."""
    kinds = (kind for kind in message.__mro__ if kind not in (Command, Event) and issubclass(kind, (Command, Event)))
    return next((" ".join(kind.__doc__.split()) for kind in kinds if kind.__doc__), "")


def _schema(model: type[BaseModel], mode: JsonSchemaMode) -> Schema:
    schema = model.model_json_schema(mode=mode, schema_generator=_Generator)
    _tidy(schema, nulls=mode == "validation")
    return schema


def _tidy(node: Any, *, nulls: bool) -> None:  # noqa: ANN401
    """Turn limits of decimals into keywords of JSON Schema, and drop what says nothing."""
    if isinstance(node, list):
        for part in node:
            _tidy(part, nulls=nulls)
    if not isinstance(node, dict):
        return
    if isinstance(node.get("description"), str):
        node["description"] = " ".join(node["description"].split())
    if not nulls and "default" in node and node["default"] is None:
        del node["default"]
    if "anyOf" in node and {"type": "string"} in node["anyOf"] and {"type": "number"} in node["anyOf"]:
        _bound_decimal(node)
    for part in node.values():
        _tidy(part, nulls=nulls)


def _bound_decimal(node: Schema) -> None:
    limits = {name: node.pop(name) for name in (*_BOUNDS, *_DIGITS) if name in node}
    bounds = {_BOUNDS[name]: limit for name, limit in limits.items() if name in _BOUNDS}
    digits, places = limits.get("max_digits", 18), limits.get("decimal_places")
    sign = "" if {"ge", "gt"} & limits.keys() else "-?"
    whole = digits if places is None else digits - places
    pattern = f"^{sign}[0-9]{{1,{whole}}}(\\.[0-9]{{1,{places or digits}}})?$"
    node["anyOf"] = [{"type": "number", **bounds}, {"type": "string", "pattern": pattern}]
    said = ", ".join(f"{_words(name)} {limit}" for name, limit in limits.items() if name in _BOUNDS)
    node["description"] = f"An exact decimal; as text beyond 15 digits{f'; {said}' if said else ''}."


def _words(keyword: str) -> str:
    return {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}[keyword]


def _mark_sealed(schema: Schema, definitions: Mapping[str, Schema], plan: Mapping[str, Any]) -> None:
    """Describe the sealed fields of a model, and those of the models inside it."""
    for name, part in plan.items():
        field = schema["properties"][name]
        if isinstance(part, str):
            _seal(field, part)
        else:
            for inner in _references(field):
                _mark_sealed(definitions[inner], definitions, part)


def _seal(field: Schema, under: str) -> None:
    field["description"] = _SEALED[under]
    text = field.get("items", field)
    if under != "customer":
        text["pattern"] = TOKEN_PATTERN


def _references(node: Any) -> Iterable[str]:  # noqa: ANN401
    """Give the names of the definitions that a field refers to."""
    return re.findall(r"'#/\$defs/([^']+)'", repr(node))
