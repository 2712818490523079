"""What a replica tells routers and the autoscaler of its load."""

from __future__ import annotations

from typing import Any

import msgspec

from runtime.scheduler.prefix_digest import DIGEST_BYTES
from runtime.stats import EngineStats

KV_LOAD = "kv_load"
"""Name of the autoscaler's metric."""


class Report(msgspec.Struct, frozen=True):
    """A replica's load, as routers see it.

    Attributes:
        number: Of the report; a new one each time.
        load: See ``kv_load``.
        capacity: KV tokens.
        prefixes: Digests of cached prefixes.
    """

    number: int = 0
    load: float = 0.0
    capacity: int = 0
    prefixes: frozenset[bytes] = frozenset()


def kv_load(stats: EngineStats) -> float:
    """Share of the KV cache that an engine's requests need, those that wait counted like those that run.

    1 is an engine that is full; one above it has requests waiting.
    """
    admitted = stats.peak_tokens / max(1, stats.capacity_tokens)
    return admitted * (1 + stats.waiting / max(1, stats.running))


def as_routing_stats(number: int, stats: EngineStats, digests: bytes) -> dict[str, Any]:
    """A report in the form that Serve carries."""
    return {"number": number, "load": kv_load(stats), "capacity": stats.capacity_tokens, "prefixes": digests}


def read_report(routing_stats: dict[str, Any]) -> Report:
    """What ``as_routing_stats`` made; an empty report where there is none yet."""
    if not routing_stats:
        return Report()
    prefixes = frozenset(split_digests(routing_stats["prefixes"]))
    return Report(routing_stats["number"], routing_stats["load"], routing_stats["capacity"], prefixes)


def split_digests(digests: bytes) -> list[bytes]:
    """Digests that came one after the other."""
    return [digests[i : i + DIGEST_BYTES] for i in range(0, len(digests), DIGEST_BYTES)]
