"""Restore a backup: beside what is there, verified, its read models made anew, and only then put in its place.

A store that was restored is another history from there on and gets another id: what was recorded after the backup is
lost, and its positions will be given to other events.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import psycopg
import structlog
from psycopg import sql
from psycopg.rows import namedtuple_row

from prm_es import rebuild
from prm_es.audit.verify import Verified, verify
from prm_es.backup import tools
from prm_es.errors import AlreadyRunning, Unavailable, Usage
from prm_es.projections.ordered import OrderedModel
from prm_es.projections.registry import READ_MODELS
from prm_es.settings import DB_ROLES, Settings
from prm_es.store import history, migrate
from prm_es.store.locks import Lock, keys
from prm_es.store.migrate import ASIDE
from prm_es.store.sole import sole_row

log = structlog.get_logger()

READERS: Final = ("reader", "portal", "auditor")
HELD: Final = (Lock.APPEND, Lock.PUBLISH, Lock.CONFLICTS, Lock.DEADLINES, Lock.REACTIONS)
OnStep = Callable[[str, int, int], None]  # what is done, how much of it, of how much


@dataclass(frozen=True, slots=True)
class Restored:
    """What the store holds now.

    `forgotten` counts the keys that were destroyed again, for the replaced store had them no more; None if there was
    no store to ask, or not one that goes on from the backup: what was forgotten since must be forgotten anew.
    """

    verified: Verified
    store_id: str
    forgotten: int | None


def restore(
    settings: Settings,
    file: Path,
    *,
    replace: bool = False,
    on_step: OnStep = lambda _what, _done, _total: None,
) -> Restored:
    """Put a backup in the place of the store; what was there is back again if anything goes wrong.

    Raises Usage if the file is no backup of this prefix, or if there are commits already and `replace` is not given;
    AlreadyRunning while workers are connected; SchemaMismatch for a backup of a newer program; Unavailable for one that
    does not verify; errors of psycopg and psycopg2.
    """
    with psycopg.connect(settings.admin_dsn, autocommit=True, row_factory=namedtuple_row) as connection:
        program, contents = tools.reading(file, connection.info.server_version // 10_000)
        if f" SCHEMA - {settings.store_schema} " not in contents:
            raise Usage(f"{file} holds no store with the prefix {settings.prefix}: set PRM_PREFIX")
        _refuse_company(connection, settings)
        _hold(connection, settings)
        if not replace and (commits := _commits(connection, settings)):
            raise Usage(f"this store holds {commits} commits: give --replace to put the backup in its place")
        with _aside(connection, settings):
            migrate.make_roles(connection, settings)
            connection.execute("CREATE EXTENSION IF NOT EXISTS btree_gist")
            _load(program, file, settings, on_step)
            migrate.migrate(settings)
            found = verify(settings, lambda done, total: on_step("verifying", done, total))
            if found.fault:
                raise Unavailable(f"{file} does not verify: {found.fault}")
            forgotten = _forget_again(connection, settings)
            store_id = history.begin(settings, "restored")
            _make_read_models(settings, on_step)
        log.info("store.restored", position=found.position, store=store_id, forgotten=forgotten)
        return Restored(found, store_id, forgotten)


def _refuse_company(connection: psycopg.Connection[Any], settings: Settings) -> None:
    names = [f"{settings.prefix}-{role}" for role in DB_ROLES if role not in READERS]
    row = sole_row(
        connection,
        "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND application_name = ANY(%s)",
        (names,),
    )
    if row.n:
        raise AlreadyRunning(f"workers have {row.n} connections to this store: stop them first (`prm-es down`)")


def _hold(connection: psycopg.Connection[Any], settings: Settings) -> None:
    """Let no worker that starts meanwhile write or become active."""
    for lock in HELD:
        if not sole_row(connection, "SELECT pg_try_advisory_lock(%s, %s) AS taken", keys(settings.prefix, lock)).taken:
            raise AlreadyRunning("a worker is active on this store: stop it first")


def _commits(connection: psycopg.Connection[Any], settings: Settings) -> int:
    """Count the commits of the store that is there: the one set aside, where a restore was interrupted."""
    for suffix in (ASIDE, ""):
        schema = f"{settings.store_schema}{suffix}"
        if _is_there(connection, f"{schema}.commits"):
            query = sql.SQL("SELECT max(number) AS n FROM {}").format(sql.Identifier(schema, "commits"))
            row = connection.execute(query).fetchone()
            return int(row.n or 0) if row else 0
    return 0


def _is_there(connection: psycopg.Connection[Any], table: str) -> bool:
    return bool(sole_row(connection, "SELECT to_regclass(%s) IS NOT NULL AS there", (table,)).there)


# What is there


def _schemas(connection: psycopg.Connection[Any], settings: Settings, suffix: str = "") -> list[str]:
    """Name the schemas of this installation that are there, those of every generation of its read models included."""
    fixed = f"{settings.store_schema}|{settings.projections_schema}|{settings.read_schema}"
    models = f"{settings.prefix}_({'|'.join(READ_MODELS)})_[0-9]+"
    pattern = f"^(({fixed})|({models})){suffix}$"
    return [
        row.nspname for row in connection.execute("SELECT nspname FROM pg_namespace WHERE nspname ~ %s", (pattern,))
    ]


@contextmanager
def _aside(connection: psycopg.Connection[Any], settings: Settings) -> Iterator[None]:
    """Set the store and its read models aside; drop them at the end, or put them back if it does not end well.

    Where a restore was killed they lie aside already, and what it has put in their place goes.
    """
    with connection.transaction():
        there, aside = _schemas(connection, settings), _schemas(connection, settings, ASIDE)
        if aside:
            _drop(connection, there)
        else:
            _rename(connection, {name: f"{name}{ASIDE}" for name in there})
    try:
        yield
    except BaseException:
        with connection.transaction():
            _drop(connection, _schemas(connection, settings))
            _rename(connection, {name: name.removesuffix(ASIDE) for name in _schemas(connection, settings, ASIDE)})
        raise
    with connection.transaction():
        _drop(connection, _schemas(connection, settings, ASIDE))


def _drop(connection: psycopg.Connection[Any], names: Sequence[str]) -> None:
    for name in names:
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))


def _rename(connection: psycopg.Connection[Any], names: Mapping[str, str]) -> None:
    for before, after in names.items():
        connection.execute(
            sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(sql.Identifier(before), sql.Identifier(after))
        )


# What comes in its place


def _load(program: str, file: Path, settings: Settings, on_step: OnStep) -> None:
    """Load the archive in one transaction."""
    with psycopg.connect(settings.admin_dsn) as connection:
        database = connection.info.dbname
    argv = [program, "--single-transaction", "--exit-on-error", "--no-password", f"--dbname={database}"]
    process = tools.start(argv, settings.admin_dsn)
    if wrong := tools.feed(process, file, lambda done, total: on_step("loading", done, total)):
        raise Unavailable(f"pg_restore failed: {wrong}")


def _forget_again(connection: psycopg.Connection[Any], settings: Settings) -> int | None:
    """Destroy the keys that the replaced store had lost, if it is what became of this one; gives how many."""
    now, before = (sql.Identifier(f"{settings.store_schema}{suffix}") for suffix in ("", ASIDE))
    if not _is_there(connection, f"{settings.store_schema}{ASIDE}.commits"):
        return None
    query = sql.SQL(
        "SELECT EXISTS (SELECT FROM {0}.commits o JOIN {1}.commits n USING (number, digest)"
        " WHERE n.number = (SELECT max(number) FROM {1}.commits)) AND (SELECT max(number) > 0 FROM {1}.commits) AS same"
    )
    row = connection.execute(query.format(before, now)).fetchone()
    if not (row and row.same):
        return None
    gone = sql.SQL("DELETE FROM {1}.keys k WHERE NOT EXISTS (SELECT FROM {0}.keys o WHERE o.key_id = k.key_id)")
    return connection.execute(gone.format(before, now)).rowcount


def _make_read_models(settings: Settings, on_step: OnStep) -> None:
    """Make every read model from the log; the ordered ones ask again for what may have been answered and lost."""
    rebuild.install(settings)
    for model in READ_MODELS.values():
        if not isinstance(model, OrderedModel):
            rebuild.rebuild(settings, model, partial(on_step, model.name))
    rebuild.ask_again(settings)
