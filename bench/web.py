"""How fast the lists answer over HTTP at a million opportunities, beside the bare SQL in the same run.

A PostgreSQL of its own is filled with made-up rows (web_rows.py), the API runs as a process of its own. Twenty users
ask, each again a tenth of a second after it was answered: every pair of indexed filters in every default sort
(api/indexed.py). Then every other pair of filters is asked in every sort, one question at a time; what takes longer
than it should is asked twice more, and the middle counts, for a machine may stand still for a moment. Then whole lists
are exported. With --folder the rows stay there, and the next run of the same size and tables does not make them again.
"""

import argparse
import http.client
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import psutil
import psycopg
import psycopg2
import uvicorn
from rich.console import Console
from rich.table import Table

from prm_es.api import selecting
from prm_es.api.asked import read
from prm_es.api.indexed import INDEXED
from prm_es.api.issuer.app import create_issuer
from prm_es.api.issuer.logins import BY_NAME, NOBODY_YET, claims_of
from prm_es.api.issuer.signing import Signer
from prm_es.api.lists import LISTS, List
from prm_es.api.selecting import Surroundings
from prm_es.install import install
from prm_es.local.folder import Folder, free_port
from prm_es.local.postgres import Postgres
from prm_es.local.processes import Child, wait_ready
from prm_es.projections.registry import READ_MODELS
from prm_es.settings import Settings
from prm_es.upstream.progress import counter
from web_rows import Size, fill

USERS: Final = 20
PAUSE_S: Final = 0.1
P95_MS, WORST_MS, FIRST_BYTE_MS = 50.0, 500.0, 200.0
FLAT_MB: Final = 64
DATABASE: Final = "web"

console = Console(stderr=True, highlight=False)


@dataclass(frozen=True, slots=True)
class Question:
    """One address, and what it is an example of."""

    name: str
    given: tuple[tuple[str, str], ...]

    @property
    def path(self) -> str:
        return f"/api/{self.name}?{urlencode(self.given)}"

    @property
    def kind(self) -> str:
        words = [f"{key}={value}" if key == "sort" else key for key, value in self.given]
        return f"{self.name}: {' + '.join(words)}"


class Values:
    """Values to filter by, taken from the rows themselves, frequent ones more often."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self._chance = random.Random(seed)
        self._found: dict[tuple[str, str], list[str]] = {}
        self._connection = psycopg2.connect(settings.dsn("reader"))
        self._schema = settings.read_schema

    def of(self, one: List, name: str) -> str:
        key = (one.name, name)
        if key not in self._found:
            self._found[key] = self._look(one, name) or ["nothing"]
        return self._chance.choice(self._found[key])

    def _look(self, one: List, name: str) -> list[str]:
        wanted = one.filters[name]
        match wanted.kind:
            case "flag":
                return ["true", "true", "false"]
            case "period" | "during":
                return ["this-month", "last-quarter", "this-year", str(datetime.now(UTC).year - 1)]
            case "partner":
                return self._texts("partners", "partner_id::text")
            case "of_partner":
                column = "unnest(territories)" if wanted.columns == ("territories",) else wanted.columns[0]
                return self._texts("partners", column)
            case "among":
                return self._texts(one.view, f"unnest({wanted.columns[0]})")
            case "text":
                return ["Ana", "9f3", "Ltda", "zzzz"]
            case _:
                return self._texts(one.view, f"{wanted.columns[0]}::text")

    def _texts(self, view: str, expression: str) -> list[str]:
        with self._connection.cursor() as cursor:
            cursor.execute(
                f'SELECT value FROM (SELECT {expression} AS value FROM "{self._schema}".{view} LIMIT 3000) found'
                " WHERE value IS NOT NULL"
            )
            return [value for (value,) in cursor]


def indexed(values: Values) -> list[Question]:
    """Give every pair of indexed filters in every default sort, five examples of each."""
    found = []
    for name, one in INDEXED.items():
        for pair in combinations(one.filters, 2):
            for sort in one.sorts:
                for _example in range(5):
                    given = tuple((key, values.of(LISTS[name], key)) for key in pair)
                    found.append(Question(name, (*given, ("sort", sort))))
    return found


def others(values: Values, share: float, seed: int) -> list[Question]:
    """Give every other pair of filters in every sort, or so great a share of them."""
    chance, known = random.Random(seed), {one.kind for one in indexed(values)}
    found = []
    for name, one in LISTS.items():
        sorts = [f"{sign}{column}" for column, kind in one.columns.items() if kind != "jsonb" for sign in ("", "-")]
        for pair in combinations(one.filters, 2):
            for sort in sorts:
                question = Question(name, (*((key, values.of(one, key)) for key in pair), ("sort", sort)))
                if question.kind not in known and chance.random() < share:
                    found.append(question)
    return found


class User:
    """A connection that asks and measures."""

    def __init__(self, port: int, token: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self._headers = {"Authorization": f"Bearer {token}"}

    def ask(self, question: Question) -> float:
        """Ask and give the milliseconds that it took, all rows read."""
        try:
            took, answer, content = self._asked(question)
        except http.client.RemoteDisconnected:  # it lay idle for too long
            took, answer, content = self._asked(question)
        if answer.status != 200:
            raise AssertionError(f"{answer.status} for {question.path}: {content[:300]!r}")
        return took

    def _asked(self, question: Question) -> tuple[float, http.client.HTTPResponse, bytes]:
        started = time.perf_counter()
        self._connection.request("GET", question.path, headers=self._headers)
        answer = self._connection.getresponse()
        content = answer.read()
        return (time.perf_counter() - started) * 1000, answer, content

    def export(self, path: str) -> tuple[float, float, int]:
        """Give the milliseconds to the first byte, the seconds to the last, and how many bytes there were."""
        started = time.perf_counter()
        self._connection.request("GET", path, headers=self._headers)
        answer = self._connection.getresponse()
        size = len(answer.read(1))
        first = (time.perf_counter() - started) * 1000
        while part := answer.read(1 << 16):
            size += len(part)
        return first, time.perf_counter() - started, size


def together(
    users: Sequence[User], questions: Sequence[Question], seconds: float, pause: float
) -> dict[str, list[float]]:
    """Let all users ask for a time, each on its own, and give what each kind of question took."""
    took: dict[str, list[float]] = {}
    lock, until = threading.Lock(), time.monotonic() + seconds

    def work(user: User, seed: int) -> None:
        chance = random.Random(seed)
        while time.monotonic() < until:
            question = chance.choice(questions)
            ms = user.ask(question)
            with lock:
                took.setdefault(question.kind, []).append(ms)
            time.sleep(chance.expovariate(1 / pause) if pause else 0)

    threads = [threading.Thread(target=work, args=(user, seed)) for seed, user in enumerate(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return took


def bare(settings: Settings, questions: Sequence[Question]) -> list[float]:
    """Give the milliseconds that the same statements take through psycopg2 alone, one after the other."""
    here = Surroundings(settings.read_schema, settings.report_tz, datetime.now(UTC).date())
    connection = psycopg2.connect(settings.dsn("reader"))
    took = []
    with connection.cursor() as cursor:
        for question in questions:
            one = LISTS[question.name]
            asked = read(one, question.given, here.today)
            started, rows = time.perf_counter(), 0
            for statement in selecting.pages(one, asked, here):
                cursor.execute(statement)
                rows += len(cursor.fetchall())
                if asked.limit is not None and rows > asked.limit:
                    break
            connection.rollback()
            took.append((time.perf_counter() - started) * 1000)
    connection.close()
    return took


def p95(took: Sequence[float]) -> float:
    return statistics.quantiles(took, n=20)[-1] if len(took) > 1 else took[0]


# Servers


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="prm-es-web-") as made:
        yield Path(made) / "data"


@contextmanager
def database(folder: Path, size: Size) -> Iterator[Settings]:
    """Run a PostgreSQL filled with rows."""
    place = Folder.at(folder)
    place.logs.mkdir(parents=True, exist_ok=True)
    server = Postgres(place.root / "postgres", port=place.port("postgres"), password=place.secrets().superuser)
    server.prepare()
    child = Child(server.spec(), place.logs)
    with ExitStack() as stack:
        stack.callback(child.stop)
        child.start()
        wait_ready(child, server.ready)
        issuer = free_port()
        settings = Settings(
            data=folder,
            postgres=server.dsn(DATABASE),
            issuer_port=issuer,
            oidc_issuer=f"http://127.0.0.1:{issuer}",
            api_port=free_port(),
            api_rate="1000000/second",
        )
        filled = place.root / "filled"
        if not filled.exists() or filled.read_text() != _mark(size):
            _make(server, settings, size)
            filled.write_text(_mark(size))
        yield settings


def _mark(size: Size) -> str:
    """Say what the rows depend on."""
    tables = [model.table_sql for model in READ_MODELS.values()]
    made = [(Path(__file__).parent / "web_rows.py").read_text()]
    return f"{size} {sha256(''.join((*tables, *made)).encode()).hexdigest()}"


def _make(server: Postgres, settings: Settings, size: Size) -> None:
    started = time.monotonic()
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {DATABASE}")
        connection.execute(f"CREATE DATABASE {DATABASE}")
    install(settings)
    fill(settings, size)
    console.print(f"{size.opportunities} opportunities, {size.leads} leads in {time.monotonic() - started:.0f} s")


@contextmanager
def api(settings: Settings) -> Iterator[psutil.Process]:
    """Run the API as a process, and its issuer."""
    issuer = uvicorn.Server(
        uvicorn.Config(create_issuer(settings, lambda: NOBODY_YET), port=settings.issuer_port, log_config=None)
    )
    threading.Thread(target=issuer.run, daemon=True).start()
    given = settings.model_dump(mode="json", exclude_defaults=True)
    environment = {**os.environ, **{f"PRM_{name.upper()}": str(value) for name, value in given.items()}}
    process = subprocess.Popen(
        [sys.executable, "-m", "prm_es", "api"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield psutil.Process(process.pid)
    finally:
        issuer.should_exit = True
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def users_of(settings: Settings, number: int) -> list[User]:
    """Give so many users of the vendor's, once the API answers."""
    signer = Signer(settings.data, settings.oidc_issuer)
    claims = claims_of(BY_NAME["carla"], NOBODY_YET)
    tokens = [
        signer.sign(settings.oidc_audience, {**claims, settings.oidc_actor_claim: f"user-{n}"}) for n in range(number)
    ]
    users = [User(settings.api_port, token) for token in tokens]
    until = time.monotonic() + 60
    while True:
        try:
            users[0].ask(Question("partners", (("limit", "1"),)))
        except OSError:
            if time.monotonic() > until:
                raise
            users[0] = User(settings.api_port, tokens[0])
            time.sleep(0.1)
        else:
            return users


def report(title: str, took: dict[str, list[float]], number: int = 12) -> None:
    """Print the slowest kinds of question."""
    table = Table("question", "times", "median ms", "p95 ms", "worst ms", title=title, box=None, header_style="bold")
    for kind, one in sorted(took.items(), key=lambda item: -p95(item[1]))[:number]:
        table.add_row(kind, str(len(one)), f"{statistics.median(one):.1f}", f"{p95(one):.1f}", f"{max(one):.1f}")
    console.print(table)


def exports(user: User, process: psutil.Process) -> tuple[float, float]:
    """Export whole lists; give the slowest first byte in ms and the growth of the API's memory in MB."""
    for form in ("csv", "parquet"):  # what an export needs beside its rows is loaded once
        user.export(f"/api/partners?format={form}")
    before, peak, done = process.memory_info().rss, 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, process.memory_info().rss)

    threading.Thread(target=watch, daemon=True).start()
    slowest = 0.0
    for path in ("/api/opportunities?format=csv", "/api/leads?format=csv", "/api/leads?format=parquet"):
        first, seconds, size = user.export(path)
        slowest = max(slowest, first)
        console.print(f"{path}: first byte after {first:.0f} ms, {size / 1e6:.0f} MB in {seconds:.1f} s")
    done.set()
    return slowest, max(0.0, (peak - before) / 1e6)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--opportunities", type=int, default=1_000_000)
    parser.add_argument("--leads", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--pause", type=float, default=PAUSE_S, help="mean pause of a user between two questions")
    parser.add_argument("--share", type=float, default=1.0, help="of the other pairs of filters and sorts")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the rows stay")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = stack.enter_context(_folder(given.folder))
        settings = stack.enter_context(database(folder, Size(given.opportunities, given.leads)))
        process = stack.enter_context(api(settings))
        values = Values(settings, given.seed)
        questions = indexed(values)
        users = users_of(settings, USERS)
        together(users, questions, 3.0, given.pause)  # warm
        took = together(users, questions, given.seconds, given.pause)
        everything = [ms for one in took.values() for ms in one]
        report(f"{USERS} users, indexed pairs: {len(everything) / given.seconds:.0f} answers a second", took)
        alone = bare(settings, random.Random(given.seed).sample(questions, min(400, len(questions))))
        rest = others(values, given.share, given.seed)
        user = users[0]
        slow: dict[str, list[float]] = {}
        again = 0
        with counter("other pairs and sorts") as on_progress:
            for number, question in enumerate(rest, 1):
                ms = user.ask(question)
                if ms > WORST_MS:
                    again += 1
                    ms = statistics.median([ms, user.ask(question), user.ask(question)])
                    if ms > WORST_MS:
                        console.print(f"{ms:.0f} ms: {question.path}", soft_wrap=True)
                slow.setdefault(question.kind, []).append(ms)
                on_progress(number, len(rest))
        console.print(f"{again} of {len(rest)} were asked again, and the middle of three counts")
        report(f"one user, {len(rest)} other pairs and sorts", slow)
        first, growth = exports(user, process)
        figures = {
            "p95_ms": round(p95(everything), 1),
            "bare_p95_ms": round(p95(alone), 1),
            "worst_ms": round(max(ms for one in slow.values() for ms in one), 1) if slow else 0.0,
            "over_500": sum(max(one) > WORST_MS for one in slow.values()),
            "first_byte_ms": round(first, 1),
            "memory_mb": round(growth, 1),
        }
    print(json.dumps(figures))
    good = figures["p95_ms"] < P95_MS and figures["worst_ms"] < WORST_MS
    return 0 if good and first < FIRST_BYTE_MS and growth < FLAT_MB else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that nothing is left running
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        console.print("stopped: nothing was left running")
        sys.exit(130)
