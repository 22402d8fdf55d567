"""One row of the store that must be there."""

from typing import Any, LiteralString

import psycopg

from prm_es.errors import Unavailable


def sole_row(connection: psycopg.Connection[Any], query: LiteralString, parameters: Any = None) -> Any:  # noqa: ANN401
    """Give the first row, of the connection's own kind; raises Unavailable if there is none."""
    row = connection.execute(query, parameters).fetchone()
    if row is None:
        raise Unavailable("the store lacks a row that its migration writes: it was not migrated whole")
    return row
