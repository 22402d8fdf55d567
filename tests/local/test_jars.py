"""Jars are fetched once, whole, and checked; served here by a small folder over HTTP."""

import hashlib
import multiprocessing
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from prm_es.errors import Unavailable
from prm_es.local import jars
from prm_es.local.jars import KAFKA_VERSION, Jar, collect, fetch, wanted

CONTENT = {f"org/example/part{number}/1.0/part{number}-1.0.jar": bytes([number]) * 300_000 for number in range(6)}
JARS = [Jar(path, hashlib.sha256(content).hexdigest()) for path, content in CONTENT.items()]


class Counting(SimpleHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_arguments: Any) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Path:
    for path, content in CONTENT.items():
        (tmp_path / "site" / path).parent.mkdir(parents=True)
        (tmp_path / "site" / path).write_bytes(content)
    return tmp_path / "site"


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def address(site: Path, asked: list[str]) -> Iterator[str]:
    handler = type("Handler", (Counting,), {"asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(site)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_list_names_each_jar_once() -> None:
    listed = wanted()
    assert len(listed) == len({jar.name for jar in listed}) == 46
    assert all(len(jar.sha256) == 64 for jar in listed)
    assert any(jar.name == f"kafka_2.13-{KAFKA_VERSION}.jar" for jar in listed)


def test_jars_are_fetched_once(address: str, asked: list[str], tmp_path: Path) -> None:
    paths = fetch(tmp_path / "cache", address + "/", JARS)
    assert [path.read_bytes() for path in paths] == list(CONTENT.values())
    assert fetch(tmp_path / "cache", address, JARS) == paths
    assert sorted(asked) == sorted(f"/{path}" for path in CONTENT)


def test_a_corrupted_jar_is_fetched_again_and_no_other(address: str, asked: list[str], tmp_path: Path) -> None:
    paths = fetch(tmp_path / "cache", address, JARS)
    asked.clear()
    paths[2].write_bytes(paths[2].read_bytes()[:-1])
    paths[4].unlink()
    assert fetch(tmp_path / "cache", address, JARS)[2].read_bytes() == CONTENT[JARS[2].path]
    assert sorted(asked) == [f"/{JARS[2].path}", f"/{JARS[4].path}"]


def test_bytes_that_are_not_the_pinned_ones_are_never_kept(
    address: str, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jars, "ATTEMPTS", 1)
    (site / JARS[0].path).write_bytes(b"something else")
    with pytest.raises(Unavailable, match=r"part0-1\.0\.jar: its SHA-256 is .* PRM_MAVEN names a mirror"):
        fetch(tmp_path / "cache", address, JARS)
    kept = {path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert JARS[0].name not in kept
    assert kept <= {jar.name for jar in JARS} | {".lock"}


def test_a_jar_that_is_not_there_is_named_with_what_to_do(address: str, site: Path, tmp_path: Path) -> None:
    (site / JARS[1].path).unlink()
    with pytest.raises(Unavailable, match=r"part1-1\.0\.jar: HTTP Error 404.*PRM_KAFKA_JARS"):
        fetch(tmp_path / "cache", address, JARS)


def test_a_fetch_that_is_given_up_ends(address: str, tmp_path: Path) -> None:
    given_up = Event()
    given_up.set()
    with pytest.raises(Unavailable, match="given up"):
        fetch(tmp_path / "cache", address, JARS, given_up)


def test_two_processes_that_fetch_at_once_fetch_each_jar_once(address: str, asked: list[str], tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=fetch, args=(tmp_path / "cache", address, JARS)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert sorted(asked) == sorted(f"/{path}" for path in CONTENT)


def test_a_folder_of_jars_may_be_flat_or_laid_out_as_on_maven(site: Path, tmp_path: Path) -> None:
    (site / JARS[3].path).rename(site / JARS[3].name)
    assert [path.read_bytes() for path in collect(site, JARS)] == list(CONTENT.values())
    (site / JARS[3].name).write_bytes(b"another version")
    with pytest.raises(Unavailable, match=r"has no part3-1\.0\.jar with SHA-256"):
        collect(site, JARS)
