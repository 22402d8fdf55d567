"""One read-only statement of the user's own."""

from typing import Any

import psycopg
from psycopg import sql

from prm_es.errors import Usage
from prm_es.settings import Settings


def run_sql(settings: Settings, query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Run one statement as the reader role in a read-only transaction; raises Usage with PostgreSQL's own sentence.

    The extended protocol takes a single statement only, so nothing can be appended.
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
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:
            raise Usage(str(error).strip()) from None
