"""Rows as people and programs read them: exact, aligned, and harmless to spreadsheets and terminals."""

import csv
import io
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from prm_es.tabular import Format, write

LONG = Decimal("12345678901234567890123456789012345.6789")


def written(form: Format, *rows: tuple[Any, ...]) -> str:
    file = io.StringIO()
    write([f"c{number}" for number in range(len(rows[0]))], rows, form, file)
    return file.getvalue()


def cells(*values: Any) -> list[str]:
    """Give the values as a program reads them from CSV."""
    _head, row = csv.reader(io.StringIO(written(Format.CSV, values), newline=""))
    return row


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_text_that_a_spreadsheet_would_run_is_quoted(start: str) -> None:
    assert cells(f"{start}1+1") == [f"'{start}1+1"]
    assert cells([f"{start}1+1", "b"]) == [f"'{start}1+1, b"]


def test_numbers_are_not_quoted_and_keep_every_digit_in_csv() -> None:
    assert cells(Decimal("-0.10"), -5, LONG, Decimal("1E+3")) == ["-0.10", "-5", str(LONG), "1000"]


def test_csv_is_read_back_as_it_was() -> None:
    tricky = ('a,"b"', "line\nbreak", "a\rb", "plain", None, True, ["x", "y"])
    assert cells(*tricky) == ['a,"b"', "line\nbreak", "a\rb", "plain", "", "yes", "x, y"]
    assert written(Format.CSV, ("a", "b")) == "c0,c1\na,b\n"


def test_times_and_ids_are_written_in_one_form() -> None:
    at, subject = datetime(2026, 3, 10, 12, tzinfo=UTC), UUID(int=1)
    assert cells(at, date(2026, 3, 10), subject) == ["2026-03-10T12:00:00Z", "2026-03-10", str(subject)]
    assert json.loads(written(Format.JSON, (at, date(2026, 3, 10), subject))) == [
        {"c0": "2026-03-10T12:00:00Z", "c1": "2026-03-10", "c2": str(subject)}
    ]


def test_a_time_that_is_over_has_its_sign_in_front() -> None:
    assert cells(timedelta(hours=-1), timedelta(days=1, hours=2)) == ["-1:00:00", "1 day, 2:00:00"]
    assert json.loads(written(Format.JSON, (timedelta(hours=-1),))) == [{"c0": "-1:00:00"}]


def test_json_is_json_whatever_the_numbers() -> None:
    row = (float("nan"), float("-inf"), LONG, 1.5, None, [Decimal("1.10")], {"a": 1})
    text = written(Format.JSON, row)
    (read,) = json.loads(text, parse_constant=pytest.fail)
    assert list(read.values()) == ["nan", "-inf", str(LONG), 1.5, None, ["1.10"], {"a": 1}]


def test_a_table_shows_texts_as_they_are() -> None:
    text = written(Format.TABLE, ("[red]x[/]", "[/]", ":smile:", "Ateliê"))
    assert all(one in text for one in ("[red]x[/]", "[/]", ":smile:", "Ateliê", "(1 row)"))


def test_a_table_obeys_no_control_character() -> None:
    text = written(Format.TABLE, ("\x1b[31mred\x07", "two\nrows\r", "\u202eright to left", "\x9b1m"))
    assert not set(text) & set("\x1b\x07\r\u202e\x9b")
    assert len(text.splitlines()) == 3


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Decimal("1234.5"), "1,234.50"),
        (Decimal("1000.00"), "1,000"),
        (Decimal("1E+3"), "1,000"),
        (LONG, "12,345,678,901,234,567,890,123,456,789,012,345.68"),
        (Decimal(10) ** 40, f"{10**40:,}"),
        (Decimal("NaN"), "NaN"),
        (Decimal("Infinity"), "Infinity"),
        (12345, "12,345"),
        (None, ""),
        (False, "no"),
    ],
)
def test_a_table_shows_numbers_to_people(value: object, shown: str) -> None:
    assert written(Format.TABLE, (value,)).splitlines()[1].strip() == shown


def test_no_rows_are_a_head_alone() -> None:
    file = io.StringIO()
    write(["a", "b"], [], Format.TABLE, file)
    assert file.getvalue().split() == ["a", "b", "(0", "rows)"]
