"""What every page is put into: the templates in a person's language, with who is there and what may be done."""

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, Final
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader

from prm_es.aggregates import permissions
from prm_es.aggregates.fields import countries, currencies
from prm_es.api.pages.language import LANGUAGES, Reader, tone, translations
from prm_es.api.pages.words import CODES
from prm_es.api.principal import Principal

LANGUAGE_COOKIE: Final = "prm_locale"
THEME_COOKIE: Final = "prm_theme"
THEMES: Final = frozenset({"light", "dark"})
USUAL: Final = ("BRL", "USD", "EUR", "GBP", "MXN", "ARS", "CLP", "COP")


@cache
def digest(name: str) -> str:
    """Give the short digest of a file that pages load, which makes its address another one when it changes."""
    return hashlib.sha256((resources.files(__package__) / "static" / name).read_bytes()).hexdigest()[:10]


def static(name: str, versioned: bool = True) -> str:
    return f"/static/{name}?v={digest(name)}" if versioned else f"/static/{name}"


@cache
def _environment(language: str) -> Environment:
    made = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        extensions=["jinja2.ext.i18n"],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.install_gettext_translations(translations(language), newstyle=True)  # type: ignore[attr-defined]
    made.globals |= {
        "static": static,
        "tone": tone,
        "codes": CODES,
        "languages": LANGUAGES,
        "currencies": [*USUAL, *sorted(currencies() - set(USUAL))],
    }
    return made


@cache
def country_names(language: str) -> list[tuple[str, str]]:
    """Give the countries by code with their names."""
    reader = Reader(language, ZoneInfo("UTC"))
    return [(code, reader.locale.territories.get(code, code)) for code in sorted(countries())]


def is_fragment(request: Request) -> bool:
    """Tell whether the page asks for a part of itself, or a dialog."""
    return request.headers.get("hx-request") == "true"


def query_of(params: Mapping[str, str], **changed: str | None) -> str:
    """Give a query with some parameters changed, None: taken away."""
    merged = {**params, **changed}
    return urlencode({name: value for name, value in merged.items() if value}, safe=",:")


def alone(reader: Reader, request: Request, title: str, words: str) -> str:
    """Make a page for somebody of whom nothing is known."""
    theme = request.cookies.get(THEME_COOKIE)
    given = {"reader": reader, "theme": theme if theme in THEMES else None, "title": title, "words": words}
    return _environment(reader.language).get_template("alone.html").render(given)


def render(  # noqa: PLR0913
    request: Request,
    template: str,
    *,
    principal: Principal,
    reader: Reader,
    title: str,
    section: str = "",
    live: tuple[str, ...] = (),
    status_code: int = 200,
    **given: Any,  # noqa: ANN401
) -> HTMLResponse:
    """Make a page, or only its content where that is asked for."""
    theme = request.cookies.get(THEME_COOKIE)
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    fragment = is_fragment(request)
    page = _environment(reader.language).get_template(template)
    content = page.render(
        {
            "layout": "fragment.html" if fragment else "base.html",
            "fragment": fragment,
            "principal": principal,
            "reader": reader,
            "vendor": not principal.partner_side,
            "may": lambda command: permissions.may(principal.role, command),
            "initials": "".join(word[0] for word in principal.name.split()[:2]).upper(),
            "csrf": principal.csrf,
            "theme": theme if theme in THEMES else None,
            "title": title,
            "section": section,
            "live": live,
            "here": here,
            "as_of": None,
            "flash": None,
            "organisation": None,
            "errors": (),
            "outcome": None,
            **given,
        }
    )
    return HTMLResponse(
        content,
        status_code,
        {"Vary": "HX-Request, Cookie, Accept-Language", "Cache-Control": "no-store"},
    )
