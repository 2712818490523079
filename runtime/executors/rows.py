"""The executor's rows: tokens, positions and block tables that persist between steps, packed into step inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from runtime.scheduler.plan import Logits, RowStart, RowWork, StepPlan

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class StepInputs:
    """The step contract: packed and ragged, without padding.

    Attributes:
        token_ids: int64 ``[T]``, the new tokens of all scheduled sequences, concatenated.
        cu_seqlens: int32 ``[B + 1]``, prefix sums of their counts.
        past_lens: int32 ``[B]``, tokens already in the KV cache.
        block_table: int32 ``[B, M]``, KV blocks in order, padded with -1.
        logits_rows: int64 ``[R]``, rows of ``[0, T)`` whose logits are wanted.
    """

    token_ids: Int64
    cu_seqlens: Int32
    past_lens: Int32
    block_table: Int32
    logits_rows: Int64


class RowTable:
    """Fixed arrays with one slot a row.

    Args:
        max_rows: Slots.
        max_tokens: Tokens a row can hold.
        block_size: Tokens in a KV block.
    """

    def __init__(self, max_rows: int, max_tokens: int, block_size: int) -> None:
        self._block_size = block_size
        self.tokens = np.zeros((max_rows, max_tokens + 1), dtype=np.int64)
        self.lengths = np.zeros(max_rows, dtype=np.int64)
        self.computed = np.zeros(max_rows, dtype=np.int32)
        self.blocks = np.full((max_rows, -(-max_tokens // block_size)), -1, dtype=np.int32)
        self.block_counts = np.zeros(max_rows, dtype=np.int32)

    def start(self, start: RowStart) -> None:
        """Fill a row; whatever it held before is gone."""
        row = start.row
        self.tokens[row, : len(start.tokens)] = start.tokens
        self.lengths[row] = len(start.tokens)
        self.computed[row] = start.computed
        self.blocks[row] = -1
        self.block_counts[row] = 0
        self.extend(row, start.blocks)

    def extend(self, row: int, blocks: list[int]) -> None:
        """Append blocks to a row's table."""
        count = int(self.block_counts[row])
        self.blocks[row, count : count + len(blocks)] = blocks
        self.block_counts[row] = count + len(blocks)

    def append(self, rows: int | list[int], tokens: int | list[int]) -> None:
        """The next token of a row, or of each of several different ones."""
        self.tokens[rows, self.lengths[rows]] = tokens
        self.lengths[rows] += 1

    def draft(self, row: int, tokens: tuple[int, ...]) -> None:
        """What might follow a row's tokens, for the next step alone."""
        length = int(self.lengths[row])
        self.tokens[row, length : length + len(tokens)] = tokens

    def accept(self, rows: list[int]) -> None:
        """A token of each row's draft was right: it has run."""
        self.computed[rows] += 1

    def trim(self, row: int) -> None:
        """Forget the blocks that only rejected tokens needed."""
        kept = -(-int(self.computed[row]) // self._block_size)
        self.blocks[row, kept : int(self.block_counts[row])] = -1
        self.block_counts[row] = kept

    def pack(self, plan: StepPlan) -> StepInputs:
        """Inputs of the plan's work, whose new blocks are already in the table. Does not advance the rows."""
        rows = np.array([item.row for item in plan.work])
        past = self.computed[rows]
        width = int(self.block_counts[rows].max())
        block_table = self.blocks[:, :width].take(rows, axis=0)
        if all(item.count == 1 and item.logits is Logits.LAST for item in plan.work):
            return StepInputs(
                token_ids=self.tokens[rows, past],
                cu_seqlens=np.arange(len(rows) + 1, dtype=np.int32),
                past_lens=past,
                block_table=block_table,
                logits_rows=np.arange(len(rows)),
            )
        counts = np.array([item.count for item in plan.work])
        cu_seqlens = np.zeros(len(rows) + 1, dtype=np.int32)
        np.cumsum(counts, out=cu_seqlens[1:])
        starts = cu_seqlens[:-1].astype(np.int64)
        offsets = np.arange(cu_seqlens[-1]) - np.repeat(starts, counts)
        return StepInputs(
            token_ids=self.tokens[np.repeat(rows, counts), np.repeat(past, counts) + offsets],
            cu_seqlens=cu_seqlens,
            past_lens=past,
            block_table=block_table,
            logits_rows=_logits_rows(plan.work, starts),
        )

    def advance(self, work: list[RowWork]) -> None:
        """The work has run: its known tokens are in the KV cache."""
        known = [item.count - len(item.draft) for item in work]
        self.computed[[item.row for item in work]] += np.array(known, dtype=np.int32)


def _logits_rows(work: list[RowWork], starts: Int64) -> Int64:
    wanted: list[int] = []
    for item, start in zip(work, starts.tolist(), strict=True):
        end = start + item.count
        wanted.extend(range(end - item.logit_rows, end))
    return np.array(wanted, dtype=np.int64)
