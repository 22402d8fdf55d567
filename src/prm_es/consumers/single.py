"""One active process of a kind: a session lock on the database, the others stand by."""

from threading import Event
from typing import Any, Final

import psycopg
import structlog

from prm_es.liveness import LIVE
from prm_es.settings import Settings
from prm_es.store.locks import Lock, keys
from prm_es.store.sole import sole_row

log = structlog.get_logger()

STANDBY_S: Final = 1.0


def take_lock(connection: psycopg.Connection[Any], settings: Settings, lock: Lock, stop: Event) -> bool:
    """Wait until this session holds the lock; False if it is to stop before. It is lost with the connection."""
    told = False
    while not stop.is_set():
        answer = sole_row(connection, "SELECT pg_try_advisory_lock(%s, %s)", keys(settings.prefix, lock))
        if answer[0]:
            LIVE.doing("taking over")
            return True
        LIVE.standby()
        if not told:
            log.info("worker.standby", lock=lock.name.lower())
            told = True
        stop.wait(STANDBY_S)
    return False
