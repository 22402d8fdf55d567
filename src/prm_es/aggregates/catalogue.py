"""The data contract: every wire type with its class, and how bytes become one.

A wire type is "prm." and the name that the class declares. Old event types are upcast to the newest on read, by
functions of the event's data alone; what is stored is never rewritten.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from typing import Any, Final

import orjson
from pydantic import ValidationError

from prm_es.aggregates import lead, opportunity, partner
from prm_es.aggregates.base import Aggregate, Command, Event, FieldError, Refused
from prm_es.aggregates.person import Forgotten
from prm_es.aggregates.policy import PolicyLoaded
from prm_es.errors import Poison, TooOld, UnknownType, Unreadable
from prm_es.messages import Recorded

PREFIX: Final = "prm."
MAX_ERRORS: Final = 100  # of the errors that an answer lists, and of the characters of a field's name in it:
MAX_FIELD: Final = 120  # an answer must fit a record whatever was sent
SHOWN: Final = 10
Upcast = Callable[[dict[str, Any]], dict[str, Any]]

AGGREGATES: Final[Mapping[str, Aggregate]] = {
    aggregate.name: aggregate for aggregate in (partner.AGGREGATE, lead.AGGREGATE, opportunity.AGGREGATE)
}
COMMANDS: Final[Mapping[str, type[Command]]] = {
    PREFIX + command.NAME: command for aggregate in AGGREGATES.values() for command in aggregate.table
}
_STORED: Final[Sequence[type[Event]]] = (
    *(event for aggregate in AGGREGATES.values() for event in aggregate.events),
    PolicyLoaded,  # these streams have no commands
    Forgotten,
)
EVENTS: Final[Mapping[str, type[Event]]] = {PREFIX + event.TYPE: event for event in _STORED}
# Old wire type -> function that turns its data into the data of the newest type of the same name.
UPCASTS: Final[Mapping[str, Upcast]] = {}

# pydantic's own sentences for these repeat a part of the value.
_SENTENCES: Final = {
    "uuid_parsing": "must be a UUID",
    "json_invalid": "is not JSON",
    "extra_forbidden": "is not a field of this command",
    "missing": "is required",
}


def wire_type(message: Command | Event | type[Command] | type[Event]) -> str:
    """Give the type attribute of a message."""
    kind = message if isinstance(message, type) else type(message)
    return PREFIX + (kind.NAME if issubclass(kind, Command) else kind.TYPE)


def aggregate_of(wire: str) -> str:
    """Give the aggregate that a command or event type belongs to; raises UnknownType."""
    parts = wire.split(".")
    if len(parts) < 3 or parts[0] != "prm" or parts[1] not in AGGREGATES:  # noqa: PLR2004
        raise UnknownType("command.unknown_type", "no aggregate has messages of this type")
    return parts[1]


def parse_command(wire: str, data: bytes) -> Command | Refused:
    """Read a command's data; a wrong field is a refusal that names it and never repeats its value.

    Raises UnknownType for a type that is not in the catalogue, Unreadable for data that is not a JSON object.
    """
    command = COMMANDS.get(wire)
    if command is None:
        raise UnknownType("command.unknown_type", "there is no command of this type")
    try:
        return command.model_validate_json(data)
    except ValidationError as error:
        return _refused(error)


def _refused(error: ValidationError) -> Refused:
    details = error.errors(include_url=False, include_context=False, include_input=False)
    for detail in details:
        if detail["type"] == "json_invalid":
            raise Unreadable("message.not_json", "the command's data is not JSON")
        if detail["type"] == "model_type" and not detail["loc"]:
            raise Unreadable("message.not_object", "the command's data is not a JSON object")
    errors = tuple(
        FieldError(
            ".".join(map(str, detail["loc"]))[:MAX_FIELD],
            detail["type"],
            _SENTENCES.get(detail["type"], detail["msg"]),
        )
        for detail in details[:MAX_ERRORS]
    )
    return Refused("command.invalid", f"{len(details)} field(s) are wrong: {_listed(errors)}", errors)


def _listed(errors: Sequence[FieldError]) -> str:
    more = ["…"] if len(errors) > SHOWN else []
    return ", ".join([*(error.field for error in errors[:SHOWN]), *more])


def parse_event(wire: str, data: bytes | Mapping[str, Any]) -> Event:
    """Read a stored event, upcast to its newest type.

    Raises TooOld for a type that this program does not know, Poison for data that does not fit its type.
    """
    upcast = UPCASTS.get(wire)
    newest = _newest(wire) if upcast else wire
    event = EVENTS.get(newest)
    if event is None:
        raise TooOld(f"this program does not know events of type {wire}: start the version that wrote them")
    try:
        if upcast is not None:
            return event.model_validate(upcast(_content(data)))
        return event.model_validate_json(data) if isinstance(data, bytes) else event.model_validate(data)
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, detail["loc"])) for detail in error.errors(include_input=False))
        raise Poison("event.invalid", f"an event of type {wire} does not fit its type: {fields}") from None


def fold(aggregate: Aggregate, events: Iterable[Recorded], state: Any = None) -> Any:  # noqa: ANN401
    """Give an aggregate's state from its stored events, in order, or from a state on; raises as parse_event does."""
    start = aggregate.initial if state is None else state
    return reduce(aggregate.evolve, (parse_event(event.type, event.data) for event in events), start)


def _newest(wire: str) -> str:
    name = wire.rpartition(".")[0]
    return next((known for known in EVENTS if known.rpartition(".")[0] == name), wire)


def _content(data: bytes | Mapping[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = orjson.loads(data) if isinstance(data, bytes) else dict(data)
    return content
