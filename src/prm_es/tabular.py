"""Rows of a query for people and programs: an aligned table, CSV, or JSON."""

import csv
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import TextIO
from uuid import UUID

from rich.console import Console
from rich.table import Table

from prm_es.messages import utc_text


class Format(StrEnum):
    """How rows are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def write(columns: Sequence[str], rows: Iterable[Sequence[object]], form: Format, file: TextIO = sys.stdout) -> None:
    """Write rows. Numbers keep every digit; in CSV, a cell that a spreadsheet would run as a formula is quoted by '."""
    match form:
        case Format.JSON:
            json.dump(
                [dict(zip(columns, map(_plain, row), strict=True)) for row in rows], file, ensure_ascii=False, indent=1
            )
            file.write("\n")
        case Format.CSV:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows([_cell(value) for value in row] for row in rows)
        case Format.TABLE:
            _table(columns, list(rows), file)


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]], file: TextIO) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for number, name in enumerate(columns):
        numeric = any(isinstance(row[number], int | Decimal) and not isinstance(row[number], bool) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_text(value) for value in row))
    console = Console(file=file, highlight=False)
    if not console.is_terminal:
        console.width = 10_000  # a pipe has no edge to wrap at
    console.print(table, markup=False)
    console.print(f"({len(rows)} rows)" if len(rows) != 1 else "(1 row)", style="dim", markup=False)


def _plain(value: object) -> object:
    match value:
        case None | bool() | int() | str() | dict():
            return value
        case float():
            return value
        case list() | tuple():
            return [_plain(one) for one in value]
        case datetime():
            return utc_text(value)
        case date() | UUID() | Decimal():
            return str(value)
        case _:
            return str(value)


def _cell(value: object) -> str:
    text = _text(value, thousands=False)
    return f"'{text}" if isinstance(value, str) and text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _text(value: object, *, thousands: bool = True) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case Decimal():
            shown = (
                value.normalize()
                if value == value.to_integral()
                else value.quantize(Decimal("0.01"))
                if thousands
                else value
            )
            return f"{shown:,f}" if thousands else f"{value:f}"
        case int():
            return f"{value:,}" if thousands else str(value)
        case datetime():
            return utc_text(value.replace(microsecond=0)) if thousands else utc_text(value)
        case list() | tuple():
            return ", ".join(str(one) for one in value)
        case _:
            return str(value)
