"""What a worker counts, under the names by which `/metrics` says it.

Counted a batch at a time, never an event at a time; a failure ends the process, and its counts with it, so that what
was counted was also committed.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from time import perf_counter
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

_COMMANDS: Final = Counter(
    "prm_commands", "Records of command topics, by what became of them.", ["outcome"], registry=REGISTRY
)
_PUBLISHED: Final = Counter("prm_events_published", "Events sent to the events topics.", registry=REGISTRY)
_EVENTS: Final = Counter(
    "prm_read_model_events", "Events given to a read model, by what it did.", ["read_model", "outcome"],
    registry=REGISTRY,
)  # fmt: skip
_ASKED: Final = Counter("prm_commands_sent", "Commands that this worker sent.", registry=REGISTRY)
_RETRIES: Final = Counter("prm_retries", "What was tried again.", ["what"], registry=REGISTRY)
_SIZE: Final = Histogram(
    "prm_batch_size", "Records or events of a batch.", ["work"],
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000), registry=REGISTRY,
)  # fmt: skip
_SECONDS: Final = Histogram(
    "prm_batch_seconds", "Handling time of a batch, from its first step to its last.", ["work"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30), registry=REGISTRY,
)  # fmt: skip

OUTCOMES: Final = ("accepted", "refused", "repeated", "id_reused", "dead_letter")
for _outcome in OUTCOMES:
    _COMMANDS.labels(_outcome)  # there from the start, so that the first one shows as an increase


class Work:
    """One kind of batch; bind it once."""

    def __init__(self, name: str) -> None:
        self._size, self._seconds = _SIZE.labels(name), _SECONDS.labels(name)

    @contextmanager
    def batch(self, size: int) -> Iterator[None]:
        """Measure a batch, unless it fails."""
        began = perf_counter()
        yield
        self.observe(size, began)

    def observe(self, size: int, began: float) -> None:
        """Note a batch that is through and began at `began`, by perf_counter."""
        self._size.observe(size)
        self._seconds.observe(perf_counter() - began)


work: Final = cache(Work)


def decided(records: int, outcomes: Mapping[str, int], *, reused: int, dead: int) -> None:
    """Count a batch of records; those that were neither decided now nor buried now were answered as before."""
    new = {**outcomes, "id_reused": reused, "dead_letter": dead}
    for outcome, number in {**new, "repeated": records - sum(new.values())}.items():
        _COMMANDS.labels(outcome).inc(number)


def published(events: int) -> None:
    """Count events that are on their topics."""
    _PUBLISHED.inc(events)


def applied(read_model: str, *, applied: int, skipped: int = 0, filled: int = 0, parked: int = 0) -> None:
    """Count a batch of a read model.

    `applied` includes what was filled in from the store and what was parked.
    """
    counts = {"applied": applied - parked, "skipped": skipped, "filled": filled, "parked": parked}
    for outcome, number in counts.items():
        _EVENTS.labels(read_model, outcome).inc(number)


def asked(commands: int) -> None:
    """Count commands that a worker sent."""
    _ASKED.inc(commands)


def retried(what: str, number: int) -> None:
    """Count what was tried again."""
    _RETRIES.labels(what).inc(number)
