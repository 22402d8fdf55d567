"""Logs are events with fields: JSON in containers, readable on a terminal. Personal values are never logged."""

import logging
import os
import sys
from typing import Literal

import structlog
from structlog.typing import Processor


def configure(
    worker: str, *, level: str = "info", form: Literal["auto", "json", "console"] = "auto", quiet: bool = False
) -> None:
    """Send structlog and the standard library's logs to stderr, bound to the worker's name.

    `quiet` is for command lines, which say in one sentence themselves what is wrong with a broker.
    With form "auto" a terminal gets readable lines (coloured unless NO_COLOR is set), anything else JSON.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    terminal = sys.stderr.isatty() if form == "auto" else form == "console"
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(
            colors=terminal and not os.environ.get("NO_COLOR"),
            exception_formatter=structlog.dev.plain_traceback,  # the other one shows what variables hold
        )
        if terminal
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    processors: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if not terminal:
        processors.append(structlog.processors.format_exc_info)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[*processors, renderer])
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for noisy in ("aiokafka", "faust", "httpx2", "mode", "psycopg", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # kafka-python warns about its own scheduling and about metadata that is still on its way
    for chatter in ("kafka", "kafka.net", "kafka.cluster", "kafka.consumer.fetcher"):
        logging.getLogger(chatter).setLevel(logging.CRITICAL if quiet else logging.ERROR)
    structlog.contextvars.bind_contextvars(worker=worker)
