"""A model with linear KV slots as an executor's model: results come to host memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from runtime.executors.rows import StepInputs
from runtime.executors.slots import UNWANTED, SlotPlanner, SlotRun

Floats = npt.NDArray[np.float32]


class SlotRunner(Protocol):
    """Runs the linear-slot graph; the slots are its own.

    Attributes:
        slots: Slots there are.
        capacity: Tokens in a slot.
        chunk: Tokens that it takes in one run of one slot.
        logit_rows: Results that it returns from one.
        batch_sizes: Numbers of slots that a batch may have, rising; any where empty.
        result_shape: Of one result: ``(V,)`` logits, or ``()`` for a score.
    """

    slots: int
    capacity: int
    chunk: int
    logit_rows: int
    batch_sizes: Sequence[int]
    result_shape: tuple[int, ...]

    def run(self, run: SlotRun) -> Floats:
        """Run the graph; returns float32 ``[R, *result_shape]``, good until the next call."""
        ...

    def clear(self, slot: int) -> None:
        """Fill a slot with zeros, over all layers."""
        ...

    def copy(self, source: int, target: int) -> None:
        """Copy a slot, over all layers."""
        ...

    def close(self) -> None:
        """Give back memory and threads."""
        ...


class SlotModel:
    """A ``HostModel`` whose blocks are the slots of a runner.

    Args:
        runner: Runs the graph; closed with the model.
        max_logit_rows: Results of a step to make room for.
    """

    def __init__(self, runner: SlotRunner, max_logit_rows: int) -> None:
        self.num_blocks = runner.slots
        self.block_size = runner.capacity
        self.scores = runner.result_shape == ()
        self._runner = runner
        self._planner = SlotPlanner(
            runner.slots, chunk=runner.chunk, logit_rows=runner.logit_rows, batch_sizes=runner.batch_sizes
        )
        self._results = np.zeros((max_logit_rows, *runner.result_shape), dtype=np.float32)

    def forward(self, inputs: StepInputs) -> Floats:
        """See ``HostModel``."""
        step = self._planner.plan(inputs)
        for slot in step.clears:
            self._runner.clear(slot)
        for run in step.runs:
            results = self._runner.run(run)
            wanted = run.places != UNWANTED
            self._results[run.places[wanted]] = results[wanted]
        return self._results[: len(inputs.logits_rows)]

    def copy_blocks(self, copies: list[tuple[int, int]]) -> None:
        """See ``HostModel``."""
        for source, target in copies:
            self._runner.copy(source, target)
            self._planner.copied(source, target)

    def close(self) -> None:
        """See ``HostModel``."""
        self._runner.close()
