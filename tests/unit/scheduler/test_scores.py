"""Requests to a reward model: one prefill, then a score in place of a token, and it is over."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from harness import REWARD, Harness
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.executors.scripted import score_of
from runtime.request import FinishReason
from runtime.scheduler import (
    AdmissionPolicy,
    Aggressive,
    Emission,
    FuturePeak,
    Group,
    Logits,
    Sequence,
    check_invariants,
)
from runtime.scheduler.admission import Load
from runtime.scheduler.step_builder import StepBuilder

PROMPT = [11, 12, 13, 14, 15, 16, 17, 18]


@dataclass(frozen=True)
class Careless(Aggressive):
    """Lets everybody in: what a score takes is known from the start, so that no other policy ever preempts one."""

    def admits(self, running: list[Sequence], candidate: Group, load: Load) -> bool:
        return True


POLICIES: dict[str, AdmissionPolicy] = {
    "aggressive": Aggressive(),
    "conservative": FuturePeak(),
    "careless": Careless(),
}


def reward(**options: object) -> Harness:
    return Harness(script=REWARD, **options)  # type: ignore[arg-type]


def ask(harness: Harness, number: int, prompt: list[int], salt: str = "") -> Group:
    return harness.add(number, prompt, salt=salt, max_new_tokens=1)


def test_a_score_ends_its_request_without_a_token() -> None:
    harness = reward()
    sequence = ask(harness, 1, PROMPT).sequences[0]
    score = score_of(REWARD, PROMPT)
    assert harness.step() == [Emission(sequence, -1, 0.0, FinishReason.STOP, score=score)]
    assert sequence.tokens == PROMPT
    assert not harness.scheduler.has_work
    counters = harness.scheduler.counters
    assert (counters.prompt_tokens, counters.computed_tokens, counters.generated_tokens) == (8, 8, 0)


def test_a_long_prompt_runs_in_chunks_and_is_scored_with_the_last() -> None:
    harness = reward(max_rows=2, max_step_tokens=3)
    ask(harness, 1, PROMPT)
    works = []
    while step := harness.plan():
        works += [(item.count, item.logits, item.samples) for item in step.plan.work]
        harness.execute(step)
    assert works == [(3, Logits.NONE, False), (3, Logits.NONE, False), (2, Logits.LAST, True)]
    harness.assert_exact()


def test_whole_blocks_of_a_prompt_are_kept_and_its_last_token_is_computed_again() -> None:
    harness = reward()
    prompts = {1: PROMPT, 2: PROMPT, 3: [*PROMPT, 19], 4: PROMPT[:5]}
    for number, prompt in prompts.items():
        ask(harness, number, prompt)
        harness.run()
    assert [harness.groups[number].sequences[0].cached for number in prompts] == [0, 4, 8, 4]
    harness.assert_exact()


def test_tenants_do_not_share_blocks() -> None:
    harness = reward()
    for number, salt in ((1, "a"), (2, "b"), (3, "a")):
        ask(harness, number, [*PROMPT, 19], salt=salt)
        harness.run()
    assert [harness.groups[number].sequences[0].cached for number in (1, 2, 3)] == [0, 0, 8]


@pytest.mark.parametrize("policy", [Aggressive(), FuturePeak()])
def test_a_request_is_admitted_as_its_prompt_and_one_token(policy: AdmissionPolicy) -> None:
    harness = reward(num_blocks=4, policy=policy)
    for number in (1, 2, 3):
        ask(harness, number, PROMPT[:7])
    assert len(harness.step()) == 2, "two blocks each: nothing is set aside for tokens that will never come"
    assert len(harness.step()) == 1


def test_a_score_that_fails_ends_its_request_alone() -> None:
    harness = Harness(script=REWARD, prefix_cache=False)
    for number in (1, 2):
        ask(harness, number, PROMPT[number:])
    step = harness.plan()
    assert step is not None
    output = harness.executor.collect(harness.executor.submit(step.plan))
    row = step.plan.work[0].row
    del output.scores[row]
    output.errors[row] = "NaN"
    failed, scored = harness.commit(step, output)
    assert (failed.finish, failed.error, failed.score) == (FinishReason.ERROR, "NaN", None)
    assert scored.score == score_of(REWARD, PROMPT[2:])
    assert harness.scheduler.kv.referenced == 0


def test_a_score_for_a_request_that_was_aborted_meanwhile_is_dropped() -> None:
    harness = reward()
    ask(harness, 1, PROMPT)
    step = harness.plan()
    assert step is not None
    harness.scheduler.abort((b"test", 1))
    assert harness.execute(step) == []
    assert harness.scheduler.kv.referenced == 0


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_prompt_whose_score_is_in_flight_is_not_run_again(depth: int) -> None:
    harness = reward(max_step_tokens=4)
    for number in (1, 2, 3):
        ask(harness, number, PROMPT[number:])
    assert harness.run_ahead(depth) == 7 + 6 + 5
    harness.assert_exact()


def test_a_score_that_comes_after_its_request_gave_way_ends_it_in_the_queue() -> None:
    harness = reward()
    group = ask(harness, 1, PROMPT)
    flying = harness.plan()
    assert flying is not None
    harness.scheduler._preempt(group, StepBuilder(16, 2))
    assert harness.plan() is None, "its score is on its way"
    (emission,) = harness.execute(flying)
    assert emission.score == score_of(REWARD, PROMPT)
    assert not harness.scheduler.has_work


def random_trace(seed: int, policy: str, *, prefix_cache: bool, sharing: bool = True) -> Harness:
    """Drive a harness with arrivals, aborts and cache pressure from one seed."""
    rng = random.Random(seed)
    harness = reward(
        num_blocks=rng.choice([9, 16, 40]),
        max_rows=rng.choice([4, 6]),
        max_step_tokens=rng.choice([6, 9, 32]),
        policy=POLICIES[policy],
        prefix_cache=prefix_cache,
        sharing=sharing,
    )
    stems = [[rng.randrange(97) for _ in range(rng.randrange(1, 30))] for _ in range(4)]
    for number in range(rng.randrange(20, 60)):
        stem = rng.choice(stems)
        prompt = stem[: rng.randrange(1, len(stem) + 1)] + [rng.randrange(97) for _ in range(rng.randrange(4))]
        ask(harness, number, prompt, salt=rng.choice(["", "", "b"]))
        if rng.random() < 0.1:
            harness.scheduler.abort((b"test", rng.randrange(number + 1)))
            assert check_invariants(harness.scheduler) == []
        if rng.random() < 0.4:
            harness.step()
    harness.run_ahead(rng.randrange(3))
    harness.assert_exact()
    assert harness.scheduler.kv.referenced == 0
    return harness


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("prefix_cache", [True, False])
def test_every_score_is_that_of_its_prompt_alone(policy: str, prefix_cache: bool) -> None:
    preemptions = hits = 0
    for seed in range(20):
        counters = random_trace(seed, policy, prefix_cache=prefix_cache).scheduler.counters
        preemptions += counters.preemptions
        hits += counters.prefix_hits
        assert counters.generated_tokens == 0
    assert (hits > 0) == prefix_cache
    assert (preemptions > 0) == (policy == "careless")


def test_an_executor_that_cannot_share_blocks_gives_the_same_scores() -> None:
    random_trace(3, "careless", prefix_cache=True, sharing=False)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), policy=st.sampled_from(sorted(POLICIES)), prefix_cache=st.booleans())
def test_any_trace_is_exact(seed: int, policy: str, prefix_cache: bool) -> None:
    random_trace(seed, policy, prefix_cache=prefix_cache)
