"""Linear KV slots: a packed, ragged step becomes runs of a graph whose batch is a stretch of slots."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from runtime.executors.rows import StepInputs

Int64 = npt.NDArray[np.int64]

UNWANTED = -1
"""Place of a result that nobody asked for."""
_PARKED_TOKEN = 0


@dataclass(frozen=True, slots=True)
class SlotRun:
    """One run of the graph over the slots ``first_slot`` to ``first_slot + B - 1``.

    Attributes:
        first_slot: The slot of batch row 0.
        token_ids: int64 ``[B, S]``.
        write_indices: int64 ``[B]``, tokens of each slot already in the cache.
        logits_rows: int64 ``[R]``, rows of the flattened ``[B * S]`` that results are computed for; at least one.
        places: int64 ``[R]``, where each result belongs in the step's results, or ``UNWANTED``.
        decode: One token for each of the slots from 0 on, and a result for each.
    """

    first_slot: int
    token_ids: Int64
    write_indices: Int64
    logits_rows: Int64
    places: Int64
    decode: bool


@dataclass(frozen=True, slots=True)
class SlotStep:
    """A step: first clear these slots, then run these, in order."""

    clears: list[int]
    runs: list[SlotRun]


class SlotPlanner:
    """Plans steps, and knows how far each slot is filled.

    Sequences with one new token run together, as one batch from slot 0 to the last of them; a slot between that has
    no token to run is parked: it runs a token of no meaning at its own fill, which its next real token overwrites.
    Every other sequence runs alone, in chunks.

    NOTE: the batch runs first: a slot whose prompt goes on in the same step is parked at the fill before it.

    NOTE: a slot is cleared when a new sequence enters it. Whatever is beyond a slot's fill is masked, but a value that
    is not finite is not harmless behind a mask: zero times infinity is no number.

    Args:
        slots: Slots there are.
        chunk: Tokens that the graph takes in one run of one slot.
        logit_rows: Results that it returns from one.
        batch_sizes: Numbers of slots that a batch may have, rising; any where empty. The last is ``slots``.
    """

    def __init__(self, slots: int, *, chunk: int, logit_rows: int, batch_sizes: Sequence[int] = ()) -> None:
        self.fills = np.zeros(slots, dtype=np.int64)
        self._chunk = chunk
        self._logit_rows = logit_rows
        self._batch_sizes = batch_sizes or range(1, slots + 1)

    def plan(self, inputs: StepInputs) -> SlotStep:
        """The runs of a step; the fills are those after it.

        Args:
            inputs: Each sequence's only block is its slot.
        """
        slots = inputs.block_table[:, 0].astype(np.int64)
        pasts = inputs.past_lens.astype(np.int64)
        counts = np.diff(inputs.cu_seqlens).astype(np.int64)
        places = np.full(len(inputs.token_ids), UNWANTED, dtype=np.int64)
        places[inputs.logits_rows] = np.arange(len(inputs.logits_rows))
        clears = slots[(pasts == 0) & (self.fills[slots] > 0)].tolist()
        self.fills[slots] = pasts
        runs = []
        decodes = np.flatnonzero(counts == 1)
        if len(decodes):
            first_tokens = inputs.cu_seqlens[decodes]
            runs.append(self._batch(slots[decodes], inputs.token_ids[first_tokens], places[first_tokens]))
        for sequence in np.flatnonzero(counts > 1).tolist():
            own = slice(int(inputs.cu_seqlens[sequence]), int(inputs.cu_seqlens[sequence + 1]))
            slot, past = int(slots[sequence]), int(pasts[sequence])
            runs += self._chunks(slot, past, inputs.token_ids[own], places[own])
        self.fills[slots] += counts
        return SlotStep(clears, runs)

    def copied(self, source: int, target: int) -> None:
        """A slot has been copied: the copy is filled as far."""
        self.fills[target] = self.fills[source]

    def _batch(self, slots: Int64, tokens: Int64, places: Int64) -> SlotRun:
        needed = int(slots.max()) + 1
        size = self._batch_sizes[bisect_left(self._batch_sizes, needed)]
        token_ids = np.full((size, 1), _PARKED_TOKEN, dtype=np.int64)
        token_ids[slots, 0] = tokens
        wanted = np.full(size, UNWANTED, dtype=np.int64)
        wanted[slots] = places
        return SlotRun(0, token_ids, self.fills[:size].copy(), np.arange(size, dtype=np.int64), wanted, decode=True)

    def _chunks(self, slot: int, past: int, tokens: Int64, places: Int64) -> Iterator[SlotRun]:
        many = np.count_nonzero(places != UNWANTED) > 1
        length = min(self._chunk, self._logit_rows) if many else self._chunk
        for start in range(0, len(tokens), length):
            chunk, wanted = tokens[start : start + length], places[start : start + length]
            rows = np.flatnonzero(wanted != UNWANTED)
            if not len(rows):
                rows = np.array([len(chunk) - 1])
            index = np.array([past + start], dtype=np.int64)
            yield SlotRun(slot, chunk[None], index, rows, wanted[rows], decode=False)
