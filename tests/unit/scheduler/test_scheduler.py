"""Scheduling rules, one at a time."""

from __future__ import annotations

import pytest
from harness import Harness, expected_output

from runtime.request import FinishReason
from runtime.scheduler import Logits, SchedulerConfig, StepOutput, check_invariants
from runtime.scheduler.withholding import let, withhold

PROMPT = [11, 12, 13, 14, 15, 16, 17, 18, 19, 20]


@pytest.mark.parametrize(("rows", "tokens", "logit_rows"), [(0, 8, 8), (4, 3, 8), (4, 4, 4)])
def test_a_step_must_have_room_for_every_rows_decode(rows: int, tokens: int, logit_rows: int) -> None:
    with pytest.raises(ValueError, match="too small for max_rows"):
        SchedulerConfig(max_rows=rows, max_step_tokens=tokens, max_logit_rows=logit_rows)


def test_a_long_prompt_runs_in_chunks_and_samples_with_the_last() -> None:
    harness = Harness(max_step_tokens=4)
    harness.add(1, PROMPT, max_new_tokens=2, ignore_eos=True)
    works = []
    while step := harness.scheduler.plan():
        works.append([(item.count, item.logits, item.samples) for item in step.plan.work])
        harness.scheduler.commit(step, harness.executor.collect(harness.executor.submit(step.plan)))
    none, last = Logits.NONE, Logits.LAST
    assert works == [[(4, none, False)], [(4, none, False)], [(2, last, True)], [(1, last, True)]]


def test_decodes_go_before_prompt_chunks() -> None:
    harness = Harness(max_step_tokens=4)
    harness.add(1, PROMPT[:2], max_new_tokens=8, ignore_eos=True)
    harness.step()
    harness.add(2, PROMPT, max_new_tokens=1)
    step = harness.scheduler.plan()
    assert step is not None
    assert [(item.count, item.samples) for item in step.plan.work] == [(1, True), (3, False)]


def test_a_short_request_is_not_held_up_by_a_long_one() -> None:
    harness = Harness()
    harness.add(1, PROMPT, max_new_tokens=100, ignore_eos=True)
    harness.step()
    harness.add(2, PROMPT[:3], max_new_tokens=2, ignore_eos=True)
    for _ in range(2):
        harness.step()
    assert harness.finishes == {(2, 0): FinishReason.LENGTH}


def test_requests_are_admitted_in_order_even_if_a_later_one_would_fit() -> None:
    harness = Harness(num_blocks=8, max_rows=4)
    harness.add(1, PROMPT, max_new_tokens=6, ignore_eos=True)
    harness.step()
    harness.add(2, PROMPT * 2, max_new_tokens=2, ignore_eos=True)
    harness.add(3, PROMPT[:1], max_new_tokens=1)
    harness.step()
    assert [sequence.group.key[1] for sequence in harness.scheduler.running] == [1]
    harness.run()
    harness.assert_exact()


def test_a_repeated_prompt_skips_its_cached_blocks() -> None:
    harness = Harness()
    for number in (1, 2):
        harness.add(number, PROMPT, max_new_tokens=3, ignore_eos=True)
        harness.run()
    assert harness.scheduler.counters.prefix_hits == 8
    assert harness.outputs[1, 0] == harness.outputs[2, 0]


def test_a_running_requests_prompt_is_shared_before_it_ends() -> None:
    harness = Harness()
    harness.add(1, PROMPT, max_new_tokens=50, ignore_eos=True)
    harness.step()
    second = harness.add(2, PROMPT, max_new_tokens=1)
    harness.step()
    assert second.sequences[0].cached == 8


def test_tenants_do_not_share_blocks() -> None:
    harness = Harness()
    for number, salt in ((1, "a"), (2, "b"), (3, "a")):
        harness.add(number, PROMPT, salt=salt, max_new_tokens=1)
        harness.run()
    assert [harness.groups[n].sequences[0].cached for n in (1, 2, 3)] == [0, 0, 8]


def test_aborting_frees_everything_at_once() -> None:
    harness = Harness(prefix_cache=False)
    harness.add(1, PROMPT, samples=2, max_new_tokens=50, ignore_eos=True)
    harness.step()
    assert harness.scheduler.abort((b"test", 1))
    assert not harness.scheduler.abort((b"test", 1))
    assert harness.scheduler.kv.referenced == 0
    assert not harness.scheduler.has_work
    assert check_invariants(harness.scheduler) == []


def test_aborting_a_queued_request_drops_it() -> None:
    harness = Harness(max_rows=1)
    harness.add(1, PROMPT, max_new_tokens=4)
    harness.add(2, PROMPT, max_new_tokens=4)
    harness.step()
    harness.scheduler.abort((b"test", 2))
    assert not harness.scheduler.waiting


def test_what_a_failed_step_held_is_withheld_until_it_is_let() -> None:
    harness = Harness(max_rows=2)
    for number in (1, 2, 3):
        harness.add(number, PROMPT, max_new_tokens=4, ignore_eos=True)
    step = harness.scheduler.plan()
    assert step is not None
    step.release()
    withhold(harness.scheduler)
    harness.scheduler.admitting = False
    assert harness.plan() is None
    assert harness.scheduler.has_work
    assert check_invariants(harness.scheduler) == []
    first, second = harness.scheduler.withheld
    let(harness.scheduler, [second])
    harness.run(lambda: len(harness.finishes) == 1)
    harness.record(harness.scheduler.fail(first, "broken"))
    assert harness.finishes == {(1, 0): FinishReason.ERROR, (2, 0): FinishReason.LENGTH}
    harness.scheduler.admitting = True
    harness.run()
    harness.assert_exact()


def test_blocks_of_a_poisoned_row_are_not_met_again() -> None:
    """Its KV may be spoilt from any chunk on: only the last one has logits that tell."""
    harness = Harness(max_step_tokens=8)
    harness.add(1, [5] * 8, max_new_tokens=1, ignore_eos=True)
    harness.run()
    prompt = [5] * 8 + [6] * 20
    harness.add(2, prompt, max_new_tokens=4)
    harness.step()
    harness.add(3, prompt[:-3], max_new_tokens=4)
    harness.step()
    harness.scheduler.abort((b"test", 3))
    while 2 in {group.key[1] for group in harness.scheduler.groups.values()}:
        step = harness.plan()
        assert step is not None
        output = harness.executor.collect(harness.executor.submit(step.plan))
        bad = dict.fromkeys(output.tokens, "NaN")
        harness.commit(step, StepOutput(errors=bad))
    assert harness.finishes[2, 0] is FinishReason.ERROR
    assert not harness.scheduler.kv.tree.nodes
    assert check_invariants(harness.scheduler) == []


def test_what_others_hold_stays_when_a_row_fails() -> None:
    harness = Harness(max_step_tokens=32)
    harness.add(1, [5] * 9, max_new_tokens=9, ignore_eos=True)
    harness.step()
    harness.add(2, [5] * 9 + [6], max_new_tokens=4, ignore_eos=True)
    step = harness.plan()
    assert step is not None
    output = harness.executor.collect(harness.executor.submit(step.plan))
    bad = harness.scheduler.groups[b"test", 2].sequences[0].row
    del output.tokens[bad]
    harness.commit(step, StepOutput(output.tokens, output.logprobs, errors={bad: "NaN"}))
    assert len(harness.scheduler.kv.tree.nodes) == 2
    harness.run()
    harness.assert_exact()


def test_a_poisoned_row_fails_alone() -> None:
    harness = Harness(max_step_tokens=32)
    for number in (1, 2):
        harness.add(number, PROMPT[number:], max_new_tokens=4, ignore_eos=True)
    step = harness.scheduler.plan()
    assert step is not None
    output = harness.executor.collect(harness.executor.submit(step.plan))
    bad = step.plan.work[0].row
    del output.tokens[bad]
    emissions = harness.scheduler.commit(step, StepOutput(output.tokens, output.logprobs, errors={bad: "NaN"}))
    assert [(e.finish, e.error) for e in emissions] == [(FinishReason.ERROR, "NaN"), (FinishReason.NONE, "")]


def test_stop_sequences_end_the_output_and_stay_in_it() -> None:
    harness = Harness()
    free = harness.add(1, PROMPT, max_new_tokens=10, ignore_eos=True)
    harness.run()
    output = expected_output(harness.script, PROMPT, free.params)
    harness.add(2, PROMPT, max_new_tokens=10, ignore_eos=True, stop_sequences=((999,), tuple(output[3:5])))
    harness.run()
    assert harness.outputs[2, 0] == output[:5]
    assert harness.finishes[2, 0] is FinishReason.STOP


def test_a_stop_sequence_does_not_reach_into_the_prompt() -> None:
    harness = Harness()
    free = harness.add(1, PROMPT, max_new_tokens=3, ignore_eos=True)
    first = expected_output(harness.script, PROMPT, free.params)[0]
    harness.run()
    harness.add(2, PROMPT, max_new_tokens=3, ignore_eos=True, stop_sequences=((PROMPT[-1], first),))
    harness.run()
    assert harness.finishes[2, 0] is FinishReason.LENGTH
