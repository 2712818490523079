"""ONNX Runtime's CPU provider runs the linear-slot graph: without a GPU, the oracle of those that are built for one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from runtime.bundle.bundle import MODEL_FILE
from runtime.executors.ort_session import make_pools, open_session
from runtime.executors.slots import SlotRun


class OrtSlotRunner:
    """A ``SlotRunner`` on ONNX Runtime's CPU provider.

    The caches are this object's, bound by the address of a run's first slot, as input and as output: they are updated
    in place.

    Args:
        directory: Holds ``model.onnx`` and its weight file.
        slots: Slots to allocate.
        chunk: Tokens to take in one run of one slot.
        threads: Compute threads.
        spinning: Let idle compute threads spin between two operators.
    """

    def __init__(self, directory: Path, *, slots: int, chunk: int, threads: int, spinning: bool = True) -> None:
        self._session = open_session(directory / MODEL_FILE, threads=threads, spinning=spinning)
        self._pools = make_pools(self._session, slots)
        self._head = self._session.get_outputs()[0]
        self.slots = slots
        self.capacity = int(next(iter(self._pools.values())).shape[2])
        self.chunk = chunk
        self.logit_rows = max(chunk, slots)
        self.batch_sizes: Sequence[int] = ()
        self.result_shape: tuple[int, ...] = tuple(self._head.shape[1:])
        self._binding = self._session.io_binding()

    def run(self, run: SlotRun) -> npt.NDArray[np.float32]:
        """See ``SlotRunner``."""
        binding, end = self._binding, run.first_slot + len(run.token_ids)
        for name, pool in self._pools.items():
            slots = pool[run.first_slot : end]
            binding.bind_input(name, "cpu", 0, slots.dtype, slots.shape, slots.ctypes.data)
            binding.bind_output(f"{name}_out", "cpu", 0, slots.dtype, slots.shape, slots.ctypes.data)
        # NOTE: bound by address: these arrays have to live until the run is over.
        arrays = {
            "token_ids": np.ascontiguousarray(run.token_ids),
            "write_indices": run.write_indices,
            "logits_rows": run.logits_rows,
        }
        for name, array in arrays.items():
            binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        results = np.empty((len(run.logits_rows), *self.result_shape), dtype=np.float32)
        binding.bind_output(self._head.name, "cpu", 0, results.dtype, results.shape, results.ctypes.data)
        self._session.run_with_iobinding(binding)
        return results

    def clear(self, slot: int) -> None:
        """See ``SlotRunner``."""
        for pool in self._pools.values():
            pool[slot] = 0

    def copy(self, source: int, target: int) -> None:
        """See ``SlotRunner``."""
        for pool in self._pools.values():
            pool[target] = pool[source]

    def close(self) -> None:
        """See ``SlotRunner``."""
        self._binding.clear_binding_inputs()
        self._binding.clear_binding_outputs()
