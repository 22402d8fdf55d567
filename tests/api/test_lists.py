"""Lists, by outcome: on a thousand made-up rows, whatever is asked gives what a plain look at the view gives."""

import base64
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

import psycopg2
import pytest
from psycopg2 import sql
from psycopg2.extras import register_uuid

from prm_es.api import answers
from prm_es.api.asked import Asked, Wrong, read
from prm_es.api.lists import LISTS, List
from prm_es.api.periods import period_of
from prm_es.api.selecting import Surroundings
from prm_es.install import install
from prm_es.settings import Settings
from web_rows import Size, fill

TODAY = datetime.now(UTC).date()
NAMES = sorted(LISTS)


@pytest.fixture(scope="module")
def filled(settings: Settings) -> Settings:
    install(settings)
    fill(settings, Size(opportunities=240, leads=200, partners=12))
    return settings


@pytest.fixture(scope="module")
def cursor(filled: Settings) -> Iterator[Any]:
    register_uuid()  # type: ignore[no-untyped-call]
    connection: Any = psycopg2.connect(filled.dsn("reader"))
    connection.set_session(isolation_level="REPEATABLE READ", readonly=True)  # one now() for every look
    yield connection.cursor()
    connection.close()


@pytest.fixture(scope="module")
def here(filled: Settings) -> Surroundings:
    return Surroundings(filled.read_schema, filled.report_tz, TODAY)


def everything(cursor: Any, one: List, here: Surroundings) -> list[dict[str, Any]]:
    return answers.page(cursor, one, Asked(sort=one.key[0], limit=None), here).items


def ids(one: List, items: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(item[name] for name in one.key) for item in items]


def walked(cursor: Any, one: List, here: Surroundings, limit: int, **given: str) -> list[dict[str, Any]]:
    """Read all pages, each with the cursor that the one before gave."""
    items: list[dict[str, Any]] = []
    position = ""
    while True:
        asked = read(one, [*given.items(), ("limit", str(limit)), ("cursor", position)], TODAY)
        page = answers.page(cursor, one, asked, here)
        assert len(page.items) == limit or page.following is None
        items += page.items
        if page.following is None:
            return items
        position = page.following


@pytest.mark.parametrize("name", NAMES)
def test_columns_are_those_of_the_view_with_their_types(name: str, cursor: Any, here: Surroundings) -> None:
    one = LISTS[name]
    cursor.execute(
        "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0",
        (f'"{here.schema}".{one.view}',),
    )
    kinds = {column: kind.replace("timestamp with time zone", "timestamptz") for column, kind in cursor.fetchall()}
    assert {column: kinds.get(column) for column in one.columns} == dict(one.columns)


@pytest.mark.parametrize("name", NAMES)
def test_pages_sorted_by_any_column_give_every_row_once_and_in_order(
    name: str, cursor: Any, here: Surroundings
) -> None:
    one = LISTS[name]
    expected = sorted(ids(one, everything(cursor, one, here)), key=str)
    assert expected
    for column, kind in one.columns.items():
        for sort in (column, f"-{column}") if kind != "jsonb" else ():
            items = walked(cursor, one, here, limit=101, sort=sort)
            assert sorted(ids(one, items), key=str) == expected, sort
            values = [item[one.compared(sort)] for item in items]
            known = [value for value in values if value is not None]
            assert values[: len(known)] == known, f"{sort}: rows without a value come last"
            if kind not in ("text", "text[]", "uuid"):  # in the database's order of words
                ordered = pairwise(reversed(known) if sort.startswith("-") else known)
                assert all(one <= other for one, other in ordered), sort


def fits(kind: str, cell: Any, value: Any) -> bool:
    match kind:
        case "one_of":
            return bool(cell == value)
        case "flag":
            return cell is True
        case "among":
            return value[0] in (cell or [])
        case "lowest":
            return cell is not None and cell >= value
        case _:
            return cell is not None and cell <= value


@pytest.mark.parametrize("name", NAMES)
def test_every_filter_gives_the_rows_it_should_and_no_others(name: str, cursor: Any, here: Surroundings) -> None:
    one = LISTS[name]
    rows = everything(cursor, one, here)
    for label, wanted in one.filters.items():
        if wanted.kind not in ("one_of", "flag", "among", "lowest", "highest"):
            continue
        (column,) = wanted.columns
        values = [row[column] for row in rows if row[column] not in (None, [])]
        value = values[len(values) // 2] if values else ["nothing"] if wanted.kind == "among" else "nothing"
        text = "true" if wanted.kind == "flag" else str(value[0] if wanted.kind == "among" else value)
        if not values and wanted.kind in ("lowest", "highest"):
            continue
        expected = sorted(ids(one, [row for row in rows if fits(wanted.kind, row[column], value)]), key=str)
        assert sorted(ids(one, walked(cursor, one, here, 500, **{label: text})), key=str) == expected, label


def test_partners_are_found_by_id_by_part_of_a_name_by_territory_and_by_channel_manager(
    cursor: Any, here: Surroundings
) -> None:
    one, partners = LISTS["opportunities"], everything(cursor, LISTS["partners"], here)
    rows = everything(cursor, one, here)
    first = partners[0]
    asked: list[tuple[str, str, Callable[[dict[str, Any]], bool]]] = [
        ("partner", str(first["partner_id"]), lambda partner: partner["partner_id"] == first["partner_id"]),
        ("partner", first["partner"][:5].upper(), lambda partner: first["partner"][:5] in partner["partner"]),
        ("territory", "South", lambda partner: "South" in partner["territories"]),
        ("channel_manager", "cm-3", lambda partner: partner["channel_manager"] == "cm-3"),
    ]
    for name, value, chosen in asked:
        own = {partner["partner_id"] for partner in partners if chosen(partner)}
        expected = sorted(row["opportunity_id"] for row in rows if row["partner_id"] in own)
        found = walked(cursor, one, here, 500, **{name: value})
        assert expected
        assert sorted(row["opportunity_id"] for row in found) == expected, name


def test_a_conflict_is_found_by_either_partner(cursor: Any, here: Surroundings) -> None:
    one = LISTS["conflicts"]
    row = everything(cursor, one, here)[0]
    for side in ("first", "second"):
        found = walked(cursor, one, here, 500, partner=str(row[f"{side}_partner_id"]))
        assert (row["first_lead_id"], row["second_lead_id"], row["round"]) in ids(one, found)


def test_a_period_is_cut_in_the_report_time_zone(cursor: Any, here: Surroundings) -> None:
    one = LISTS["opportunities"]
    row = everything(cursor, one, here)[0]
    for zone in ("UTC", "Pacific/Kiritimati"):
        abroad = Surroundings(here.schema, zone, TODAY)
        cursor.execute("SELECT (%s AT TIME ZONE %s)::date", (row["opened_at"], zone))
        ((day,),) = cursor.fetchall()
        found = walked(cursor, one, abroad, 500, created=f"{day}..{day}")
        cursor.execute(
            sql.SQL("SELECT opportunity_id FROM {} WHERE (opened_at AT TIME ZONE %s)::date = %s").format(
                abroad.view("opportunities")
            ),
            (zone, day),
        )
        assert {one["opportunity_id"] for one in found} == {found for (found,) in cursor}


def test_text_finds_a_part_of_a_name_a_customer_or_a_key_and_takes_signs_as_they_are(
    cursor: Any, here: Surroundings
) -> None:
    one = LISTS["opportunities"]
    rows = everything(cursor, one, here)
    person = next(row for row in rows if row["customer"] and row["external_id"].endswith("2"))
    for text in (person["customer"][2:7].lower(), person["name"][1:6], person["external_id"]):
        assert person["opportunity_id"] in {row["opportunity_id"] for row in walked(cursor, one, here, 500, text=text)}
    assert not walked(cursor, one, here, 500, text="%_%")


def test_groups_add_up_to_their_subtotals_and_never_across_currencies(cursor: Any, here: Surroundings) -> None:
    one = LISTS["opportunities"]
    rows = everything(cursor, one, here)
    asked = read(one, [("group_by", "stage,partner"), ("status", "open")], TODAY)
    items, more = answers.groups(cursor, one, asked, here)
    assert not more
    own = [row for row in rows if row["status"] == "open"]
    for currency in {row["currency"] for row in own}:
        of = [row for row in own if row["currency"] == currency]
        (total,) = [item for item in items if item["level"] == 0 and item["currency"] == currency]
        known = [row["amount"] for row in of if row["amount"] is not None]
        assert (total["count"], total["amount"]) == (len(of), sum(known) if known else None)
        for level in (1, 2):
            parts = [item for item in items if item["level"] == level and item["currency"] == currency]
            assert sum(item["count"] for item in parts) == len(of)
    stages = [item["stage"] for item in items if item["level"] == 1]
    assert list(dict.fromkeys(stages)) == [
        "prospect",
        "qualified",
        "technical_validation",
        "business_validation",
        "committed",
    ]


@pytest.mark.parametrize("name", [name for name in NAMES if LISTS[name].groups])
def test_every_list_is_grouped_by_whatever_it_says(name: str, cursor: Any, here: Surroundings) -> None:
    one = LISTS[name]
    number = len(everything(cursor, one, here))
    for group in one.groups:
        for sort in ("", "-count", group, *one.measures):
            items, _ = answers.groups(cursor, one, read(one, [("group_by", group), ("sort", sort)], TODAY), here)
            assert sum(item["count"] for item in items if item["level"] == 0) == number, (group, sort)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"colour": "red"}, "colour"),
        ({"sort": "colour"}, "sort"),
        ({"sort": "--amount"}, "sort"),
        ({"limit": "0"}, "limit"),
        ({"limit": "501"}, "limit"),
        ({"limit": "five"}, "limit"),
        ({"cursor": "!!"}, "cursor"),
        ({"cursor": "W10"}, "cursor"),
        ({"overdue": "maybe"}, "overdue"),
        ({"amount_from": "1e9"}, "amount_from"),
        ({"created": "someday"}, "created"),
        ({"text": "a"}, "text"),
        ({"stage": "x" * 300}, "stage"),
        ({"owner": "a\x00"}, "owner"),
        ({"group_by": "colour"}, "group_by"),
        ({"group_by": "stage,stage"}, "group_by"),
        ({"group_by": "stage", "sort": "customer"}, "sort"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_its_field(given: dict[str, str], field: str) -> None:
    with pytest.raises(Wrong) as refused:
        read(LISTS["opportunities"], list(given.items()), TODAY)
    assert refused.value.field == field


def test_a_cursor_is_of_no_use_with_another_sort_and_no_value_of_it_reaches_the_database_unread(
    cursor: Any, here: Surroundings
) -> None:
    one = LISTS["opportunities"]
    asked = read(one, [("sort", "amount"), ("limit", "5")], TODAY)
    following = answers.page(cursor, one, asked, here).following
    assert following
    with pytest.raises(Wrong):
        read(one, [("sort", "-amount"), ("cursor", following)], TODAY)
    for value in ('"1;DROP TABLE x"', "true", '["a"]', "1.5"):
        forged = base64.urlsafe_b64encode(f'["amount",{value},"{UUID(int=1)}"]'.encode()).decode()
        with pytest.raises(Wrong):
            read(one, [("sort", "amount"), ("cursor", forged)], TODAY)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2024", "2024-01-01", "2024-12-31"),
        ("2024-Q1", "2024-01-01", "2024-03-31"),
        ("2024-02", "2024-02-01", "2024-02-29"),
        ("last-quarter", "2025-10-01", "2025-12-31"),
        ("2024-02-03..2024-02-05", "2024-02-03", "2024-02-05"),
    ],
)
def test_periods_are_the_days_they_name(text: str, first: str, last: str) -> None:
    assert period_of(text, date(2026, 2, 14)) == (date.fromisoformat(first), date.fromisoformat(last))
