"""The id of this store's history: another one begins when a backup is restored or the topics are filled anew."""

import psycopg
from psycopg.rows import namedtuple_row

from prm_es.settings import Settings
from prm_es.store.sole import sole_row


def begin(settings: Settings) -> str:
    """Give the store a new id, under which nothing is published yet; raises psycopg.Error."""
    with psycopg.connect(settings.dsn("owner"), row_factory=namedtuple_row) as connection:
        connection.execute("DELETE FROM published")
        row = sole_row(connection, "UPDATE store_info SET store_id = gen_random_uuid() RETURNING store_id")
        return str(row.store_id)
