"""What a killed engine's streams got."""

from __future__ import annotations

from benchmarks.client import StreamResult
from benchmarks.soak.restart import Trial, judge


def test_streams_are_whole_or_failed_properly_or_unanswered() -> None:
    results = [
        StreamResult(0.0, [1.0, 2.0, 5.0, 5.5], 200),
        StreamResult(0.0, [0.5, 1.5], 200),
        StreamResult(0.0, [1.0], 200, error="error event: the engine stopped"),
        StreamResult(0.0, [], 503, error="the engine is restarting"),
        StreamResult(0.0, [1.0], 200, error="cut off"),
        StreamResult(0.0, error="timeout: not answered within 120 s"),
    ]
    assert judge(results, killed=2.5, answered=1.0) == Trial(1.0, pause=3.0, whole=2, failed=2, unanswered=2)
