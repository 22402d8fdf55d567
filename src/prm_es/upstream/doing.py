"""One command from the command line: `key=value` words become its data, an actor's words become who asks."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

import orjson

from prm_es.aggregates import catalogue
from prm_es.aggregates.base import Refused
from prm_es.errors import Poison, Usage
from prm_es.messages import PARTNER_ROLES, SPEC_VERSION, VENDOR, Actor, Envelope, Role, aggregate_id, envelope

SOURCE: Final = "prm-es-cli"
_STEP: Final = re.compile(r"\[(\d*)\]")
_LONGEST_LIST: Final = 1_000
Path = tuple[str | int, ...]


def wire_of(name: str) -> str:
    """Give the wire type of `opportunity.win` or `prm.opportunity.win`; raises Usage with what is near it."""
    wire = name if name.startswith(catalogue.PREFIX) else catalogue.PREFIX + name
    if wire in catalogue.COMMANDS:
        return wire
    names = [known.removeprefix(catalogue.PREFIX) for known in catalogue.COMMANDS]
    asked = wire.removeprefix(catalogue.PREFIX)
    same = [one for one in names if one.partition(".")[0] == asked.partition(".")[0]]
    near = difflib.get_close_matches(asked, names, 3) or sorted(same) or sorted({n.partition(".")[0] for n in names})
    raise Usage(f"there is no command {asked}; there are: {', '.join(near)}")


def actor_of(text: str, role: Role | None = None) -> Actor:
    """Read ID:ROLE or ID:ROLE:ORG; the role may be left out where `role` is given. Raises Usage."""
    id_, _, rest = text.partition(":")
    named, _, org = rest.partition(":")
    wanted = named or (role.value if role else "")
    if not id_.strip():
        raise Usage("--as: say who asks, as ana:channel_manager")
    if wanted not in set(Role):
        raise Usage(f"--as: say who asks in which role, as ana:channel_manager; roles are {', '.join(Role)}")
    if Role(wanted) in PARTNER_ROLES and not _is_uuid(org):
        raise Usage(f"--as: {wanted} acts for a partner: {id_}:{wanted}:PARTNER-ID")
    return Actor(id_, Role(wanted), org or VENDOR)


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def subject_of(wire: str, subject: str | None, external: str | None) -> UUID:
    """Give the aggregate id: one that is named, a `new` one, or that of SOURCE:ID of another system; raises Usage."""
    if (subject is None) == (external is None):
        raise Usage("say which aggregate: --subject ID, --subject new, or --external SOURCE:ID")
    if external is not None:
        source, colon, key = external.partition(":")
        if not (source and colon and key):
            raise Usage("--external is SOURCE:ID, as crm:1C1I7A6R")
        return aggregate_id(wire.split(".")[1], source, key)
    if subject == "new":
        return uuid4()
    try:
        return UUID(subject)
    except ValueError:
        raise Usage("--subject must be a UUID, the aggregate's id, or `new`") from None


@dataclass(frozen=True, slots=True)
class Given:
    """What the command line says beside type, aggregate, actor and data."""

    source: str = SOURCE
    id: str | None = None
    time: str | None = None
    on_behalf_of: str | None = None
    expected_version: int | None = None
    correlation_id: str | None = None


def command(wire: str, subject: UUID, actor: Actor, words: Sequence[str], given: Given) -> Envelope:
    """Make the command; raises Usage if a word or an attribute cannot be read. The service judges its fields."""
    attributes = {
        "specversion": SPEC_VERSION,
        "source": given.source,
        "id": given.id or str(uuid4()),
        "type": wire,
        "subject": str(subject),
        "actor": actor.id,
        "actorrole": actor.role.value,
        "actororg": actor.org,
        "time": given.time,
        "onbehalfof": given.on_behalf_of,
        "expectedversion": given.expected_version,
        "correlationid": given.correlation_id,
    }
    try:
        return envelope(attributes, orjson.dumps(data_of(wire, words)))
    except Poison as error:
        raise Usage(error.sentence) from None


def data_of(wire: str, words: Sequence[str]) -> dict[str, Any]:
    """Read `a.b=text`, `list[0]=text`, `list[]=text` and `field={"json": 1}` into a command's data; raises Usage.

    A value is text unless it is a JSON object, list, text in quotation marks or null; where the command takes no text
    but a number or a yes or no, it is read as that.
    """
    values: dict[Path, Any] = {}
    for word in words:
        path, value = _word(word, values)
        if any(path == known[: len(path)] or known == path[: len(known)] for known in values):
            raise Usage(f"{_shown(path)} is given twice")
        values[path] = value
    data = _nested(values)
    refused = catalogue.parse_command(wire, orjson.dumps(data))
    if isinstance(refused, Refused):
        wrong = {error.field for error in refused.errors}
        data = _nested({path: _otherwise(path, value, wrong) for path, value in values.items()})
    return data


def _word(word: str, before: Iterable[Path]) -> tuple[Path, Any]:
    name, equals, text = word.partition("=")
    if not equals or not name:
        raise Usage(f"{word} is not key=value")
    return _path(name, before), _value(text, name)


def _path(name: str, before: Iterable[Path]) -> Path:
    """Split `tax_ids[0].value`, which may be written `tax_ids.0.value`; an empty index is the next one."""
    if _STEP.sub("", name).strip("[]") != _STEP.sub("", name):
        raise Usage(f"{name}: an index is written [0]")
    path: list[str | int] = []
    for part in _STEP.sub(lambda found: f".{found.group(1) or '+'}", name).split("."):
        if not part:
            raise Usage(f"{name}: a part of the key is empty")
        if part == "+":
            taken = [one[len(path)] for one in before if one[: len(path)] == tuple(path) and len(one) > len(path)]
            path.append(len(set(taken)))
        else:
            path.append(int(part) if part.isdecimal() and path else part)
    if any(isinstance(part, int) and part >= _LONGEST_LIST for part in path):
        raise Usage(f"{name}: an index is below {_LONGEST_LIST}")
    return tuple(path)


def _value(text: str, name: str) -> Any:  # noqa: ANN401
    if text[:1] not in ("{", "[", '"') and text != "null":
        return text
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Usage(f"{name}: begins as JSON but is none: {error}") from None


def _otherwise(path: Path, value: Any, wrong: Iterable[str]) -> Any:  # noqa: ANN401
    """Read a text that the command does not take as the number, true or false that it may be."""
    name = ".".join(map(str, path))
    if not isinstance(value, str) or not any(field == name or field.startswith(f"{name}.") for field in wrong):
        return value
    try:
        other = orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
    return other if isinstance(other, bool | int | float) else value


def _nested(values: Mapping[Path, Any]) -> dict[str, Any]:
    tree: dict[str | int, Any] = {}
    for path, value in values.items():
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = _Leaf(value)
    return {str(name): _made(part, (name,)) for name, part in tree.items()}


@dataclass(frozen=True, slots=True)
class _Leaf:
    value: Any


def _made(node: Any, path: Path) -> Any:  # noqa: ANN401
    if isinstance(node, _Leaf):
        return node.value
    if not any(isinstance(name, int) for name in node):
        return {name: _made(part, (*path, name)) for name, part in node.items()}
    if set(node) != set(range(len(node))):
        raise Usage(f"{_shown(path)}: the items of a list are numbered from 0, each once")
    return [_made(node[number], (*path, number)) for number in range(len(node))]


def _shown(path: Path) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def in_words(sent: Envelope, outcome: Mapping[str, Any]) -> Iterator[str]:
    """Say what became of a command, a line each: its events, or why not."""
    aggregate, name = sent.type.split(".")[1:]
    what = f"{aggregate} {sent.subject}"
    match outcome["outcome"]:
        case "accepted":
            yield f"accepted: {name.replace('_', ' ')}; {what} is at version {outcome['version']}"
            for event in outcome["events"]:
                whose = (
                    ""
                    if event["subject"] == str(sent.subject)
                    else f" of {event['type'].split('.')[1]} {event['subject']}"
                )
                yield f"  position {event['position']}: {event['type'].split('.')[2].replace('_', ' ')}{whose}"
            if not outcome["events"]:
                yield "  nothing was left to change"
        case "refused":
            yield f"refused: {name.replace('_', ' ')} of {what}: {outcome['message']} ({outcome['code']})"
            for error in outcome["errors"]:
                yield f"  {error['field']}: {error['message']} ({error['code']})"
        case _:
            yield f"dead-lettered: {outcome['message']} ({outcome['code']})"
