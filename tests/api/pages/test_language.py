"""Money, days and times are written as people of a language write them."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from prm_es.api.pages.language import Reader

EN, PT = (Reader(language, ZoneInfo("America/Sao_Paulo")) for language in ("en", "pt_BR"))
AT = datetime(2026, 11, 27, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("amount", "currency", "english", "portuguese"),
    [
        ("13275375", "BRL", "R$13,275,375", "R$\u00a013.275.375"),
        ("1313.5", "USD", "$1,313.50", "US$\u00a01.313,50"),
        ("0.25", "EUR", "€0.25", "€\u00a00,25"),
        ("1500", "JPY", "¥1,500", "JP¥\u00a01.500"),
    ],
)
def test_money_has_its_sign_and_decimals_only_where_there_are_any(
    amount: str, currency: str, english: str, portuguese: str
) -> None:
    assert EN.money(Decimal(amount), currency) == english
    assert PT.money(Decimal(amount), currency) == portuguese


def test_large_sums_are_shortened() -> None:
    assert EN.short_money(Decimal(13_275_375), "BRL") == "R$13.3M"
    assert PT.short_money(Decimal(13_275_375), "BRL") == "R$\u00a013,3\u00a0mi"
    assert EN.short_money(Decimal(132_753), "USD") == "$133K"
    assert EN.short_money(Decimal(750), "USD") == "$750"


def test_what_is_not_known_is_written_as_nothing() -> None:
    assert [EN.money(None, "BRL"), EN.day(None), EN.relative(None), EN.share(None), EN.span(None)] == [""] * 5


def test_a_time_is_told_in_the_zone_of_the_reports() -> None:
    assert EN.short_moment(AT) == "Nov 26, 2026 22:30"
    assert PT.short_moment(AT) == "26/11/2026 22:30"
    assert PT.day(AT) == "26/11/2026"


def test_shares_and_percentages_are_whole() -> None:
    assert EN.share(Decimal("0.734")) == "73%"
    assert PT.percent(Decimal("104.3")) == "104%"


def test_how_far_away_a_day_is_said_in_words() -> None:
    today = datetime.now(EN.zone).date()
    assert EN.relative(today) == "today"
    assert PT.relative(today) == "hoje"
    assert EN.relative(today - timedelta(days=7)) == "7 days ago"
    assert PT.relative(today + timedelta(days=3)) == "em 3 dias"


def test_codes_have_words_in_both_languages_and_strange_ones_are_shown() -> None:
    assert (EN.code("action_required", "lead_status"), PT.code("action_required", "lead_status")) == (
        "Action required",
        "Ação necessária",
    )
    assert EN.code("brand_new_state", "lead_status") == "Brand new state"
    assert EN.month(date(2026, 3, 1)) == "Mar 2026"
