"""Teacher forcing of several texts at once, in the step contract: prefill chunks first, then single tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class ForcedStep:
    """One step over all texts that still have tokens.

    Attributes:
        token_ids: int64 ``[T]``.
        cu_seqlens: int32 ``[B + 1]``.
        past_lens: int32 ``[B]``.
        block_table: int32 ``[B, M]``.
        next_ids: int64 ``[T]``: the token after each one, -1 at the end of a text.
    """

    token_ids: npt.NDArray[np.int64]
    cu_seqlens: npt.NDArray[np.int32]
    past_lens: npt.NDArray[np.int32]
    block_table: npt.NDArray[np.int32]
    next_ids: npt.NDArray[np.int64]


def blocks_of(texts: Sequence[Sequence[int]], block_size: int) -> int:
    """Blocks that all texts take together."""
    return sum(-(-len(text) // block_size) for text in texts)


def forced_steps(texts: Sequence[Sequence[int]], block_size: int, chunk: int, decoded: int) -> Iterator[ForcedStep]:
    """Covers every token of every text once.

    Args:
        texts: Token ids, none empty.
        block_size: Tokens in a KV block.
        chunk: Tokens of a text in a prefill step.
        decoded: Tokens at the end of a text that come one a step.
    """
    table = _block_table([len(text) for text in texts], block_size)
    done = [0] * len(texts)
    while any(past < len(text) for past, text in zip(done, texts, strict=True)):
        counts = [_count(len(text) - past, chunk, decoded) for past, text in zip(done, texts, strict=True)]
        rows = [row for row, count in enumerate(counts) if count]
        taken = [(texts[row], done[row], done[row] + counts[row]) for row in rows]
        yield ForcedStep(
            token_ids=np.array([token for text, start, stop in taken for token in text[start:stop]], np.int64),
            cu_seqlens=np.cumsum([0, *(counts[row] for row in rows)], dtype=np.int32),
            past_lens=np.array([done[row] for row in rows], np.int32),
            block_table=table[rows],
            next_ids=np.array(
                [token for text, start, stop in taken for token in [*text, -1][start + 1 : stop + 1]], np.int64
            ),
        )
        done = [past + count for past, count in zip(done, counts, strict=True)]


def _count(left: int, chunk: int, decoded: int) -> int:
    return min(left, 1) if left <= decoded else min(chunk, left - decoded)


def _block_table(lengths: Sequence[int], block_size: int) -> npt.NDArray[np.int32]:
    counts = [-(-length // block_size) for length in lengths]
    table = np.full((len(lengths), max(counts, default=0)), -1, dtype=np.int32)
    first = 0
    for row, count in enumerate(counts):
        table[row, :count] = np.arange(first, first + count)
        first += count
    return table
