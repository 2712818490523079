"""The Past-Future policy on numbers small enough to check by hand, and on whole runs."""

from __future__ import annotations

import random

import pytest
from harness import Harness

from runtime.request import FinishReason, SamplingParams
from runtime.scheduler import Aggressive, FuturePeak, Group, PastFuture
from runtime.scheduler.admission import Load
from runtime.scheduler.length_history import LEAST


def group(prompt: int, new: int, number: int = 0, tenant: str = "", **params: object) -> Group:
    sampling = SamplingParams(max_new_tokens=new, **params)  # type: ignore[arg-type]
    return Group((b"", number), [1] * prompt, sampling, tenant=tenant)


def taught(
    length: int, count: int = 2 * LEAST, tenant: str = "", finish: FinishReason = FinishReason.STOP
) -> PastFuture:
    policy = PastFuture(reserve=0.0)
    for number in range(count):
        (sample,) = group(4, 1000, number).sequences
        sample.tokens += [2] * length
        sample.finish = finish
        policy.observe(sample)
    return policy


def test_without_a_past_it_is_conservative() -> None:
    load = Load(capacity=10, referenced=0, block_size=4)
    candidate = group(20, 20)
    assert PastFuture().peak(candidate.live(), load) == FuturePeak().peak(candidate.live(), load) == 10


def test_outputs_are_expected_to_be_as_long_as_they_were() -> None:
    load = Load(capacity=100, referenced=0, block_size=4)
    assert taught(8).peak(group(20, 200).live(), load) == (20 + 8) // 4
    assert taught(8).peak(group(20, 4).live(), load) == (20 + 4) // 4


@pytest.mark.parametrize("why", ["ignore_eos", "cut"])
def test_who_will_not_stop_by_itself_is_reserved_its_limit(why: str) -> None:
    load = Load(capacity=100, referenced=0, block_size=4)
    policy = taught(8, finish=FinishReason.LENGTH if why == "cut" else FinishReason.STOP)
    assert policy.peak(group(20, 200, ignore_eos=why == "ignore_eos").live(), load) == (20 + 200) // 4


def test_an_output_longer_than_any_is_reserved_its_limit() -> None:
    (sample,) = group(20, 200).sequences
    sample.tokens += [2] * 9
    assert taught(8).peak([sample], Load(100, 0, 4)) == (20 + 200) // 4


def test_failures_teach_nothing() -> None:
    assert taught(8, finish=FinishReason.ERROR).peak(group(20, 200).live(), Load(100, 0, 4)) == (20 + 200) // 4


def test_a_tenants_own_past_counts_before_everybodys() -> None:
    policy = taught(8, count=10 * LEAST)
    for number in range(2 * LEAST):
        (sample,) = group(4, 1000, number, "long").sequences
        sample.tokens += [2] * 80
        sample.finish = FinishReason.STOP
        policy.observe(sample)
    load = Load(100, 0, 4)
    assert policy.peak(group(20, 200, tenant="long").live(), load) == (20 + 80) // 4
    assert policy.peak(group(20, 200, tenant="new").live(), load) == (20 + 8) // 4


def test_the_samples_of_a_batch_are_spread_like_the_past() -> None:
    policy = PastFuture(reserve=0.0)
    for number in range(100):
        (sample,) = group(4, 1000, number).sequences
        sample.tokens += [2] * (10 if number % 2 else 90)
        sample.finish = FinishReason.STOP
        policy.observe(sample)
    batch = [group(1, 500, number).sequences[0] for number in range(40)]
    expected = sum(1 + (10 + 90) / 2 for _ in batch)
    assert policy.peak(batch, Load(10_000, 0, 1)) == pytest.approx(expected, rel=0.05)


def test_blocks_that_several_hold_count_once() -> None:
    first, second = (group(40, 8, number).sequences[0] for number in range(2))
    first.blocks, second.blocks = [*range(10)], [*range(8), 10, 11]
    policy, referenced = PastFuture(), 12
    assert policy.peak([first, second], Load(100, referenced, 4)) == 2 * (40 + 8) // 4 - 8
    candidate = group(40, 8, 2)
    held = policy.peak([first, second], Load(100, referenced, 4))
    room = Load(round((held + 4) / 0.95) + 1, referenced, 4, lambda _: 8)
    assert policy.admits([first, second], candidate, room)
    assert not policy.admits([first, second], candidate, Load(room.capacity, referenced, 4))


def test_it_never_leaves_an_idle_engine_idle() -> None:
    assert PastFuture().admits([], group(40, 8), Load(12, 0, 4))


@pytest.mark.parametrize("seed", range(6))
def test_a_past_that_misleads_costs_preemptions_and_nothing_else(seed: int) -> None:
    draw = random.Random(seed)
    harness = Harness(num_blocks=24, max_rows=8, policy=taught(2))
    for number in range(40):
        prompt = [draw.randrange(1, 97) for _ in range(draw.randrange(1, 40))]
        harness.add(number, prompt, max_new_tokens=draw.randrange(1, 40), ignore_eos=False)
    harness.run()
    harness.assert_exact()
    assert harness.scheduler.counters.preemptions > 0


def test_more_run_together_than_conservatively_and_fewer_give_way_than_aggressively() -> None:
    def run(policy: PastFuture | FuturePeak | Aggressive) -> tuple[int, int]:
        draw = random.Random(1)
        harness = Harness(num_blocks=48, max_rows=32, max_step_tokens=64, policy=policy)
        for number in range(150):
            harness.add(number, [draw.randrange(1, 97) for _ in range(8)], max_new_tokens=120)
        steps = 0
        while harness.scheduler.has_work:
            harness.step()
            steps += 1
        harness.assert_exact()
        return steps, harness.scheduler.counters.preemptions

    conservative, past_future, aggressive = (run(policy) for policy in (FuturePeak(), PastFuture(), Aggressive()))
    assert past_future[0] < conservative[0]
    assert past_future[1] < aggressive[1]


def test_whoever_fits_at_their_longest_fits() -> None:
    harness = Harness(num_blocks=20, max_rows=4, policy=PastFuture(0.5))
    for number in range(4):
        harness.add(
            number, [1 + number] * harness.scheduler.kv.block_size, max_new_tokens=4 * harness.scheduler.kv.block_size
        )
    harness.step()
    assert len(harness.scheduler.running) == 4
