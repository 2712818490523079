"""Traces of one HTTP worker: a ``server.exchange.Witness`` and a ``server.observer.Observer``."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Iterable
from contextvars import ContextVar

from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AttributeValue

from runtime.messages import TokenOutput
from server.exchange import Exchange
from server.observer import Run
from server.resources.request_log import SAFE_NAME
from server.tracing import collector_log
from server.tracing.provider import NAME, make_provider
from server.tracing.request_trace import RequestTrace

FLUSH_SECONDS = 2.0
"""What a process that ends gives to its last spans."""

_QUIET_PATHS = frozenset(
    {"/docs", "/get_model_name", "/health", "/healthz", "/liveness", "/metrics", "/openapi.json", "/readiness"}
    | {"/token_load", "/ui"}
)
"""What probes, scrapers and pages ask for all the time."""

_current: ContextVar[RequestTrace | None] = ContextVar("trace", default=None)


class Tracing:
    """Makes a span of each request, and sends them to the collector from a thread of its own.

    Args:
        model_name: What requests are for.

    Raises:
        ValueError: One of OpenTelemetry's environment variables has no usable value.
    """

    def __init__(self, model_name: str) -> None:
        collector_log.install()
        self._model_name = model_name
        self._provider = make_provider()
        self._tracer = self._provider.get_tracer(NAME)
        self._propagated = {name.encode(): name for name in propagate.get_global_textmap().fields}
        # NOTE: started now, because Python starts no threads while it exits.
        self._ending = threading.Event()
        self._last_words = threading.Thread(target=self._send_the_rest, name="last-spans", daemon=True)
        self._last_words.start()
        atexit.register(self.close)

    def close(self) -> None:
        """Send what is left, if that can be done soon."""
        atexit.unregister(self.close)
        self._ending.set()
        self._last_words.join(FLUSH_SECONDS)

    def began(self, exchange: Exchange) -> None:
        """See ``server.exchange.Witness``."""
        scope = exchange.scope
        if scope["path"] in _QUIET_PATHS or scope["path"].startswith("/ui/"):
            return
        span = self._tracer.start_span(
            exchange.method,
            self._parent(scope["headers"]),
            SpanKind.SERVER,
            attributes=_asked(exchange),
        )
        if span.is_recording():
            _current.set(RequestTrace(self._tracer, span, self._model_name))

    def answering(self, exchange: Exchange) -> None:
        """See ``server.exchange.Witness``."""

    def ended(self, exchange: Exchange) -> None:
        """See ``server.exchange.Witness``."""
        trace = _current.get()
        if trace is not None:
            _current.set(None)
            trace.end(exchange)

    def first_token(self, run: Run, output: TokenOutput) -> None:
        """See ``server.observer.Observer``."""
        trace = _current.get()
        if trace is not None:
            trace.first_token(run, output.queue_seconds, output.cached_tokens)

    def token(self, run: Run, gap: float) -> None:
        """See ``server.observer.Observer``."""

    def finished(self, run: Run) -> None:
        """See ``server.observer.Observer``."""
        trace = _current.get()
        if trace is not None:
            trace.finished(run)

    def _send_the_rest(self) -> None:
        self._ending.wait()
        self._provider.shutdown()

    def _parent(self, headers: Iterable[tuple[bytes, bytes]]) -> Context | None:
        """What the client's ``traceparent``, or whatever else ``OTEL_PROPAGATORS`` names, says."""
        found: dict[str, list[str]] = {}
        for name, value in headers:
            if name in self._propagated:
                found.setdefault(self._propagated[name], []).append(value.decode("latin-1"))
        return propagate.extract(found) if found else None


def _asked(exchange: Exchange) -> dict[str, AttributeValue]:
    """What is known before the request is read. The query is left out: it may hold a prompt."""
    scope = exchange.scope
    attributes: dict[str, AttributeValue] = {
        "http.request.method": exchange.method,
        # NOTE: what is no Unicode text would have a whole batch of spans refused.
        "url.path": scope["path"].encode("utf-8", "replace").decode(),
        "url.scheme": scope["scheme"],
    }
    identifier = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"").decode("latin-1")
    if SAFE_NAME.fullmatch(identifier):
        attributes["http.request.header.x-request-id"] = [identifier]
    return attributes
