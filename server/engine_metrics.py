"""The engine's numbers as Prometheus metrics, made from one snapshot at the moment of the scrape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from runtime.stats import EngineStats


@dataclass(frozen=True, slots=True)
class EngineCollector(Collector):
    """LightLLM's and vLLM's names for what the engine reports.

    Attributes:
        stats: The snapshot.
        model_name: Label of the vLLM-style metrics.
    """

    stats: EngineStats
    model_name: str

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        yield from self._lightllm()
        yield from self._vllm()
        yield from self._own()
        yield from self._admission()
        yield from self._faults()

    def _lightllm(self) -> Iterator[Metric]:
        stats = self.stats
        for name, text, value in (
            ("queue_size", "Requests waiting", stats.waiting),
            ("batch_current_size", "Samples in flight", stats.running),
            ("batch_pause_size", "Samples preempted and waiting", stats.paused),
            ("batch_current_max_tokens", "Estimated future maximum of KV tokens", stats.peak_tokens),
        ):
            yield GaugeMetricFamily(f"lightllm_{name}", text, value)
        # NOTE: prefill and decode share a step here, so there is one method.
        count = CounterMetricFamily("lightllm_batch_inference_count", "Steps executed", labels=["method"])
        count.add_metric(["step"], stats.steps_total)
        yield count
        duration = HistogramMetricFamily(
            "lightllm_batch_inference_duration_bucket", "Seconds of steps", labels=["method"]
        )
        duration.add_metric(["step"], [("+Inf", stats.steps_total)], stats.step_seconds_total)
        yield duration

    def _own(self) -> Iterator[Metric]:
        stats = self.stats
        yield CounterMetricFamily(
            "peregrine_engine_restarts", "Engines started in place of dead ones", stats.restarts_total
        )
        yield GaugeMetricFamily(
            "peregrine_engine_seconds_since_step",
            "Since the last step, or the engine's start",
            stats.seconds_since_step,
        )
        yield CounterMetricFamily("peregrine_engine_computed_tokens", "Tokens run", stats.computed_tokens_total)
        yield GaugeMetricFamily("peregrine_kv_tokens_used", "KV tokens that samples hold", stats.used_tokens)
        yield GaugeMetricFamily("peregrine_kv_tokens_cached", "KV tokens kept for reuse", stats.cached_tokens)
        yield GaugeMetricFamily("peregrine_kv_tokens_capacity", "KV tokens in all", stats.capacity_tokens)

    def _vllm(self) -> Iterator[Metric]:
        stats, capacity = self.stats, max(1, self.stats.capacity_tokens)
        for name, text, value in (
            ("num_requests_running", "Samples in flight", stats.running),
            ("num_requests_waiting", "Requests waiting", stats.waiting),
            ("kv_cache_usage_perc", "Share of the KV cache in use, 1 is all", stats.used_tokens / capacity),
        ):
            gauge = GaugeMetricFamily(f"vllm:{name}", text, labels=["model_name"])
            gauge.add_metric([self.model_name], value)
            yield gauge
        for name, text, value in (
            ("num_preemptions", "Samples preempted", stats.preemptions_total),
            ("prompt_tokens", "Prompt tokens of admitted requests", stats.prompt_tokens_total),
            ("generation_tokens", "Tokens generated", stats.generated_tokens_total),
            ("prefix_cache_queries", "Prompt tokens looked up in the prefix cache", stats.prefix_queries_total),
            ("prefix_cache_hits", "Prompt tokens found there", stats.prefix_hits_total),
            ("spec_decode_num_draft_tokens", "Tokens guessed and run", stats.drafted_tokens_total),
            ("spec_decode_num_accepted_tokens", "Guessed tokens that were right", stats.accepted_tokens_total),
        ):
            counter = CounterMetricFamily(f"vllm:{name}", text, labels=["model_name"])
            counter.add_metric([self.model_name], value)
            yield counter

    def _admission(self) -> Iterator[Metric]:
        stats = self.stats
        yield GaugeMetricFamily("peregrine_queued_tokens", "Prompt tokens of waiting requests", stats.queued_tokens)
        yield CounterMetricFamily("peregrine_expired_requests", "Requests whose time was up", stats.expired_total)
        shed = CounterMetricFamily("peregrine_shed_requests", "Requests turned away by the engine", labels=["reason"])
        for reason, value in (
            ("queue_full", stats.shed_queue_total),
            ("queued_tokens", stats.shed_tokens_total),
            ("tenant", stats.shed_tenant_total),
            ("draining", stats.shed_draining_total),
            ("queue_seconds", stats.shed_wait_total),
        ):
            shed.add_metric([reason], value)
        yield shed

    def _faults(self) -> Iterator[Metric]:
        stats = self.stats
        for name, text, value in (
            ("failed_steps", "Steps that failed as a whole", stats.failed_steps_total),
            ("isolated_requests", "Requests that made their steps fail", stats.isolated_requests_total),
            ("quarantined_requests", "Requests refused because their like did", stats.quarantined_requests_total),
        ):
            yield CounterMetricFamily(f"peregrine_{name}", text, value)
