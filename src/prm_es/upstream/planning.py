"""From the tables of another system to commands: pure, whole or not at all."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from uuid import UUID

import orjson

from prm_es.aggregates import catalogue
from prm_es.aggregates.base import Refused
from prm_es.messages import MAX_TEXT, Actor, Envelope, Role, aggregate_id
from prm_es.upstream.mapping import At, CsvMapping, Extreme, Lookup, Step, Value
from prm_es.upstream.tables import BadRow, Row, Table

KEY_SEPARATOR: Final = "/"


@dataclass(frozen=True)
class Plan:
    """What an import would send, in order of business time; nothing at all if anything is bad."""

    commands: Sequence[Envelope] = ()
    bad: Sequence[BadRow] = ()


def plan(mapping: CsvMapping, tables: Mapping[str, Table]) -> Plan:
    """Make the commands of a mapping from its tables. The same mapping and tables give the same commands, ids included.

    A command's id is <mapping>/<version>/<file>/<row key>/<step>; its time is its date at 00:00 UTC and as many seconds
    as its step has steps before it, so that what happened on one day stays in order.
    """
    bad = [problem for name in mapping.files for problem in _file_problems(mapping, name, tables)]
    if not all(mapping.read(name) <= set(tables.get(name, Table()).columns) for name in mapping.files):
        return Plan(bad=sorted(set(bad)))
    planner = _Planner(mapping, tables)
    planner.prepare()
    made = list(planner.commands())
    bad += planner.bad
    if bad:
        return Plan(bad=sorted(set(bad)))
    return Plan(commands=[command for _key, command in sorted(made, key=lambda pair: pair[0])])


def _file_problems(mapping: CsvMapping, name: str, tables: Mapping[str, Table]) -> Iterator[BadRow]:
    file = mapping.files[name]
    table = tables.get(name, Table(bad=(BadRow(file.file, 0, "", "is missing"),)))
    yield from table.bad
    if not table.columns:
        return
    known = mapping.read(name)
    for column in sorted(known - set(table.columns)):
        yield BadRow(file.file, 1, column, "the mapping reads this column, the file does not have it")
    for column in table.columns:
        if column not in known and column not in file.ignored:
            yield BadRow(file.file, 1, column, "the mapping neither reads nor ignores this column")


class _BadCell(Exception):  # noqa: N818
    """A cell that no value can be made of."""

    def __init__(self, column: str, reason: str, file: str = "", line: int = 0) -> None:
        super().__init__(reason)
        self.column = column
        self.reason = reason
        self.file = file  # where it is not the row that a command is made of
        self.line = line


@dataclass
class _Planner:
    mapping: CsvMapping
    tables: Mapping[str, Table]
    bad: list[BadRow] = field(default_factory=list)
    by_key: dict[str, dict[str, Row]] = field(default_factory=dict)
    defaults: dict[int, date] = field(default_factory=dict)
    last: dict[UUID, date] = field(default_factory=dict)

    def prepare(self) -> None:
        """Find every file's rows by key, and the dates that hold for rows without one."""
        for name in self.mapping.files:
            self.by_key[name] = self._keyed(name)
        for place, step in enumerate(self.mapping.commands):
            if isinstance(step.at.default, Extreme):
                self.defaults[place] = self._extreme(step.at.default)
            elif step.at.default:
                self.defaults[place] = step.at.default

    def _keyed(self, name: str) -> dict[str, Row]:
        file = self.mapping.files[name]
        found: dict[str, Row] = {}
        for row in self.tables[name].rows:
            key = KEY_SEPARATOR.join(row.cells[column] for column in file.key)
            empty = next((column for column in file.key if not row.cells[column]), None)
            if empty is not None:
                self.bad.append(BadRow(file.file, row.line, empty, "the key is empty"))
            elif key in found:
                reason = f"the key stands on line {found[key].line} already"
                self.bad.append(BadRow(file.file, row.line, file.key[0], reason))
            else:
                found[key] = row
        return found

    def _extreme(self, wanted: Extreme) -> date:
        """Give the date that was asked for; any date at all if there is none, which is noted."""
        file = self.mapping.files[wanted.file].file
        dates: list[date] = []
        for row in self.tables[wanted.file].rows:
            try:
                dates += [self._date(wanted.column, row.cells[wanted.column])] if row.cells[wanted.column] else []
            except _BadCell as error:
                self.bad.append(BadRow(file, row.line, error.column, error.reason))
        if not dates:
            self.bad.append(BadRow(file, 0, wanted.column, "no date in this column to take the default from"))
            return date.min
        return max(dates) if wanted.latest else min(dates)

    def commands(self) -> Iterator[tuple[tuple[datetime, int, int], Envelope]]:
        """Give each command with what to sort by; what is bad is noted on the way."""
        for place, step in enumerate(self.mapping.commands):
            for row in self.by_key[step.file].values():
                if any(row.cells[column] not in wanted for column, wanted in step.when.items()):
                    continue
                try:
                    command = self._command(place, step, row)
                except _BadCell as error:
                    self._note_cell(step, row, error)
                    continue
                if command is not None and command.time is not None:
                    yield (command.time, place, row.line), command

    def _note_cell(self, step: Step, row: Row, error: _BadCell) -> None:
        file = error.file or self.mapping.files[step.file].file
        self.bad.append(BadRow(file, error.line or row.line, error.column, error.reason))

    def _note(self, step: Step, row: Row, column: str, reason: str) -> None:
        self.bad.append(BadRow(self.mapping.files[step.file].file, row.line, column, reason))

    def _command(self, place: int, step: Step, row: Row) -> Envelope | None:
        subject = self._subject(step, row)
        on = self._on(place, step.at, row)
        if on < self.last.setdefault(subject, on):
            raise _BadCell(step.at.column or "", f"{step.step} lies before the step that it follows")
        self.last[subject] = on
        data = self._data(step, row)
        if data is None or not self._fits(step, row, data):
            return None
        behalf = self._value(step.file, step.on_behalf_of, row) if step.on_behalf_of else None
        return Envelope(
            source=self.mapping.source,
            id=self._command_id(step, row),
            type=step.type,
            subject=subject,
            actor=Actor(self.mapping.actor, Role.INTEGRATION, on_behalf_of=str(behalf) if behalf else None),
            data=data,
            time=datetime.combine(on, time(), UTC) + timedelta(seconds=place),
        )

    def _subject(self, step: Step, row: Row) -> UUID:
        empty = next((column for column in step.id if not row.cells[column]), None)
        if empty is not None:
            raise _BadCell(empty, "empty, but the id of the aggregate is made of it")
        external = KEY_SEPARATOR.join(row.cells[column] for column in step.id)
        return aggregate_id(step.aggregate, self.mapping.source, external)

    def _command_id(self, step: Step, row: Row) -> str:
        file = self.mapping.files[step.file]
        key = KEY_SEPARATOR.join(row.cells[column] for column in file.key)
        if set(file.key) & set(file.personal):
            key = str(aggregate_id(step.file, self.mapping.source, key))
        id_ = f"{self.mapping.name}/{self.mapping.version}/{step.file}/{key}/{step.step}"
        if len(id_) > MAX_TEXT or "\x00" in id_:
            raise _BadCell(file.key[0], f"the key makes an id that is not a text of 1 to {MAX_TEXT} characters")
        return id_

    def _on(self, place: int, at: At, row: Row) -> date:
        text = row.cells[at.column] if at.column else ""
        if text:
            return self._date(at.column or "", text)
        if place not in self.defaults:
            raise _BadCell(at.column or "", "no date here, and the mapping gives no default")
        return self.defaults[place]

    def _data(self, step: Step, row: Row) -> bytes | None:
        """Make the command's data; None if a cell is bad, every one of which is noted."""
        data: dict[str, Any] = {}
        noted = len(self.bad)
        for path, value in step.fields.items():
            try:
                made = self._value(step.file, value, row)
            except _BadCell as error:
                self._note_cell(step, row, error)
                continue
            if made is not None:
                _put(data, path.split("."), made)
        if step.at.assumed and not (step.at.column and row.cells[step.at.column]):
            data[step.at.assumed] = True
        return orjson.dumps(_listed(data), option=orjson.OPT_SORT_KEYS) if len(self.bad) == noted else None

    def _fits(self, step: Step, row: Row, data: bytes) -> bool:
        parsed = catalogue.parse_command(step.type, data)
        if not isinstance(parsed, Refused):
            return True
        for error in parsed.errors:
            self._note(step, row, _blamed(step, error.field), f"{step.type} {error.field}: {error.message}")
        return False

    def _value(self, file: str, value: Value, row: Row) -> object:
        """Make one value; None leaves its field out. Raises _BadCell."""
        made = None if value.when and not row.cells[value.when] else self._origin(file, value, row)
        if isinstance(made, str):
            blamed = value.read[0] if value.read else ""
            made = self._looked_up(file, blamed, value.lookup, made)
            made = self._typed(value, blamed, made) if made else None
        if made is None and value.required:
            raise _BadCell(value.read[0] if value.read else "", "empty, but required")
        return made

    def _origin(self, file: str, value: Value, row: Row) -> object:
        if value.constant is not None:
            return value.constant.isoformat() if isinstance(value.constant, date) else value.constant
        if value.id is not None:
            return self._id(value, row)
        columns = value.columns or (value.column or "",)
        cells = (self._translated(file, column, value.translate, row.cells[column]) for column in columns)
        return value.separator.join(filter(None, cells))

    def _id(self, value: Value, row: Row) -> str | None:
        rule = value.id
        if rule is None or not all(row.cells[column] for column in rule.columns):
            return None
        key = KEY_SEPARATOR.join(row.cells[column] for column in rule.columns)
        if rule.file and key not in self.by_key[rule.file]:
            raise _BadCell(rule.columns[0], f"no row of {self.mapping.files[rule.file].file} has this key")
        return str(aggregate_id(rule.aggregate, self.mapping.source, key))

    def _translated(self, file: str, column: str, name: str | None, text: str) -> str:
        if name is None or not text:
            return text
        translation = self.mapping.translations[name]
        if text in translation.values or translation.others == "keep":
            return translation.values.get(text, text)
        if translation.others == "leave_out":
            return ""
        shown = "this value" if column in self.mapping.files[file].personal else repr(text[:60])
        raise _BadCell(column, f"the translation {name} does not know {shown}")

    def _looked_up(self, file: str, column: str, lookup: Lookup | None, key: str) -> str:
        if lookup is None or not key:
            return key
        row = self.by_key[lookup.file].get(key)
        if row is None:
            shown = "this key" if column in self.mapping.files[file].personal else f"the key {key[:60]!r}"
            raise _BadCell(column, f"no row of {self.mapping.files[lookup.file].file} has {shown}")
        try:
            return self._translated(lookup.file, lookup.column, lookup.translate, row.cells[lookup.column])
        except _BadCell as error:
            found = self.mapping.files[lookup.file].file
            raise _BadCell(error.column, error.reason, found, row.line) from None

    def _typed(self, value: Value, column: str, text: str) -> object:
        match value.kind:
            case "slug":
                return _slug(column, text)
            case "integer":
                return _integer(column, text)
            case "decimal":
                return _decimal(column, text)
            case "money":
                return {"amount": _decimal(column, text), "currency": value.currency}
            case "date":
                return self._date(column, text).isoformat()
            case _:
                return text

    def _date(self, column: str, text: str) -> date:
        try:
            return datetime.strptime(text, self.mapping.date_format).replace(tzinfo=UTC).date()
        except ValueError:
            raise _BadCell(column, f"not a date written as {self.mapping.date_format}") from None


def _integer(column: str, text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text, re.ASCII):
        raise _BadCell(column, "not a whole number")
    return int(text)


def _decimal(column: str, text: str) -> str:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise _BadCell(column, "not a number")
    return format(number, "f")


def _slug(column: str, text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    slug = "-".join(re.findall(r"[a-z0-9]+", plain))
    if not slug:
        raise _BadCell(column, "has no letter or digit to make a name from")
    return slug


def _put(data: dict[str, Any], path: Sequence[str], value: object) -> None:
    for part in path[:-1]:
        data = data.setdefault(part, {})
    data[path[-1]] = value


def _listed(data: object) -> object:
    """Turn objects whose names are all numbers into lists, in the order of the numbers."""
    if not isinstance(data, dict):
        return data
    if data and all(name.isdecimal() for name in data):
        return [_listed(data[name]) for name in sorted(data, key=int)]
    return {name: _listed(part) for name, part in data.items()}


def _blamed(step: Step, path: str) -> str:
    """Name the column whose value stands nearest to the field that was refused; the field itself if none does."""
    for known, value in step.fields.items():
        if value.read and (path == known or path.startswith(f"{known}.") or known.startswith(f"{path}.")):
            return value.read[0]
    return path
