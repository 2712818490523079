"""Each engine's numbers, under its name: sums do not tell which of them is full."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from server.fleet.report import kv_load
from server.fleet.wire import ReplicaState


class ReplicaCollector(Collector):
    """Metrics with a label ``replica``.

    Args:
        states: Gives what the engines said last.
    """

    def __init__(self, states: Callable[[], Sequence[ReplicaState]]) -> None:
        self._states = states

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        states = self._states()
        for name, text, value in (
            ("kv_load", "Share of its KV cache that its requests need", lambda s: kv_load(s)),
            ("running", "Samples in flight", lambda s: s.running),
            ("waiting", "Requests waiting", lambda s: s.waiting),
        ):
            gauge = GaugeMetricFamily(f"peregrine_replica_{name}", text, labels=["replica"])
            for state in states:
                gauge.add_metric([state.replica], value(state.stats))
            yield gauge
        for name, text, value in (
            ("generated_tokens", "Tokens generated", lambda s: s.generated_tokens_total),
            ("prefix_queries", "Prompt tokens looked up in its prefix cache", lambda s: s.prefix_queries_total),
            ("prefix_hits", "Prompt tokens found there", lambda s: s.prefix_hits_total),
            ("preemptions", "Samples preempted", lambda s: s.preemptions_total),
        ):
            counter = CounterMetricFamily(f"peregrine_replica_{name}", text, labels=["replica"])
            for state in states:
                counter.add_metric([state.replica], value(state.stats))
            yield counter
