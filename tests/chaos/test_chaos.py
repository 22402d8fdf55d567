"""A short run of the chaos, and what it stands on."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.load import Load
from tests.chaos.mutants import MUTANTS
from tests.chaos.run import run, short

SEED = 20260401


def test_nothing_is_lost_nothing_is_doubled_whatever_dies(tmp_path: Path) -> None:
    todo = short(SEED)
    outcome = run(tmp_path, todo, print)
    assert outcome.verdict.told == []
    assert set(outcome.kills) == set(todo.hands[0])
    assert outcome.verdict.commands > 1000
    assert outcome.verdict.rows > 1000


def test_the_same_seed_gives_the_same_load() -> None:
    first, second = ([one.name for one in Load(SEED).burst(500)] for _ in range(2))
    assert first == second
    assert len(set(first)) < len(first)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_every_mutant_still_finds_what_it_breaks(mutant: str) -> None:
    program = f"from tests.chaos.mutants import MUTANTS; MUTANTS[{mutant!r}](lambda: None)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
