"""A whole installation behind its pages, and a browser to look at them: one of each for all tests of this folder."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from prm_es.local.folder import Folder
from prm_es.local.kafka import Kafka
from prm_es.local.postgres import Postgres
from tests.conftest import installation
from tests.web.browser import MISSING, Window, find_chromium, required, window
from tests.web.service import Service, service

_said: list[str] = []


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what is worth a line of its own even when all is well."""
    for line in _said:
        terminalreporter.write_line(line)


@pytest.fixture(scope="package")
def tell() -> Callable[[str], None]:
    return _said.append


@pytest.fixture(scope="package")
def chromium() -> str:
    found = find_chromium()
    if found is None:
        if required():
            pytest.fail(MISSING)
        if MISSING not in _said:
            _said.append(MISSING)
        pytest.skip(MISSING)
    return found


@pytest.fixture(scope="package")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--force-prefers-reduced-motion"]
        opened = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield opened
        opened.close()


@pytest.fixture(scope="package")
def web(
    chromium: str,
    postgres_server: Postgres,
    kafka_server: Kafka,
    server_folder: Folder,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    folder: Path = tmp_path_factory.mktemp("web")
    with installation(postgres_server, kafka_server, folder) as settings, service(settings, server_folder) as running:
        yield running


@pytest.fixture(scope="package")
def cookies(browser: Browser, web: Service) -> Callable[[str], Any]:
    """Give the cookies of somebody who has logged in."""
    known: dict[str, Any] = {}

    def of(login: str) -> Any:
        if login not in known:
            with window(browser, web.at) as opened:
                opened.log_in(login)
                opened.speak("English")
                known[login] = opened.page.context.storage_state()
        return known[login]

    return of


@pytest.fixture
def seat(
    browser: Browser, web: Service, cookies: Callable[[str], Any]
) -> Callable[..., AbstractContextManager[Window]]:
    """Open a window in which somebody is logged in."""

    def opened(login: str, **given: Any) -> AbstractContextManager[Window]:
        return partial(window, browser, web.at, state=cookies(login))(**given)

    return opened
