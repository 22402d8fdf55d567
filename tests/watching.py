"""What the tests of watching share: a worker asked over HTTP, and what it answered."""

import json
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError, URLError

from prometheus_client.parser import text_string_to_metric_families

from tests.workers import Worker

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def address(worker: Worker) -> str:
    found: str = worker.until_logged("worker.watched")["health"]
    return found.removesuffix("/health")


def get(url: str, timeout: float = 10) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        return error.code, error.read()


def reachable(url: str) -> bool:
    try:
        return get(url, timeout=0.5)[0] == 200
    except (URLError, TimeoutError):
        return False


def health(worker: Worker, path: str = "/health") -> tuple[int, dict[str, Any]]:
    status, body = get(address(worker) + path)
    return status, json.loads(body)


@dataclass(frozen=True)
class Metrics:
    """One scrape."""

    samples: Samples

    def __getitem__(self, name: str) -> float:
        return self.value(name)

    def value(self, name: str, **labels: str) -> float:
        return self.samples[name, frozenset(labels.items())]

    def of(self, name: str, **labels: str) -> dict[frozenset[tuple[str, str]], float]:
        """Give the samples of this name that have these labels, and others."""
        wanted = frozenset(labels.items())
        return {one: value for (known, one), value in self.samples.items() if known == name and wanted <= one}

    def sum(self, name: str, **labels: str) -> float:
        return sum(self.of(name, **labels).values())


def metrics(worker: Worker) -> Metrics:
    status, body = get(address(worker) + "/metrics")
    assert status == 200
    return read(body.decode())


def read(text: str) -> Metrics:
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    found = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(found) == len(samples)
    return Metrics(found)
