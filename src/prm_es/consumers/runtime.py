"""What every worker's main shares: logs, signals, exit codes, and what is done about servers and calls that hang."""

import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from threading import Event, Thread
from typing import Final, NoReturn

import psycopg
import psycopg2
import structlog
from kafka.errors import KafkaError

from prm_es import logs, presence, tracing
from prm_es.consumers import compiled_records, watch
from prm_es.errors import PrmError, Unavailable, Usage
from prm_es.liveness import LIVE
from prm_es.settings import Settings

log = structlog.get_logger()

DONE: Final = 0
DIFFERS: Final = 1
WRONG_USAGE: Final = 2
UNAVAILABLE: Final = 3

ASK_AGAIN_S: Final = 1.0
LOOK_S: Final = 1.0

# Batches make no cycles, and many objects that live as long as they: with 50,000 looking through them again and again
# costs a twentieth of the time, with the default a tenth.
GARBAGE_THRESHOLDS: Final = (500_000, 10, 10)


def stop_on_signals() -> Event:
    """Give an event that SIGTERM or SIGINT sets; the worker ends after its batch."""
    stop = Event()

    def ask(_number: int, _frame: object) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    return stop


def wait_for_servers(settings: Settings, stop: Event) -> None:
    """Return once PostgreSQL and Kafka answer, or when stopped.

    A worker that has lost a server ends and is started again. Were it to end once more for the same reason, so many
    starts would keep the machine busy, and its supervisor's growing pause would hold it up once the server is back.
    """
    told: dict[str, str] = {}
    while not stop.is_set() and (away := presence.away(settings)):
        if away.keys() != told.keys():
            LIVE.doing(f"waiting for {' and '.join(away)}")
            for server, reason in away.items():
                log.warning("worker.waits", server=server, reason=reason)
        told = away
        stop.wait(ASK_AGAIN_S)
    if told and not stop.is_set():
        LIVE.doing("starting")
        log.info("worker.waited", servers=list(told))


def end_if_it_hangs() -> None:
    """From now on, end the process with 3 as soon as something takes longer than it can: no signal would end it."""

    def look() -> None:
        while not (report := LIVE.report()).hangs:
            time.sleep(LOOK_S)
        log.error("worker.hangs", doing=report.doing, seconds=round(report.doing_for, 1))
        os._exit(UNAVAILABLE)

    Thread(target=look, name="hangs", daemon=True).start()


def run(worker: str, settings: Settings, work: Callable[[Settings, Event], None]) -> NoReturn:
    """Run a worker until it is stopped; exits with 0, or with 3 when it loses a server or one is not as it must be.

    Nothing that was under way is acknowledged on a failure: the supervisor starts the worker again, and that one waits
    for servers that do not answer.
    """
    logs.configure(worker, level=settings.log_level, form=settings.log_format)
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    compiled_records.use()
    stop = stop_on_signals()
    log.info("worker.started", prefix=settings.prefix)
    tracing.start(worker)
    try:
        watch.serve(worker, settings)
        end_if_it_hangs()
        wait_for_servers(settings, stop)
        work(settings, stop)
    except Usage as error:
        log.error("worker.misconfigured", reason=str(error))  # noqa: TRY400
        sys.exit(WRONG_USAGE)
    except (
        Unavailable,
        KafkaError,
        psycopg.OperationalError,
        psycopg2.OperationalError,
        psycopg2.InterfaceError,
    ) as error:
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
