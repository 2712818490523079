from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_engine.verify.compare import verification_texts
from build_engine.verify.schedule import blocks_of, forced_steps

_TEXTS = st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=40), min_size=1, max_size=5)


@given(_TEXTS, st.integers(1, 9), st.integers(0, 6))
def test_every_token_is_fed_once_in_order_with_its_successor(texts: list[list[int]], chunk: int, decoded: int) -> None:
    fed: dict[int, list[tuple[int, int]]] = {row: [] for row in range(len(texts))}
    firsts = np.cumsum([0, *(-(-len(text) // 4) for text in texts)])[:-1].tolist()
    for step in forced_steps(texts, block_size=4, chunk=chunk, decoded=decoded):
        for row, table in enumerate(step.block_table):
            span = slice(step.cu_seqlens[row], step.cu_seqlens[row + 1])
            text = firsts.index(table[0])
            assert step.past_lens[row] == len(fed[text])
            fed[text] += zip(step.token_ids[span].tolist(), step.next_ids[span].tolist(), strict=True)
    assert fed == {row: list(zip(text, [*text[1:], -1], strict=True)) for row, text in enumerate(texts)}


@given(_TEXTS)
def test_no_block_belongs_to_two_texts(texts: list[list[int]]) -> None:
    step = next(forced_steps(texts, block_size=4, chunk=8, decoded=0))
    blocks = step.block_table[step.block_table >= 0].tolist()
    assert sorted(blocks) == list(range(blocks_of(texts, 4)))


def test_the_ends_of_texts_are_decoded_one_token_a_step() -> None:
    steps = list(forced_steps([[1, 2, 3, 4, 5, 6]], block_size=4, chunk=3, decoded=2))
    assert [step.token_ids.tolist() for step in steps] == [[1, 2, 3], [4], [5], [6]]


def test_no_text_takes_no_step() -> None:
    assert list(forced_steps([], block_size=4, chunk=3, decoded=2)) == []


@pytest.mark.parametrize("index", range(5))
def test_the_checked_in_texts_are_of_some_length(index: int) -> None:
    assert len(verification_texts()[index].split()) > 70
