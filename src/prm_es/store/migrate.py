"""Numbered SQL files, applied once each under an advisory lock; workers only check."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final, LiteralString, cast

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from prm_es.errors import SchemaMismatch
from prm_es.settings import DB_ROLES, Settings
from prm_es.store.locks import Lock, keys

ASIDE: Final = "_replaced"  # the suffix of the schemas that a restore sets aside


def known() -> Mapping[int, LiteralString]:
    """Give the migrations of this program: number and SQL text."""
    folder = files(__package__).joinpath("migrations")
    named = {entry.name: entry for entry in folder.iterdir() if entry.name.endswith(".sql")}
    return {int(name[:4]): _trusted(named[name].read_text(encoding="utf-8")) for name in sorted(named)}


def _trusted(text: Any) -> LiteralString:  # noqa: ANN401
    return cast("LiteralString", text)


def names(settings: Settings) -> dict[str, sql.Composable]:
    """Give the identifiers that the SQL files leave open."""
    schemas = {
        "store": settings.store_schema,
        "projections": settings.projections_schema,
        "read": settings.read_schema,
    }
    roles = {role: settings.db_role(role) for role in DB_ROLES}
    found: dict[str, sql.Composable] = {"store_name": sql.Literal(settings.store_schema)}
    for name, text in (*schemas.items(), *roles.items()):
        found[name] = sql.Identifier(text)
    return found


def migrate(settings: Settings) -> list[int]:
    """Bring the database up to this program and give the numbers applied; raises SchemaMismatch if it is newer.

    Connects as the user of `postgres_owner` or `postgres`, who must be able to make roles and schemas.
    """
    with psycopg.connect(settings.admin_dsn, autocommit=True) as connection, connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", keys(settings.prefix, Lock.MIGRATE))
        _prepare(connection, settings)
        done = _applied(connection, settings)
        migrations = known()
        _refuse_newer(done, migrations)
        todo = sorted(set(migrations) - done)
        for number in todo:
            connection.execute(sql.SQL(migrations[number]).format(**names(settings)))
            record = sql.SQL("INSERT INTO {store}.schema_migrations (number) VALUES (%s)")
            connection.execute(record.format(**names(settings)), (number,))
    return todo


def pending(settings: Settings) -> list[int]:
    """Give the numbers that migrate would apply, and change nothing; raises SchemaMismatch if the database is newer."""
    migrations = known()
    with psycopg.connect(settings.admin_dsn, autocommit=True) as connection:
        try:
            done = _applied(connection, settings)
        except psycopg.errors.UndefinedTable:
            done = set()
    _refuse_newer(done, migrations)
    return sorted(set(migrations) - done)


def check(connection: psycopg.Connection[Any], settings: Settings) -> None:
    """Raise SchemaMismatch unless the database stands exactly where this program needs it."""
    try:
        done = _applied(connection, settings)
    except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege):
        done = set()
    migrations = known()
    _refuse_newer(done, migrations)
    if done != set(migrations):
        raise SchemaMismatch(
            f"the database is at migration {max(done, default=0)}, this program needs {max(migrations)}:"
            " run `prm-es migrate`"
        )
    if _interrupted(connection, settings):
        raise SchemaMismatch("a restore was interrupted and what was there lies aside: run `prm-es restore` again")


def _interrupted(connection: psycopg.Connection[Any], settings: Settings) -> bool:
    query = "SELECT 1 FROM pg_namespace WHERE nspname = %s"
    return connection.execute(query, (f"{settings.store_schema}{ASIDE}",)).fetchone() is not None


def make_roles(connection: psycopg.Connection[Any], settings: Settings) -> None:
    """Make the database roles that are missing; the user must be able to."""
    for role in DB_ROLES:
        name = settings.db_role(role)
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)).fetchone():
            connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(name)))
            connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(name)))
    database = connection.info.dbname
    grant = sql.SQL("GRANT CREATE ON DATABASE {} TO {}")  # a rebuild makes schemas
    connection.execute(grant.format(sql.Identifier(database), sql.Identifier(settings.db_role("owner"))))


def _prepare(connection: psycopg.Connection[Any], settings: Settings) -> None:
    make_roles(connection, settings)
    for statement in _BOOKKEEPING:
        connection.execute(sql.SQL(statement).format(**names(settings)))


_BOOKKEEPING: Final[tuple[LiteralString, ...]] = (
    "CREATE SCHEMA IF NOT EXISTS {store} AUTHORIZATION {owner}",
    """CREATE TABLE IF NOT EXISTS {store}.schema_migrations (
        number int PRIMARY KEY,
        applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
    )""",
    "GRANT USAGE ON SCHEMA {store} TO {writer}, {projector}, {auditor}",
    "GRANT SELECT ON {store}.schema_migrations TO {owner}, {writer}, {projector}, {auditor}",
)


def _applied(connection: psycopg.Connection[Any], settings: Settings) -> set[int]:
    query = sql.SQL("SELECT number FROM {}.schema_migrations").format(sql.Identifier(settings.store_schema))
    with connection.cursor(row_factory=tuple_row) as cursor:
        return {number for (number,) in cursor.execute(query)}


def _refuse_newer(done: set[int], migrations: Mapping[int, LiteralString]) -> None:
    if strange := done - set(migrations):
        raise SchemaMismatch(
            f"the database has migration {max(strange)}, which this older program does not know: run the version that"
            " made it, or restore a backup from before"
        )
