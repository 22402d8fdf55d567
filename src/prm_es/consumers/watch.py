"""`/metrics`, `/health` and `/ready` of a worker, answered by threads of their own while the worker works or hangs."""

import errno
import os
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from importlib.metadata import version
from socketserver import TCPServer, ThreadingMixIn
from threading import Lock, Thread
from typing import Any, Final, get_args

import orjson
import structlog
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.core import InfoMetricFamily as Info
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from prm_es.consumers.backlog import backlogs_of
from prm_es.errors import Usage
from prm_es.liveness import LIVE, Liveness, State
from prm_es.messages import utc_text
from prm_es.metrics import REGISTRY
from prm_es.settings import Settings

log = structlog.get_logger()

REQUEST_S: Final = 5.0
JSON: Final = "application/json"


class Watch:
    """What there is to say of one worker."""

    def __init__(self, worker: str, live: Liveness, stuck_after: float, backlogs: Collector | None = None) -> None:
        self._worker, self._live, self._stuck_after = worker, live, stuck_after
        self._one_at_a_time = Lock()  # backlogs keep connections
        self._registry = CollectorRegistry()
        for collector in (REGISTRY, self, backlogs):
            if collector is not None:
                self._registry.register(collector)

    def answer(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        """Give status, content type and body for a path."""
        match path:
            case "/metrics":
                with self._one_at_a_time:
                    return HTTPStatus.OK, CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self._registry)
            case "/health" | "/ready":
                well, body = self._health(must_have_begun=path == "/ready")
                status = HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE
                return status, JSON, orjson.dumps(body, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
            case _:
                return HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"there are: /health /ready /metrics\n"

    def _health(self, *, must_have_begun: bool) -> tuple[bool, dict[str, object]]:
        report, now = self._live.report(), datetime.now(UTC)
        stuck = report.stuck(self._stuck_after)
        body: dict[str, object] = {
            "worker": self._worker,
            "status": "stuck" if stuck else "ok",
            "state": report.state,
            "doing": report.doing,
            "doing_since": utc_text(now - timedelta(seconds=report.doing_for)),
            "last_progress": utc_text(now - timedelta(seconds=report.progress_ago)),
            "last_progress_seconds_ago": round(report.progress_ago, 3),
            "stuck_after_seconds": self._stuck_after,
            "process": os.getpid(),
        }
        return not stuck and not (must_have_begun and report.state == "starting"), body

    def collect(self) -> Iterator[Metric]:
        """Give the same as /health, as metrics."""
        report = self._live.report()
        yield Info("prm_worker", "What runs.", {"worker": self._worker, "version": version("prm-es")})
        state = Gauge("prm_worker_state", "1 for the state that the worker is in.", labels=["state"])
        for one in get_args(State):
            state.add_metric([one], one == report.state)
        yield state
        yield Gauge("prm_worker_progress_age_seconds", "Since the worker finished something.", report.progress_ago)
        yield Gauge("prm_worker_stuck", "1 if /health says stuck.", report.stuck(self._stuck_after))


class _Server(ThreadingMixIn, TCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 32

    def __init__(self, host: str, port: int, watch: Watch) -> None:
        self.watch = watch
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def handle_error(self, _request: Any, client_address: Any) -> None:  # noqa: ANN401
        log.debug("watch.request_failed", client=str(client_address), reason=repr(sys.exception()))


class _Handler(BaseHTTPRequestHandler):
    timeout = REQUEST_S
    server: _Server

    def do_GET(self) -> None:
        status, kind, body = self.server.watch.answer(self.path.partition("?")[0])
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


def serve(worker: str, settings: Settings) -> str:
    """Answer from now on until the process ends; gives the address. Raises Usage if there is no such host.

    A port that somebody else has is no reason not to work: then it is a free one, and the log says which.
    """
    watch = Watch(worker, LIVE, settings.stuck_after, backlogs_of(worker, settings))
    server = listen(settings.metrics_host, settings.metrics_port, watch)
    host, port = server.server_address[:2]
    address = f"http://[{host!s}]:{port}" if ":" in str(host) else f"http://{host!s}:{port}"
    log.info("worker.watched", metrics=f"{address}/metrics", health=f"{address}/health")
    return address


def listen(host: str, port: int, watch: Watch) -> _Server:
    """Start a server on this port, or on a free one if it is taken; raises Usage."""
    try:
        server = _Server(host, port, watch)
    except OSError as error:
        if error.errno == errno.EADDRINUSE and port:
            log.warning("worker.watched_elsewhere", host=host, port=port, reason="the port is taken")
            return listen(host, 0, watch)
        raise Usage(f"PRM_METRICS_HOST={host}, PRM_METRICS_PORT={port}: {error}") from error
    Thread(target=server.serve_forever, name="watch", daemon=True).start()
    return server
