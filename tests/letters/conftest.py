"""What the tests of dead letters share: the verbs of the command line, on an installation of the module's own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from prm_es.install import install
from prm_es.settings import Settings
from tests.test_cli import Prm, Ran, environment, in_process


@pytest.fixture(scope="module")
def prm(migrated: Settings) -> Prm:
    install(migrated)

    def run(*arguments: str, stdin: bytes = b"", **env: str) -> Ran:
        return in_process({**environment(migrated), **env}, "dead-letters", *arguments, stdin=stdin)

    return run


@pytest.fixture(scope="module", autouse=True)
def unlogged() -> Iterator[None]:
    """Keep logs apart from what the tests read."""
    with Path(os.devnull).open("w") as nowhere:
        structlog.configure([structlog.processors.JSONRenderer()], logger_factory=structlog.PrintLoggerFactory(nowhere))
        yield
        structlog.reset_defaults()
