"""ONNX Runtime on the CPU: the graph of the step contract with our paged attention op."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from runtime.bundle.bundle import MODEL_FILE
from runtime.executors.bound_tensors import BoundInput, BoundOutput
from runtime.executors.ort_session import element_type, make_pools, open_session, zeros
from runtime.executors.rows import StepInputs
from runtime.native import library_path

_STEP_INPUTS = {
    "token_ids": np.int64,
    "cu_seqlens": np.int32,
    "past_lens": np.int32,
    "block_table": np.int32,
    "logits_rows": np.int64,
}


class OrtModel:
    """A ``HostModel`` on ONNX Runtime's CPU provider.

    The KV pools are this object's: bound once as input and output of the graph, they are updated in place.

    Args:
        directory: Holds ``model.onnx`` and its weight file.
        num_blocks: KV blocks to allocate.
        max_logit_rows: Rows of logits, or scores, to make room for.
        threads: Compute threads.
        spinning: Let idle compute threads spin between two operators: faster on cores of their own, very much slower
            where something else wants the cores.
    """

    def __init__(
        self, directory: Path, *, num_blocks: int, max_logit_rows: int, threads: int, spinning: bool = True
    ) -> None:
        self._session = open_session(
            directory / MODEL_FILE, threads=threads, spinning=spinning, custom_ops=library_path()
        )
        self._pools = make_pools(self._session, num_blocks)
        self.num_blocks = num_blocks
        self.block_size = int(next(iter(self._pools.values())).shape[2])
        self._head = self._session.get_outputs()[0]
        self.scores = self._head.name == "score"
        self._results = zeros((max_logit_rows, *self._head.shape[1:]), np.float32)
        self._binding = self._session.io_binding()
        for name, pool in self._pools.items():
            kind = element_type(pool)
            self._binding.bind_input(name, "cpu", 0, kind, pool.shape, pool.ctypes.data)
            self._binding.bind_output(f"{name}_out", "cpu", 0, kind, pool.shape, pool.ctypes.data)
        self._inputs = {name: BoundInput(self._binding, name, dtype) for name, dtype in _STEP_INPUTS.items()}
        self._output = BoundOutput(self._binding, self._head.name, self._results)

    def forward(self, inputs: StepInputs) -> npt.NDArray[np.float32]:
        """See ``HostModel``."""
        for name, bound in self._inputs.items():
            bound.fill(getattr(inputs, name))
        results = self._output.rows(len(inputs.logits_rows))
        self._session.run_with_iobinding(self._binding)
        return results

    def copy_blocks(self, copies: list[tuple[int, int]]) -> None:
        """See ``HostModel``."""
        for pool in self._pools.values():
            for source, target in copies:
                pool[target] = pool[source]

    def close(self) -> None:
        """See ``HostModel``."""
        self._binding.clear_binding_inputs()
        self._binding.clear_binding_outputs()
