"""The pages and the API, checked whole: whose rows, what fails, what a browser says, how fast, how heavy.

    python bench/check_web.py [--opportunities N] [--leads N] [--seconds N] [--share N]

Runs the tests of who may see what, requests drawn from the OpenAPI document, and the browser's tests, each counted by
its own report; then web.py with these sizes. Ends with one line: web: leaks=0 status5xx=0 axe=0 e2e_failed=0 p95_ms=N
worst_ms=N page_kb=N. Exit code 0 if nothing is wrong and web.py's bounds are kept, else 1.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from rich.console import Console

HERE: Final = Path(__file__).parent
LEAKS: Final = ("tests/api/test_rows.py", "tests/api/test_access.py")
FAILS: Final = ("tests/api/test_openapi.py",)
BROWSER: Final = ("tests/web",)

console = Console(stderr=True, highlight=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of tests counted: how many failed, and the properties that they noted, by name."""

    ran: int
    failed: int
    noted: dict[str, list[float]]


def tested(paths: Sequence[str]) -> Outcome:
    """Run these tests and read their report; one that could not run counts as failed, as does a run of none."""
    console.print(f"testing {', '.join(paths)}")
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        argv = [sys.executable, "-m", "pytest", *paths, f"--junit-xml={report}"]
        subprocess.run(
            argv, cwd=HERE.parent, env={**os.environ, "CHROMIUM_REQUIRED": "1"}, stdout=sys.stderr, check=False
        )
        if not report.exists():
            return Outcome(0, 1, {})
        cases = list(ET.parse(report).getroot().iter("testcase"))
    wrong = sum(case.find(kind) is not None for case in cases for kind in ("failure", "error"))
    noted: dict[str, list[float]] = {}
    for name, value in (pair for case in cases for pair in _properties(case)):
        noted.setdefault(name, []).append(value)
    return Outcome(len(cases), wrong or int(not cases), noted)


def _properties(case: ET.Element) -> Iterator[tuple[str, float]]:
    for one in case.iter("property"):
        yield one.attrib["name"], float(one.attrib["value"])


def any_of(outcome: Outcome, name: str) -> float:
    """Give the highest value noted under a name; a run that noted none has measured nothing, which is infinite."""
    return max(outcome.noted.get(name, [float("inf")]))


def main() -> int:
    leaks, fails, browser = tested(LEAKS), tested(FAILS), tested(BROWSER)
    measured = subprocess.run(
        [sys.executable, str(HERE / "web.py"), *sys.argv[1:]], stdout=subprocess.PIPE, text=True, check=False
    )
    figures = json.loads(measured.stdout) if measured.stdout.strip() else {}
    axe = sum(browser.noted.get("axe", [float("inf")]))
    print(
        f"web: leaks={leaks.failed} status5xx={fails.failed} axe={axe:g} e2e_failed={browser.failed}"
        f" p95_ms={figures.get('p95_ms', 'none')} worst_ms={figures.get('worst_ms', 'none')}"
        f" page_kb={any_of(browser, 'page_kb'):g}"
    )
    return int(bool(leaks.failed or fails.failed or browser.failed or axe or measured.returncode))


if __name__ == "__main__":
    sys.exit(main())
