"""The samples of one request: what they share and what each has to itself."""

from __future__ import annotations

from harness import Harness

from runtime.request import FinishReason
from runtime.scheduler import Aggressive, Group, Sequence
from runtime.scheduler.admission import Load

PROMPT = [11, 12, 13, 14, 15, 16, 17, 18, 19, 20]


class Overbooking:
    """A policy that lets everybody in once."""

    def peak(self, samples: list[Sequence], load: Load) -> int:
        return Aggressive().peak(samples, load)

    def admits(self, running: list[Sequence], candidate: Group, load: Load) -> bool:
        return not candidate.preempted or Aggressive().admits(running, candidate, load)

    def observe(self, sample: Sequence) -> None:
        pass


def test_samples_share_their_prompt_and_copy_its_last_partial_block() -> None:
    harness = Harness()
    harness.add(1, PROMPT, samples=3, max_new_tokens=4, ignore_eos=True)
    harness.step()
    step = harness.plan()
    assert step is not None
    assert len(step.plan.block_copies) == 2
    assert [item.count for item in step.plan.work] == [1, 1, 1]
    harness.execute(step)
    harness.run()
    harness.assert_exact()
    assert len(harness.finishes) == 3


def test_the_prompt_that_a_sample_shares_counts_as_cached() -> None:
    harness = Harness()
    group = harness.add(1, PROMPT, samples=3, max_new_tokens=4, ignore_eos=True)
    harness.run()
    assert [sequence.cached for sequence in group.sequences] == [0, len(PROMPT) - 1, len(PROMPT) - 1]


def test_samples_draw_apart_and_the_same_every_time() -> None:
    harness = Harness()
    for number in (1, 2):
        harness.add(number, PROMPT, samples=4, max_new_tokens=8, ignore_eos=True, top_k=-1, temperature=9.0, seed=3)
        harness.run()
    outputs = [[harness.outputs[number, sample] for sample in range(4)] for number in (1, 2)]
    assert outputs[0] == outputs[1]
    assert len({tuple(output) for output in outputs[0]}) == 4


def test_aborting_the_first_sample_leaves_the_others_running() -> None:
    harness = Harness()
    harness.add(1, PROMPT, samples=3, max_new_tokens=6, ignore_eos=True)
    for _ in range(3):
        harness.step()
    harness.scheduler.abort((b"test", 1), 0)
    harness.run()
    harness.assert_exact()
    assert harness.finishes == {(1, 1): FinishReason.LENGTH, (1, 2): FinishReason.LENGTH}


def test_a_later_sample_may_be_aborted_before_it_starts() -> None:
    harness = Harness()
    harness.add(1, PROMPT, samples=3, max_new_tokens=6, ignore_eos=True)
    step = harness.plan()
    harness.scheduler.abort((b"test", 1), 1)
    assert step is not None
    harness.execute(step)
    harness.run()
    assert harness.finishes == {(1, 0): FinishReason.LENGTH, (1, 2): FinishReason.LENGTH}


def test_samples_go_on_when_the_first_is_aborted_before_it_has_run_the_prompt() -> None:
    harness = Harness(max_step_tokens=4)
    harness.add(1, PROMPT, samples=3, max_new_tokens=6, ignore_eos=True)
    harness.step()
    harness.scheduler.abort((b"test", 1), 0)
    harness.run()
    harness.assert_exact()
    assert harness.finishes == {(1, 1): FinishReason.LENGTH, (1, 2): FinishReason.LENGTH}


def test_samples_of_a_request_that_ends_with_its_first_token_all_come() -> None:
    harness = Harness(prefix_cache=False)
    harness.add(1, PROMPT, samples=4, max_new_tokens=1)
    harness.run()
    harness.assert_exact()
    assert len(harness.finishes) == 4


def test_samples_that_cannot_share_blocks_run_the_prompt_each():
    harness = Harness(sharing=False)
    group = harness.add(1, PROMPT, samples=3, max_new_tokens=4, ignore_eos=True)
    harness.run()
    harness.assert_exact()
    assert [sequence.cached for sequence in group.sequences] == [0, 0, 0]
    assert harness.scheduler.counters.computed_tokens == 3 * (len(PROMPT) + 3)


def test_samples_that_cannot_share_blocks_copy_one_that_is_not_full() -> None:
    harness = Harness(sharing=False)
    group = harness.add(1, PROMPT[:4], samples=3, max_new_tokens=4, ignore_eos=True)
    harness.run()
    harness.assert_exact()
    assert [sequence.cached for sequence in group.sequences] == [0, 3, 3]
    assert harness.scheduler.counters.computed_tokens == (4 + 3) + 2 * (1 + 3)


def test_a_sample_without_a_block_for_its_copy_starts_when_there_is_one() -> None:
    harness = Harness(num_blocks=4, max_rows=4, policy=Overbooking(), prefix_cache=False)
    group = harness.add(1, PROMPT[:7], samples=2, max_new_tokens=2, ignore_eos=True)
    harness.add(2, PROMPT[:7], max_new_tokens=2, ignore_eos=True)
    harness.step()
    assert harness.scheduler.kv.available == 0
    assert [sequence.computed for sequence in group.sequences] == [7, 0]
    harness.run()
    harness.assert_exact()
    assert len(harness.finishes) == 3
