"""What every model on ONNX Runtime's CPU provider needs: a session, and memory for its KV cache."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

Pool = npt.NDArray[Any]

_ELEMENT_TYPES = {"tensor(float16)": np.float16, "tensor(float)": np.float32}
_CACHES = ("k_cache_", "v_cache_")


def open_session(model: Path, *, threads: int, spinning: bool, custom_ops: Path | None = None) -> ort.InferenceSession:
    """A session whose shapes may change with every run.

    Args:
        model: The graph.
        threads: Compute threads.
        spinning: Let idle compute threads spin between two operators.
        custom_ops: Library of custom operators.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.enable_mem_pattern = False  # NOTE: shapes change every step; patterns would pile up
    options.log_severity_level = 3
    # NOTE: lets weights be dequantised once, at load, and not in every run.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    if custom_ops is not None:
        options.register_custom_ops_library(str(custom_ops))
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def make_pools(session: ort.InferenceSession, blocks: int) -> dict[str, Pool]:
    """Zeros for each KV cache among the session's inputs, by name; ``blocks`` is their first dimension."""
    return {
        value.name: zeros((blocks, *value.shape[1:]), _ELEMENT_TYPES[value.type])
        for value in session.get_inputs()
        if value.name.startswith(_CACHES)
    }


def zeros(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Pool:
    """Page-aligned zeros that take memory only once they are written."""
    memory = mmap.mmap(-1, int(np.prod(shape)) * np.dtype(dtype).itemsize)
    return np.frombuffer(memory, dtype=dtype).reshape(shape)
