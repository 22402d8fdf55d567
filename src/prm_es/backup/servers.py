"""The PostgreSQL that a backup is of: the one that is named or runs, else that of the data folder, started for it."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from prm_es.local.connect import names_postgres, running, settings_for
from prm_es.local.stack import Stack
from prm_es.settings import Settings
from prm_es.store.migrate import make_roles


@contextmanager
def postgres(settings: Settings) -> Iterator[Settings]:
    """Give settings that name a PostgreSQL; raises Unavailable if it does not start."""
    if names_postgres(settings):
        yield settings
    elif running(settings.data):
        yield settings_for(settings.data, settings)
    else:
        with Stack(settings, migrate=_roles, topics=_nothing, workers=(), kafka=False) as stack:
            yield stack.start()


def _roles(settings: Settings) -> None:
    """Make the roles that are to log in: in a folder that was never used there are none."""
    with psycopg.connect(settings.admin_dsn, autocommit=True) as connection:
        make_roles(connection, settings)


def _nothing(_settings: Settings) -> None:
    return None
