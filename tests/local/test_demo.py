"""The demo is the same for the same seed and day, to the byte."""

import os
import subprocess
import sys
from pathlib import Path

SUMMARY = Path(__file__).with_name("demo_seed_1_until_2026-06-30.txt")


def test_the_same_seed_and_day_give_the_committed_summary_and_a_clean_end(tmp_path: Path) -> None:
    data = tmp_path / "data"
    command = [sys.executable, "-m", "prm_es", "demo", "--data", str(data), "--seed", "1", "--until", "2026-06-30"]
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == SUMMARY.read_text(encoding="utf-8")
    down = subprocess.run(
        [sys.executable, "-m", "prm_es", "down", "--data", str(data)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "nothing runs" in down.stderr
