"""The command line of the chaos.

    python -m tests.chaos --rounds 20 --seed 7            kill, judge; exits with 1 if anything is off
    python -m tests.chaos --mutant ack-early --seed 7     the same on a product that is broken on purpose: exits with 1
    python -m tests.chaos --rounds 20 --seed 7 --mutants  the first, then every mutant, each of which must be caught

Ends with one line: chaos: seed=N rounds=N kills=N commands=N lost=0 doubled=0 unanswered=0 differ=0 max_recovery_s=N
mutants_caught=5/5. The same seed gives the same victims, order and delays.
"""

import argparse
import secrets
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

from rich.console import Console

from tests.chaos.mutants import MUTANTS
from tests.chaos.run import TIMES, Outcome, Unproven, mutated, plan, run, short

WORDS = ("lost", "doubled", "unanswered", "differ")
CAUGHT = 1
UNPROVEN = 2

console = Console(stderr=True, highlight=False, soft_wrap=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--times", type=int, default=TIMES, help="kills of each kind in twenty rounds")
    parser.add_argument("--short", action="store_true", help="one round of a few kills")
    parser.add_argument("--mutant", choices=list(MUTANTS), help="break the product in this way")
    parser.add_argument("--mutants", action="store_true", help="afterwards break it in every way, briefly")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_arguments: sys.exit(3))  # so that nothing is left running
    seed = secrets.randbelow(10**6) if given.seed is None else given.seed
    console.print(f"seed {seed}")
    if given.mutant:
        try:
            return CAUGHT if _caught(seed, given.mutant) else 0
        except Unproven as problem:
            console.print(str(problem))
            return UNPROVEN
    todo = short(seed) if given.short else plan(seed, given.rounds, given.times)
    with tempfile.TemporaryDirectory(prefix="prm-es-chaos-") as folder:
        outcome = run(Path(folder), todo, console.print)
    _tell(outcome)
    wanted = Counter(kind for hand in todo.hands for kind in hand)
    if lacking := wanted - outcome.kills:
        console.print(f"too few kills: {dict(lacking)}; who is never caught at work may hang, see its log")
    caught = [mutant for mutant in MUTANTS if _caught_or_not(seed, mutant)] if given.mutants else []
    counts = " ".join(f"{word}={outcome.verdict.counts[word]}" for word in WORDS)
    sys.stdout.write(
        f"chaos: seed={seed} rounds={len(todo.hands)} kills={outcome.kills.total()}"
        f" commands={outcome.verdict.commands} {counts} max_recovery_s={outcome.recovery:.1f}"
        + (f" mutants_caught={len(caught)}/{len(MUTANTS)}\n" if given.mutants else "\n")
    )
    return 0 if outcome.verdict.well and not lacking and (not given.mutants or len(caught) == len(MUTANTS)) else 1


def _caught(seed: int, mutant: str) -> bool:
    """Tell whether the judge finds something wrong with the mutant; raises Unproven."""
    console.print(f"\n{mutant}:")
    with tempfile.TemporaryDirectory(prefix="prm-es-chaos-") as folder:
        outcome = run(Path(folder), mutated(seed, mutant), console.print, mutant)
    _tell(outcome, 3)
    return not outcome.verdict.well


def _caught_or_not(seed: int, mutant: str) -> bool:
    try:
        return _caught(seed, mutant)
    except Unproven as problem:
        console.print(str(problem))
        return False


def _tell(outcome: Outcome, most: int = 20) -> None:
    kills = ", ".join(f"{name} {amount}" for name, amount in sorted(outcome.kills.items()))
    console.print(f"kills: {kills}")
    console.print(f"judged: {outcome.verdict.commands} commands, {outcome.verdict.rows} rows of read models")
    if outcome.missed:
        console.print(f"not counted, no work in flight: {dict(outcome.missed)}")
    if outcome.verdict.by_rule:
        console.print("broken: " + ", ".join(f"{rule} {n}" for rule, n in outcome.verdict.by_rule.items()))
    for sentence in outcome.verdict.told[:most]:
        console.print(f"  {sentence[:400]}")
    if len(outcome.verdict.told) > most:
        console.print(f"  and {len(outcome.verdict.told) - most} more")
    if outcome.slowest:
        console.print(f"slowest recovery: {outcome.recovery:.1f} s ({outcome.slowest})")


if __name__ == "__main__":
    sys.exit(main())
