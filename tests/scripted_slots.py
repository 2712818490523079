"""The scripted model behind linear slots: what is planned wrongly changes what it answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from runtime.executors.scripted import Script, next_token, score_of
from runtime.executors.slots import SlotRun

UNWRITTEN = -1


class ScriptedSlots:
    """A ``SlotRunner`` that keeps token ids, refuses what a graph would, and remembers what was asked of it.

    Args:
        script: Its block is the slot.
        slots: Slots there are.
    """

    def __init__(
        self, script: Script, slots: int, *, chunk: int = 16, logit_rows: int = 64, batch_sizes: Sequence[int] = ()
    ) -> None:
        self.script = script
        self.slots = slots
        self.capacity = script.block_size
        self.chunk = chunk
        self.logit_rows = logit_rows
        self.batch_sizes = batch_sizes
        self.result_shape: tuple[int, ...] = () if script.scores else (script.vocab_size,)
        self.pool = np.full((slots, self.capacity), UNWRITTEN, dtype=np.int64)
        self.runs: list[SlotRun] = []
        self.cleared: list[int] = []
        self.closed = False

    def run(self, run: SlotRun) -> npt.NDArray[np.float32]:
        self.runs.append(run)
        if self.script.fail_on_token >= 0 and self.script.fail_on_token in run.token_ids:
            message = f"scripted failure on token {self.script.fail_on_token}"
            raise RuntimeError(message)
        batch, length = run.token_ids.shape
        assert (batch == 1 and length <= self.chunk) or length == 1
        assert batch in (self.batch_sizes or range(1, self.slots + 1)) or not run.decode
        assert 1 <= len(run.logits_rows) <= (batch if run.decode else self.logit_rows)
        for row, (tokens, start) in enumerate(zip(run.token_ids, run.write_indices.tolist(), strict=True)):
            assert 0 <= start <= self.capacity - length
            self.pool[run.first_slot + row, start : start + length] = tokens
        return np.stack([self._result(run, *divmod(int(row), length)) for row in run.logits_rows])

    def clear(self, slot: int) -> None:
        self.cleared.append(slot)
        self.pool[slot] = UNWRITTEN

    def copy(self, source: int, target: int) -> None:
        self.pool[target] = self.pool[source]

    def close(self) -> None:
        self.closed = True

    def _result(self, run: SlotRun, row: int, offset: int) -> npt.NDArray[np.float32]:
        length = int(run.write_indices[row]) + offset + 1
        tokens = self.pool[run.first_slot + row, :length].tolist()
        if self.script.scores:
            return np.float32(score_of(self.script, tokens))
        logits = np.zeros(self.script.vocab_size, dtype=np.float32)
        logits[next_token(self.script, tokens)] = 8.0
        return logits * np.nan if tokens[-1] == self.script.nan_on_token else logits
