"""A real browser for the tests: which Chromium it is, and windows that note what they should not have seen."""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, Response, expect

CHROMIUM: Final = "CHROMIUM"
REQUIRED: Final = "CHROMIUM_REQUIRED"
_PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
MISSING: Final = (
    "no Chromium was found, so nothing was tried in a browser: install one (on Debian as root:"
    f" apt-get install --no-install-recommends chromium), or name one by the variable {CHROMIUM}"
)
DESK: Final = {"width": 1280, "height": 800}
PHONE: Final = {"width": 390, "height": 844}
PATIENCE_MS: Final = 20_000

expect.set_options(timeout=PATIENCE_MS)


def find_chromium() -> str | None:
    """Give the program that the variable names, else the first on the path."""
    named = os.environ.get(CHROMIUM)
    return named or next(filter(None, map(shutil.which, _PROGRAMS)), None)


def required() -> bool:
    return bool(os.environ.get(REQUIRED))


@dataclass
class Window:
    """A window of somebody's own browser: what it was asked for elsewhere, and what went wrong in it."""

    page: Page
    at: str
    strange: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    fives: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", self._asked)
        self.page.on("response", self._answered)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))

    def _asked(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme in ("http", "https", "ws", "wss") and address.hostname not in ("127.0.0.1", "localhost"):
            self.strange.append(request.url)

    def _answered(self, response: Response) -> None:
        if response.status >= 500:
            self.fives.append(f"{response.status} {response.url}")

    def _said(self, message: ConsoleMessage) -> None:
        # Chromium says each 4xx as an error too; what they mean is for the tests to look at.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.wrong.append(message.text)

    def open(self, path: str) -> None:
        self.page.goto(f"{self.at}{path}", wait_until="load")
        expect(self.main).to_be_visible()

    def log_in(self, name: str) -> None:
        """Go to the pages and choose a login of the development issuer."""
        self.page.goto(f"{self.at}/")
        self.page.locator(f'button[name="login"][value="{name}"]').click()
        expect(self.main).to_be_visible()

    def account(self) -> Locator:
        return self.page.get_by_role("banner").get_by_role("button", name=re.compile("Account|Conta"))

    def speak(self, language: str) -> None:
        """Choose a language as people do."""
        self.account().click()
        self.page.get_by_role("button", name=language, exact=True).click()
        expect(self.main).to_be_visible()

    @property
    def main(self) -> Locator:
        return self.page.get_by_role("main")

    @property
    def dialog(self) -> Locator:
        return self.page.get_by_role("dialog")

    def button(self, name: str) -> Locator:
        """Give what a reader of the screen calls so, be it a link or a button."""
        found = self.page.get_by_role("button", name=name, exact=True)
        return found.or_(self.page.get_by_role("link", name=name, exact=True))

    def live(self) -> None:
        """Wait until changes would be told."""
        expect(self.page.locator("#live")).to_have_attribute("data-state", "live")

    def violations(self, **options: Any) -> list[str]:
        """Ask axe-core what is not accessible here as it stands; of many rows alike it looks at the first."""
        expect(self.page.locator(".htmx-request")).to_have_count(0)  # what is being sent is pale
        chosen = {"exclude": [["tbody tr:nth-child(n+6)"], ["ol > li:nth-child(n+6)"], [".pick a:nth-child(n+6)"]]}
        found = Axe().run(self.page, context=chosen, options={"resultTypes": ["violations"], **options})
        return [
            f"{self.page.url} {one['id']}: {one['help']}: {node['target']} {node.get('failureSummary', '')}"
            for one in found.response["violations"]
            for node in one["nodes"]
        ]


@contextmanager
def window(browser: Browser, at: str, *, state: Any = None, **given: Any) -> Iterator[Window]:
    """Open a browser of one's own, with the cookies of `state`, and check at the end that nothing went wrong in it."""
    options: Mapping[str, Any] = {"viewport": DESK, "locale": "en-GB", "reduced_motion": "reduce", **given}
    context = browser.new_context(storage_state=state, **options)
    context.set_default_timeout(PATIENCE_MS)
    try:
        opened = Window(context.new_page(), at)
        yield opened
        assert not opened.strange, opened.strange
        assert not opened.fives, opened.fives
        assert not opened.wrong, opened.wrong
    finally:
        context.close()
