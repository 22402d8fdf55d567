"""Commands a second through the whole path, beside the way that the documentation of `eventsourcing` shows.

    python bench/throughput.py [--rounds N] [--commands N] [--documented N] [--seed N]

Ends with one line: bench: ours=N documented=N ratio=N, in commands a second, each the median of the rounds.
Exit code 0 if the ratio is at least 8, else 1; 130 after Ctrl-C.

A round: a fresh installation in a temporary folder, exactly as `prm-es up` starts it; the commands are sent to their
topics, and the clock runs from the first one sent until every one is answered and every event is published and in every
read model. Then everything but PostgreSQL is stopped, and in another database of the same server the commands are
handled in the documented way (documented.py says what that is, and what it leaves out), until its three projections
have processed the last event. They never run at once, and nothing of ours idles beside the other. Either side is given
the commands as it takes them: ours as records to send, the other as objects to handle.

The commands are those of the generated scenario, seed after seed, and the same ones for either side: two scenarios,
so that the end of the last one, where most commands wait for others, weighs little. With --documented the other
gets only so many of them, at the front: a shorter run, with streams and tables that favour it. Either side warms up on
another seed.
"""

import argparse
import gc
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from itertools import chain, count, islice
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo
from rich.console import Console

import documented
from prm_es import logs, status
from prm_es.consumers import topics
from prm_es.errors import PrmError
from prm_es.install import install
from prm_es.local.processes import Screen
from prm_es.local.stack import WORKERS, Stack, Worker
from prm_es.messages import Envelope
from prm_es.settings import Settings
from prm_es.upstream.demo import scenario
from prm_es.upstream.lines import Outgoing, outgoing
from prm_es.upstream.progress import bar
from prm_es.upstream.sending import send

LEAST = 8.0
UNTIL = date(2026, 6, 30)
WARM_OURS, WARM_DOCUMENTED = 2_000, 200
SETTLE_S = 300
DATABASE = "documented"

console = Console(stderr=True, highlight=False)


def commands_of(seed: int, number: int) -> list[Envelope]:
    """Give the first commands of the generated scenarios from a seed on."""
    return list(islice(chain.from_iterable(scenario(one, UNTIL) for one in count(seed)), number))


def measure_ours(settings: Settings, records: Sequence[Outgoing]) -> float:
    """Send the commands and give how many a second went all the way."""
    started: list[float] = []
    with bar("ours", len(records)) as on_progress:

        def progress(sent: int, answered: int) -> None:
            if not started:  # told first when the client is connected and nothing is sent yet
                started.append(time.monotonic())
            on_progress(sent, answered)

        report = send(settings, records, wait=True, on_progress=progress)
        status.wait(settings, SETTLE_S)
        seconds = time.monotonic() - started[0]
    console.print(f"  ours: {report.accepted} accepted, {report.refused} refused in {seconds:.1f} s")
    return len(records) / seconds


def measure_documented(here: documented.Installation, commands: Sequence[Envelope]) -> float:
    """Handle the commands one after the other and give how many a second were processed by all projections."""
    refused = 0
    with bar("documented", len(commands)) as on_progress:
        started = time.monotonic()
        for number, command in enumerate(commands, 1):
            refused += here.channel.handle(command) is not None
            on_progress(number, number)
        handled = time.monotonic() - started
        here.settle()
        seconds = time.monotonic() - started
    console.print(
        f"  documented: {len(commands) - refused} accepted, {refused} refused in {seconds:.1f} s"
        f" (handled after {handled:.1f} s)"
    )
    for wrong in here.wrong():
        raise PrmError(f"the documented way gave a wrong read model: {wrong}")
    return len(commands) / seconds


@contextmanager
def running(settings: Settings, workers: Sequence[Worker]) -> Iterator[Settings]:
    """Run an installation in its data folder; without workers nothing is migrated."""
    steps = (install, topics.create) if workers else (_nothing, _nothing)
    screen = Screen(console, echo=False)  # says when a process dies
    with Stack(settings, migrate=steps[0], topics=steps[1], workers=workers, screen=screen) as stack:
        yield stack.start()


def _nothing(_settings: Settings) -> None:
    return None


def one_round(folder: Path, seed: int, ours: int, theirs: int) -> tuple[float, float]:
    """Measure both ways, one after the other, on one server that is made for it."""
    commands, warm = commands_of(seed, ours), commands_of(0, WARM_OURS)
    records = [outgoing(command) for command in commands]
    gc.freeze()  # for either side: what it is given is not what it should spend time on
    base = Settings(data=folder)
    with running(base, WORKERS) as settings:
        send(settings, warm, wait=True)
        status.wait(settings, SETTLE_S)
        our_rate = measure_ours(settings, records)
    with running(base.model_copy(update={"kafka": "127.0.0.1:1"}), ()) as settings:  # named, hence not started
        with psycopg.connect(settings.admin_dsn, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}")
        with documented.installation(make_conninfo(settings.admin_dsn, dbname=DATABASE)) as here:
            for command in warm[:WARM_DOCUMENTED]:
                here.channel.handle(command)
            here.settle()
            their_rate = measure_documented(here, commands[:theirs])
    return our_rate, their_rate


def bench(rounds: int, seed: int, ours: int, theirs: int) -> bool:
    """Do the rounds, print the line, and tell whether the ratio is high enough."""
    cores, (load, *_) = os.cpu_count() or 1, os.getloadavg()
    console.print(f"{rounds} rounds; ours gets {ours} commands, the documented way the first {theirs} of them")
    if load > cores / 4:
        console.print(f"measured under load: {load:.1f} processes were busy on {cores} cores before this began")
    rates = []
    for number in range(rounds):
        console.print(f"round {number + 1} of {rounds}: a fresh installation")
        with tempfile.TemporaryDirectory(prefix="prm-es-bench-") as scratch:
            pair = one_round(Path(scratch) / "data", seed + 100 * number, ours, theirs)
        rates.append(pair)
        console.print(
            f"  ours {pair[0]:.0f}, documented {pair[1]:.0f} commands a second: {pair[0] / pair[1]:.1f} times"
        )
    our_rate, their_rate = (statistics.median(pair[side] for pair in rates) for side in (0, 1))
    ratio = our_rate / their_rate
    if ratio < LEAST:
        console.print(f"the ratio is {ratio:.2f} and should be at least {LEAST:g}")
    print(f"bench: ours={our_rate:.0f} documented={their_rate:.0f} ratio={ratio:.1f}")
    return bool(ratio >= LEAST)


def main() -> int:
    """Read the options, and stop everything whatever happens."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--commands", type=int, default=60_000, help="how many a round")
    parser.add_argument("--documented", type=int, help="how many of them the documented way gets, if not all")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    logs.configure("bench", level="error", form="console", quiet=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return 0 if bench(given.rounds, given.seed, given.commands, given.documented or given.commands) else 1
    except KeyboardInterrupt:
        console.print("stopped: nothing was left running")
        return 130
    except PrmError as error:
        console.print(str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
