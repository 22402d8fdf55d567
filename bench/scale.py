"""Screening and availability with up to a million live leads, beside the exact keys alone and PostgreSQL's trigrams.

    python bench/scale.py [--sizes 10000,100000,1000000] [--sample 20000] [--folder DIR]

For each size: a store and the read model conflicts with so many live leads of made-up companies (companies.py), copied
straight into the read model's tables, and then
- more registrations in the log, folded by the conflict worker in batches of 1,000: leads a second, and its memory;
- questions by name with what else a partner may know: milliseconds each;
- beside it on the same leads: the exact keys alone, and the 20 nearest names by pg_trgm (GIN, .3).
At the largest size: of the pairs that comparing each of the sampled leads with each other finds, how many share a
candidate key that the search would look under.
With --folder the leads of the largest size stay there, and the next run measures them without loading them again.
Ends with one line: scale: n=N leads_s=N p99_ms=N recall=N. Exit code 0 if it is fast and sure enough, else 1.
"""

import argparse
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Final
from uuid import UUID

import psutil
import psycopg2
from rapidfuzz import fuzz, process
from rich.console import Console

from companies import leads
from prm_es import logs
from prm_es.aggregates.availability import Question
from prm_es.aggregates.catalogue import wire_type
from prm_es.aggregates.fields import Customer
from prm_es.aggregates.lead_messages import Registered
from prm_es.availability import Spellings, ask, question_of
from prm_es.consumers.runtime import GARBAGE_THRESHOLDS
from prm_es.install import install
from prm_es.local.processes import Screen
from prm_es.local.stack import Stack
from prm_es.matching.identity import Identity
from prm_es.matching.keys import key_of
from prm_es.matching.packed import unpack
from prm_es.messages import Actor, Envelope, Recorded, Role, stored_state
from prm_es.projections import conflicts, likeness, sides
from prm_es.projections.ordered import OrderedProjector
from prm_es.projections.rows import Copier
from prm_es.projections.runner import schema_of
from prm_es.settings import Settings
from prm_es.store.store import NewEvent, Store, Writes

LEADS_S, P99_MS, RECALL = 500, 50, 0.95
# The first batches do not count: until each page was written once since the last checkpoint, its whole image is logged.
BATCH, WARM, BATCHES = 1_000, 4, 8
REGISTERED = (WARM + BATCHES) * BATCH
QUESTIONS, TRIGRAMS = 500, 40
PART: Final = 10_000
BEFORE: Final = 100_000_000  # positions: what is loaded was there before the log
AT: Final = datetime(2026, 6, 1, tzinfo=UTC)
MANAGER: Final = Actor("bench", Role.CHANNEL_MANAGER)
CLOSE: Final = 82  # of 100: how like two names are from which on the comparison is asked about them

console = Console(stderr=True, highlight=False)


def registered(number: int, customer: Customer) -> Registered:
    return Registered(
        partner_id=UUID(int=number + 1),
        submitted_by="bench",
        policy_version=0,
        customer=customer,
        product_lines=("scales",),
    )


def recorded(number: int, subject: UUID, event: Registered) -> Recorded:
    return Recorded(number, subject, 1, wire_type(event), AT, AT, MANAGER, "bench", str(number), None, b"")


# Loading


def load_part(dsn: str, schema: str, start: int, stop: int) -> int:
    """Copy some leads into the read model's tables, as folding their registrations makes them."""
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        copier = Copier(cursor, conflicts.MODEL, schema)
        for number, subject, customer in leads(start, stop):
            event = registered(number, customer)
            copier.add(subject, sides.fold(conflicts.MODEL.empty(), recorded(number - BEFORE, subject, event), event))
        copier.flush()
    return stop - start


class Tables:
    """The read model's tables in one database, and how to fill them."""

    def __init__(self, settings: Settings) -> None:
        self._dsn = settings.dsn("owner")
        self.schema = schema_of(settings, conflicts.MODEL.name, 1)
        with closing(psycopg2.connect(self._dsn)) as connection, connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {self.schema}.lead WHERE place < 0")
            ((self._loaded,),) = cursor.fetchall()

    def load(self, upto: int) -> None:
        """Fill them up to so many leads; the index on the keys is made when all of them are there."""
        if self._loaded >= upto:
            return
        self.run(f"ALTER TABLE {self.schema}.lead_key DROP CONSTRAINT lead_key_pkey")
        parts = [(start, min(start + PART, upto)) for start in range(self._loaded, upto, PART)]
        with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
            waiting = [pool.submit(load_part, self._dsn, self.schema, *part) for part in parts]
            for one in waiting:
                one.result()
        self.run(
            "SET maintenance_work_mem = '1GB'", f"ALTER TABLE {self.schema}.lead_key ADD PRIMARY KEY (key, lead_id)"
        )
        self.vacuum()
        self._loaded = upto

    def space(self) -> str:
        with closing(psycopg2.connect(self._dsn)) as connection, connection.cursor() as cursor:
            cursor.execute(
                f"SELECT pg_size_pretty(pg_total_relation_size('{self.schema}.lead')),"
                f" pg_size_pretty(pg_total_relation_size('{self.schema}.lead_key')), count(*)"
                f" FROM {self.schema}.lead_key"
            )
            ((own, keys, number),) = cursor.fetchall()
            return f"rows {own}, keys {keys} for {number}"

    def vacuum(self) -> None:
        self.run(*(f"VACUUM (ANALYZE) {self.schema}.{name}" for name in ("lead", "lead_key", "conflict")))

    def run(self, *statements: str) -> None:
        with closing(psycopg2.connect(self._dsn)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)


# Measuring


def append(store: Store, start: int, stop: int) -> None:
    """Write registrations to the log."""
    events = []
    for number, subject, customer in leads(start, stop):
        event = registered(number, customer)
        data = event.model_dump_json(exclude_none=True).encode()
        cause = Envelope("bench", str(number), "prm.lead.register", subject, MANAGER, data)
        events.append(NewEvent(subject, 1, wire_type(event), stored_state(AT, AT, cause, data)))
    with store.batch() as batch:
        batch.write(Writes(events=events))


def screened_a_second(settings: Settings, store: Store, start: int) -> tuple[float, float, int, int]:
    """Fold new registrations.

    Gives leads a second, microseconds of the worker's CPU each, the screenings with a match, and how much memory it
    took more.
    """
    asked: list[Envelope] = []
    append(store, start, start + REGISTERED)
    with closing(OrderedProjector(settings, conflicts.MODEL, asked.extend)) as projector:
        for _batch in range(WARM):
            projector.advance(limit=BATCH)
        before, began, busy = psutil.Process().memory_info().rss, time.perf_counter(), time.process_time()
        folded = sum(projector.advance(limit=BATCH).events for _batch in range(BATCHES))
        seconds, busy = time.perf_counter() - began, time.process_time() - busy
        grown = psutil.Process().memory_info().rss - before
    matched = sum(bool(json.loads(one.data)["matches"]) for one in asked)
    return folded / seconds, busy / folded * 1e6, matched, grown


def milliseconds(asked: Iterable[Callable[[], object]]) -> list[float]:
    times = []
    for one in asked:
        began = time.perf_counter()
        one()
        times.append((time.perf_counter() - began) * 1000)
    return times


def percentile(times: Sequence[float], percent: int) -> float:
    return statistics.quantiles(times, n=100)[percent - 1]


def questions(size: int, number: int) -> Iterator[Question]:
    """Ask for companies that are there, and as many that are not, by name with or without the rest."""
    dice = Random(size)
    for _one in range(number):
        at = dice.randrange(size) if dice.random() < 0.5 else size + dice.randrange(10_000_000)
        ((_number, _subject, one),) = leads(at, at + 1)
        rest = {"address": one.address, "postcode": one.postcode, "phone": one.phone, "domains": one.domains or None}
        yield question_of((), (), ("scales",), name=one.name, city=one.city, **(rest if dice.random() < 0.5 else {}))


def by_name(settings: Settings, store: Store, size: int) -> list[float]:
    with closing(Spellings(settings)) as spellings:
        warm = [lambda one=one: ask(store, one, MANAGER, spellings) for one in questions(size + 1, 50)]
        milliseconds(warm)
        return milliseconds(lambda one=one: ask(store, one, MANAGER, spellings) for one in questions(size, QUESTIONS))  # type: ignore[misc]


def beside(settings: Settings, schema: str, size: int) -> tuple[list[float], list[float]]:
    """Look up exact keys alone, and the nearest names by trigrams, on the same leads."""
    with closing(psycopg2.connect(settings.admin_dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
        cursor.execute(f"CREATE TABLE {schema}.name AS SELECT lead_id, customer AS name FROM {schema}.lead")
        cursor.execute("SET maintenance_work_mem = '1GB'")
        cursor.execute(f"CREATE INDEX ON {schema}.name USING gin (name gin_trgm_ops)")
        cursor.execute(f"ANALYZE {schema}.name")
        cursor.execute("SET pg_trgm.similarity_threshold = 0.3")
        exact = f"SELECT DISTINCT lead_id FROM {schema}.lead_key WHERE key = ANY(%s)"
        near = f"SELECT lead_id FROM {schema}.name WHERE name %% %s ORDER BY similarity(name, %s) DESC LIMIT 20"
        asked = list(questions(size, TRIGRAMS * 5))

        def exactly(one: Question) -> None:
            known = [key_of(f"{kind}:{value}") for kind, value in enumerate((one.name, one.phone, one.address))]
            cursor.execute(exact, (known,))
            cursor.fetchall()

        def nearly(one: Question) -> None:
            cursor.execute(near, (one.name, one.name))
            cursor.fetchall()

        keyed = milliseconds(lambda one=one: exactly(one) for one in asked)  # type: ignore[misc]
        trigrams = milliseconds(lambda one=one: nearly(one) for one in asked[:TRIGRAMS])  # type: ignore[misc]
        cursor.execute(f"DROP TABLE {schema}.name")
    return keyed, trigrams


# Recall


def identity_of(one: sides.Lead) -> Identity:
    return unpack(one.identity or "")


def brute_force(sample: Sequence[sides.Lead]) -> list[tuple[int, int]]:
    """Give the pairs that match when every two of the sample are compared that are alike in anything at all."""
    names = [identity_of(one).names[0].sorted for one in sample]
    pairs: set[tuple[int, int]] = set()
    for one, name in enumerate(names):
        alike = process.extract(name, names[one + 1 :], scorer=fuzz.ratio, score_cutoff=CLOSE, limit=None)
        pairs |= {(one, one + 1 + other) for _name, _score, other in alike}
    pairs |= _same_value(sample)
    return [(a, b) for a, b in sorted(pairs) if _match(sample[a], sample[b], ())]


def _match(one: sides.Lead, other: sides.Lead, counts: likeness.Counts) -> bool:
    found = likeness.match(one, other, counts, "")
    return found is not None and found.strength in {likeness.PROBABLE, likeness.POSSIBLE}


def _same_value(sample: Sequence[sides.Lead]) -> set[tuple[int, int]]:
    by: dict[object, list[int]] = {}
    for place, identity in enumerate(map(identity_of, sample)):
        values = (
            *identity.phones,
            *identity.domains,
            (identity.address, identity.postcode),
            *(one.compact for one in identity.names),
        )
        for value in set(values):
            by.setdefault(value, []).append(place)
    return {(a, b) for same in by.values() if len(same) < 200 for n, a in enumerate(same) for b in same[n + 1 :]}


def recall(settings: Settings, schema: str, number: int) -> tuple[float, int]:
    """Give the part of what brute force finds among so many leads that the candidate search finds among all.

    Brute force knows as much as the worker does: how many of all leads have a word, a name or a phone.
    """
    sample = [
        sides.fold(conflicts.MODEL.empty(), recorded(n, subject, event), event)["lead"][0]
        for n, subject, customer in leads(0, number)
        for event in (registered(n, customer),)
    ]
    hits = pairs = 0
    with closing(psycopg2.connect(settings.dsn("projector"))) as connection, connection, connection.cursor() as cursor:
        for a, b in brute_force(sample):
            book = conflicts.around(cursor, schema, sample[a])
            if _match(sample[a], sample[b], likeness.counts_of(book, sample[a])):
                pairs += 1
                hits += any(one.lead_id == sample[b].lead_id for one in likeness.candidates(book, sample[a]))
    return hits / pairs, pairs


@contextmanager
def postgres(folder: Path) -> Iterator[Settings]:
    """Run PostgreSQL alone, with an installation in it."""
    base = Settings(data=folder, kafka="127.0.0.1:1")  # named, hence not started
    screen = Screen(console, echo=False)
    with Stack(base, migrate=install, topics=_nothing, workers=(), screen=screen) as stack:
        yield stack.start()


def _nothing(_settings: Settings) -> None:
    return None


@dataclass(frozen=True)
class Measured:
    size: int
    leads_s: float
    p50_ms: float
    p99_ms: float
    text: str


def measure(settings: Settings, store: Store, tables: Tables, size: int) -> Measured:
    tables.load(size)
    console.print(f"{size} leads: {tables.space()}")
    asked = by_name(settings, store, size)
    exact, trigrams = beside(settings, tables.schema, size)
    rate, busy, matched, grown = screened_a_second(settings, store, 10_000_000 + store.head())
    text = (
        f"{size:>9} leads: {rate:,.0f} leads/s ({busy:.0f} us CPU of the worker a lead,"
        f" {matched} of {REGISTERED} match, memory +{grown / 1e6:.0f} MB);"
        f" by name p50 {percentile(asked, 50):.1f} p99 {percentile(asked, 99):.1f} ms;"
        f" exact keys alone {percentile(exact, 50):.2f}/{percentile(exact, 99):.2f};"
        f" pg_trgm {percentile(trigrams, 50):.0f}/{percentile(trigrams, 99):.0f}"
    )
    return Measured(size, rate, percentile(asked, 50), percentile(asked, 99), text)


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="prm-es-scale-") as made:
        yield Path(made)


def bench(sizes: Sequence[int], sample: int, given: Path | None) -> bool:
    """Measure at each size, print the line, and tell whether it is good enough."""
    with _folder(given) as folder, postgres(folder) as settings:
        tables = Tables(settings)
        with Store(settings) as store:
            for size in sizes:
                last = measure(settings, store, tables, size)
                console.print(last.text)
        sure, pairs = recall(settings, tables.schema, min(sample, last.size))
        console.print(f"{pairs} pairs among {min(sample, last.size)} leads by brute force; {sure:.1%} are candidates")
    print(f"scale: n={last.size} leads_s={last.leads_s:.0f} p99_ms={last.p99_ms:.1f} recall={sure:.3f}")
    return last.leads_s >= LEADS_S and last.p99_ms < P99_MS and sure >= RECALL


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--sizes", default="10000,100000,1000000", help="numbers of live leads, rising")
    parser.add_argument("--sample", type=int, default=20_000, help="leads of which every two are compared")
    parser.add_argument("--folder", type=Path, help="where the leads stay")
    given = parser.parse_args()
    logs.configure("bench", level="error", form="console", quiet=True)
    gc.set_threshold(*GARBAGE_THRESHOLDS)  # as a worker does
    return 0 if bench([int(one) for one in given.sizes.split(",")], given.sample, given.folder) else 1


if __name__ == "__main__":
    sys.exit(main())
