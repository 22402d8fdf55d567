"""The pictures of the pages that the README shows, from the demo's scenario in a folder that is removed afterwards.

python -m tests.web.screenshots [FOLDER]
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Final

from PIL import Image
from playwright.sync_api import Browser, sync_playwright
from rich.console import Console

from prm_es.local import run
from prm_es.local.connect import settings_for
from prm_es.local.demo import QUIET_S, settle
from prm_es.local.folder import Folder
from prm_es.settings import Settings
from prm_es.upstream.demo import scenario
from prm_es.upstream.sending import send
from tests.web.browser import MISSING, PHONE, Window, find_chromium, window

DOCS: Final = Path(__file__).parents[2] / "docs"
QUALITY: Final = 82
SHOTS: Final = (  # name, login, page, dark, phone
    ("overview", "vera", "/", False, False),
    ("pipeline-dark", "vera", "/pipeline", True, False),
    ("conflicts", "ada", "/conflicts", False, False),
    ("phone", "pia", "/leads", False, True),
)


@contextmanager
def demo() -> Iterator[str]:
    """Run the scenario, and give the address of its pages."""
    with tempfile.TemporaryDirectory(prefix="prm-es-pages-") as scratch:
        base = Settings(data=Path(scratch) / "data", import_quiet=QUIET_S)
        run.run_detached(base)
        try:
            settings = settings_for(base.data, base)
            send(settings, scenario(1, datetime.now(UTC).date()), wait=True)
            settle(settings, Console(stderr=True))
            record = Folder.at(base.data).record()
            assert record
            yield record.api
        finally:
            run.stop(base.data)


def shoot(seen: Window, path: str) -> bytes:
    """Open a page and take its picture once what moves has come to rest."""
    seen.open(path)
    seen.live()
    seen.page.evaluate("document.fonts.ready")
    return seen.page.screenshot(animations="disabled")


def write(folder: Path, browser: Browser, at: str) -> None:
    """Write every picture, small enough for a repository."""
    for name, login, path, dark, phone in SHOTS:
        size = PHONE if phone else {"width": 1440, "height": 900}
        given = {"viewport": size, "color_scheme": "dark" if dark else "light", "device_scale_factor": 1}
        with window(browser, at, **given) as seen:
            seen.log_in(login)
            seen.speak("English")
            picture = Image.open(BytesIO(shoot(seen, path)))
        picture.save(folder / f"{name}.webp", quality=QUALITY, method=6)


def main() -> None:
    program = find_chromium()
    if program is None:
        sys.exit(MISSING)
    folder = Path(sys.argv[1]) if sys.argv[1:] else DOCS
    with demo() as at, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        write(folder, browser, at)
        browser.close()


if __name__ == "__main__":
    main()
