"""One request's span, and below it one for each of its phases in the engine.

Names are those of OpenTelemetry's semantic conventions for HTTP and generative AI where these have one, and begin
with ``peregrine.`` where not. No attribute says what a prompt or an answer was.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from http import HTTPStatus

from opentelemetry.trace import Span, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.util.types import AttributeValue

from server.errors import InvalidRequestError, ServerError
from server.exchange import Exchange
from server.observer import Run

MAX_RUNS = 16
"""Requests to the engine, of one HTTP request, whose phases have spans: a thousand scored chats are not to."""


@dataclass(slots=True)
class RequestTrace:
    """A sampled request on its way.

    Attributes:
        tracer: Makes the phases' spans.
        span: The request's.
        model: What it is for.
        began: ``time.perf_counter()`` when it arrived.
        epoch: ``time.time()`` less ``time.perf_counter()``, in nanoseconds.
    """

    tracer: Tracer
    span: Span
    model: str
    began: float = field(default_factory=time.perf_counter)
    epoch: int = field(default_factory=lambda: time.time_ns() - time.perf_counter_ns())
    _runs: int = 0
    _queued: dict[int, float] = field(default_factory=dict)
    _first_token_at: float = 0.0
    _sums: dict[str, int] = field(default_factory=dict)
    _reasons: list[str] = field(default_factory=list)
    _failure: ServerError | None = None

    def first_token(self, run: Run, queue_seconds: float, cached_tokens: int) -> None:
        """A run's first token, or its score, is there."""
        self._queued[run.request_id] = queue_seconds
        self._add("gen_ai.usage.cache_read.input_tokens", cached_tokens)
        if not self._first_token_at:
            self._first_token_at = run.first_token_at
            self.span.add_event("first_token", timestamp=self._at(run.first_token_at))

    def finished(self, run: Run) -> None:
        """A run has ended."""
        self._runs += 1
        if self._runs == 1:
            self.span.set_attributes(_asked(run))
            self._phase("validate", run, run.started - run.seconds_before, run.started)
        self._add("gen_ai.usage.input_tokens", run.request.prompt_tokens)
        self._add("gen_ai.usage.output_tokens", sum(run.counts))
        self._reasons += run.reasons
        self._failure = self._failure or run.failure
        if self._runs <= MAX_RUNS:
            self._phases(run)

    def end(self, exchange: Exchange) -> None:
        """The answer is complete, or never will be."""
        span = self.span
        if exchange.route:
            span.update_name(f"{exchange.method} {exchange.route}")
            span.set_attribute("http.route", exchange.route)
        if exchange.status:
            span.set_attribute("http.response.status_code", exchange.status)
        if self._runs:
            span.set_attributes(self._answered(exchange))
        self._conclude(exchange)
        span.end()

    def _phases(self, run: Run) -> None:
        """How ``run`` spent its time: queued, on its prompt, on its output."""
        ended = time.perf_counter()
        if not run.first_token_at:
            self._phase("queue", run, run.started, ended)
            return
        scheduled = min(run.started + self._queued.pop(run.request_id, 0.0), run.first_token_at)
        self._phase("queue", run, run.started, scheduled)
        self._phase("prefill", run, scheduled, run.first_token_at)
        if sum(run.counts):
            self._phase("decode", run, run.first_token_at, ended)

    def _phase(self, name: str, run: Run, began: float, ended: float) -> None:
        span = self.tracer.start_span(
            name,
            set_span_in_context(self.span),
            attributes={"peregrine.run": run.request_id},
            start_time=self._at(began),
        )
        span.end(self._at(ended))

    def _answered(self, exchange: Exchange) -> dict[str, AttributeValue]:
        attributes: dict[str, AttributeValue] = {
            "gen_ai.operation.name": _operation(exchange.route),
            "gen_ai.provider.name": "peregrine",
            "gen_ai.request.model": self.model,
            "gen_ai.response.model": self.model,
            "gen_ai.request.stream": exchange.streamed,
            "gen_ai.response.finish_reasons": self._reasons,
            "peregrine.runs": self._runs,
            **self._sums,
        }
        if self._first_token_at:
            attributes["gen_ai.response.time_to_first_chunk"] = self._first_token_at - self.began
        return attributes

    def _conclude(self, exchange: Exchange) -> None:
        """Say how it ended. The server's failures are errors; a client's mistakes are not, but have a name too."""
        failure = exchange.failure or self._failure
        if failure is not None:
            self.span.set_attribute("error.type", failure.reason)
        elif "abort" in self._reasons or exchange.status in (0, 499):
            self.span.set_attribute("error.type", "client_gone")
        elif exchange.status >= HTTPStatus.BAD_REQUEST:
            self.span.set_attribute("error.type", str(exchange.status))
        if exchange.status >= HTTPStatus.INTERNAL_SERVER_ERROR or _is_ours(failure):
            self.span.set_status(Status(StatusCode.ERROR, failure.message if failure else None))

    def _add(self, name: str, amount: int) -> None:
        self._sums[name] = self._sums.get(name, 0) + amount

    def _at(self, moment: float) -> int:
        """``time.perf_counter()`` as nanoseconds since 1970."""
        return self.epoch + int(moment * 1e9)


def _is_ours(failure: ServerError | None) -> bool:
    """Whether the server, not the request, is why. What clients did wrong may be told in their own words: no status."""
    return failure is not None and not isinstance(failure, InvalidRequestError)


def _operation(route: str) -> str:
    if route == "/get_score":
        return "score"
    return "chat" if "chat" in route else "text_completion"


def _asked(run: Run) -> dict[str, AttributeValue]:
    """What was asked for. Where there are several prompts, this is the same for all of them."""
    params, greedy = run.request.sampling, run.request.sampling.top_k == 1
    attributes: dict[str, AttributeValue] = {
        "gen_ai.request.max_tokens": params.max_new_tokens,
        "gen_ai.request.choice.count": run.request.samples,
        "gen_ai.request.temperature": 0.0 if greedy else params.temperature,
        "gen_ai.request.top_p": params.top_p,
    }
    if params.top_k > 1:
        attributes["gen_ai.request.top_k"] = float(params.top_k)
    return attributes
