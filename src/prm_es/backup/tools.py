"""PostgreSQL's own programs: those on the PATH where they fit the server, else those of the package."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import IO, Final, cast

import psycopg
from psycopg.conninfo import conninfo_to_dict

from prm_es.errors import PrmError, Unavailable
from prm_es.local.postgres import program

CHUNK: Final = 1 << 20
OnProgress = Callable[[int, int], None]


def dumping(server: int) -> str:
    """Give a pg_dump for a server of this major version: the same one, or else a newer; raises Unavailable."""
    fitting = [(version, path) for path in _known("pg_dump") if (version := _major(path)) >= server]
    if not fitting:
        raise Unavailable(f"there is no pg_dump for PostgreSQL {server} here: install postgresql-client-{server}")
    return min(fitting, key=lambda one: one[0])[1]


def reading(file: Path, server: int) -> tuple[str, str]:
    """Give a pg_restore that can read an archive, the nearest to the server, with its contents; raises Unavailable."""
    said = ""
    for path in sorted(_known("pg_restore"), key=lambda one: abs(_major(one) - server)):
        done = subprocess.run([path, "--list", str(file)], capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode == 0:
            return path, done.stdout
        said = said or done.stderr.strip()
    raise Unavailable(f"{file} cannot be read as a backup: {said or 'there is no pg_restore here'}")


def _known(name: str) -> Iterator[str]:
    if found := shutil.which(name):
        yield found
    try:
        packaged = program(name)
    except PrmError:  # a machine without the package's PostgreSQL
        return
    if Path(packaged).exists():
        yield packaged


def _major(path: str) -> int:
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return 0
    found = re.search(r"(\d+)(\.|devel|beta|rc|$|\s)", done.stdout.rpartition(")")[2])
    return int(found.group(1)) if found else 0


def environment(dsn: str) -> Mapping[str, str]:
    """Give what libpq's programs connect by: a password on a command line could be seen by everybody."""
    names = {one.keyword.decode(): one.envvar for one in psycopg.pq.Conninfo.get_defaults()}
    given = {envvar.decode(): str(value) for key, value in conninfo_to_dict(dsn).items() if (envvar := names.get(key))}
    return {**os.environ, **given}


def start(argv: Sequence[str], dsn: str) -> "subprocess.Popen[bytes]":
    """Start a program on the database of a connection string; its standard input and errors are pipes."""
    return subprocess.Popen(  # noqa: S603
        argv, env=environment(dsn), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def feed(process: "subprocess.Popen[bytes]", file: Path, on_progress: OnProgress) -> str:
    """Give a file to a program's standard input and wait for its end; gives what it complained of, if it failed."""
    said: list[bytes] = []
    listener = Thread(target=lambda: said.extend(process.stderr or ()), daemon=True)
    listener.start()
    total, done = file.stat().st_size, 0
    with suppress(BrokenPipeError), file.open("rb") as archive, cast("IO[bytes]", process.stdin) as pipe:
        while chunk := archive.read(CHUNK):
            pipe.write(chunk)
            done += len(chunk)
            on_progress(done, total)
    code = process.wait()
    listener.join()
    return (b"".join(said).decode(errors="replace").strip() or f"it ended with {code}") if code else ""
