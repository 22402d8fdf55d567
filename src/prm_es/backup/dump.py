"""Back up the store into a file: an archive of pg_dump, as of one moment, while everything runs on.

It holds the log, its answers, the keys, the guard tables and how far each read model is. Read models themselves are
made anew when it is restored: so no personal value lies in it in clear.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Final

import psycopg
from psycopg.rows import namedtuple_row

from prm_es.backup import tools
from prm_es.backup.tools import OnProgress
from prm_es.errors import Unavailable, Usage
from prm_es.settings import Settings
from prm_es.store.migrate import check
from prm_es.store.sole import sole_row

LOOK_S: Final = 0.2
SUFFIX: Final = ".backup"


@dataclass(frozen=True, slots=True)
class Backup:
    """A file, and the end of the log that it holds."""

    file: Path
    size: int
    commits: int
    position: int
    digest: bytes
    recorded_at: datetime


def back_up(settings: Settings, target: Path, on_progress: OnProgress = lambda _done, _total: None) -> Backup:
    """Write the store into a new file, or a new one in a folder, readable by its owner only: it holds the keys.

    The file is there whole or not at all. Raises Usage if it exists, Unavailable, errors of psycopg.
    """
    file = target / f"{settings.prefix}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}{SUFFIX}" if target.is_dir() else target
    if file.exists():
        raise Usage(f"{file} exists: a backup is never written over another file")
    with psycopg.connect(settings.admin_dsn, row_factory=namedtuple_row) as connection:
        path = tools.dumping(connection.info.server_version // 10_000)
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        connection.execute("SELECT set_config('search_path', %s, true)", (settings.store_schema,))
        check(connection, settings)
        query = "SELECT number, last_position, digest, recorded_at FROM commits ORDER BY number DESC LIMIT 1"
        head = sole_row(connection, query)
        total = head.last_position + sole_row(connection, "SELECT count(*) AS n FROM commands").n
        snapshot = sole_row(connection, "SELECT pg_export_snapshot() AS name").name
        part = file.with_name(f".{file.name}.{os.getpid()}.part")
        try:
            _make(part)
            _dump([path, *_what(settings), f"--snapshot={snapshot}", f"--file={part}"], settings, total, on_progress)
            part.rename(file)
        except OSError as error:
            raise Unavailable(f"{file}: {error.strerror or error}") from error
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
    return Backup(file, file.stat().st_size, head.number, head.last_position, head.digest, head.recorded_at)


def _make(part: Path) -> None:
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise Usage(f"{part.parent}: {error.strerror}") from None


def _what(settings: Settings) -> list[str]:
    schemas = (settings.store_schema, settings.projections_schema, settings.read_schema)
    views = f"--exclude-table={settings.read_schema}.*"  # they read tables that are not in it
    return ["--format=custom", "--compress=1", "--no-password", *(f"--schema={one}" for one in schemas), views]


def _dump(argv: list[str], settings: Settings, total: int, on_progress: OnProgress) -> None:
    process = tools.start(argv, settings.admin_dsn)
    try:
        with psycopg.connect(settings.admin_dsn, autocommit=True) as watching:
            seen: dict[int, int] = {}
            while True:
                try:
                    _out, said = process.communicate(timeout=LOOK_S)
                    break
                except TimeoutExpired:
                    seen |= dict(watching.execute(_COPIED).fetchall())
                    on_progress(min(sum(seen.values()), total), total)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode:
        raise Unavailable(f"pg_dump failed: {said.decode(errors='replace').strip()}")
    on_progress(total, total)


# Rows that each table's COPY has given: of the two tables that grow with the commands.
_COPIED: Final = (
    "SELECT p.relid::bigint, p.tuples_processed FROM pg_stat_progress_copy p JOIN pg_class c ON c.oid = p.relid"
    " WHERE p.datname = current_database() AND p.command = 'COPY TO' AND c.relname IN ('events', 'commands')"
)
