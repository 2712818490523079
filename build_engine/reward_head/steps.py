"""Texts in the step contract, each common beginning computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from runtime.executors import StepInputs

Text = Sequence[int]


def blocks_of_groups(groups: Sequence[Sequence[Text]], block_size: int) -> int:
    """KV blocks that the steps of any one group take."""
    return max((sum(-(-len(text) // block_size) for text in group) for group in groups), default=0)


def last_token_steps(groups: Sequence[Sequence[Text]], block_size: int) -> Iterator[StepInputs]:
    """Two steps a group: the blocks that its texts begin with in common, then the rest of every text.

    The first step (absent where there is no common block) wants no output; the second wants that of each text's last
    token, in the order of the group. Groups use the same blocks one after the other.

    Args:
        groups: Token ids of texts, none empty, that belong together.
        block_size: Tokens in a KV block.
    """
    for group in groups:
        shared = _common_length(group) // block_size
        past = shared * block_size
        if past:
            yield _step([group[0][:past]], 0, np.arange(shared, dtype=np.int32)[None])
        yield _step([text[past:] for text in group], past, _block_table(group, shared, block_size), wanted=True)


def _common_length(group: Sequence[Text]) -> int:
    """Tokens that all texts begin with; every text keeps at least one of its own."""
    shortest = min(len(text) for text in group) - 1
    for place, tokens in enumerate(zip(*group, strict=False)):
        if place >= shortest or len(set(tokens)) > 1:
            return place
    return shortest


def _block_table(
    group: Sequence[Text], shared: int, block_size: int
) -> np.ndarray[tuple[int, int], np.dtype[np.int32]]:
    counts = [-(-len(text) // block_size) for text in group]
    table = np.full((len(group), max(counts)), -1, np.int32)
    table[:, :shared] = np.arange(shared)
    free = shared
    for row, count in enumerate(counts):
        table[row, shared:count] = np.arange(free, free + count - shared)
        free += count - shared
    return table


def _step(
    parts: Sequence[Text], past: int, table: np.ndarray[tuple[int, int], np.dtype[np.int32]], *, wanted: bool = False
) -> StepInputs:
    ends = np.cumsum([0, *map(len, parts)], dtype=np.int32)
    return StepInputs(
        token_ids=np.array([token for part in parts for token in part], np.int64),
        cu_seqlens=ends,
        past_lens=np.full(len(parts), past, np.int32),
        block_table=table,
        logits_rows=ends[1:].astype(np.int64) - 1 if wanted else np.empty(0, np.int64),
    )
