"""Commands in bulk as text: one structured CloudEvent a line, made into records to send."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson

from prm_es.aggregates import catalogue
from prm_es.errors import Poison, Usage
from prm_es.messages import STRUCTURED, Envelope, Headers, binary_command, read_command, structured_command
from prm_es.settings import AGGREGATES
from prm_es.upstream.schedule import Node

MAX_BYTES: Final = 1_000_000  # below what a broker takes by default, headers included
_SHOWN: Final = 50
_STRUCTURED_HEADERS: Final[Headers] = (("content-type", STRUCTURED.encode()),)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One record to send. `envelope` is None where a line goes as it stands, readable or not."""

    aggregate: str
    subject: str
    headers: Headers
    value: bytes
    texts: tuple[bytes, ...] = ()
    name: tuple[str, str] | None = None
    cause: tuple[str, str] | None = None
    envelope: Envelope | None = None

    @property
    def node(self) -> Node:
        """Give what matters for the order in which it is sent."""
        return Node(self.subject, self.texts, self.name, self.cause)

    @property
    def shown(self) -> dict[str, Any]:
        """Give the command as it goes into a file of refusals."""
        if self.envelope is None:
            return {"line": self.value.decode("utf-8", "replace")}
        try:
            return structured_command(self.envelope)
        except orjson.JSONDecodeError:
            return {"line": self.envelope.data.decode("utf-8", "replace")}


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is not a command, with the reason; never its values."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


def outgoing(sent: Envelope) -> Outgoing:
    """Make the record of a command; raises Usage if its type names no aggregate, or if it is too long."""
    aggregate = _aggregate(sent.type)
    if aggregate is None:
        raise Usage(f"{sent.type}: a type is prm.<aggregate>.<command>, the aggregate one of {', '.join(AGGREGATES)}")
    _key, headers, value = binary_command(sent)
    if len(value) + sum(len(name) + len(text) for name, text in headers) > MAX_BYTES:
        raise Usage(f"longer than {MAX_BYTES} bytes")
    texts = (sent.data, sent.actor.org.encode())
    cause = _name(sent.source, sent.causation_id)
    return Outgoing(aggregate, str(sent.subject), headers, value, texts, (sent.source, sent.id), cause, sent)


def read_path(path: Path, *, check: bool = True) -> list[Outgoing]:
    """Read a file of commands, as `read_lines` does; raises Usage."""
    try:
        with path.open("rb") as file:
            return read_lines(file, str(path), check=check)
    except OSError as error:
        raise Usage(f"{path}: {os.strerror(error.errno or 0)}") from None


def read_lines(lines: BinaryIO | Iterable[bytes], file: str, *, check: bool = True) -> list[Outgoing]:
    """Read commands, one structured CloudEvent a line; empty lines are skipped.

    Raises Usage with every bad line's file, line and reason. Without `check` a line goes as it stands and the service
    answers for it; bad is then only a line from which no topic can be told.
    """
    read = _Reader(file, check)
    sent = [
        record for number, line in enumerate(lines, 1) if line.strip() for record in read.line(number, line.strip())
    ]
    if read.bad:
        more = [f"and {len(read.bad) - _SHOWN} more"] if len(read.bad) > _SHOWN else []
        raise Usage("\n".join([*map(str, read.bad[:_SHOWN]), *more]))
    return sent


class _Reader:
    def __init__(self, file: str, check: bool) -> None:
        self.file = file
        self.check = check
        self.bad: list[BadLine] = []
        self.seen: dict[tuple[str, str], tuple[int, int]] = {}

    def line(self, number: int, line: bytes) -> Iterator[Outgoing]:
        """Give the record of a line, or note what is wrong with it."""
        try:
            yield self._checked(number, line) if self.check else _as_it_stands(line)
        except Usage as error:
            self.bad.append(BadLine(self.file, number, str(error)))
        except Poison as error:
            self.bad.append(BadLine(self.file, number, error.sentence))

    def _checked(self, number: int, line: bytes) -> Outgoing:
        sent = read_command((("content-type", STRUCTURED.encode()),), line)
        record = outgoing(sent)
        if sent.type not in catalogue.COMMANDS:
            raise Usage("there is no command of this type")
        content = hash((sent.type, sent.subject, sent.actor, sent.expected_version, sent.data))
        first, same = self.seen.setdefault((sent.source, sent.id), (number, content))
        if same != content:
            raise Usage(f"the id stands on line {first} already, with another content")
        return record


def _as_it_stands(line: bytes) -> Outgoing:
    if len(line) > MAX_BYTES:
        raise Usage(f"longer than {MAX_BYTES} bytes")
    try:
        content = orjson.loads(line)
    except orjson.JSONDecodeError:
        content = None
    attributes: dict[str, Any] = content if isinstance(content, dict) else {}
    aggregate = _aggregate(attributes.get("type"))
    if aggregate is None:
        raise Usage("no aggregate can be told from the type, so there is no topic to send this to")
    subject, source = str(attributes.get("subject") or ""), attributes.get("source")
    name, cause = _name(source, attributes.get("id")), _name(source, attributes.get("causationid"))
    return Outgoing(aggregate, subject, _STRUCTURED_HEADERS, line, (line,), name, cause)


def _name(source: object, id_: object) -> tuple[str, str] | None:
    return (source, id_) if isinstance(source, str) and isinstance(id_, str) else None


def _aggregate(wire: object) -> str | None:
    parts = wire.split(".") if isinstance(wire, str) else []
    return parts[1] if len(parts) == 3 and parts[0] == "prm" and parts[1] in AGGREGATES else None  # noqa: PLR2004
