"""One run of the chaos: start everything, kill under load for so many rounds, settle, stop, judge."""

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from prm_es.local.stack import Stack as Supervisor
from tests.chaos import judge as judging
from tests.chaos.judge import Given, Judge, Verdict
from tests.chaos.kills import KINDS, PAUSED, Killer, deal
from tests.chaos.load import Load, Sender
from tests.chaos.stack import Stack

SETTLE_S: Final = 120.0
STILL_S: Final = 1.0
TIMES: Final = 5  # kills of each kind in twenty rounds


class Unproven(Exception):  # noqa: N818
    """The run shows nothing: a mutant never bit, or its patch has nothing to break any more."""


@dataclass
class Outcome:
    """What a run found; `recovery` is the longest time in seconds from a kill until everything had caught up."""

    kills: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    recovery: float = 0.0
    slowest: str = ""
    verdict: Verdict = field(default_factory=Verdict)


@dataclass(frozen=True)
class Plan:
    """What to do: the kinds of victims of each round, how many records a burst has, how it is all to be judged."""

    seed: int
    hands: Sequence[Sequence[str]]
    burst: int = 200
    live: float = 0.3
    gate: bool | None = None
    settle_s: float = SETTLE_S
    restart: bool = True
    after: int = 2  # bursts behind the last kill


def plan(seed: int, rounds: int) -> Plan:
    """Deal every kind of kill out to the rounds, five times each in twenty."""
    chance = random.Random(f"deal {seed}")
    return Plan(seed, deal(chance, rounds, KINDS, max(1, -(-TIMES * rounds // 20))))


def short(seed: int) -> Plan:
    """Plan one round of a test suite."""
    kinds = ["handle", "publisher", "project", "conflicts", "kafka", "postgres"]
    random.Random(f"deal {seed}").shuffle(kinds)
    return Plan(seed, [kinds], restart=False)


def mutated(seed: int, mutant: str) -> Plan:
    """Plan a run that aims at what the mutant breaks; it may never settle, and is judged all the same."""
    kinds: dict[str, list[str]] = {
        "ack-early": ["handle", "handle-2"] * 2,
        "no-checkpoint-lock": [PAUSED] * 6,
        "blind-publisher": ["publisher"] * 3,
        "no-dedup": ["handle", "handle-2"],
        "decide-before-lock": ["handle", "handle-2"],
    }
    gates = {"ack-early", "blind-publisher"}
    live = 0.9 if mutant == "decide-before-lock" else 0.3
    after = 12 if mutant == "decide-before-lock" else 2
    return Plan(seed, [kinds[mutant]], 400, live, mutant in gates or None, settle_s=40, restart=False, after=after)


def run(folder: Path, todo: Plan, say: Callable[[str], None], mutant: str | None = None) -> Outcome:
    """Run it; raises Unproven if a mutant did not bite."""
    outcome = Outcome()
    load = Load(todo.seed)
    with Stack(folder / "data", mutant) as stack:
        stack.up()
        stack.start_extras()
        sender = Sender(stack.settings)
        killer = Killer(stack, sender, load, random.Random(f"kills {todo.seed}"), todo.burst, todo.live)
        try:
            _rounds(stack, sender, killer, load, todo, outcome, say)
        finally:
            sender.close()
        outcome.kills, outcome.missed = killer.kills, killer.missed
        _prove(stack, mutant)
        stack.down()
        outcome.verdict = _judged(stack, sender, outcome.verdict)
        if todo.restart:
            _restart(stack, outcome.verdict)
    return outcome


def _rounds(
    stack: Stack,
    sender: Sender,
    killer: Killer,
    load: Load,
    todo: Plan,
    outcome: Outcome,
    say: Callable[[str], None],
) -> None:
    killer.send()
    settle(stack, sender, todo.settle_s)
    for number, hand in enumerate(todo.hands, 1):
        began = time.monotonic()
        for kind in hand:
            if not killer.kill(kind, gate=todo.gate) and not todo.settle_s < SETTLE_S:
                settle(stack, sender, todo.settle_s)
                killer.kill(kind, gate=todo.gate)
        if number == len(todo.hands):
            for _ in range(todo.after):
                killer.send()
                time.sleep(0.1)
            sender.give(load.rest())
        settled = settle(stack, sender, todo.settle_s)
        if not settled:
            outcome.verdict.found("unanswered", f"round {number} did not settle: {stack.status()}", 0)
        elif killer.last and settled - killer.last > outcome.recovery:
            outcome.recovery, outcome.slowest = settled - killer.last, f"round {number}, {hand[-1]}"
        took = time.monotonic() - began
        say(f"round {number}: {', '.join(hand)}; {took:.0f} s, caught up {(settled or 0) - killer.last:.1f} s after the last")


def settle(stack: Stack, sender: Sender | None, patience: float) -> float | None:
    """Wait until all is answered and caught up, and stays so; gives the time since when, or None if it took too long."""
    deadline = time.monotonic() + patience
    since, head = 0.0, -1
    while time.monotonic() < deadline:
        status = None if sender and sender.left else stack.status()
        if status is None or not status.settled:
            since = 0.0
        elif not since or status.head != head:
            since, head = time.monotonic(), status.head
        elif time.monotonic() - since > STILL_S:
            return since
        time.sleep(0.05)
    return None


def _prove(stack: Stack, mutant: str | None) -> None:
    gone = stack.marks / "gone"
    if gone.exists():
        raise Unproven(f"{mutant} has nothing to break any more:\n{gone.read_text()}")
    if mutant and not (stack.marks / mutant).exists():
        raise Unproven(f"{mutant} was never used")


def _judged(stack: Stack, sender: Sender, before: Verdict) -> Verdict:
    """Judge while the servers run and no worker does."""
    client = stack.settings.kafka_client
    with Supervisor(stack.settings_of_servers(), migrate=_nothing, topics=_nothing, workers=()) as servers:
        servers.start()
        given = Given({content: one.name for content, one in sender.contents.items()}, set(sender.sent))
        verdict = Judge(stack.rows, client, stack.settings.prefix, given).judge()
        for group, topics in stack.groups().items():
            if amount := judging.left(client, group, topics):
                verdict.found("doubled", f"{group} would be given {amount} records again", amount)
        stack.forget()
    verdict.counts += before.counts
    verdict.told[:0] = before.told
    return verdict


def _nothing(_settings: object) -> None:
    return None


def _restart(stack: Stack, verdict: Verdict) -> None:
    """Start again after the clean stop: what is answered, published and buried since is what is new since.

    Then the product compares what it holds with its own fold, tables that the judge leaves out included.
    """
    counts = []
    for _ in range(2):
        stack.up()
        if settle(stack, None, SETTLE_S) is None:
            verdict.found("unanswered", f"it did not settle after a clean stop: {stack.status()}", 0)
            return
        counts.append(_amounts(stack))
        if len(counts) == 1:
            reconciled = stack.cli("reconcile", check=False)
            if reconciled.returncode:
                verdict.found("differ", f"reconcile: {reconciled.stdout[-1500:]}{reconciled.stderr[-1500:]}")
        stack.down()
    for what in counts[0]:
        rows, records = (after - before for before, after in zip(counts[0][what], counts[1][what], strict=True))
        if rows != records:
            verdict.found("doubled", f"{what}: {rows} rows and {records} records are new after a clean stop", records - rows)


def _amounts(stack: Stack) -> dict[str, tuple[int, int]]:
    """Count rows of the store, and the records that they lead to."""
    settings, client = stack.settings, stack.settings.kafka_client
    pairs = {
        "commands": ("SELECT (SELECT count(*) FROM commands) + (SELECT count(*) FROM reused_ids) AS n", [settings.results_topic]),
        "dead letters": ("SELECT count(*) AS n FROM dead_letters", [settings.dead_letters_topic]),
        "events": ("SELECT count(*) AS n FROM events", settings.event_topics),
    }
    return {what: (stack.rows(query)[0]["n"], len(judging.read(client, names))) for what, (query, names) in pairs.items()}
