"""The future-peak estimate on numbers small enough to check by hand, and the policies on top of it."""

from __future__ import annotations

import pytest
from harness import Harness
from hypothesis import given
from hypothesis import strategies as st

from runtime.request import SamplingParams
from runtime.scheduler import Aggressive, Forecast, FuturePeak, Group, peak_blocks
from runtime.scheduler.admission import Load


def test_the_worked_example_of_the_router() -> None:
    forecasts = [Forecast(a, b) for a, b in [(5, 4), (4, 3), (5, 3), (3, 2), (4, 2)]]
    assert peak_blocks(forecasts, 1) == 31


def test_nothing_running_needs_nothing() -> None:
    assert peak_blocks([], 16) == 0


def test_blocks_round_each_sample_up() -> None:
    assert peak_blocks([Forecast(1, 0), Forecast(17, 0)], 16) == 3


def test_a_sample_still_in_prefill_begins_to_grow_later() -> None:
    assert peak_blocks([Forecast(10, 5), Forecast(10, 5, delay=100)], 1) == 25


forecast_lists = st.lists(st.builds(Forecast, st.integers(1, 50), st.integers(0, 40), st.integers(0, 5)), max_size=8)


@given(forecast_lists, st.integers(1, 20))
def test_the_peak_is_the_maximum_over_every_moment(forecasts: list[Forecast], block_size: int) -> None:
    def held(moment: int) -> int:
        alive = [f for f in forecasts if f.delay + f.growth >= moment]
        return sum(-(-(f.held + min(f.growth, max(0, moment - f.delay))) // block_size) for f in alive)

    assert peak_blocks(forecasts, block_size) == max((held(t) for t in range(60)), default=0)


def group(prompt: int, new: int, **params: object) -> Group:
    return Group((b"", 0), [1] * prompt, SamplingParams(max_new_tokens=new, **params))


def test_the_conservative_policy_reserves_the_whole_output() -> None:
    load = Load(capacity=10, referenced=0, block_size=4)
    assert FuturePeak().admits([], group(20, 20), load)
    assert not FuturePeak().admits([], group(20, 21), load)


def test_an_idle_server_expects_the_usual_output_length() -> None:
    policy = FuturePeak(token_ratio=0.5, assumed_new_tokens=8)
    idle, busy = Load(10, 0, 4), Load(10, 5, 4)
    assert policy.admits([], group(20, 1000), idle)
    assert not policy.admits([], group(20, 1000), busy)
    assert not policy.admits([], group(20, 1000, ignore_eos=True), idle)


def test_the_aggressive_policy_looks_at_the_present_only() -> None:
    assert Aggressive().admits([], group(20, 1000), Load(10, 4, 4))
    assert not Aggressive().admits([], group(20, 1000), Load(10, 5, 4))


def test_the_conservative_policy_never_preempts() -> None:
    harness = Harness(num_blocks=20, max_rows=8, policy=FuturePeak(chunk=16))
    for number in range(20):
        harness.add(number, list(range(1, 12)), max_new_tokens=20, ignore_eos=True)
    harness.run()
    harness.assert_exact()
    assert harness.scheduler.counters.preemptions == 0


@pytest.mark.parametrize(("samples", "new", "fits"), [(1, 76, True), (1, 77, False), (2, 36, True), (2, 37, False)])
def test_what_can_never_run_is_known_at_arrival(samples: int, new: int, fits: bool) -> None:
    harness = Harness(num_blocks=20, max_rows=8)
    request = Group((b"", 1), [5] * 4, SamplingParams(max_new_tokens=new), samples=samples)
    assert harness.scheduler.can_ever_run(request) == fits
