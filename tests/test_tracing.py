"""One trace leads from a command to the read models, found by the correlation id alone."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from time import monotonic, time_ns
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import format_trace_id

from prm_es import tracing
from prm_es.dispatch import Record
from prm_es.install import install
from prm_es.messages import Envelope
from prm_es.settings import Settings
from prm_es.store.store import Store
from prm_es.upstream.sending import send
from tests.support import Desk, command, partner
from tests.watching import health
from tests.workers import Crew, until

ORDER = "order 4711/ž"


@pytest.fixture(scope="module")
def ready(migrated: Settings) -> Settings:
    install(migrated)
    return migrated


def digest(*texts: str) -> str:
    return sha256("\n".join(texts).encode()).hexdigest()


# In memory


@pytest.fixture
def memory() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    tracing.use(tracing.Writer("tests", SimpleSpanProcessor(exporter)))
    yield exporter
    tracing.use()


def test_handling_and_projecting_are_joined_by_the_correlation_id(
    ready: Settings, memory: InMemorySpanExporter
) -> None:
    first, second = partner(), partner()
    with Store(ready) as store:
        desk, head = Desk(store), store.head()
        began = time_ns()
        related = [desk.record(_with(one, ORDER)) for one in (first, second)]
        alone = desk.record(command("partner.suspend", first.subject, {}))
        tracing.handled(desk.give(*related, alone, desk.raw(b"\xff")), began)
        tracing.projected("pipeline", store.events(head, 100), began)
    spans = memory.get_finished_spans()
    traces: dict[str, list[str]] = {}
    for span in spans:
        traces.setdefault(format_trace_id(span.context.trace_id), []).append(span.name)
        assert span.start_time == began
        assert (span.end_time or 0) > began
    assert traces == {
        digest("correlation", ORDER)[:32]: ["handle", "handle", "project pipeline", "project pipeline"],
        digest("command", "tests", _id(alone))[:32]: ["handle"],
    }
    assert [span.attributes and span.attributes["prm.outcome"] for span in spans[:3]] == ["accepted"] * 2 + ["refused"]
    assert len({span.context.span_id for span in spans}) == len(spans)


def _with(sent: Envelope, correlation_id: str) -> Envelope:
    return replace(sent, correlation_id=correlation_id)


def _id(record: Record) -> str:
    return (dict(record.headers)["ce_id"] or b"").decode()


def test_without_an_endpoint_nothing_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tracing.ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    tracing.start("tests")
    assert not tracing._writers


def test_without_the_extra_a_warning_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from prm_es import tracing; tracing.start('tests'); assert not tracing._writers"
    )
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "PYTHONPATH": ":".join(sys.path)}
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert "pip install prm-es[otel]" in done.stdout + done.stderr


# Through real workers, to a collector


@dataclass
class Collector:
    """Takes spans as a collector does: OTLP over HTTP."""

    address: str = ""
    spans: list[tuple[str, Span]] = field(default_factory=list)

    def trace(self, trace_id: str) -> list[tuple[str, Span]]:
        return [(service, span) for service, span in self.spans if span.trace_id.hex() == trace_id]


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
            for of_resource in sent.resource_spans:
                about = {one.key: one.value.string_value for one in of_resource.resource.attributes}
                for scope in of_resource.scope_spans:
                    collector.spans += [(about["service.name"], span) for span in scope.spans]
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.address = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, daemon=True).start()
        yield collector
        server.shutdown()


def test_one_trace_leads_from_a_command_through_every_worker_to_the_read_models(
    ready: Settings, tmp_path: Path
) -> None:
    sent, alone = _with(partner(), "order 4712"), partner()
    with collecting() as collector, Crew(ready, tmp_path) as crew:
        told = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.address, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        workers = [crew.start(*verb, **told) for verb in (["handle"], ["publish"], ["project", "pipeline", "leads"])]
        send(ready, [sent, alone], wait=True)
        trace = digest("correlation", "order 4712")[:32]
        until(lambda: len(collector.trace(trace)) == 4, "all spans have come")
        found = {span.name: (service, span) for service, span in collector.trace(trace)}
        (handler, handled), (publisher, published) = found["handle"], found["publish"]
        assert (handler, publisher) == ("prm-es-handle", "prm-es-publish")
        assert not handled.parent_span_id
        assert published.parent_span_id == handled.span_id
        for model in ("pipeline", "leads"):
            service, projected = found[f"project {model}"]
            assert service == "prm-es-pipeline+leads"
            assert projected.parent_span_id == published.span_id
            assert handled.start_time_unix_nano < projected.end_time_unix_nano
        about = {one.key: one.value.string_value for one in handled.attributes}
        assert about["prm.command.id"] == sent.id
        assert about["prm.correlation_id"] == "order 4712"
        other = digest("command", alone.source, alone.id)[:32]
        until(lambda: len(collector.trace(other)) == 4, "the other command has a trace of its own")
        for worker in workers:
            assert worker.end() == 0


def test_a_collector_that_is_away_stops_nobody_from_working_or_from_ending(ready: Settings, tmp_path: Path) -> None:
    with Crew(ready, tmp_path) as crew:
        handler = crew.start("handle", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", OTEL_BSP_SCHEDULE_DELAY="100")
        assert send(ready, [partner() for _ in range(50)], wait=True).accepted == 50
        assert health(handler)[0] == 200
        began = monotonic()
        assert handler.end() == 0
        assert monotonic() - began < tracing.END_S + 5
