"""Computes graphs of the CUDA target in NumPy: what their operators are specified to do, rounded as they round.

``com.microsoft.PagedAttention`` is written from its schema and its CUDA kernel in ONNX Runtime, in the layout of pools
that it has there, and shares nothing with the project's own attention.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper
from paged import BLOCK_SIZE, NUM_BLOCKS, Step

from build_engine.checkpoint import Checkpoint
from build_engine.graph import GraphBuilder, WeightFile
from build_engine.graph.cuda import BOUNDS, CudaGraph, CudaOracleGraph
from build_engine.graph.cuda_linears import CudaLinears, NBitsWeights
from build_engine.graph.slot_weights import SlotWeights

Array = npt.NDArray[Any]
FLOATS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
POOLS = ("k_cache_", "v_cache_")


def write_cuda_graph(
    checkpoint: Checkpoint, directory: Path, element: str = "float16", precision: str = "", *, oracle: bool = False
) -> Path:
    """Write ``model.onnx`` with blocks of ``BLOCK_SIZE``, which the kernels are not asked about.

    Args:
        checkpoint: The model.
        directory: Where.
        element: Of the engine.
        precision: ``int8``, ``int4`` or ``import``; else ``element``'s.
        oracle: Write the graph by which the other is checked.
    """
    with WeightFile(directory / "weights.bin") as file:
        levels = NBitsWeights(file, precision, element) if precision else None
        floats = SlotWeights(file, FLOATS[element], element)
        if oracle:
            linears = CudaLinears(floats, levels, "float32")
            graph: CudaGraph = CudaOracleGraph(checkpoint, linears, GraphBuilder(file), BLOCK_SIZE)
        else:
            linears = CudaLinears(floats, levels, element)
            graph = CudaGraph(checkpoint, linears, GraphBuilder(file), BLOCK_SIZE, element)
        model = graph.build(lambda *_: None)
    path = directory / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


class NumpyGraph:
    """A graph that computes; pools among its inputs are written in place."""

    def __init__(self, path: Path) -> None:
        self.model = onnx.load(path)
        self._constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in self.model.graph.initializer}

    def run(self, inputs: Mapping[str, Array]) -> Array:
        """The first output."""
        values = {"": None, **self._constants, **inputs}
        for node in self.model.graph.node:
            attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
            results = OPERATORS[node.op_type](*(values[name] for name in node.input), **attributes)
            results = results if isinstance(results, tuple) else (results,)
            values.update(zip(node.output, results, strict=False))
        return values[self.model.graph.output[0].name]

    def pools(self, blocks: int = NUM_BLOCKS) -> dict[str, Array]:
        """Zeros for each pool."""
        return {
            value.name: np.zeros(
                (blocks, *(dim.dim_value for dim in value.type.tensor_type.shape.dim[1:])),
                onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type),
            )
            for value in self.model.graph.input
            if value.name.startswith(POOLS)
        }


def numpy_step(path: Path) -> Step:
    """The graph over pools of its own, driven by the step contract."""
    graph = NumpyGraph(path)
    pools = graph.pools()

    def step(token_ids: Array, cu_seqlens: Array, past_lens: Array, block_table: Array, logits_rows: Array) -> Array:
        counts = np.diff(cu_seqlens)
        inputs = {
            "token_ids": token_ids,
            "cu_seqlens": cu_seqlens,
            "past_lens": past_lens,
            "block_table": block_table,
            "logits_rows": logits_rows,
            BOUNDS: np.array([counts.max(), (counts + past_lens).max()], np.int32),
        }
        return graph.run({**inputs, **pools})

    return step


def _wide(x: Array) -> Array:
    return x.astype(np.float32)


def _gather(table: Array, rows: Array, axis: int = 0) -> Array:
    return np.take(table, rows, axis=axis)


def _gemm(x: Array, weight: Array, bias: Array | None = None, transB: int = 0) -> Array:  # noqa: N803 - the operator's name
    product = _wide(x) @ (_wide(weight).T if transB else _wide(weight))
    return (product if bias is None else product + _wide(bias)).astype(x.dtype)


def _matmul_nbits(
    x: Array,
    packed: Array,
    scales: Array,
    points: None = None,
    order: None = None,
    bias: Array | None = None,
    *,
    K: int,  # noqa: N803 - the operator's names
    N: int,  # noqa: N803
    bits: int,
    block_size: int,
) -> Array:
    assert points is None
    assert order is None
    assert packed.shape == (N, K // block_size, block_size * bits // 8)
    levels = packed if bits == 8 else np.stack([packed & 15, packed >> 4], axis=-1).reshape(N, -1, block_size)
    weights = (levels.astype(np.float32) - (1 << (bits - 1))) * _wide(scales)[..., None]
    return _gemm(x, weights.reshape(N, K), bias, transB=1)


def _rms(x: Array, gain: Array, epsilon: float) -> Array:
    wide = _wide(x)
    return (wide / np.sqrt(np.mean(wide * wide, axis=-1, keepdims=True) + epsilon) * _wide(gain)).astype(x.dtype)


def _skip_rms(x: Array, skip: Array, gain: Array, epsilon: float) -> tuple[Array, None, None, Array]:
    total = x + skip
    return _rms(total, gain, epsilon), None, None, total


def _split(x: Array, axis: int, num_outputs: int) -> tuple[Array, ...]:
    return tuple(np.split(x, num_outputs, axis=axis))


def _quick_gelu(x: Array, alpha: float) -> Array:
    wide = _wide(x)
    return (wide / (1 + np.exp(-alpha * wide))).astype(x.dtype)


def _fast_gelu(x: Array) -> Array:
    wide = _wide(x)
    return (0.5 * wide * (1 + np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)))).astype(x.dtype)


def _paged_attention(
    qkv: Array,
    key: None,
    value: None,
    key_cache: Array,
    value_cache: Array,
    cumulative_sequence_length: Array,
    past_seqlens: Array,
    block_table: Array,
    cos_cache: Array,
    sin_cache: Array,
    slot_mapping: None,
    head_sink: None,
    q_norm_weight: Array | None,
    k_norm_weight: Array | None,
    k_scale: None,
    v_scale: None,
    attention_metadata: Array,
    *,
    num_heads: int,
    kv_num_heads: int,
    scale: float,
    softcap: float,
    local_window_size: int,
    do_rotary: int,
    qk_norm_epsilon: float,
) -> tuple[Array, Array, Array]:
    assert do_rotary == 1
    assert (key, value, slot_mapping, head_sink, k_scale, v_scale) == (None,) * 6
    head_size, block_size = key_cache.shape[3], key_cache.shape[1]
    rows = qkv.reshape(len(qkv), -1, head_size)
    queries, keys, values = np.split(rows, [num_heads, num_heads + kv_num_heads], axis=1)
    if q_norm_weight is not None and k_norm_weight is not None:
        queries = _rms(queries, q_norm_weight, qk_norm_epsilon)
        keys = _rms(keys, k_norm_weight, qk_norm_epsilon)
    starts = cumulative_sequence_length.tolist()
    assert starts[-1] == len(qkv)
    output = np.zeros((len(qkv), num_heads, head_size), qkv.dtype)
    for sequence, past in enumerate(past_seqlens.tolist()):
        new = slice(starts[sequence], starts[sequence + 1])
        positions = np.arange(past, past + new.stop - new.start)
        total = past + len(positions)
        assert attention_metadata[0] >= len(positions)
        assert attention_metadata[1] >= total
        slots = block_table[sequence][np.arange(total) // block_size], np.arange(total) % block_size
        turned = [_rotated(part[new], cos_cache[positions], sin_cache[positions]) for part in (queries, keys)]
        key_cache[slots[0][past:], slots[1][past:]] = turned[1]
        value_cache[slots[0][past:], slots[1][past:]] = values[new]
        seen_keys, seen_values = (
            np.repeat(_wide(cache[slots]), num_heads // kv_num_heads, axis=1) for cache in (key_cache, value_cache)
        )
        scores = np.einsum("qhd,khd->hqk", _wide(turned[0]), seen_keys) * scale
        scores = softcap * np.tanh(scores / softcap) if softcap else scores
        distance = positions[:, None] - np.arange(total)
        hidden = distance < 0
        if local_window_size > 0:
            hidden |= distance >= local_window_size
        weights = np.exp(np.where(hidden, -np.inf, scores) - np.where(hidden, -np.inf, scores).max(-1, keepdims=True))
        mixed = np.einsum("hqk,khd->qhd", weights / weights.sum(axis=-1, keepdims=True), seen_values)
        output[new] = mixed.astype(qkv.dtype)
    return output.reshape(len(qkv), -1), key_cache, value_cache


def _rotated(heads: Array, cos: Array, sin: Array) -> Array:
    half = cos.shape[1]
    low, high, rest = _wide(heads[..., :half]), _wide(heads[..., half : 2 * half]), heads[..., 2 * half :]
    cos, sin = _wide(cos)[:, None], _wide(sin)[:, None]
    turned = np.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1).astype(heads.dtype)
    return np.concatenate([turned, rest], axis=-1)


def _cast(x: Array, to: int) -> Array:
    return x.astype(onnx.helper.tensor_dtype_to_np_dtype(to))


OPERATORS: dict[str, Callable[..., Any]] = {
    "Cast": _cast,
    "Div": lambda x, y: x / y,
    "FastGelu": _fast_gelu,
    "Gather": _gather,
    "Gemm": _gemm,
    "MatMulNBits": _matmul_nbits,
    "Mul": lambda x, y: x * y,
    "PagedAttention": _paged_attention,
    "QuickGelu": _quick_gelu,
    "Relu": lambda x: np.maximum(x, x.dtype.type(0)),
    "SimplifiedLayerNormalization": lambda x, gain, axis, epsilon: _rms(x, gain, epsilon),
    "SkipSimplifiedLayerNormalization": _skip_rms,
    "Split": _split,
    "Squeeze": lambda x, axes: np.squeeze(x, tuple(axes.tolist())),
    "Tanh": np.tanh,
}
