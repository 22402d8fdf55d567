"""The demo prints the same for the same seed and day but for past conflicts, and then shows deadlines at work.

The summary has clocks in it: protections run out, the undecided turn red, goals have a pace. So the committed text is
of a scenario that ends so far back that everything in it has run out and its last year is over: it never changes again.
What the running clocks make of a scenario of today is compared with the log in test_summary.
"""

import os
import subprocess
import sys
from pathlib import Path

from tests.local.printed import COMMITTED, stable


def test_the_same_seed_and_day_give_the_committed_summary_and_a_clean_end(tmp_path: Path) -> None:
    data = tmp_path / "data"
    command = [sys.executable, "-m", "prm_es", "demo", "--data", str(data), "--seed", "1", "--until", "2025-12-31"]
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert stable(done.stdout) == stable(COMMITTED.read_text(encoding="utf-8"))
    shown = [line[12:] for line in done.stderr.partition("Deadlines at work")[2].splitlines() if line.startswith("  ")]
    said = [
        "registered, to be screened",
        "screened by the service: no rival",
        "approved, protected until",
        "a rival asks for the customer: protected until",
        "the partner is reminded: protected until",
        "expired by itself, due at",
        "the rival asks again: free",
    ]
    assert [line.startswith(start) for line, start in zip(shown, said, strict=False)] == [True] * len(said), shown
    down = subprocess.run(
        [sys.executable, "-m", "prm_es", "down", "--data", str(data)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "nothing runs" in down.stderr
