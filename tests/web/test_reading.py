"""What people see on the pages, in a real browser: every page, both languages, dark, on a phone, by keyboard."""

import csv
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from prm_es.api.issuer.logins import LOGINS, Login
from prm_es.messages import PARTNER_ROLES
from tests.web.browser import PHONE, Window, window
from tests.web.service import Service

Seat = Callable[..., AbstractContextManager[Window]]
Tell = Callable[[str], None]
VENDOR, PARTNER = "ada", "pia"  # who reads English
PAGE_KB = 300


@pytest.mark.parametrize("login", LOGINS, ids=lambda login: login.name)
def test_everybody_logs_in_and_out(browser: Browser, web: Service, login: Login) -> None:
    with window(browser, web.at) as seen:
        seen.log_in(login.name)
        expect(seen.page.get_by_role("heading", level=1)).to_be_visible()
        seen.account().click()
        expect(seen.page.get_by_text(login.shown, exact=True).first).to_be_visible()
        vendors = seen.page.locator('nav a[href="/conflicts"]')
        expect(vendors).to_have_count(0 if login.role in PARTNER_ROLES else 1)
        seen.page.locator('form[action="/logout"] button').click()
        expect(seen.page.locator('button[name="login"]').first).to_be_visible()
        assert urlsplit(seen.page.url).netloc != urlsplit(web.at).netloc


def links(seen: Window, within: str) -> list[str]:
    found = (
        seen.page.locator(within)
        .locator("a[href^='/']")
        .evaluate_all("links => links.map(one => one.getAttribute('href'))")
    )
    return list(dict.fromkeys(found))


def kind(path: str) -> str:
    """Tell what a page is apart from whose; the forms of one kind of thing are alike."""
    plain = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", urlsplit(path).path)
    return re.sub(r"^(/do/\w+)\.\w+/", r"\1/", plain)


def pages(seen: Window) -> Iterator[str]:
    """Open every page that somebody can go to: what the first names, and one of each kind that another leads to."""
    todo, known = ["/"], set[str]()
    for path in todo:
        if kind(path) not in known and not path.startswith(("/api/", "/static/")):
            known.add(kind(path))
            seen.open(path)
            todo += links(seen, "aside, header, main")
            yield path


@pytest.mark.parametrize("login", [VENDOR, PARTNER])
def test_every_page_is_open_to_everybody_and_weighs_little(
    browser: Browser, web: Service, cookies: Callable[[str], object], tell: Tell,
    record_property: Callable[[str, object], None], login: str,
) -> None:  # fmt: skip
    wrong: list[str] = []
    weights: dict[str, float] = {}
    slowest = 0.0
    with window(browser, web.at, state=cookies(login)) as seen, weighed(seen.page) as sizes:
        for path in pages(seen):
            slowest = max(slowest, seen.page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))
            weights[path] = sum(sizes) / 1000
            wrong += seen.violations()
            seen.page.emulate_media(color_scheme="dark")
            wrong += [f"dark: {one}" for one in seen.violations(runOnly=["color-contrast"])]
            seen.page.emulate_media(color_scheme="light")
            seen.page.goto("about:blank")
            sizes.clear()
    path = max(weights, key=lambda one: weights[one])
    tell(f"pages: of {len(weights)} that {login} can open {kind(path)} is the heaviest with {weights[path]:.0f} kB;"
         f" the slowest was there after {slowest:.0f} ms")  # fmt: skip
    record_property("axe", len(wrong))
    record_property("page_kb", round(weights[path]))
    assert len(weights) > 12
    assert not wrong, "\n".join(wrong)
    assert weights[path] < PAGE_KB


@pytest.mark.parametrize("login", [VENDOR, PARTNER])
def test_on_a_phone_every_page_is_open_to_everybody_and_none_is_wider_than_it(
    seat: Seat, record_property: Callable[[str, object], None], login: str
) -> None:
    wrong: list[str] = []
    wide: list[str] = []
    with seat(login, viewport=PHONE, is_mobile=True, has_touch=True) as seen:
        for path in pages(seen):
            wrong += seen.violations()
            if seen.page.evaluate("document.documentElement.scrollWidth") > PHONE["width"]:
                wide.append(path)
    record_property("axe", len(wrong))
    assert not wrong, "\n".join(wrong)
    assert not wide, wide


class weighed:  # noqa: N801
    """Note what comes over the wire, nothing from the browser's own cache."""

    def __init__(self, page: Page) -> None:
        self._session = page.context.new_cdp_session(page)
        self._sizes: list[float] = []

    def __enter__(self) -> list[float]:
        self._session.send("Network.enable")
        self._session.send("Network.setCacheDisabled", {"cacheDisabled": True})
        self._session.on("Network.loadingFinished", lambda event: self._sizes.append(event["encodedDataLength"]))
        return self._sizes

    def __exit__(self, *_exc: object) -> None:
        self._session.detach()


def test_filters_sorting_and_a_saved_view_stand_in_the_address(seat: Seat) -> None:
    with seat(VENDOR) as seen:
        seen.open("/opportunities")
        seen.main.get_by_label("Stage", exact=True).select_option(label="Qualified")
        expect(seen.page).to_have_url(re.compile(r"[?&]stage=qualified"))
        stages = seen.main.locator('tbody td[data-label="Stage"]')
        expect(stages.filter(has_not_text="Qualified")).to_have_count(0)
        assert stages.count() > 1
        seen.main.get_by_role("columnheader", name="Amount").get_by_role("link").click()
        header = seen.main.get_by_role("columnheader", name="Amount")
        expect(header).to_have_attribute("aria-sort", re.compile("ascending|descending"))
        expect(seen.page).to_have_url(re.compile(r"[?&]stage=qualified"))
        seen.button("Views").click()
        seen.page.get_by_label("Name of the view").fill("Qualified by size")
        seen.button("Save").click()
        with seat(VENDOR) as elsewhere:
            elsewhere.open("/opportunities")
            elsewhere.button("Views").click()
            elsewhere.page.get_by_role("link", name="Qualified by size").click()
            expect(elsewhere.page).to_have_url(re.compile(r"[?&]stage=qualified"))
            expect(elsewhere.main.get_by_role("columnheader", name="Amount")).to_have_attribute(
                "aria-sort", re.compile("ing")
            )


def test_an_export_is_what_the_table_shows(seat: Seat) -> None:
    with seat(VENDOR) as seen:
        seen.open("/opportunities?stage=qualified&status=open")
        seen.button("Export").click()
        with seen.page.expect_download() as downloading:
            seen.page.get_by_role("link", name="CSV").click()
        text = downloading.value.path().read_text(encoding="utf-8-sig")
        rows = list(csv.DictReader(text.splitlines()))
        assert rows
        assert {(row["stage"], row["status"]) for row in rows} == {("qualified", "open")}


def test_languages_differ_in_words_dates_and_amounts(browser: Browser, web: Service) -> None:
    with window(browser, web.at, locale="en-GB") as seen:
        seen.log_in("carla")  # whose login says Portuguese
        html = seen.page.locator("html")
        expect(html).to_have_attribute("lang", "pt-BR")
        expect(seen.page.get_by_role("link", name="Funil", exact=True)).to_be_visible()
        seen.open("/opportunities")
        assert re.search(r"\d{1,3}(\.\d{3})+", seen.main.inner_text())
        seen.speak("English")
        expect(html).to_have_attribute("lang", re.compile("^en"))
        expect(seen.page.get_by_role("heading", level=1)).to_have_text("Opportunities")
        assert re.search(r"\d{1,3}(,\d{3})+", seen.main.inner_text())


def test_everything_can_be_reached_by_keyboard(seat: Seat) -> None:
    with seat(VENDOR) as seen:
        seen.open("/")
        keys = seen.page.keyboard
        keys.press("Tab")
        expect(seen.page.get_by_role("link", name="Skip to the content")).to_be_focused()
        keys.press("Enter")
        expect(seen.main).to_be_focused()
        keys.press("g")
        keys.press("d")
        seen.page.wait_for_url("**/opportunities*")
        keys.press("/")
        expect(seen.page.get_by_role("searchbox")).to_be_focused()
        keys.press("Escape")
        seen.main.focus()
        keys.press("j")
        keys.press("Enter")
        seen.page.wait_for_url(re.compile(r"/opportunities/[0-9a-f-]{36}"))
        seen.main.focus()
        keys.press("?")
        expect(seen.dialog).to_be_visible()
        keys.press("Escape")
        expect(seen.dialog).to_be_hidden()


def test_the_dark_look_is_kept_and_a_phone_has_a_menu(seat: Seat) -> None:
    with seat(VENDOR, viewport=PHONE, is_mobile=True, has_touch=True) as seen:
        seen.open("/")
        bright = brightness(seen.page)
        seen.account().click()
        seen.button("Dark").click()
        expect(seen.page.locator("html")).to_have_attribute("data-theme", "dark")
        seen.page.reload()
        assert bright > 200
        assert brightness(seen.page) < 60
        link = seen.page.get_by_role("link", name="Leads", exact=True)
        expect(link).not_to_be_in_viewport()
        seen.button("Menu").click()
        expect(link).to_be_in_viewport()
        link.tap()
        expect(seen.page.get_by_role("heading", level=1)).to_have_text("Leads")


def brightness(page: Page) -> float:
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(map(float, re.findall(r"[\d.]+", colour)[:3])) / 3


def test_a_partner_sees_its_own_rows_alone(seat: Seat, web: Service) -> None:
    with seat(VENDOR) as vendors, seat(PARTNER) as partners:
        vendors.open("/opportunities")
        partners.open("/opportunities")
        everybody = vendors.main.locator("tbody tr[data-key]").count()
        assert 0 < partners.main.locator("tbody tr[data-key]").count() <= everybody
        other = vendors.main.locator("tbody tr[data-key] a[href]").first.get_attribute("href")
        answer = partners.page.request.get(f"{web.at}/conflicts")
        assert answer.status in (403, 404)
        hidden = [
            row for row in vendors.main.locator("tbody tr[data-key] a[href^='/opportunities/']").evaluate_all(
                "links => links.map(one => one.getAttribute('href'))"
            ) if partners.main.locator(f"a[href='{row}']").count() == 0
        ]  # fmt: skip
        assert hidden
        assert partners.page.request.get(f"{web.at}{hidden[0]}").status == 404
        assert other
