"""A table asks its list only for what there is, and its addresses lead where they say."""

from datetime import date
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

import pytest

from prm_es.api import asked
from prm_es.api.lists import LISTS
from prm_es.api.pages import listing
from prm_es.api.pages.doors import pairs
from prm_es.api.pages.language import Reader
from prm_es.api.pages.tables import LEADS, OPPORTUNITIES, TABLES, Table

EN = Reader("en", ZoneInfo("UTC"))
DAY = date(2026, 11, 27)
SUMS = {"amount": Decimal(10), "weighted_amount": Decimal(4)}
OF_ROWS = {"deal_flags", "lead_flags"}
EVERY = pytest.mark.parametrize("table", TABLES.values(), ids=lambda one: one.name)


@EVERY
def test_every_column_of_a_table_is_one_of_its_list(table: Table) -> None:
    columns = LISTS[table.name].columns
    for one in table.columns:
        assert one.kind in OF_ROWS or one.name in columns, one.name
        assert not one.under or one.under in columns
        assert one.kind not in ("money", "until", "attainment") or one.of in columns
    assert table.row_key in columns
    assert table.link.format(**dict.fromkeys(columns, "x"))


@EVERY
def test_every_filter_and_group_of_a_table_is_one_of_its_list(table: Table) -> None:
    known = LISTS[table.name]
    for one in (*table.filters, *table.more):
        names = [f"{one.name}_from", f"{one.name}_to"] if one.kind == "range" else [one.name]
        assert set(names) <= set(known.filters), one.name
    assert {name for name, _title in table.groups} <= set(known.groups)
    assert table.find in known.filters


@EVERY
def test_every_view_given_can_be_asked_for(table: Table) -> None:
    for _title, query in table.tabs:
        asked.read(LISTS[table.name], list(pairs(LISTS[table.name], dict(parse_qsl(query)))), DAY)


@EVERY
def test_every_heading_sorts_by_what_its_list_can_be_sorted_by(table: Table) -> None:
    for head in listing.heads(table, {}, vendor=True):
        if head.query is not None:
            asked.read(LISTS[table.name], list(pairs(LISTS[table.name], dict(parse_qsl(head.query)))), DAY)


def test_a_bare_address_is_the_first_view_and_all_is_everything() -> None:
    assert listing.asked(LEADS, {}) == {"status": "submitted,in_review", "sort": "sla_due_at"}
    assert listing.asked(LEADS, {}, vendor=False) == {"sort": "-came_in_at"}
    assert listing.asked(LEADS, {"all": "1"}) == {}
    assert listing.asked(LEADS, {"status": "", "owner": "ana"}) == {"owner": "ana"}


def test_a_heading_turns_the_order_round() -> None:
    by_name = {head.column.name: head for head in listing.heads(OPPORTUNITIES, {"sort": "-amount"}, vendor=True)}
    assert (by_name["amount"].sorted, by_name["amount"].query) == ("descending", "sort=amount")
    assert (by_name["stage"].sorted, by_name["stage"].query) == (None, "sort=stage")


def test_a_partner_is_shown_no_column_of_partners() -> None:
    assert "partner" not in [head.column.name for head in listing.heads(LEADS, {}, vendor=False)]


def test_filters_are_said_in_words_and_can_be_taken_away() -> None:
    given = {
        "status": "submitted,in_review",
        "amount_from": "1000",
        "overdue": "true",
        "text": "steel",
        "sort": "owner",
    }
    chips = listing.chips(LEADS, given, EN)
    assert [one.words for one in chips] == ["Status: Submitted, In review", "Amount ≥ 1000", "Overdue: yes", "“steel”"]
    assert dict(parse_qsl(chips[0].without)) == {name: value for name, value in given.items() if name != "status"}


def test_a_filter_without_a_field_is_kept_when_another_is_set() -> None:
    given = {
        "status": "open",
        "overdue": "true",
        "stage": "committed",
        "amount_from": "5",
        "text": "x",
        "sort": "owner",
    }
    assert listing.kept(OPPORTUNITIES, given) == {"status": "open", "overdue": "true"}


def test_groups_are_named_lead_to_their_rows_and_end_with_the_sums_of_all() -> None:
    items: list[dict[str, Any]] = [
        {
            "stage": None,
            "currency": "EUR",
            "level": 0,
            "count": 5,
            "amount": Decimal(10),
            "weighted_amount": Decimal(4),
        },
        {
            "stage": "prospect",
            "currency": "EUR",
            "level": 1,
            "count": 5,
            "amount": Decimal(10),
            "weighted_amount": Decimal(4),
        },
    ]
    shown = listing.grouped(OPPORTUNITIES, {"group_by": "stage", "status": "open"}, items, EN)
    first, last = shown.rows
    assert (first[0].words, first[0].query) == ("Prospect", "status=open&stage=prospect")
    assert (last[0].words, last[0].query) == ("All", None)
    assert first[1:] == ["5", "EUR", "€10", "€4"]
