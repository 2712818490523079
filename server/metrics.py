"""What the HTTP side counts and times: LightLLM's metric names, and vLLM's for the same quantities.

With several workers, ``prometheus_client`` keeps the values in files under ``PROMETHEUS_MULTIPROC_DIR``, and
whichever worker is asked adds them up. The engine's own numbers come from ``server.engine_metrics``.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from runtime.messages import TokenOutput
from runtime.stats import EngineStats
from server.bulk_histogram import BulkHistogram
from server.engine_metrics import EngineCollector
from server.errors import InvalidRequestError, RefusedError, ServerError, TimeIsUpError, UnavailableError
from server.http_metrics import HttpMetrics
from server.process_metrics import ProcessCollector, http_workers
from server.server_metrics import ServerCollector
from server.tenant_metrics import TenantMetrics

if TYPE_CHECKING:
    from server.observer import Run

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

DURATIONS = tuple(0.001 * 1.5**i for i in range(1, 36))
"""LightLLM's buckets, in seconds."""

RATIOS = tuple(i / 10 for i in range(11))
BATCH_SIZES = tuple(range(1, 129))


class FrontMetrics:
    """Counters and histograms of one HTTP worker.

    Args:
        max_request_tokens: Upper end of the token-count histograms.
        model_name: Label of the vLLM-style metrics.

    Attributes:
        tenants: The same of each tenant.
        collectors: Asked at each scrape, after the engine.
        http: Counts the exchanges.
    """

    def __init__(self, max_request_tokens: int, model_name: str) -> None:
        self._registry = CollectorRegistry()
        self._model_name = model_name
        self._make_request_metrics()
        self._make_token_metrics(tuple(max_request_tokens * i / 100 for i in range(101)))
        self._make_vllm_metrics()
        self.http = HttpMetrics(self._registry)
        self._counter("peregrine_http_worker_starts", "HTTP worker processes that began to serve").inc()
        self._gaps: list[float] = []
        self.tenants = TenantMetrics(self._registry)
        self.collectors: list[Collector] = []

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, text, labels, registry=self._registry, buckets=buckets)

    def _duration(self, name: str, text: str) -> Histogram:
        return self._histogram(f"lightllm_request_{name}", text, DURATIONS)

    def _make_request_metrics(self) -> None:
        self._count = self._counter("lightllm_request_count", "Requests tokenized")
        self._success = self._counter("lightllm_request_success", "Requests answered in full")
        self._failure = self._counter("lightllm_request_failure", "Requests answered with an error")
        self._replays = self._counter("peregrine_request_replays", "Requests run again by another engine")
        self._total = self._duration("duration", "Seconds from arrival to the last token")
        self._validation = self._duration("validation_duration", "Seconds to parse, check and tokenize")
        self._inference = self._duration("inference_duration", "Seconds in the engine")
        self._queue = self._duration("queue_duration_bucket", "Seconds queued in the engine")
        self._ttft = self._duration("first_token_duration", "Seconds from queuing to the first token")
        self._mean_gap = self._duration("mean_time_per_token_duration", "Mean seconds per later token")

    def _make_token_metrics(self, buckets: tuple[float, ...]) -> None:
        def tokens(name: str, text: str) -> Histogram:
            return self._histogram(f"lightllm_{name}", text, buckets)

        self._input = tokens("request_input_length", "Prompt tokens")
        self._generated = tokens("request_generated_tokens", "Generated tokens")
        self._max_new = tokens("request_max_new_tokens", "Requested max_new_tokens")
        self._cached = tokens("cache_length", "Prompt tokens found in the prefix cache")
        self._cached_ratio = self._histogram("lightllm_cache_ratio", "Share of the prompt found there", RATIOS)
        self._batch = self._histogram("lightllm_batch_next_size", "Outputs of a step for a worker", BATCH_SIZES)

    def _make_vllm_metrics(self) -> None:
        name = self._model_name

        def seconds(metric: str, text: str) -> Histogram:
            return self._histogram(f"vllm:{metric}_seconds", text, DURATIONS, "model_name").labels(name)

        self._vllm_ttft = seconds("time_to_first_token", "Time to the first token")
        self._vllm_gap: BulkHistogram = BulkHistogram(
            "vllm:inter_token_latency_seconds",
            "Time between tokens of a request",
            ["model_name"],
            registry=self._registry,
            buckets=DURATIONS,
        ).labels(name)
        self._vllm_e2e = seconds("e2e_request_latency", "Time from queuing to the last token")
        self._vllm_queue = seconds("request_queue_time", "Time queued in the engine")
        self._vllm_prefill = seconds("request_prefill_time", "Time from being scheduled to the first token")
        self._vllm_success = self._counter(
            "vllm:request_success", "Finished outputs by reason", "model_name", "finished_reason"
        )
        self._vllm_rejections = self._counter(
            "vllm:admission_rejections", "Requests turned away, or not answered in their time", "model_name", "reason"
        )

    def request(self) -> None:
        """A prompt was tokenized."""
        self._count.inc()
        self.tenants.request()

    def validated(self, seconds: float) -> None:
        """A request was found acceptable after ``seconds``."""
        self._validation.observe(seconds)

    def failure(self, error: ServerError) -> None:
        """A request is answered with ``error``."""
        self._failure.inc()
        if isinstance(error, UnavailableError | TimeIsUpError):
            self._vllm_rejections.labels(self._model_name, error.reason).inc()

    def replay(self) -> None:
        """A request whose engine has died was given to another one."""
        self._replays.inc()

    def step(self, outputs: int) -> None:
        """One step brought ``outputs`` tokens for this worker."""
        self._batch.observe(outputs)
        self._observe_gaps()

    def first_token(self, run: Run, output: TokenOutput) -> None:
        """See ``server.observer.Observer``."""
        seconds, prompt = run.first_token_at - run.started, run.request.prompt_tokens
        for histogram in (self._ttft, self._vllm_ttft):
            histogram.observe(seconds)
        for histogram in (self._queue, self._vllm_queue):
            histogram.observe(output.queue_seconds)
        self._vllm_prefill.observe(max(0.0, seconds - output.queue_seconds))
        self._cached.observe(output.cached_tokens)
        self._cached_ratio.observe(output.cached_tokens / prompt)

    def token(self, run: Run, gap: float) -> None:  # noqa: ARG002 - the protocol's signature
        """See ``server.observer.Observer``."""
        self._gaps.append(gap)

    def finished(self, run: Run) -> None:
        """See ``server.observer.Observer``."""
        self._observe_gaps()
        if isinstance(run.failure, InvalidRequestError | RefusedError):
            return  # it never ran
        request, seconds = run.request, time.perf_counter() - run.started
        tokens = sum(run.counts)
        self._input.observe(request.prompt_tokens)
        self._max_new.observe(request.sampling.max_new_tokens)
        self._generated.observe(tokens)
        self.tenants.finished(request.prompt_tokens, tokens)
        for histogram in (self._inference, self._vllm_e2e):
            histogram.observe(seconds)
        self._total.observe(seconds + run.seconds_before)
        if tokens > 1:
            later = seconds - (run.first_token_at - run.started)
            self._mean_gap.observe(later / (tokens - 1))
        for reason in run.reasons:
            self._vllm_success.labels(self._model_name, reason).inc()
        if all(reason in ("stop", "length") for reason in run.reasons):
            self._success.inc()

    def _observe_gaps(self) -> None:
        """Take in the gaps since the last step, or the last request's end."""
        self._vllm_gap.observe_all(self._gaps)
        self._gaps.clear()

    def expose(self, stats: EngineStats | None) -> bytes:
        """The exposition text.

        Args:
            stats: The engine's numbers; ``None`` leaves its metrics out.
        """
        self._observe_gaps()
        registry = self._registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        text = generate_latest(registry)
        return text + generate_latest(self._scraped(stats))

    def _scraped(self, stats: EngineStats | None) -> CollectorRegistry:
        """What is found out anew each time."""
        rest = CollectorRegistry()
        rest.register(ServerCollector(self._model_name, stats is not None))
        if stats is not None:
            rest.register(EngineCollector(stats, self._model_name))
        engine = [] if stats is None else [stats.pid]
        rest.register(ProcessCollector({"engine": engine, "http": http_workers()}))
        for collector in self.collectors:
            rest.register(collector)
        return rest
