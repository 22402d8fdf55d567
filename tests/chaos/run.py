"""One run of the chaos: start everything, kill under load for so many rounds, settle, stop, judge."""

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from prm_es.local.stack import Stack as Supervisor
from tests.chaos import judge as judging
from tests.chaos.judge import Given, Judge, Verdict
from tests.chaos.kills import KINDS, PAUSED, Killer, deal
from tests.chaos.load import Load, Sender
from tests.chaos.stack import Stack, until

SETTLE_S: Final = 120.0
MUTANT_SETTLE_S: Final = 40.0
STILL_S: Final = 2.0  # more than passes until deadlines of the past are looked at
TIMES: Final = 5  # kills of each kind in twenty rounds
TRIES: Final = 3  # of a kill that caught nothing in flight

Say = Callable[[str], None]


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
    """What to do.

    `hands` are the victims of each round, `burst` how many records come at once, `live` how many of them are of what
    happens now, `gate` whether to kill at a gate (None: by chance), `after` the bursts behind the last kill.
    """

    seed: int
    hands: Sequence[Sequence[str]]
    burst: int = 200
    live: float = 0.3
    gate: bool | None = None
    after: int = 2
    settle_s: float = SETTLE_S
    tries: int = TRIES
    restart: bool = True


def plan(seed: int, rounds: int, times: int = TIMES) -> Plan:
    """Deal every kind of kill out to the rounds, so many times each in twenty."""
    chance = random.Random(f"deal {seed}")
    return Plan(seed, deal(chance, rounds, KINDS, max(1, -(-times * rounds // 20))))


def short(seed: int) -> Plan:
    """Plan one round of a test suite."""
    kinds = ["handle", "publisher", "project", "conflicts", "kafka", "postgres"]
    random.Random(f"deal {seed}").shuffle(kinds)
    return Plan(seed, [kinds], restart=False)


_AIMS: Final = {
    "ack-early": Plan(0, [["handle", "handle-2"] * 2], gate=True),
    "no-checkpoint-lock": Plan(0, [[PAUSED] * 6]),
    "blind-publisher": Plan(0, [["publisher"] * 3], gate=True),
    "no-dedup": Plan(0, [["handle", "handle-2"]]),
    "decide-before-lock": Plan(0, [["handle", "handle-2"]], live=0.9, after=12),
}


def mutated(seed: int, mutant: str) -> Plan:
    """Plan a run that aims at what the mutant breaks; it may never settle, and is judged all the same."""
    aim = _AIMS[mutant]
    return Plan(seed, aim.hands, 400, aim.live, aim.gate, aim.after, MUTANT_SETTLE_S, tries=1, restart=False)


def run(folder: Path, todo: Plan, say: Say, mutant: str | None = None) -> Outcome:
    """Run it; raises Unproven if a mutant did not bite."""
    with Stack(folder / "data", mutant) as stack:
        stack.up()
        stack.start_extras()
        sender, load = Sender(stack.settings), Load(todo.seed)
        killer = Killer(stack, sender, load, random.Random(f"kills {todo.seed}"), todo.burst, todo.live)
        outcome = Outcome(killer.kills, killer.missed)
        try:
            killer.send()
            settle(stack, sender, todo.settle_s)
            for number, hand in enumerate(todo.hands, 1):
                _round(hand, stack, sender, killer, todo)
                if number == len(todo.hands):
                    _send_the_rest(sender, killer, load, todo)
                settled = settle(stack, sender, todo.settle_s)
                say(_note(outcome, f"round {number}, {', '.join(hand)}", killer.last, settled, stack))
        finally:
            sender.close()
        _prove(stack, mutant)
        _let_the_twin_follow(stack, todo.settle_s)
        stack.down()
        _judge(stack, sender, outcome.verdict)
        if todo.restart:
            _restart(stack, outcome.verdict)
    return outcome


def _round(hand: Sequence[str], stack: Stack, sender: Sender, killer: Killer, todo: Plan) -> None:
    for kind in hand:
        for _ in range(todo.tries):
            if killer.kill(kind, gate=todo.gate):
                break
            settle(stack, sender, todo.settle_s)


def _note(outcome: Outcome, what: str, killed: float, settled: float | None, stack: Stack) -> str:
    """Take how long it was from the last kill until everything had caught up, and say so."""
    if settled is None:
        status = stack.status()
        behind = status.as_json() if status else "a server is away"
        outcome.verdict.found("unanswered", f"{what}: not settled in time: {behind}")
        return f"{what}: not settled in time: {behind}"
    recovery = max(0.0, settled - killed) if killed else 0.0
    if recovery > outcome.recovery:
        outcome.recovery, outcome.slowest = recovery, what
    return f"{what}: caught up {recovery:.1f} s after the last kill"


def _send_the_rest(sender: Sender, killer: Killer, load: Load, todo: Plan) -> None:
    for _ in range(todo.after):
        killer.send()
        time.sleep(0.1)
    sender.give(load.rest())


def settle(stack: Stack, sender: Sender | None, patience: float) -> float | None:
    """Wait until all is answered and caught up, and stays so; gives since when, or None if it took too long."""
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


def _let_the_twin_follow(stack: Stack, patience: float) -> None:
    """Two groups share the rows: settled rows tell nothing of a group whose projector came back from a kill later.

    The judge says what it was still to be given if it does not follow in time.
    """
    group, topics = list(stack.groups().items())[-1]
    with suppress(TimeoutError):
        until(lambda: not judging.left(stack.settings.kafka_client, group, topics), f"{group} follows", patience, 0.5)


def _prove(stack: Stack, mutant: str | None) -> None:
    gone = stack.marks / "gone"
    if gone.exists():
        raise Unproven(f"{mutant} has nothing to break any more:\n{gone.read_text()}")
    if mutant and not (stack.marks / mutant).exists():
        raise Unproven(f"{mutant}: its broken part was never used")


def _judge(stack: Stack, sender: Sender, verdict: Verdict) -> None:
    """Judge while the servers run and no worker does."""
    client = stack.settings.kafka_client
    with Supervisor(stack.settings_of_servers(), migrate=_nothing, topics=_nothing, workers=()) as servers:
        servers.start()
        given = Given({content: one.name for content, one in sender.contents.items()}, set(sender.sent))
        Judge(stack.rows, client, stack.settings.prefix, given, verdict).judge()
        verdict.rule = "a restart redelivers nothing"
        for group, topics in stack.groups().items():
            if amount := judging.left(client, group, topics):
                verdict.found("doubled", f"{group} would be given {amount} records again", amount)
        stack.forget()


def _nothing(_settings: object) -> None:
    return None


def _restart(stack: Stack, verdict: Verdict) -> None:
    """Start again after the clean stop: what is answered, published and buried since is what is new since.

    Then the product compares what it holds with its own fold, tables that the judge leaves out included.
    """
    counts = []
    for look in range(2):
        stack.up()
        if settle(stack, None, SETTLE_S) is None:
            verdict.found("unanswered", f"it did not settle after a clean stop: {stack.status()}")
            return
        counts.append(_amounts(stack))
        if look:
            reconciled = stack.cli("reconcile", check=False)
            if reconciled.returncode:
                verdict.found("differ", f"reconcile: {reconciled.stdout[-1500:]}{reconciled.stderr[-1500:]}")
        stack.down()
    before, after = counts
    for what, (rows, records) in after.items():
        new_rows, new_records = rows - before[what][0], records - before[what][1]
        if new_rows != new_records:
            verdict.found("doubled", f"{what}: {new_records} records for {new_rows} rows since a clean stop")


def _amounts(stack: Stack) -> dict[str, tuple[int, int]]:
    """Count rows of the store, and the records that they lead to."""
    settings, client = stack.settings, stack.settings.kafka_client
    told = {
        "commands": ("SELECT count(*) AS n FROM commands", [settings.results_topic]),
        "dead letters": ("SELECT count(*) AS n FROM dead_letters", [settings.dead_letters_topic]),
        "events": ("SELECT count(*) AS n FROM events", settings.event_topics),
    }
    return {
        what: (stack.rows(query)[0]["n"], len(judging.read(client, names))) for what, (query, names) in told.items()
    }
