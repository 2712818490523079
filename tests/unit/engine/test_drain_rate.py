"""When to come back: what the queue has let go of lately says how long that takes."""

from __future__ import annotations

import pytest

from runtime.engine.drain_rate import LONGEST_SECONDS, DrainRate


def steady(requests: float, tokens: float, seconds: int = 60) -> DrainRate:
    """A queue that has let go of so much in each second."""
    rate = DrainRate()
    for second in range(seconds + 1):
        rate.observe(float(second), int(requests * second), int(tokens * second), waiting=True)
    return rate


def test_a_slow_engine_says_how_long_a_place_takes() -> None:
    assert steady(0.1, 0).retry_after(60.0, "", 1.0) == pytest.approx(10, abs=2)


def test_a_fast_one_says_a_second() -> None:
    assert steady(50, 0).retry_after(60.0, "", 1.0) == 1


def test_tokens_have_a_pace_of_their_own() -> None:
    assert steady(50, 200).retry_after(60.0, "", 1.0, tokens=4000) == pytest.approx(20, abs=1)


def test_a_tenant_waits_for_its_part() -> None:
    assert steady(1, 0).retry_after(60.0, "a", 0.1) == pytest.approx(10, abs=1)


def test_those_who_are_turned_away_come_back_one_after_the_other() -> None:
    rate = steady(0.5, 0)
    told = [rate.retry_after(60.0, "a", 1.0) for _ in range(5)]
    assert told == pytest.approx([2, 4, 6, 8, 10], abs=1)
    assert rate.retry_after(60.0, "b", 1.0) == told[0], "others are not behind them"
    assert rate.retry_after(100.0, "a", 1.0) == told[0], "that is long past"


def test_nobody_is_told_more_than_a_minute() -> None:
    rate = steady(0.001, 0)
    assert {rate.retry_after(60.0, "", 1.0) for _ in range(20)} == {LONGEST_SECONDS}


def test_nothing_is_known_at_first() -> None:
    assert DrainRate().retry_after(0.0, "", 1.0) == 1


def test_time_without_anybody_waiting_does_not_count() -> None:
    rate = steady(1, 0)
    rate.observe(61.0, 61, 0, waiting=False)
    rate.observe(5000.0, 61, 0, waiting=True)
    rate.observe(5001.0, 62, 0, waiting=True)
    assert rate.retry_after(5001.0, "", 1.0) <= 2


def test_what_happened_long_ago_is_forgotten() -> None:
    rate = steady(20, 0)
    for second in range(61, 400):
        rate.observe(float(second), 1200 + second // 10, 0, waiting=True)
    assert rate.retry_after(400.0, "", 1.0) >= 8
