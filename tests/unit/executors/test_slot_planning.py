"""Runs over linear slots, planned from packed steps."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.executors.rows import StepInputs
from runtime.executors.slots import UNWANTED, SlotPlanner, SlotRun


def inputs(sequences: list[tuple[int, int, list[int]]], wanted: list[int]) -> StepInputs:
    """A step of (slot, past, tokens)."""
    ends = np.cumsum([0, *(len(tokens) for _, _, tokens in sequences)])
    return StepInputs(
        token_ids=np.array([token for _, _, tokens in sequences for token in tokens], np.int64),
        cu_seqlens=ends.astype(np.int32),
        past_lens=np.array([past for _, past, _ in sequences], np.int32),
        block_table=np.array([[slot] for slot, _, _ in sequences], np.int32),
        logits_rows=np.array(wanted, np.int64),
    )


def planner(slots: int = 4, **options: object) -> SlotPlanner:
    return SlotPlanner(slots, **({"chunk": 8, "logit_rows": 8} | options))


def summary(run: SlotRun) -> tuple[object, ...]:
    arrays = (run.token_ids, run.write_indices, run.logits_rows, run.places)
    return (run.first_slot, *(array.tolist() for array in arrays))


def test_a_prompt_runs_alone_in_its_slot() -> None:
    (run,) = planner().plan(inputs([(2, 0, [5, 6, 7])], [2])).runs
    assert summary(run) == (2, [[5, 6, 7]], [0], [2], [0])
    assert not run.decode


def test_a_prompt_longer_than_the_graph_takes_runs_in_chunks() -> None:
    runs = planner(chunk=3).plan(inputs([(1, 4, [5, 6, 7, 8, 9, 10, 11])], [6])).runs
    assert [summary(run) for run in runs] == [
        (1, [[5, 6, 7]], [4], [2], [UNWANTED]),
        (1, [[8, 9, 10]], [7], [2], [UNWANTED]),
        (1, [[11]], [10], [0], [0]),
    ]


def test_results_of_every_token_come_in_chunks_that_the_graph_can_return() -> None:
    runs = planner(logit_rows=2).plan(inputs([(0, 0, [5, 6, 7])], [0, 1, 2])).runs
    assert [summary(run) for run in runs] == [(0, [[5, 6]], [0], [0, 1], [0, 1]), (0, [[7]], [2], [0], [2])]


def test_single_tokens_run_as_one_batch_from_slot_zero() -> None:
    plan = planner()
    plan.plan(inputs([(3, 0, [1] * 5), (1, 0, [1] * 4), (2, 0, [1] * 2)], []))
    (run,) = plan.plan(inputs([(3, 5, [8]), (1, 4, [9])], [0, 1])).runs
    assert run.decode
    assert summary(run) == (0, [[0], [9], [0], [8]], [0, 4, 2, 5], [0, 1, 2, 3], [UNWANTED, 1, UNWANTED, 0])


def test_a_slot_whose_prompt_goes_on_is_parked_where_it_will_go_on() -> None:
    plan = planner()
    plan.plan(inputs([(0, 0, [1] * 6), (1, 0, [1] * 4)], []))
    batch, prompt = plan.plan(inputs([(1, 4, [9]), (0, 6, [7, 8])], [0, 2])).runs
    assert summary(batch) == (0, [[0], [9]], [6, 4], [0, 1], [UNWANTED, 0])
    assert summary(prompt) == (0, [[7, 8]], [6], [1], [1])
    assert plan.fills.tolist() == [8, 5, 0, 0]


@pytest.mark.parametrize(("slot", "size"), [(0, 1), (1, 2), (2, 4), (3, 4), (4, 5)])
def test_a_batch_is_as_large_as_the_next_size_there_is(slot: int, size: int) -> None:
    (run,) = planner(5, batch_sizes=(1, 2, 4, 5)).plan(inputs([(slot, 0, [5])], [0])).runs
    assert run.token_ids.shape == (size, 1)
    assert len(run.logits_rows) == size


def test_a_token_without_a_result_is_in_the_batch_too() -> None:
    (run,) = planner().plan(inputs([(1, 0, [5])], [])).runs
    assert summary(run) == (0, [[0], [5]], [0, 0], [0, 1], [UNWANTED, UNWANTED])


def test_a_slot_is_cleared_when_the_next_sequence_enters_it_and_only_then() -> None:
    plan = planner()
    assert plan.plan(inputs([(0, 0, [1, 2])], [1])).clears == []
    assert plan.plan(inputs([(0, 2, [3])], [0])).clears == []
    assert plan.plan(inputs([(0, 0, [4]), (1, 0, [4])], [0, 1])).clears == [0]
    assert plan.fills.tolist() == [1, 1, 0, 0]


def test_a_copy_is_parked_beyond_what_was_copied() -> None:
    plan = planner()
    plan.plan(inputs([(0, 0, [1] * 5)], [4]))
    plan.copied(0, 1)
    (run,) = plan.plan(inputs([(2, 0, [7])], [0])).runs
    assert run.write_indices.tolist() == [5, 5, 0]
    (run,) = plan.plan(inputs([(1, 4, [1])], [0])).runs
    assert run.write_indices.tolist() == [5, 4]
