"""The command line of the fuzzer.

    python -m tests.fuzz --inputs 1000000 --seed 7 --seconds 3600

Ends with one line: fuzz: seed=N inputs=N answered=N dead=N crashed=0 dropped=0. The same seed gives the same inputs.
Exit code 0 if nothing crashed and nothing was dropped, else 1; after Ctrl-C the line tells of what was given by then.
"""

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from prm_es import logs
from prm_es.install import install
from prm_es.local.processes import Screen
from prm_es.local.stack import Stack
from prm_es.settings import Settings
from prm_es.upstream.progress import bar
from tests.fuzz.knocking import knock
from tests.fuzz.making import records
from tests.support import check_log

SHOWN = 20
console = Console(stderr=True, highlight=False, soft_wrap=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=3_600, help="give no more after so long")
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args()
    seed = secrets.randbelow(10**6) if given.seed is None else given.seed
    logs.configure("fuzz", level="critical", form="console", quiet=True)
    console.print(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="prm-es-fuzz-") as folder:
        base = Settings(data=Path(folder) / "data", kafka="127.0.0.1:1")  # named, hence not started: none is needed
        screen = Screen(console, echo=False)
        with Stack(base, migrate=install, topics=lambda _settings: None, workers=(), screen=screen) as stack:
            settings = stack.start()
            with bar("inputs", given.inputs) as on_progress:
                made = records(seed, settings.command_topics)
                tally = knock(settings, made, given.inputs, given.seconds, lambda done: on_progress(done, done))
            check_log(settings)
    for line in (*tally.crashed, *tally.dropped)[:SHOWN]:
        console.print(line)
    sys.stdout.write(f"fuzz: seed={seed} {tally}\n")
    return 1 if tally.crashed or tally.dropped else 0


if __name__ == "__main__":
    sys.exit(main())
