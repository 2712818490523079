"""The scheduler under random load: the books always balance and every output is that of a run alone."""

from __future__ import annotations

import random

import pytest
from draft_sources import Soothsayer
from harness import Harness
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.scheduler import Aggressive, FixedSpeculation, FuturePeak, check_invariants

POLICIES = {
    "aggressive": Aggressive(),
    "conservative": FuturePeak(),
    "optimistic": FuturePeak(token_ratio=2.0, assumed_new_tokens=2),
}


def abort_somebody(harness: Harness, rng: random.Random) -> None:
    """Sometimes end a request, or one of its samples, that may have ended long ago."""
    if rng.random() < 0.03 and harness.groups:
        harness.scheduler.abort((b"test", rng.choice(list(harness.groups))), rng.choice([-1, -1, 0, 1]))
        assert check_invariants(harness.scheduler) == []


def random_trace(
    seed: int, steps: int, policy: str, *, prefix_cache: bool, sharing: bool = True, skill: float | None = None
) -> Harness:
    """Drive a harness with arrivals, aborts, cache pressure and drafts of some ``skill``, all from one seed."""
    rng = random.Random(seed)
    harness = Harness(
        num_blocks=rng.choice([16, 20, 48]),
        max_rows=rng.choice([4, 6]),
        max_step_tokens=rng.choice([6, 9, 32]),
        policy=POLICIES[policy],
        prefix_cache=prefix_cache,
        sharing=sharing,
        speculation=None if skill is None else FixedSpeculation(Soothsayer(skill, seed), rng.choice([1, 3, 15])),
    )
    stems = [[rng.randrange(1, 97) for _ in range(rng.randrange(1, 30))] for _ in range(4)]
    number = 0
    for _ in range(steps):
        if rng.random() < 0.4 and len(harness.scheduler.waiting) < 8:
            stem = rng.choice(stems)
            prompt = stem[: rng.randrange(1, len(stem) + 1)] + [rng.randrange(1, 97) for _ in range(rng.randrange(4))]
            new_tokens, samples = rng.randrange(1, 32), rng.choice([1, 1, 1, 2, 3])
            group = harness.add(
                number,
                prompt,
                samples=samples,
                salt=rng.choice(["", "", "b"]),
                max_new_tokens=new_tokens,
                ignore_eos=rng.random() < 0.6,
                prompt_logprobs=rng.random() < 0.1,
            )
            if not harness.scheduler.can_ever_run(len(prompt) + new_tokens, samples):
                harness.scheduler.abort(group.key)
            number += 1
        abort_somebody(harness, rng)
        step = harness.plan()
        abort_somebody(harness, rng)
        if step is not None:
            harness.execute(step)
    harness.run()
    harness.assert_exact()
    kv = harness.scheduler.kv
    assert kv.referenced == 0
    return harness


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("prefix_cache", [True, False])
def test_ten_thousand_steps_leave_the_books_in_order(policy: str, prefix_cache: bool) -> None:
    preemptions = hits = 0
    for seed in range(6):
        harness = random_trace(seed, 300, policy, prefix_cache=prefix_cache)
        preemptions += harness.scheduler.counters.preemptions
        hits += harness.scheduler.counters.prefix_hits
    assert (hits > 0) == prefix_cache
    assert (preemptions > 0) == (policy != "conservative")


def test_an_executor_that_cannot_share_blocks_gives_the_same_output() -> None:
    random_trace(3, 300, "aggressive", prefix_cache=True, sharing=False)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("skill", [0.0, 0.7, 1.0])
def test_drafts_change_neither_output_nor_who_is_preempted(policy: str, skill: float) -> None:
    """However fast drafts let a sequence grow, the conservative policy's promise holds: nobody is preempted."""
    preemptions = drafted = accepted = 0
    for seed in range(4):
        counters = random_trace(seed, 200, policy, prefix_cache=True, skill=skill).scheduler.counters
        preemptions += counters.preemptions
        drafted += counters.drafted_tokens
        accepted += counters.accepted_tokens
    assert drafted > 100
    assert (accepted > 0) == (skill > 0)
    assert (accepted == drafted) == (skill == 1)
    assert (preemptions > 0) == (policy != "conservative")


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    policy=st.sampled_from(sorted(POLICIES)),
    prefix_cache=st.booleans(),
    skill=st.sampled_from([None, 0.0, 0.5, 1.0]),
)
def test_any_trace_is_exact(seed: int, policy: str, prefix_cache: bool, skill: float | None) -> None:
    random_trace(seed, 60, policy, prefix_cache=prefix_cache, skill=skill)
