"""Drafts are verified in the step that runs them: the same tokens and log-probabilities, in fewer steps."""

from __future__ import annotations

import random
from dataclasses import dataclass

import msgspec
import pytest
from draft_sources import Reader, Soothsayer, Transcripts
from harness import Harness, expected_output
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.executors.finishers import NOT_FINITE
from runtime.executors.scripted import Script
from runtime.request import FinishReason
from runtime.scheduler import FixedSpeculation, PromptLookup, Sequence, Speculation, check_invariants

PROMPT = [11, 12, 13, 14, 15]
ENDLESS = Script(vocab_size=97, block_size=4, max_sequence_tokens=200)
LOOSE = Script(vocab_size=40, eos_token_ids=(0,), eos_period=9, block_size=4, max_sequence_tokens=200)
"""Sampled at high temperature its logits are nearly even: penalties, seeds and positions decide."""


@dataclass
class Given:
    """The same draft for everybody."""

    draft: list[int]

    def guess(self, sequence: Sequence, length: int) -> list[int]:
        return self.draft[:length]


def alone(speculation: Speculation | None, script: Script = ENDLESS, **params: object) -> Harness:
    harness = Harness(script=script, speculation=speculation)
    harness.add(1, PROMPT, **params)
    harness.run()
    return harness


def steps(harness: Harness) -> int:
    count = 0
    while harness.scheduler.has_work:
        harness.step()
        count += 1
    return count


def test_right_drafts_save_the_steps_that_they_foretell() -> None:
    harness = Harness(
        script=ENDLESS,
        max_step_tokens=16,
        spare_logit_rows=8,
        speculation=FixedSpeculation(Soothsayer(1.0, script=ENDLESS), 4),
    )
    harness.add(1, PROMPT, max_new_tokens=21)
    assert steps(harness) == 5, "one for the prompt, then five tokens a step"
    counters = harness.scheduler.counters
    assert (counters.drafted_tokens, counters.accepted_tokens, counters.generated_tokens) == (16, 16, 21)
    harness.assert_exact()


def test_wrong_drafts_cost_no_step() -> None:
    harness = Harness(script=ENDLESS, speculation=FixedSpeculation(Soothsayer(0.0, script=ENDLESS), 2))
    harness.add(1, PROMPT, max_new_tokens=9)
    assert steps(harness) == 9
    assert harness.scheduler.counters.accepted_tokens == 0
    harness.assert_exact()


def test_a_draft_counts_up_to_its_first_error() -> None:
    first, second, third = expected_output(ENDLESS, PROMPT, Harness().add(1, PROMPT, max_new_tokens=3).params)
    harness = alone(FixedSpeculation(Given([second, third + 1, 1]), 3), max_new_tokens=3)
    assert harness.outputs[1, 0] == [first, second, third]


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 7])
def test_no_more_is_drafted_than_may_come(limit: int) -> None:
    harness = alone(FixedSpeculation(Soothsayer(1.0, script=ENDLESS), 15), max_new_tokens=limit)
    assert len(harness.outputs[1, 0]) == limit
    assert harness.finishes[1, 0] is FinishReason.LENGTH


def test_drafts_take_only_what_decodes_and_prompts_leave_of_a_step() -> None:
    harness = Harness(
        script=ENDLESS, max_step_tokens=8, speculation=FixedSpeculation(Soothsayer(1.0, script=ENDLESS), 15)
    )
    for number in range(2):
        harness.add(number, PROMPT[number:], max_new_tokens=20)
    harness.run(lambda: len(harness.outputs) == 2)
    harness.add(3, list(range(1, 13)), max_new_tokens=2)
    step = harness.plan()
    assert step is not None
    assert [item.count for item in step.plan.work] == [1, 1, 6], "the prompt's chunk fills the step"
    harness.execute(step)
    harness.run()
    harness.assert_exact()


def test_tokens_after_a_stop_sequence_in_a_draft_are_dropped() -> None:
    plain = alone(None, max_new_tokens=12).outputs[1, 0]
    stop = (tuple(plain[4:6]),)
    harness = alone(FixedSpeculation(Soothsayer(1.0, script=ENDLESS), 15), max_new_tokens=12, stop_sequences=stop)
    assert harness.outputs[1, 0] == plain[:6]
    assert harness.finishes[1, 0] is FinishReason.STOP
    counters = harness.scheduler.counters
    assert (counters.drafted_tokens, counters.accepted_tokens, counters.generated_tokens) == (4, 4, 6)


def test_a_row_that_fails_behind_a_draft_keeps_the_tokens_before_that() -> None:
    plain = alone(None, max_new_tokens=8).outputs[1, 0]
    script = Script(vocab_size=97, block_size=4, max_sequence_tokens=200, nan_on_token=plain[3])
    assert plain.index(plain[3]) == 3
    for speculation in (None, FixedSpeculation(Soothsayer(1.0, script=script), 2)):
        harness = Harness(script=script, speculation=speculation)
        harness.add(1, PROMPT, max_new_tokens=8)
        errors = []
        while harness.scheduler.has_work:
            errors += [emission.error for emission in harness.step() if emission.error]
        assert harness.outputs[1, 0] == plain[:4]
        assert errors == [NOT_FINITE]
        assert harness.finishes[1, 0] is FinishReason.ERROR


def test_blocks_of_a_rejected_draft_are_given_back_and_nothing_of_it_is_published() -> None:
    harness = Harness(
        script=ENDLESS, spare_logit_rows=15, speculation=FixedSpeculation(Soothsayer(0.0, script=ENDLESS), 15)
    )
    harness.add(1, PROMPT, max_new_tokens=40)
    harness.step()
    step = harness.plan()
    assert step is not None
    (sequence,) = harness.scheduler.running
    assert len(sequence.blocks) == 6, "six and fifteen tokens"
    assert check_invariants(harness.scheduler) == []
    harness.execute(step)
    assert len(sequence.blocks) == 2
    assert len(harness.scheduler.kv.tree.nodes) == 1
    harness.run()
    harness.assert_exact()


def test_an_abort_while_a_draft_is_in_flight_frees_its_blocks() -> None:
    harness = Harness(script=ENDLESS, speculation=FixedSpeculation(Soothsayer(1.0, script=ENDLESS), 15))
    harness.add(1, PROMPT, max_new_tokens=40)
    harness.step()
    step = harness.plan()
    assert step is not None
    harness.scheduler.abort((b"test", 1))
    assert harness.execute(step) == []
    assert harness.scheduler.kv.referenced == 0


def test_no_draft_is_run_while_not_everybody_would_fit_at_full_length() -> None:
    harness = Harness(
        script=ENDLESS,
        num_blocks=11,
        prefix_cache=False,
        speculation=FixedSpeculation(Soothsayer(1.0, script=ENDLESS), 2),
    )
    harness.add(1, PROMPT, max_new_tokens=30)
    harness.add(2, PROMPT, max_new_tokens=4)
    while len(harness.finishes) < 1:
        harness.step()
    assert harness.scheduler.counters.drafted_tokens == 0
    harness.run()
    assert harness.scheduler.counters.drafted_tokens > 0
    harness.assert_exact()


def random_parameters(rng: random.Random) -> dict[str, object]:
    return {
        "max_new_tokens": rng.randrange(1, 30),
        "min_new_tokens": rng.choice([1, 1, 8]),
        "top_k": rng.choice([1, -1, 5]),
        "top_p": rng.choice([1.0, 0.8]),
        "temperature": rng.choice([1.0, 5.0]),
        "repetition_penalty": rng.choice([1.0, 1.0, 1.3]),
        "frequency_penalty": rng.choice([0.0, 0.0, 0.4]),
        "input_penalty": rng.random() < 0.3,
        "decay_factor": rng.choice([1.0, 1.5]),
        "ignore_eos": rng.random() < 0.3,
        "stop_sequences": rng.choice([(), ((7,), (3, 4))]),
        "presence_penalty": rng.choice([0.0, 0.0, 0.7]),
        "prompt_logprobs": rng.random() < 0.2,
        "top_logprobs": rng.choice([0, 0, 1, 4]),
        "logit_bias": rng.choice([(), (), ((3, 6.0), (0, -2.0), (5, 1.5))]),
        "seed": rng.randrange(2**64),
    }


def trace(seed: int, speculation: Speculation | None, *, script: Script = LOOSE, abort: bool = False) -> Harness:
    """The same twelve requests in random order and at random moments, with too few blocks."""
    rng, chance = random.Random(seed), random.Random(seed + 1)
    harness = Harness(
        script=script, num_blocks=rng.choice([24, 60]), max_step_tokens=24, spare_logit_rows=9, speculation=speculation
    )
    todo = [
        (
            number,
            [rng.randrange(1, script.vocab_size) for _ in range(rng.randrange(1, 20))],
            rng.choice([1, 1, 2]),
            random_parameters(rng),
        )
        for number in range(12)
    ]
    while todo or harness.scheduler.has_work:
        if todo and chance.random() < 0.5:
            number, prompt, samples, params = todo.pop()
            harness.add(number, prompt, samples=samples, **params)
        if abort and chance.random() < 0.1 and harness.groups:
            harness.scheduler.abort((b"test", chance.choice(list(harness.groups))))
        harness.step()
    return harness


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    skill=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    length=st.sampled_from([1, 2, 9]),
    failing=st.sampled_from([-1, -1, 17]),
)
def test_any_draft_gives_the_bits_of_none(seed: int, skill: float, length: int, failing: int) -> None:
    script = msgspec.structs.replace(LOOSE, nan_on_token=failing)
    plain = trace(seed, None, script=script)
    transcripts: Transcripts = plain.outputs
    drafted = trace(seed, FixedSpeculation(Reader(transcripts, skill, seed), length), script=script)
    assert drafted.outputs == plain.outputs
    assert drafted.logprobs == plain.logprobs
    assert drafted.top_logprobs == plain.top_logprobs
    assert drafted.finishes == plain.finishes
    counters = drafted.scheduler.counters
    assert counters.generated_tokens == plain.scheduler.counters.generated_tokens
    assert counters.accepted_tokens <= counters.drafted_tokens
    for number, group in plain.groups.items():
        for one, other in zip(group.sequences, drafted.groups[number].sequences, strict=True):
            if not one.generated:
                continue  # its prompt failed, in whatever chunks it was read
            assert one.prompt_logprobs == other.prompt_logprobs
            assert one.prompt_top_logprobs == other.prompt_top_logprobs


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_is_aborted_is_a_beginning_of_the_bits_without_drafts(seed: int) -> None:
    plain = trace(seed, None)
    drafted = trace(seed, FixedSpeculation(Reader(plain.outputs, 0.8, seed), 5), abort=True)
    for key, tokens in drafted.outputs.items():
        assert tokens == plain.outputs[key][: len(tokens)]
        assert drafted.logprobs[key] == plain.logprobs[key][: len(tokens)]
        assert drafted.finishes.get(key, plain.finishes[key]) == plain.finishes[key], "who was aborted has no end"


@pytest.mark.parametrize("seed", range(3))
def test_prompt_lookup_gives_the_bits_of_none(seed: int) -> None:
    script = msgspec.structs.replace(LOOSE, vocab_size=6)
    plain, drafted = (
        trace(seed, speculation, script=script) for speculation in (None, FixedSpeculation(PromptLookup(), 4))
    )
    assert drafted.scheduler.counters.drafted_tokens > 0
    assert (drafted.outputs, drafted.logprobs, drafted.finishes) == (plain.outputs, plain.logprobs, plain.finishes)
