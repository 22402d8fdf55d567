"""The command line of the chaos.

    python -m tests.chaos --rounds 20 --seed 7            kill, judge; exits with 1 if anything is off
    python -m tests.chaos --mutant ack-early --seed 7     the same on a product that is broken on purpose: exits with 1
    python -m tests.chaos --rounds 20 --seed 7 --mutants  the first, then every mutant, each of which must be caught

Ends with one line: chaos: seed=N rounds=N kills=N commands=N lost=0 doubled=0 unanswered=0 differ=0 max_recovery_s=N
mutants_caught=5/5. The same seed gives the same victims, order and delays.
"""

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.chaos.mutants import MUTANTS
from tests.chaos.run import Outcome, Unproven, mutated, plan, run, short

WORDS = ("lost", "doubled", "unanswered", "differ")
UNPROVEN = 2

console = Console(stderr=True, highlight=False, soft_wrap=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--short", action="store_true", help="one round of a few kills")
    parser.add_argument("--mutant", choices=list(MUTANTS), help="break the product in this way")
    parser.add_argument("--mutants", action="store_true", help="afterwards break it in every way, briefly")
    given = parser.parse_args()
    seed = secrets.randbelow(10**6) if given.seed is None else given.seed
    console.print(f"seed {seed}")
    if given.mutant:
        return _mutant(seed, given.mutant)
    todo = short(seed) if given.short else plan(seed, given.rounds)
    with tempfile.TemporaryDirectory(prefix="prm-es-chaos-") as folder:
        outcome = run(Path(folder), todo, console.print)
    _tell(outcome)
    caught = [mutant for mutant in MUTANTS if _mutant(seed, mutant)] if given.mutants else []
    counts = " ".join(f"{word}={outcome.verdict.counts[word]}" for word in WORDS)
    sys.stdout.write(
        f"chaos: seed={seed} rounds={len(todo.hands)} kills={outcome.kills.total()}"
        f" commands={outcome.verdict.commands} {counts} max_recovery_s={outcome.recovery:.1f}"
        + (f" mutants_caught={len(caught)}/{len(MUTANTS)}\n" if given.mutants else "\n")
    )
    return 0 if outcome.verdict.well and (not given.mutants or len(caught) == len(MUTANTS)) else 1


def _mutant(seed: int, mutant: str) -> int:
    """Give 1 if the mutant is caught, 0 if it gets away; ends the program if nothing was shown."""
    console.print(f"\n{mutant}:")
    with tempfile.TemporaryDirectory(prefix="prm-es-chaos-") as folder:
        try:
            outcome = run(Path(folder), mutated(seed, mutant), console.print, mutant)
        except Unproven as problem:
            console.print(str(problem))
            sys.exit(UNPROVEN)
    _tell(outcome)
    return 0 if outcome.verdict.well else 1


def _tell(outcome: Outcome) -> None:
    kills = ", ".join(f"{name} {amount}" for name, amount in sorted(outcome.kills.items()))
    console.print(f"kills: {kills}")
    console.print(f"judged: {outcome.verdict.commands} commands, {outcome.verdict.rows} rows of read models")
    if outcome.missed:
        console.print(f"not counted, no work in flight: {dict(outcome.missed)}")
    for sentence in outcome.verdict.told[:20]:
        console.print(f"  {sentence[:400]}")
    if len(outcome.verdict.told) > 20:
        console.print(f"  and {len(outcome.verdict.told) - 20} more")
    if outcome.slowest:
        console.print(f"slowest recovery: {outcome.recovery:.1f} s ({outcome.slowest})")


if __name__ == "__main__":
    sys.exit(main())
