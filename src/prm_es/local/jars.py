"""Apache Kafka's jars: fetched once from Maven Central, each checked against the digest that ships with this program.

What is already there and whole is not fetched again, so an interrupted fetch goes on where it was. Processes that fetch
into one cache at once wait for each other.
"""

import fcntl
import hashlib
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from http.client import HTTPException
from importlib.resources import files
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from prm_es.errors import Unavailable

KAFKA_VERSION: Final = "4.3.1"
MAVEN: Final = "https://repo.maven.apache.org/maven2"
AT_ONCE: Final = 4
ATTEMPTS: Final = 3
_CHUNK: Final = 1 << 18


@dataclass(frozen=True)
class Jar:
    """A jar by its path on a Maven repository."""

    path: str
    sha256: str

    @property
    def name(self) -> str:
        """The file's own name, unique in the list."""
        return self.path.rsplit("/", 1)[-1]


def wanted() -> list[Jar]:
    """List the jars that Kafka needs."""
    lines = (files("prm_es.local") / "kafka_jars.sha256").read_text().splitlines()
    return [Jar(path, digest) for digest, path in (line.split() for line in lines if line.strip())]


def default_cache() -> Path:
    """Name the folder that the data folders of one user share."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prm-es"


def collect(folder: Path, jars: Sequence[Jar]) -> list[Path]:
    """Find jars in a folder, flat or laid out as on Maven; raises Unavailable for one that is missing or another."""
    found = []
    for jar in jars:
        places = [place for place in (folder / jar.name, folder / jar.path) if is_whole(place, jar.sha256)]
        if not places:
            raise Unavailable(f"{folder} has no {jar.name} with SHA-256 {jar.sha256}")
        found.append(places[0].resolve())
    return found


def fetch(cache: Path, maven: str, jars: Sequence[Jar], given_up: threading.Event | None = None) -> list[Path]:
    """Fetch what the cache lacks and give all paths; raises Unavailable when a jar cannot be had whole."""
    enough = given_up or threading.Event()
    folder = (cache / f"kafka-{KAFKA_VERSION}").expanduser().resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            whole = list(pool.map(lambda jar: is_whole(folder / jar.name, jar.sha256), jars))
        if not all(whole):
            with _alone(folder, enough):
                _fetch_missing(folder, maven.rstrip("/"), jars, enough)
    except OSError as problem:
        raise Unavailable(f"cannot keep Kafka's jars in {folder}: {problem}") from problem
    return [folder / jar.name for jar in jars]


def missing(cache: Path, jars: Sequence[Jar]) -> list[Jar]:
    """Give the jars that the cache does not hold whole."""
    folder = (cache / f"kafka-{KAFKA_VERSION}").expanduser().resolve()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        whole = list(pool.map(lambda jar: is_whole(folder / jar.name, jar.sha256), jars))
    return [jar for jar, there in zip(jars, whole, strict=True) if not there]


def is_whole(path: Path, sha256: str) -> bool:
    """Tell whether a file is there with this digest."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False


@contextmanager
def _alone(folder: Path, enough: threading.Event) -> Iterator[None]:
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if enough.wait(0.1):
                raise Unavailable("the fetch was given up")
        yield
    finally:
        os.close(descriptor)


def _fetch_missing(folder: Path, maven: str, jars: Sequence[Jar], enough: threading.Event) -> None:
    # Looked at again under the lock: another process may have fetched them while this one waited.
    missing = [jar for jar in jars if not is_whole(folder / jar.name, jar.sha256)]
    pool = ThreadPoolExecutor(AT_ONCE)
    with _progress(len(missing)) as advance:
        try:
            futures: list[Future[None]] = [pool.submit(_fetch_one, folder, maven, jar, enough) for jar in missing]
            for future in as_completed(futures):
                future.result()
                advance()
        except BaseException:
            enough.set()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True)
    with bar if console.is_terminal and total else nullcontext():
        task = bar.add_task(f"Fetching Apache Kafka {KAFKA_VERSION}", total=total)
        yield lambda: bar.advance(task)


def _fetch_one(folder: Path, maven: str, jar: Jar, enough: threading.Event) -> None:
    problem: Exception | None = None
    for attempt in range(ATTEMPTS):
        if enough.wait(attempt * 0.5):
            raise Unavailable("the fetch was given up")
        try:
            _download(f"{maven}/{jar.path}", folder / jar.name, jar.sha256, enough)
        except urllib.error.HTTPError as refused:
            problem = refused
            if refused.code < 500 and refused.code not in {408, 429}:  # noqa: PLR2004 - HTTP's own numbers
                break
        except (OSError, HTTPException, _WrongDigest) as trouble:
            problem = trouble
        else:
            return
    raise Unavailable(
        f"cannot fetch {maven}/{jar.path}: {problem}. PRM_MAVEN names a mirror, PRM_KAFKA_JARS a folder of jars"
    ) from problem


class _WrongDigest(Exception):  # noqa: N818 - a cause, shown inside another error
    """The bytes that came are not the ones that were asked for."""


def _download(address: str, target: Path, sha256: str, enough: threading.Event) -> None:
    if not address.startswith(("https://", "http://")):
        raise Unavailable(f"{address} is no address of a Maven repository")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{time.monotonic_ns()}")
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(address, timeout=30) as answer, temporary.open("wb") as file:  # noqa: S310
            while chunk := answer.read(_CHUNK):
                if enough.is_set():
                    raise Unavailable("the fetch was given up")
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != sha256:
            raise _WrongDigest(f"its SHA-256 is {digest.hexdigest()}, not {sha256}")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
