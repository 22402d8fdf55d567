"""How a person reads: texts, money, days and times in their language.

The catalogues are gettext's .po files, read when the process starts; English is the language of the sources.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cache
from gettext import GNUTranslations, NullTranslations
from importlib import resources
from io import BytesIO
from typing import Final
from zoneinfo import ZoneInfo

from babel.core import Locale
from babel.dates import format_date, format_datetime, format_skeleton, format_time, format_timedelta
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import (
    format_compact_currency,
    format_compact_decimal,
    format_currency,
    format_decimal,
    format_percent,
)

from prm_es.aggregates.fields import minor_units
from prm_es.api.pages.words import CODES, TONES, _n

LANGUAGES: Final[Mapping[str, str]] = {"en": "English", "pt_BR": "Português (Brasil)"}
DEFAULT: Final = "en"
EMPTY: Final = "\N{EN DASH}"
_DAYS: Final[Mapping[str, str]] = {"en": "medium", "pt_BR": "short"}


@cache
def translations(language: str) -> NullTranslations:
    """Give the catalogue of a language; that of English is empty."""
    if language == DEFAULT:
        return NullTranslations()
    with (resources.files(__package__) / "locales" / language / "messages.po").open("rb") as file:
        catalogue = read_po(file, locale=language)
    compiled = BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return GNUTranslations(compiled)


@dataclass(frozen=True, slots=True)
class Reader:
    """One language and time zone."""

    language: str
    zone: ZoneInfo

    @property
    def locale(self) -> Locale:
        return Locale.parse(self.language)

    @property
    def tag(self) -> str:
        """Give the language as HTML names it."""
        return self.language.replace("_", "-")

    def text(self, text: str) -> str:
        """Translate."""
        return translations(self.language).gettext(text)

    def code(self, code: object, kind: str) -> str:
        """Give the word for a code of the wire; a code that has none is shown as it is, in words."""
        if code is None:
            return ""
        known = CODES[kind].get(str(code))
        return self.text(known) if known else str(code).replace("_", " ").capitalize()

    def money(self, amount: Decimal | None, currency: str | None) -> str:
        """Write an amount in full, decimals only where there are any."""
        if amount is None:
            return ""
        if currency is None:
            return self.number(amount)
        whole = amount == amount.to_integral_value()
        digits = 0 if whole else minor_units(currency)
        rounded = amount.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN)
        pattern = self.locale.currency_formats["standard"].pattern
        text: str = format_currency(
            rounded,
            currency,
            pattern.replace(".00", "." + "0" * digits if digits else ""),
            locale=self.locale,
            currency_digits=False,
        )
        return text

    def short_money(self, amount: Decimal | None, currency: str | None) -> str:
        """Write an amount in three figures or so, as 1.3M."""
        if amount is None or currency is None:
            return ""
        text: str = format_compact_currency(amount, currency, locale=self.locale, fraction_digits=_places(amount))
        return text

    def number(self, number: Decimal | int | None) -> str:
        return "" if number is None else str(format_decimal(number, locale=self.locale))

    def short_number(self, number: Decimal | int | None) -> str:
        if number is None:
            return ""
        return str(format_compact_decimal(number, locale=self.locale, fraction_digits=_places(number)))

    def share(self, share: Decimal | None) -> str:
        """Write a ratio of 0 to 1 as a percentage."""
        return "" if share is None else str(format_percent(share, "#,##0%", locale=self.locale))

    def percent(self, percent: Decimal | None) -> str:
        """Write what is a percentage already."""
        return self.share(None if percent is None else percent / 100)

    def day(self, day: date | datetime | None) -> str:
        if day is None:
            return ""
        local = day.astimezone(self.zone).date() if isinstance(day, datetime) else day
        return str(format_date(local, _DAYS[self.language], locale=self.locale))

    def month(self, day: date | None) -> str:
        return "" if day is None else str(format_skeleton("yMMM", day, locale=self.locale))

    def moment(self, at: datetime | None) -> str:
        if at is None:
            return ""
        return str(format_datetime(at.astimezone(self.zone), "medium", locale=self.locale))

    def short_moment(self, at: datetime | None) -> str:
        if at is None:
            return ""
        local = at.astimezone(self.zone)
        return f"{self.day(local)} {format_time(local, 'HH:mm', locale=self.locale)}"

    def span(self, span: timedelta | None) -> str:
        """Write a length of time in its largest unit."""
        if span is None:
            return ""
        return str(format_timedelta(abs(span), threshold=2, format="short", locale=self.locale))

    def relative(self, at: datetime | date | None) -> str:
        """Write how far away a time or a day is: in 3 hours, 2 days ago."""
        if at is None:
            return ""
        if isinstance(at, datetime):
            return str(
                format_timedelta(at - datetime.now(UTC), threshold=2, add_direction=True, locale=self.locale),
            )
        days = at - datetime.now(self.zone).date()
        if not days:
            return self.text(_n("today"))
        return str(format_timedelta(days, granularity="day", threshold=2, add_direction=True, locale=self.locale))

    def listed(self, items: Iterable[object] | None) -> str:
        return ", ".join(str(item) for item in items or ())


def tone(code: object, kind: str) -> str:
    """Give the tone of a code's pill."""
    return TONES.get(kind, {}).get(str(code), "done")


def _places(amount: Decimal | int) -> int:
    """Give one decimal where the short form would have one or two figures, as 1.3M and 63K."""
    size = abs(Decimal(amount))
    return 1 if size >= 1000 and size.adjusted() % 3 < 2 else 0  # noqa: PLR2004
