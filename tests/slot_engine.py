"""Compiles slot graphs of tiny checkpoints, and drives them by the step contract of the paged engines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from paged import Step

from build_engine.checkpoint import Checkpoint
from build_engine.targets.compiled import CompiledEngine
from build_engine.targets.slots import SlotOptions, compile_cpu_slots
from runtime.executors import StepInputs
from runtime.executors.ort_slots import OrtSlotRunner
from runtime.executors.slot_model import SlotModel

SEQUENCE = 63
SCATTERED = (3, 0, 4, 1, 2)
"""Slots in the order in which sequences enter them."""


def slot_options(**changes: object) -> SlotOptions:
    values = {"precision": "fp32", "element": "float32", "slots": len(SCATTERED), "sequence": SEQUENCE, "chunk": 16}
    return SlotOptions(**(values | changes))  # type: ignore[arg-type]


def compile_slots(checkpoint: Checkpoint, directory: Path, **changes: object) -> CompiledEngine:
    return compile_cpu_slots(checkpoint, directory, slot_options(**changes), lambda *_: None)


def slot_step(directory: Path, chunk: int = 16) -> Step:
    """A compiled engine; a sequence is known by the first block of its table, and gets a slot when it is new."""
    runner = OrtSlotRunner(directory, slots=len(SCATTERED), chunk=chunk, threads=2)
    model, slots = SlotModel(runner, 512), dict[int, int]()

    def step(
        token_ids: npt.NDArray[np.int64],
        cu_seqlens: npt.NDArray[np.int32],
        past_lens: npt.NDArray[np.int32],
        block_table: npt.NDArray[np.int32],
        logits_rows: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.float32]:
        for first in block_table[:, 0].tolist():
            if first not in slots:
                slots[first] = SCATTERED[len(slots)]
        table = np.array([[slots[first]] for first in block_table[:, 0].tolist()], np.int32)
        return model.forward(StepInputs(token_ids, cu_seqlens, past_lens, table, logits_rows)).copy()

    return step
