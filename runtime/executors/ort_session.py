"""What every model on ONNX Runtime's CPU provider needs: a session, and memory for its KV cache."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

Pool = npt.NDArray[Any]

# NOTE: NumPy has no bfloat16: such pools hold its bits, and are bound by ONNX's own number for the type.
_ELEMENT_TYPES = {"tensor(float16)": np.float16, "tensor(float)": np.float32, "tensor(bfloat16)": np.uint16}
_BFLOAT16 = 16
_CACHES = ("k_cache_", "v_cache_")


def open_session(model: Path, *, threads: int, spinning: bool, custom_ops: Path | None = None) -> ort.InferenceSession:
    """A session for ``model`` with `session_options`."""
    options = session_options(threads=threads, spinning=spinning, custom_ops=custom_ops)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def session_options(*, threads: int, spinning: bool, custom_ops: Path | None = None) -> ort.SessionOptions:
    """Options of a session whose shapes may change with every run.

    Args:
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
    return options


def make_pools(session: ort.InferenceSession, blocks: int) -> dict[str, Pool]:
    """Zeros for each KV cache among the session's inputs, by name; ``blocks`` is their first dimension.

    Those of bfloat16 caches are uint16 arrays; ``element_type`` is what to bind them as.
    """
    return {
        value.name: zeros((blocks, *value.shape[1:]), _ELEMENT_TYPES[value.type])
        for value in session.get_inputs()
        if value.name.startswith(_CACHES)
    }


def element_type(pool: Pool) -> npt.DTypeLike | int:
    """What to bind a pool as: its dtype, or ONNX's number for bfloat16."""
    return _BFLOAT16 if pool.dtype == np.uint16 else pool.dtype


def zeros(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Pool:
    """Page-aligned zeros that take memory only once they are written."""
    memory = mmap.mmap(-1, int(np.prod(shape)) * np.dtype(dtype).itemsize)
    return np.frombuffer(memory, dtype=dtype).reshape(shape)
