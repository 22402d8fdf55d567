"""One read-only statement of the user's own."""

from typing import Any

import psycopg
from psycopg import sql

from prm_es.errors import Usage
from prm_es.settings import Settings


def run_sql(settings: Settings, query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Run one statement as the reader role in a read-only transaction; raises Usage with PostgreSQL's own sentence.

    The extended protocol takes a single statement only, so nothing can be appended. Who logs in as the reader
    (`postgres_reader`) is held to its rights whatever the statement; with one string for all roles this keeps from
    mistakes, not from somebody who holds that string anyway.
    """
    with psycopg.connect(settings.dsn("reader"), autocommit=True) as connection:
        connection.read_only = True
        search_path = sql.SQL("SET search_path = {}").format(sql.Identifier(settings.read_schema))
        connection.execute(search_path)
        try:
            with connection.transaction():
                cursor = connection.execute(query.encode(), prepare=True)
                columns = [column.name for column in cursor.description or ()]
                return columns, cursor.fetchall() if columns else []
        except psycopg.Error as error:
            if connection.closed:
                raise
            raise Usage(str(error).strip()) from None
