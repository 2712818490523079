"""ONNX Runtime on the CPU: the graph of the step contract with our paged attention op."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from runtime.bundle.bundle import MODEL_FILE
from runtime.executors.rows import StepInputs
from runtime.native import library_path

Pool = npt.NDArray[Any]

_ELEMENT_TYPES = {"tensor(float16)": np.float16, "tensor(float)": np.float32}


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
        self._session = _session(directory / MODEL_FILE, threads, spinning)
        self._pools: dict[str, Pool] = {
            value.name: _zeros((num_blocks, *value.shape[1:]), _ELEMENT_TYPES[value.type])
            for value in self._session.get_inputs()
            if value.name.startswith(("k_cache_", "v_cache_"))
        }
        self.num_blocks = num_blocks
        self.block_size = int(next(iter(self._pools.values())).shape[2])
        self._head = self._session.get_outputs()[0]
        self.scores = self._head.name == "score"
        self._results = _zeros((max_logit_rows, *self._head.shape[1:]), np.float32)
        self._binding = self._session.io_binding()
        for name, pool in self._pools.items():
            self._binding.bind_input(name, "cpu", 0, pool.dtype, pool.shape, pool.ctypes.data)
            self._binding.bind_output(f"{name}_out", "cpu", 0, pool.dtype, pool.shape, pool.ctypes.data)

    def forward(self, inputs: StepInputs) -> npt.NDArray[np.float32]:
        """See ``HostModel``."""
        arrays: dict[str, npt.NDArray[Any]] = {
            "token_ids": inputs.token_ids,
            "cu_seqlens": inputs.cu_seqlens,
            "past_lens": inputs.past_lens,
            "block_table": inputs.block_table,
            "logits_rows": inputs.logits_rows,
        }
        # NOTE: bound by address: ``arrays`` keeps the buffers alive until the run is over.
        for name, array in arrays.items():
            self._binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        results = self._results[: len(inputs.logits_rows)]
        self._binding.bind_output(self._head.name, "cpu", 0, results.dtype, results.shape, results.ctypes.data)
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


def _zeros(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Pool:
    """Page-aligned zeros that take memory only once they are written."""
    memory = mmap.mmap(-1, int(np.prod(shape)) * np.dtype(dtype).itemsize)
    return np.frombuffer(memory, dtype=dtype).reshape(shape)


def _session(model: Path, threads: int, spinning: bool) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.enable_mem_pattern = False  # NOTE: shapes change every step; patterns would pile up
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    options.register_custom_ops_library(str(library_path()))
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
