"""Many observations at once count like one after the other."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from server.bulk_histogram import BulkHistogram

BUCKETS = (0.1, 0.5, 2.0)


def histogram() -> tuple[CollectorRegistry, BulkHistogram]:
    registry = CollectorRegistry()
    return registry, BulkHistogram("gap", "Seconds", ["model"], registry=registry, buckets=BUCKETS).labels("m")


def lines(registry: CollectorRegistry) -> list[str]:
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


def test_it_counts_what_observing_one_by_one_counts() -> None:
    amounts = [0.0, 0.1, 0.25, 0.25, 0.5, 1.0, 7.0]
    registry, bulk = histogram()
    bulk.observe_all(amounts)
    bulk.observe_all([])
    other, single = histogram()
    for amount in amounts:
        single.observe(amount)
    assert lines(registry) == lines(other)
