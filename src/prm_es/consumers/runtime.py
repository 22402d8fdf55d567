"""What every worker's main shares: logs, signals, exit codes."""

import gc
import signal
import sys
from collections.abc import Callable
from threading import Event
from typing import Final, NoReturn

import psycopg
import psycopg2
import structlog
from kafka.errors import KafkaError

from prm_es import logs, tracing
from prm_es.consumers import watch
from prm_es.errors import PrmError, Unavailable, Usage
from prm_es.settings import Settings

log = structlog.get_logger()

DONE: Final = 0
DIFFERS: Final = 1
WRONG_USAGE: Final = 2
UNAVAILABLE: Final = 3

_GARBAGE_THRESHOLD = (
    50_000  # batches make many short-lived objects and no cycles; the default costs a tenth of the time
)


def stop_on_signals() -> Event:
    """Give an event that SIGTERM or SIGINT sets; the worker ends after its batch."""
    stop = Event()

    def ask(_number: int, _frame: object) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    return stop


def run(worker: str, settings: Settings, work: Callable[[Settings, Event], None]) -> NoReturn:
    """Run a worker until it is stopped; exits with 0, or with 3 when a server is away or not as it must be.

    Nothing that was under way is acknowledged on a failure: the supervisor starts the worker again.
    """
    logs.configure(worker, level=settings.log_level, form=settings.log_format)
    gc.set_threshold(_GARBAGE_THRESHOLD)
    stop = stop_on_signals()
    log.info("worker.started", prefix=settings.prefix)
    tracing.start(worker)
    try:
        watch.serve(worker, settings)
        work(settings, stop)
    except Usage as error:
        log.error("worker.misconfigured", reason=str(error))  # noqa: TRY400
        sys.exit(WRONG_USAGE)
    except (Unavailable, KafkaError, psycopg.OperationalError, psycopg2.OperationalError) as error:
        if stop.is_set():
            log.info("worker.stopped", reason=str(error))
            sys.exit(DONE)
        log.error("worker.unavailable", reason=f"{type(error).__name__}: {error}")  # noqa: TRY400
        sys.exit(UNAVAILABLE)
    except PrmError:
        log.exception("worker.failed")
        sys.exit(UNAVAILABLE)
    finally:
        tracing.end()
    log.info("worker.stopped")
    sys.exit(DONE)
