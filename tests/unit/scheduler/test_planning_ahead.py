"""Steps planned before the one in flight is committed: nothing but the waiting changes."""

from __future__ import annotations

import random

import pytest
from harness import Harness

PROMPT = [11, 12, 13, 14, 15]


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("seed", range(6))
def test_planning_ahead_gives_the_same_output(seed: int, depth: int) -> None:
    """Surplus tokens after a stop are dropped, and so is what a preempted row had in flight."""
    rng = random.Random(seed)
    harness = Harness(num_blocks=rng.choice([14, 40]), max_rows=4)
    for number in range(12):
        prompt = [rng.randrange(1, 97) for _ in range(rng.randrange(1, 25))]
        harness.add(number, prompt, samples=rng.choice([1, 2]), max_new_tokens=rng.randrange(1, 16))
    harness.run_ahead(depth)
    harness.assert_exact()
    assert len(harness.finishes) == sum(group.samples for group in harness.groups.values())


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_sequence_whose_last_token_is_in_flight_is_not_run_again(depth: int) -> None:
    harness = Harness(num_blocks=4, max_rows=2, prefix_cache=False)
    for number, new_tokens in ((1, 3), (2, 4)):
        harness.add(number, PROMPT, max_new_tokens=new_tokens, ignore_eos=True)
    assert harness.run_ahead(depth) == 7 + 8, "the last token's KV is never wanted"
    assert harness.scheduler.counters.preemptions == 0, "a surplus run would take the other's block"
    harness.assert_exact()


def test_a_group_with_tokens_in_flight_resumes_only_when_they_have_come() -> None:
    harness = Harness(num_blocks=4, max_rows=2, prefix_cache=False)
    for number in (1, 2):
        harness.add(number, PROMPT, max_new_tokens=8, ignore_eos=True)
    scheduler = harness.scheduler
    flying = harness.plan()
    while not scheduler.waiting:
        assert flying is not None
        output = harness.executor.collect(harness.executor.submit(flying.plan))
        ahead = harness.plan()
        if not scheduler.waiting:
            harness.commit(flying, output)
            flying = ahead
    (preempted,) = scheduler.waiting
    assert preempted.sequences[0].pending == 1
    scheduler.abort((b"test", 1))
    assert harness.plan() is None, "there is room, and a token on its way"
    assert ahead is not None
    harness.commit(flying, output)
    harness.execute(ahead)
    harness.run()
    harness.assert_exact()
    assert list(harness.outputs) == [(1, 0), (2, 0)]
