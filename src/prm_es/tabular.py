"""Rows of a query for people and programs: an aligned table, CSV, or JSON."""

import csv
import json
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from math import isfinite
from typing import Final, TextIO
from uuid import UUID

from rich.console import Console
from rich.table import Table
from rich.text import Text

from prm_es.messages import utc_text

# Control characters, and those that turn the direction of writing.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """Show control characters, which a terminal would obey, as one mark each."""
    return _CONTROL.sub("\ufffd", text)


class Format(StrEnum):
    """How rows are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def write(columns: Sequence[str], rows: Iterable[Sequence[object]], form: Format, file: TextIO | None = None) -> None:
    """Write rows, to standard output unless said otherwise. JSON and CSV keep every digit, a table two decimals.

    In CSV, a cell that a spreadsheet would run as a formula is quoted by '; in a table, control characters, which a
    terminal would obey, are shown as one mark each.
    """
    file = file or sys.stdout
    match form:
        case Format.JSON:
            json.dump(
                [dict(zip(columns, map(_plain, row), strict=True)) for row in rows], file, ensure_ascii=False, indent=1
            )
            file.write("\n")
        case Format.CSV:
            writer = csv.writer(_Lines(file))
            writer.writerow(columns)
            writer.writerows([_cell(value) for value in row] for row in rows)
        case Format.TABLE:
            _table(columns, list(rows), file)


class _Lines:
    """Ends lines with a line feed alone; the csv module quotes only those ends of lines that it writes itself."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, line: str) -> None:
        """Write one row of CSV."""
        self._file.write(line.removesuffix("\r\n") + "\n")


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]], file: TextIO) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for number, name in enumerate(columns):
        numeric = any(isinstance(row[number], int | Decimal) and not isinstance(row[number], bool) for row in rows)
        table.add_column(Text(visible(name)), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(_text(value))) for value in row))  # Text: no markup, no emoji
    console = Console(file=file, highlight=False)
    if not console.is_terminal:
        console.width = 10_000  # a pipe has no edge to wrap at
    console.print(table)
    console.print(f"({len(rows)} rows)" if len(rows) != 1 else "(1 row)", style="dim", markup=False)


def _plain(value: object) -> object:
    match value:
        case None | bool() | int() | str() | dict():
            return value
        case float():
            return value if isfinite(value) else str(value)
        case list() | tuple():
            return [_plain(one) for one in value]
        case datetime():
            return utc_text(value)
        case date() | UUID() | Decimal():
            return str(value)
        case _:
            return _text(value)


def _cell(value: object) -> str:
    text = _text(value, thousands=False)
    return (
        f"'{text}" if isinstance(value, str | list | tuple) and text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
    )


def _text(value: object, *, thousands: bool = True) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case Decimal():
            if not thousands:
                return f"{value:f}"
            return f"{value:,.0f}" if value == value.to_integral() else f"{value:,.2f}"
        case int():
            return f"{value:,}" if thousands else str(value)
        case datetime():
            return utc_text(value.replace(microsecond=0)) if thousands else utc_text(value)
        case timedelta():
            return f"-{-value}" if value < timedelta() else str(value)
        case list() | tuple():
            return ", ".join(str(one) for one in value)
        case _:
            return str(value)
