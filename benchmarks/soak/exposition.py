"""Reads and checks what ``/metrics`` says, and compares it with what clients counted."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.soak.metrics_load import Tally

AT_REST = {
    "vllm:num_requests_running": 0.0,
    "vllm:num_requests_waiting": 0.0,
    "vllm:kv_cache_usage_perc": 0.0,
    "lightllm_queue_size": 0.0,
    "lightllm_batch_current_size": 0.0,
    "lightllm_batch_pause_size": 0.0,
    "peregrine_kv_tokens_used": 0.0,
    "peregrine_http_streams_open": 0.0,
    "peregrine_http_requests_in_flight": 1.0,  # who asks
}
"""Gauges of a server that has nothing to do."""

_SLACK = frozenset({"lightllm_request_generated_tokens_sum", "vllm:inter_token_latency_seconds_count"})
"""What grows also by tokens on their way to clients who have left."""

Samples = Counter[str]


def samples(text: str) -> Samples:
    """Each sample's value by name and labels; ``model_name`` is left out, and sums without labels are added."""
    found: Samples = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if name != "model_name"}
            if labels:
                inner = ",".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
                found[f"{sample.name}{{{inner}}}"] += sample.value  # type: ignore[assignment]
            found[sample.name] += sample.value  # type: ignore[assignment]
    return found


def differences(before: Samples, after: Samples, tally: Tally) -> list[str]:
    """Where the server's count is not the clients'; what neither has is none."""
    found = []
    for name in sorted(tally.exact):
        grown, expected = after[name] - before[name], tally.exact[name]
        most = expected + (tally.unread if name in _SLACK else 0)
        if not expected <= grown <= most:
            found.append(f"{name}: clients counted {expected}, the server {grown:g}")
    # NOTE: the engine also generates what a stop string or an abort makes useless.
    generated = after["vllm:generation_tokens_total"] - before["vllm:generation_tokens_total"]
    if generated < tally.exact["lightllm_request_generated_tokens_sum"]:
        found.append(f"vllm:generation_tokens_total: {generated:g} is less than clients got")
    return found


def restless(after: Samples) -> list[str]:
    """Gauges that are not what they should be while nothing is going on."""
    return [f"{name} is {after[name]:g}" for name, value in AT_REST.items() if after[name] != value]


def fallen(before: Samples, after: Samples) -> list[str]:
    """Counters of the HTTP side that went down; the engine's begin anew with it."""
    return [
        f"{name} fell from {value:g} to {after[name]:g}"
        for name, value in before.items()
        if name.partition("{")[0].endswith(("_total", "_count", "_bucket", "_sum"))
        and name.startswith(("lightllm_request", "lightllm_cache", "peregrine_http", "vllm:request", "vllm:inter"))
        and after[name] < value
    ]


def faults(text: str) -> list[str]:
    """What a linter would find: no help or type, NaN, a name twice, histograms that do not add up."""
    found, seen = [], Counter[str]()
    for family in text_string_to_metric_families(text):
        seen[family.name] += 1
        if not family.documentation:
            found.append(f"{family.name}: no HELP")
        if family.type == "unknown":
            found.append(f"{family.name}: no TYPE")
        found += [f"{family.name}: {sample}" for sample in family.samples if math.isnan(sample.value)]
        if family.type == "histogram":
            found += _histogram_faults(family.name, family.samples)
    return found + [f"{name}: stands there {times} times" for name, times in seen.items() if times > 1]


def _histogram_faults(name: str, found: list[object]) -> Iterator[str]:
    buckets: dict[object, list[tuple[float, float]]] = defaultdict(list)
    counts: dict[object, float] = {}
    for sample in found:
        labels: Mapping[str, str] = sample.labels  # type: ignore[attr-defined]
        key = frozenset((label, value) for label, value in labels.items() if label != "le")
        if sample.name == f"{name}_bucket" and "le" in labels:  # type: ignore[attr-defined]
            buckets[key].append((float(labels["le"]), sample.value))  # type: ignore[attr-defined]
        elif sample.name == f"{name}_count":  # type: ignore[attr-defined]
            counts[key] = sample.value  # type: ignore[attr-defined]
    for key, pairs in buckets.items():
        values = [value for _, value in sorted(pairs)]
        if values != sorted(values):
            yield f"{name}: its buckets fall"
        if max(pairs)[0] != math.inf or values[-1] != counts.get(key):
            yield f"{name}: +Inf is not the count"
