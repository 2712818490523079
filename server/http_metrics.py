"""What is counted of HTTP exchanges, whatever they are about."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge

from server.exchange import Exchange


class HttpMetrics:
    """Counters and gauges of one HTTP worker.

    Args:
        registry: Where they go.

    Attributes:
        answers: By method, route and status.
        open: Requests that have arrived and are not answered.
        streams: Of these, those whose answers are streams that have begun.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.answers = Counter(
            "peregrine_http_requests",
            "HTTP requests by route and status; 499 is a client that left before its answer began",
            ("method", "route", "status"),
            registry=registry,
        )
        self.open = self._gauge("requests_in_flight", "HTTP requests being read or answered", registry)
        self.streams = self._gauge("streams_open", "Event streams being sent", registry)

    @staticmethod
    def _gauge(name: str, text: str, registry: CollectorRegistry) -> Gauge:
        # NOTE: the files of dead workers are removed by gunicorn's master: see server.gunicorn_conf.
        return Gauge(f"peregrine_http_{name}", text, registry=registry, multiprocess_mode="livesum")


class CountExchanges:
    """A ``server.exchange.Witness``.

    Args:
        metrics: Gives the metrics; they are made when the worker starts.
    """

    def __init__(self, metrics: Callable[[], HttpMetrics]) -> None:
        self._metrics = metrics

    def began(self, exchange: Exchange) -> None:  # noqa: ARG002 - the protocol's signature
        """See ``server.exchange.Witness``."""
        self._metrics().open.inc()

    def answering(self, exchange: Exchange) -> None:
        """See ``server.exchange.Witness``."""
        if exchange.streamed:
            self._metrics().streams.inc()

    def ended(self, exchange: Exchange) -> None:
        """See ``server.exchange.Witness``."""
        self._metrics().open.dec()
        if exchange.streamed:
            self._metrics().streams.dec()
        self._metrics().answers.labels(exchange.method, exchange.route, str(exchange.status or 499)).inc()
