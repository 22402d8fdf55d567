"""The histories of this store: each restored backup, and each filling of the topics anew, begins another one.

Positions behind the end of a restored backup are given a second time, to other events; the id of the history tells them
apart, on the topics (`storeid`) and in what follows from a position.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import namedtuple_row

from prm_es.settings import Settings
from prm_es.store.sole import sole_row

Cause = Literal["restored", "repaired"]


def begin(settings: Settings, cause: Cause) -> str:
    """Begin another history at the end of the log and give its store id; raises psycopg.Error.

    Nothing is published under it yet, and no deadline has been acted upon.
    """
    bookkeeping = sql.Identifier(settings.projections_schema)
    with psycopg.connect(settings.dsn("owner"), row_factory=namedtuple_row) as connection:
        connection.execute("DELETE FROM published")
        connection.execute(sql.SQL("DELETE FROM {}.deadline_attempts").format(bookkeeping))
        store_id = str(
            sole_row(connection, "UPDATE store_info SET store_id = gen_random_uuid() RETURNING store_id").store_id
        )
        connection.execute(_BEGIN, (store_id, cause))
        return store_id


_BEGIN: Final[LiteralString] = (
    "INSERT INTO histories (number, store_id, after_position, cause)"
    " SELECT max(h.number) + 1, %s, (SELECT max(last_position) FROM commits), %s FROM histories h"
)


Histories = Sequence[tuple[int, str]]  # the position behind which each begins, and its mark, in order


def mark(histories: Histories, position: int) -> str:
    """Give what tells ids that follow from a position from those of another history; nothing in the first one."""
    return next((mark for after, mark in reversed(histories) if position > after), "")


def histories(cursor: Any) -> Histories:  # noqa: ANN401
    """Give the histories of the store, asked through a cursor of psycopg2."""
    cursor.execute("SELECT after_position, store_id::text FROM histories WHERE number > 0 ORDER BY number")
    return [(after, f"@{store_id.partition('-')[0]}") for after, store_id in cursor]
