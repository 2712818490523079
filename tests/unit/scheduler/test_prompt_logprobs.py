"""Log-probabilities of the prompt: right whatever happens to the request, and nobody waits for them."""

from __future__ import annotations

import math
import random

import msgspec
import pytest
from harness import Harness

from runtime.executors.finishers import NOT_FINITE
from runtime.executors.scripted import Script, next_token
from runtime.request import FinishReason
from runtime.scheduler import Group, Logits

SCRIPT = Script(vocab_size=97, eos_token_ids=(0,), block_size=4, max_sequence_tokens=200)


def half_expected_prompt(rng: random.Random, length: int) -> list[int]:
    """A prompt in which the script would have said about every second token itself."""
    prompt = [rng.randrange(1, 97)]
    while len(prompt) < length:
        prompt.append(next_token(SCRIPT, prompt) if rng.random() < 0.5 else rng.randrange(1, 97))
    return prompt


def expected_logprobs(prompt: list[int]) -> list[float]:
    """The script's logits are 8 for the token it would say and 0 for the 96 others."""
    total = math.log(math.exp(8) + 96)
    return [8 * (next_token(SCRIPT, prompt[:end]) == prompt[end]) - total for end in range(1, len(prompt))]


def heads(group: Group) -> list[list[int]]:
    """What comes before each of the prompt's tokens but the first."""
    return [group.prompt[:end] for end in range(1, len(group.prompt))]


def assert_right(group: Group) -> None:
    leader, expected = group.sequences[0], expected_logprobs(group.prompt)
    assert leader.prompt_logprobs == pytest.approx(expected), group.key
    likeliest = [
        pytest.approx(max(expected_logprobs([*prompt, next_token(SCRIPT, prompt)])[-1:])) for prompt in heads(group)
    ]
    assert [top[0][1] for top in leader.prompt_top_logprobs] == (likeliest if group.params.top_logprobs else [])


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 40])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("length", [1, 2, 7, 8, 23])
def test_they_are_the_same_in_any_chunks(chunk: int, samples: int, length: int) -> None:
    harness = Harness(script=SCRIPT, max_step_tokens=40, spare_logit_rows=chunk)
    prompt = half_expected_prompt(random.Random(length), length)
    for number in (1, 2):
        group = harness.add(number, prompt, samples=samples, max_new_tokens=3, prompt_logprobs=True)
        harness.run()
        assert_right(group)
        assert group.sequences[0].cached == 0, "the second request finds blocks, and no logits in them"
    harness.assert_exact()


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_they_are_right_under_pressure(depth: int) -> None:
    preemptions = 0
    for seed in range(25):
        rng = random.Random(seed)
        harness = Harness(script=SCRIPT, num_blocks=14, max_step_tokens=rng.choice([4, 7, 16]))
        for number in range(8):
            prompt = half_expected_prompt(rng, rng.randrange(1, 28))
            new_tokens, samples, wanted = rng.randrange(1, 14), rng.choice([1, 1, 2]), rng.random() < 0.7
            if harness.scheduler.can_ever_run(len(prompt) + new_tokens, samples):
                options = {
                    "max_new_tokens": new_tokens,
                    "ignore_eos": True,
                    "prompt_logprobs": wanted,
                    "top_logprobs": 1,
                }
                harness.add(number, prompt, samples=samples, **options)
        harness.run_ahead(depth)
        harness.assert_exact()
        preemptions += harness.scheduler.counters.preemptions
        for group in harness.groups.values():
            if group.params.prompt_logprobs:
                assert_right(group)
    assert preemptions > 5


def test_a_request_preempted_in_its_prompt_collects_them_anew() -> None:
    harness = Harness(script=SCRIPT, num_blocks=7)
    harness.add(1, [5, 6, 7, 8, 9, 10], max_new_tokens=12, ignore_eos=True)
    late = harness.add(2, half_expected_prompt(random.Random(1), 16), max_new_tokens=2, prompt_logprobs=True)
    harness.run(until=lambda: late.preempted)
    assert 0 < len(late.sequences[0].prompt_logprobs) < 15
    harness.run()
    assert_right(late)


def test_they_survive_a_preemption_while_the_last_chunk_is_in_flight() -> None:
    harness = Harness(script=SCRIPT, num_blocks=5)
    harness.add(1, [5, 6, 7, 8, 9, 10], max_new_tokens=6, ignore_eos=True)
    late = harness.add(2, half_expected_prompt(random.Random(1), 8), max_new_tokens=4, prompt_logprobs=True)
    flying = harness.plan()
    while not late.preempted:
        assert flying is not None, "nothing runs any more"
        output = harness.executor.collect(harness.executor.submit(flying.plan))
        ahead = harness.plan()
        harness.commit(flying, output)
        flying, landed = ahead, flying
    last = landed.plan.work[-1]
    assert (last.logits, last.samples) == (Logits.ALL, True)
    assert late.sequences[0].generated == 1
    assert flying is not None
    harness.execute(flying)
    harness.run()
    assert_right(late)
    harness.assert_exact()


def test_a_chunk_never_asks_for_more_rows_of_logits_than_there_are() -> None:
    harness = Harness(script=SCRIPT, max_step_tokens=16, spare_logit_rows=3)
    for number in (1, 2):
        harness.add(number, half_expected_prompt(random.Random(number), 7), max_new_tokens=1, prompt_logprobs=True)
    works = []
    while step := harness.plan():
        works.append([(item.row, item.count) for item in step.plan.work])
        harness.execute(step)
    assert works == [[(0, 3)], [(0, 3)], [(0, 1), (1, 3)], [(1, 3)], [(1, 1)]]


def test_a_long_prompt_that_wants_them_does_not_hold_up_anothers() -> None:
    harness = Harness(script=SCRIPT, max_step_tokens=16, spare_logit_rows=3)
    harness.add(1, [7], max_new_tokens=50, ignore_eos=True)
    harness.step()
    for number in (2, 3):
        harness.add(number, [8] * 60, max_new_tokens=1, prompt_logprobs=True)
    harness.add(4, [9, 10], max_new_tokens=1)
    harness.step()
    assert harness.finishes == {(4, 0): FinishReason.LENGTH}


def test_a_prompt_that_fails_in_its_middle_fails_although_a_token_could_be_sampled_after_it() -> None:
    harness = Harness(script=msgspec.structs.replace(SCRIPT, nan_on_token=7), max_step_tokens=40, spare_logit_rows=30)
    harness.add(1, [5, 7, 6], max_new_tokens=4, prompt_logprobs=True)
    (emission,) = harness.step()
    assert (emission.token, emission.finish, emission.error) == (-1, FinishReason.ERROR, NOT_FINITE)
