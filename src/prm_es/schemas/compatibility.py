"""What may change in the published contract, and what breaks those who build on it.

What is accepted may only grow: what a sender sends today is still read tomorrow.
What is published may gain fields and nothing else: what a reader relies on today is still there tomorrow.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from prm_es.schemas.models import Schema

Documents = Mapping[str, str]
Form = Mapping[str, Any]

_LEAST: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_MOST: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")
_SHAPE: Final = ("pattern", "format")
_ACCEPTED: Final = ("commands/", "command.json")
_PUBLISHED: Final = ("events/", "result.json", "dead-letter.json")
_TYPES: Final = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


@dataclass(frozen=True, slots=True)
class _Field:
    """What a field may hold: by type, the keywords that limit it. `inside` is the path of what holds the field."""

    required: bool
    forms: Mapping[str, Form]
    inside: str | None


def incompatibilities(old: Documents, new: Documents) -> list[str]:
    """Give one line for each change, from one set of documents to another, that breaks a sender or a reader."""
    return [line for path in sorted(old) for line in _changes(path, old[path], new.get(path))]


def _changes(path: str, old: str, new: str | None) -> Iterator[str]:
    if not path.startswith((*_ACCEPTED, *_PUBLISHED)):
        return
    name = path.rpartition("/")[2].removesuffix(".json")
    if new is None:
        yield f"{name}: vanished"
        return
    before, after = _fields(json.loads(old)), _fields(json.loads(new))
    broken = _less_accepted if path.startswith(_ACCEPTED) else _less_published
    yield from (f"{name}: {where or 'the data'} {what}" for where, what in broken(before, after))


def _less_accepted(old: Mapping[str, _Field], new: Mapping[str, _Field]) -> Iterator[tuple[str, str]]:
    yield from ((where, "was removed") for where in _removed(old, new))
    for where in old.keys() & new.keys():
        yield from ((where, what) for what in _narrowed(old[where].forms, new[where].forms))
    for where, field in new.items():
        was = old[where].required if where in old else field.inside not in old
        if field.required and not was:
            yield where, "is required now"


def _less_published(old: Mapping[str, _Field], new: Mapping[str, _Field]) -> Iterator[tuple[str, str]]:
    yield from ((where, "was removed") for where in _removed(old, new))
    for where in old.keys() & new.keys():
        before, after = old[where], new[where]
        if before.required and not after.required:
            yield where, "is no longer always there"
        yield from ((where, what) for what in _widened(before.forms, after.forms))


def _removed(old: Mapping[str, _Field], new: Mapping[str, _Field]) -> list[str]:
    """Give the fields that are gone, without those inside them."""
    return [where for where, field in old.items() if where not in new and (field.inside is None or field.inside in new)]


def _narrowed(old: Mapping[str, Form], new: Mapping[str, Form]) -> Iterator[str]:
    """Say what the old forms allow and the new ones do not."""
    for kind, form in old.items():
        now = new.get(kind, new.get("number") if kind == "integer" else None)
        if "any" in new:
            continue
        if now is None:
            yield f"was retyped: {kind} is no longer possible"
            continue
        yield from (f"has another {key}: {now[key]}" for key in _SHAPE if key in now and now[key] != form.get(key))
        least = (key for key in _LEAST if key in now and now[key] > form.get(key, -math.inf))
        most = (key for key in _MOST if key in now and now[key] < form.get(key, math.inf))
        yield from (f"was narrowed: {key} {now[key]}" for key in (*least, *most))
        if "enum" in now:
            gone = [value for value in form.get("enum", ["all others"]) if value not in now["enum"]]
            yield from (f"lost the value {value}" for value in gone)


def _widened(old: Mapping[str, Form], new: Mapping[str, Form]) -> Iterator[str]:
    """Say what readers do not expect: another type, another form, a value that was not there before."""
    for kind, form in new.items():
        was = old.get(kind, old.get("any"))
        if was is None:
            yield f"was retyped: it may be {kind} now"
            continue
        yield from (f"has another {key}: {form.get(key)}" for key in _SHAPE if form.get(key) != was.get(key))
        if "enum" in was:
            more = [value for value in form.get("enum", ["anything"]) if value not in was["enum"]]
            yield from (f"may be {value} now" for value in more)


# Reading a schema


def _fields(schema: Schema) -> dict[str, _Field]:
    """Give every field of a schema by its path: `customer.tax_ids[].value`."""
    return dict(_walk(schema, schema, "", None, required=True))


def _walk(
    node: Schema, root: Schema, where: str, inside: str | None, *, required: bool
) -> Iterator[tuple[str, _Field]]:
    parts = list(_alternatives(node, root))
    yield where, _Field(required, {kind: _form(part) for part in parts for kind in _kinds(part)}, inside)
    for part in parts:
        for name, field in part.get("properties", {}).items():
            inner = f"{where}.{name}" if where else name
            yield from _walk(field, root, inner, where, required=name in part.get("required", ()))
        if isinstance(part.get("additionalProperties"), dict):
            yield from _walk(part["additionalProperties"], root, f"{where}.*", where, required=False)
        if "items" in part:
            yield from _walk(part["items"], root, f"{where}[]", where, required=False)
    for choice in node.get("oneOf", ()):
        name = choice["$ref"].rpartition("/")[2]
        yield from _walk(choice, root, f"{where}({name})", where, required=False)


def _alternatives(node: Schema, root: Schema) -> Iterator[Schema]:
    """Give what a node may be, its references followed."""
    if "$ref" in node:
        yield from _alternatives(root["$defs"][node["$ref"].rpartition("/")[2]], root)
    elif "anyOf" in node:
        for part in node["anyOf"]:
            yield from _alternatives(part, root)
    else:
        yield node


def _kinds(part: Schema) -> list[str]:
    if "type" in part:
        return part["type"] if isinstance(part["type"], list) else [part["type"]]
    return sorted({_TYPES[type(value)] for value in _values(part)}) or ["any"]


def _form(part: Schema) -> Form:
    form: dict[str, Any] = {key: part[key] for key in (*_LEAST, *_MOST, *_SHAPE) if key in part}
    return form | ({"enum": _values(part)} if _values(part) else {})


def _values(part: Schema) -> list[Any]:
    return [part["const"]] if "const" in part else list(part.get("enum", []))
