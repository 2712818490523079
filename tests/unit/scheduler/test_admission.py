"""The future-peak estimate on numbers small enough to check by hand, and the policies on top of it."""

from __future__ import annotations

import random

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


def test_one_sample_is_rounded_up_exactly() -> None:
    assert [peak_blocks([Forecast(held, 3)], 16) for held in (13, 14)] == [1, 2]


def test_samples_in_linear_slots_need_one_each() -> None:
    assert peak_blocks([Forecast(10, 200)] * 19, 257) == 19


forecast_lists = st.lists(st.builds(Forecast, st.integers(1, 50), st.integers(0, 40)), max_size=8)


def exact_peak(forecasts: list[Forecast], block_size: int) -> int:
    def held(moment: int) -> int:
        return sum(-(-(f.held + moment) // block_size) for f in forecasts if f.growth >= moment)

    return max((held(moment) for moment in range(41)), default=0)


@given(forecast_lists)
def test_the_peak_is_the_maximum_over_every_moment(forecasts: list[Forecast]) -> None:
    assert peak_blocks(forecasts, 1) == exact_peak(forecasts, 1)


@given(forecast_lists, st.integers(2, 20))
def test_whole_blocks_make_the_peak_at_most_one_block_a_sample_too_high(forecasts: list[Forecast], size: int) -> None:
    assert 0 <= peak_blocks(forecasts, size) - exact_peak(forecasts, size) <= len(forecasts)


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


@pytest.mark.parametrize(
    ("generated", "max_new_tokens", "expected"), [(5, 1000, 8), (9, 1000, 9), (40, 1000, 44), (40, 42, 42)]
)
def test_who_outgrows_the_usual_length_is_expected_to_add_a_tenth(
    generated: int, max_new_tokens: int, expected: int
) -> None:
    sample = group(20, max_new_tokens).sequences[0]
    sample.tokens += [1] * generated
    sample.computed = len(sample.tokens) - 1
    policy = FuturePeak(token_ratio=1.0, assumed_new_tokens=8)
    peak = policy.peak([sample], Load(1000, 0, 1))
    assert peak == 20 + max(expected, generated + 1)


def test_the_aggressive_policy_looks_at_the_present_only() -> None:
    running = group(15, 1000).sequences
    assert Aggressive().admits(running, group(20, 1000), Load(10, 4, 4))
    assert not Aggressive().admits(running, group(24, 1000), Load(10, 4, 4))


@pytest.mark.parametrize("seed", range(30))
def test_the_conservative_policy_never_preempts(seed: int) -> None:
    rng = random.Random(seed)
    harness = Harness(
        num_blocks=rng.choice([20, 40]), max_rows=8, max_step_tokens=rng.choice([8, 16]), policy=FuturePeak()
    )
    for number in range(40):
        prompt = [rng.randrange(1, 97) for _ in range(rng.choice([1, 3, 20, 40]))]
        harness.add(number, prompt, max_new_tokens=rng.randrange(1, 36), ignore_eos=True)
    harness.run()
    harness.assert_exact()
    assert harness.scheduler.counters.preemptions == 0


@pytest.mark.parametrize(("samples", "tokens", "fits"), [(1, 80, True), (1, 81, False), (2, 40, True), (2, 41, False)])
def test_what_can_never_run_is_known_at_arrival(samples: int, tokens: int, fits: bool) -> None:
    assert Harness(num_blocks=20, max_rows=8).scheduler.can_ever_run(tokens, samples) == fits


def test_more_samples_than_rows_can_never_run() -> None:
    assert not Harness(num_blocks=20, max_rows=2).scheduler.can_ever_run(1, 3)
