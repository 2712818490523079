"""Groups of texts in the step contract."""

from __future__ import annotations

import numpy as np
import pytest

from build_engine.reward_head.steps import blocks_of_groups, last_token_steps
from runtime.executors import StepInputs


def read_back(steps: list[StepInputs], block_size: int) -> list[list[int]]:
    """The text of every wanted row, from what the steps wrote into their blocks."""
    slots: dict[int, int] = {}
    texts = []
    for step in steps:
        wanted = set(step.logits_rows.tolist())
        for row, past in enumerate(step.past_lens.tolist()):
            start, stop = step.cu_seqlens[row : row + 2].tolist()
            places = [
                int(step.block_table[row, place // block_size]) * block_size + place % block_size
                for place in range(past + stop - start)
            ]
            assert min(places) >= 0
            slots |= dict(zip(places[past:], step.token_ids[start:stop].tolist(), strict=True))
            if stop - 1 in wanted:
                texts.append([slots[place] for place in places])
    return texts


GROUPS = [
    [[1, 2, 3, 4, 5], [1, 2, 3, 4, 6, 7, 8], [1, 2, 3, 9]],
    [[5, 6], [7]],
    [[1, 2, 3, 4], [1, 2, 3, 4, 5, 6], [1, 2, 3, 4]],
    [[8]],
]


@pytest.mark.parametrize("block_size", [1, 2, 3, 16])
def test_every_text_is_computed_once_and_in_order(block_size: int) -> None:
    steps = list(last_token_steps(GROUPS, block_size))
    assert read_back(steps, block_size) == [text for group in GROUPS for text in group]
    used = max(int(step.block_table.max()) for step in steps) + 1
    assert used <= blocks_of_groups(GROUPS, block_size)


def test_what_a_group_begins_with_is_computed_once() -> None:
    first, second = list(last_token_steps(GROUPS[:1], 1))
    assert (first.token_ids.tolist(), first.logits_rows.tolist()) == ([1, 2, 3], [])
    assert second.token_ids.tolist() == [4, 5, 4, 6, 7, 8, 9]
    assert second.past_lens.tolist() == [3, 3, 3]


def test_only_whole_blocks_are_shared_and_each_text_keeps_a_token() -> None:
    first, second = list(last_token_steps([[[1, 2, 3, 4]] * 2], 2))
    assert first.token_ids.tolist() == [1, 2]
    assert second.token_ids.tolist() == [3, 4, 3, 4]
    assert second.logits_rows.tolist() == [1, 3]


def test_arrays_have_the_types_of_the_contract() -> None:
    for step in last_token_steps(GROUPS, 2):
        assert [array.dtype for array in (step.token_ids, step.logits_rows)] == [np.int64] * 2
        assert [array.dtype for array in (step.cu_seqlens, step.past_lens, step.block_table)] == [np.int32] * 3


def test_no_groups_are_no_steps() -> None:
    assert list(last_token_steps([], 16)) == []
    assert blocks_of_groups([], 16) == 0
