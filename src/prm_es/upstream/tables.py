"""The CSV files of another system as tables, and what is wrong with them."""

import csv
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prm_es.upstream.mapping import CsvMapping

_HEADER: Final = 1


@dataclass(frozen=True, slots=True, order=True)
class BadRow:
    """What is wrong with one cell, row or file; line 0 is the file as a whole. Never a personal value."""

    file: str
    line: int
    column: str
    reason: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.column}: {self.reason}" if self.column else f"{place}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Row:
    """A row by column, its cells stripped; `line` is where it begins in its file."""

    line: int
    cells: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Table:
    """A file as it was read, with what could not be."""

    columns: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    bad: tuple[BadRow, ...] = ()


def read_tables(mapping: CsvMapping, folder: Path) -> dict[str, Table]:
    """Read the files that a mapping names; one that is missing or unreadable becomes a table that says so."""
    return {name: _read(folder / file.file, file.file) for name, file in mapping.files.items()}


def _read(path: Path, file: str) -> Table:
    try:
        content = path.read_bytes()
    except OSError as error:
        return Table(bad=(BadRow(file, 0, "", os.strerror(error.errno or 0)),))
    try:
        return parse_table(content.decode("utf-8-sig"), file)
    except UnicodeDecodeError as error:
        return Table(bad=(BadRow(file, content[: error.start].count(b"\n") + 1, "", "not UTF-8"),))


def parse_table(text: str, file: str) -> Table:
    """Read a CSV text whose first line names the columns; rows of another length are reported, empty ones skipped."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[Row] = []
    bad: list[BadRow] = []
    columns: tuple[str, ...] = ()
    begins = _HEADER
    try:
        columns = tuple(name.strip() for name in next(reader, []))
        begins = reader.line_num + 1
        for cells in reader:
            if len(cells) == len(columns):
                rows.append(Row(begins, {c: cell.strip() for c, cell in zip(columns, cells, strict=True)}))
            elif cells:
                bad.append(BadRow(file, begins, "", f"has {len(cells)} cells, the first line has {len(columns)}"))
            begins = reader.line_num + 1
    except csv.Error as error:
        bad.append(BadRow(file, begins, "", f"not CSV: {error}"))
    if not columns:
        bad.append(BadRow(file, _HEADER, "", "has no columns"))
    twice = sorted({name for name in columns if columns.count(name) > 1})
    bad += [BadRow(file, _HEADER, name, "this column stands twice") for name in twice]
    return Table(columns, tuple(rows), tuple(bad))
