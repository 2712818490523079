"""An OpenTelemetry collector: takes OTLP over HTTP and keeps the spans."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

WAIT_SECONDS = 20.0


@dataclass(frozen=True)
class SpanRecord:
    """One span as it came."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    start: int
    end: int
    status: int
    reason: str
    trace_state: str
    attributes: dict[str, Any] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    resource: dict[str, Any] = field(default_factory=dict)


class TraceCollector:
    """Listens on a free port while it is used as a context.

    Attributes:
        spans: In the order in which they came.
        headers: Of each call.
        raw: All bodies together.
    """

    def __init__(self) -> None:
        self.spans: list[SpanRecord] = []
        self.headers: list[dict[str, str]] = []
        self.raw = b""
        self._changed = threading.Condition()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                collector._take(body, {name.lower(): value for name, value in self.headers.items()})
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def endpoint(self) -> str:
        """What ``OTEL_EXPORTER_OTLP_ENDPOINT`` has to be."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> TraceCollector:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def trace(self, trace_id: str, root: Callable[[SpanRecord], bool] = lambda span: span.kind == 2) -> Trace:
        """Wait for a trace's server span, with which come all that ended before it."""
        return self.wait_for(lambda spans: any(s.trace_id == trace_id and root(s) for s in spans), trace_id)

    def wait_for(self, condition: Callable[[list[SpanRecord]], bool], trace_id: str = "") -> Trace:
        """Wait until the spans fulfil ``condition``; returns those of a trace."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self.spans), WAIT_SECONDS), self.spans
            return Trace([span for span in self.spans if span.trace_id == trace_id])

    def _take(self, body: bytes, headers: dict[str, str]) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        with self._changed:
            self.raw += body
            self.headers.append(headers)
            for group in request.resource_spans:
                resource = _values(group.resource.attributes)
                self.spans += [_record(span, resource) for scope in group.scope_spans for span in scope.spans]
            self._changed.notify_all()


class Trace:
    """The spans of one trace."""

    def __init__(self, spans: list[SpanRecord]) -> None:
        self.spans = spans

    @property
    def server(self) -> SpanRecord:
        """The request's span."""
        (span,) = [span for span in self.spans if span.kind == 2]
        return span

    @property
    def phases(self) -> list[SpanRecord]:
        """Its children, in order of time."""
        return sorted((span for span in self.spans if span.parent_id == self.server.span_id), key=lambda s: s.start)


def _record(span: Any, resource: dict[str, Any]) -> SpanRecord:
    return SpanRecord(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        kind=span.kind,
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        status=span.status.code,
        reason=span.status.message,
        trace_state=span.trace_state,
        attributes=_values(span.attributes),
        events={event.name: event.time_unix_nano for event in span.events},
        resource=resource,
    )


def _values(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind)
