"""OpenTelemetry spans, if they are wanted: one trace from a command to the read models that show what it did.

The ids of traces and spans are digests of what every message carries anyway: no header is needed for them, and each
worker knows the span that its own comes under.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from threading import Thread
from time import time_ns
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import structlog

from prm_es.messages import Headers, Recorded

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

log = structlog.get_logger()

END_S: Final = 3.0
ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Answered(Protocol):
    """What goes back for a record: its headers name the command, if one could be read."""

    @property
    def headers(self) -> Headers:
        """Names and values, as of a result or a dead letter."""
        ...


@dataclass(frozen=True, slots=True)
class Span:
    """A span to be; `parent` is the id of the span it comes under, None for the first of its command."""

    name: str
    kind: Literal["CONSUMER", "PRODUCER"]
    trace: int
    id: int
    parent: int | None
    attributes: Mapping[str, str]


# What the spans are


def trace_of(correlation_id: str | None, source: str, command_id: str) -> int:
    """Give the id of the trace: of the correlation id, or of the command alone if it has none.

    The rule: the first 16 bytes of SHA-256 over `correlation`, or `command`, and the one or two texts, joined by line
    feeds, in UTF-8.
    """
    return _digest(16, "command", source, command_id) if correlation_id is None else correlation_trace(correlation_id)


def correlation_trace(correlation_id: str) -> int:
    """Give the id of the trace of a correlation id."""
    return _digest(16, "correlation", correlation_id)


def handle_spans(answers: Iterable[Answered]) -> Iterator[Span]:
    """Give the span of each command that was answered; a record without one has none."""
    for answer in answers:
        head = _texts(answer.headers)
        if "commandsource" in head and "causationid" in head:
            outcome = head["type"].rpartition(".")[2] if "type" in head else "dead_letter"
            command = _command(head)
            trace = trace_of(head.get("correlationid"), *command)
            yield Span("handle", "CONSUMER", trace, _handled(*command), None, _about(head, outcome=outcome))


def publish_spans(records: Iterable[Headers]) -> Iterator[Span]:
    """Give the span of each event that was published, under that of its command."""
    for headers in records:
        head = _texts(headers)
        command = _command(head)
        trace = trace_of(head.get("correlationid"), *command)
        about = _about(head, event=head["type"], position=head["sequence"])
        yield Span("publish", "PRODUCER", trace, _published(head["id"]), _handled(*command), about)


def project_spans(read_model: str, events: Iterable[Recorded]) -> Iterator[Span]:
    """Give the span of each event that a read model was given, under that of its publishing."""
    for event in events:
        event_id = f"{event.subject}/{event.version}"
        trace = trace_of(event.correlation_id, event.command_source, event.command_id)
        about = {
            "prm.subject": str(event.subject),
            "prm.command.source": event.command_source,
            "prm.command.id": event.command_id,
            "prm.event": event.type,
            "prm.position": str(event.position),
            "prm.read_model": read_model,
        }
        if event.correlation_id is not None:
            about["prm.correlation_id"] = event.correlation_id
        own = _digest(8, "project", read_model, event_id)
        yield Span(f"project {read_model}", "CONSUMER", trace, own, _published(event_id), about)


def _handled(source: str, command_id: str) -> int:
    return _digest(8, "handle", source, command_id)


def _published(event_id: str) -> int:
    return _digest(8, "publish", event_id)


def _digest(size: int, *texts: str) -> int:
    return int.from_bytes(sha256("\n".join(texts).encode()).digest()[:size]) or 1  # 0 is no id


def _texts(headers: Headers) -> dict[str, str]:
    return {name[3:]: raw.decode() for name, raw in headers if name.startswith("ce_")}


def _command(head: Mapping[str, str]) -> tuple[str, str]:
    return head["commandsource"], head["causationid"]


def _about(head: Mapping[str, str], **more: str) -> dict[str, str]:
    named = {
        "prm.subject": head.get("subject"),
        "prm.command.source": head.get("commandsource"),
        "prm.command.id": head.get("causationid"),
        "prm.correlation_id": head.get("correlationid"),
        **{f"prm.{name}": text for name, text in more.items()},
    }
    return {name: text for name, text in named.items() if text is not None}


# Writing them


class Writer:
    """Makes spans with the SDK and hands them to a processor; used by one thread."""

    def __init__(self, worker: str, processor: "SpanProcessor") -> None:
        """Set up the SDK; raises ImportError without the extra `otel`."""
        from opentelemetry.context import Context  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.id_generator import IdGenerator  # noqa: PLC0415

        class Ids(IdGenerator):  # type: ignore[misc,unused-ignore]
            trace = span = 0

            def generate_trace_id(self) -> int:
                return self.trace

            def generate_span_id(self) -> int:
                return self.span

        name = os.environ.get("OTEL_SERVICE_NAME") or f"prm-es-{worker}"
        self._ids, self._root = Ids(), Context()
        resource = Resource.create({"service.name": name})
        self._provider = TracerProvider(id_generator=self._ids, resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("prm_es")

    def write(self, spans: Iterable[Span], began: int) -> None:
        """Write spans that began at `began`, nanoseconds since 1970, and end now."""
        from opentelemetry.trace import SpanKind  # noqa: PLC0415

        ended = time_ns()
        for one in spans:
            self._ids.trace, self._ids.span = one.trace, one.id
            span = self._tracer.start_span(
                one.name,
                context=self._root if one.parent is None else self._under(one.trace, one.parent),
                kind=SpanKind[one.kind],
                attributes=one.attributes,
                start_time=began,
            )
            span.end(ended)

    def end(self) -> None:
        """Send what is left, for as long as END_S: by itself the SDK tries longer than a supervisor waits."""
        sending = Thread(target=self._provider.shutdown, daemon=True)
        sending.start()
        sending.join(END_S)

    def _under(self, trace: int, parent: int) -> Any:  # noqa: ANN401
        from opentelemetry import trace as api  # noqa: PLC0415

        sampled = api.TraceFlags(api.TraceFlags.SAMPLED)
        known = api.SpanContext(trace, parent, is_remote=True, trace_flags=sampled)
        return api.set_span_in_context(api.NonRecordingSpan(known), self._root)


_writers: Final[list[Writer]] = []  # this process's, or none


def start(worker: str) -> None:
    """Trace from now on if OTEL_EXPORTER_OTLP_ENDPOINT says where to; without the extra `otel` only a warning."""
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError:
        log.warning("tracing.unavailable", reason="an endpoint is set, but not installed is: pip install prm-es[otel]")
        return
    use(Writer(worker, BatchSpanProcessor(OTLPSpanExporter())))


def use(*writers: Writer) -> None:
    """Trace by this writer from now on, or not at all."""
    _writers[:] = writers


def end() -> None:
    """Send what is left and trace no more."""
    for writer in _writers:
        writer.end()
    use()


def handled(answers: Sequence[Answered], began: int) -> None:
    """Trace a batch of commands that began at `began`, by time_ns."""
    for writer in _writers:
        writer.write(handle_spans(answers), began)


def published(records: Sequence[Headers], began: int) -> None:
    """Trace a batch of events that were published."""
    for writer in _writers:
        writer.write(publish_spans(records), began)


def projected(read_model: str, events: Sequence[Recorded], began: int) -> None:
    """Trace a batch of events that a read model was given."""
    for writer in _writers:
        writer.write(project_spans(read_model, events), began)
