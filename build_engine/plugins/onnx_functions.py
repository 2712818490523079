"""What the plugins compute, written in standard ONNX operators: float32 inside, dense over each row's whole table.

For checking a graph on another runtime, not for serving: every token gathers all blocks of its sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from build_engine.graph.builder import OPSET, PEREGRINE
from build_engine.plugins.quick import ATTENTION_INPUTS, KV_WRITE_INPUTS, NORM_INPUTS
from build_engine.plugins.spec import AttentionSpec

ATTRIBUTES = ("spec", "plugin_namespace", "plugin_version", "aot")


def kv_write_function(name: str, spec: AttentionSpec) -> onnx.FunctionProto:
    """The body of a KV-write node."""
    body = _Body(spec)
    sequence, position = body.rows("qkv")
    heads, kv_heads = spec.num_heads, spec.num_kv_heads
    packed = body("Reshape", body.wide("qkv"), body.ints([-1, heads + 2 * kv_heads, spec.head_dim]))
    queries, keys, values = body.split(packed, [heads, kv_heads, kv_heads], axis=1)
    if spec.qk_norm:
        queries, keys = body.normed(queries, "q_norm"), body.normed(keys, "k_norm")
    queries, keys = (body.rotated(part, position) for part in (queries, keys))
    indices = body.cache_indices(sequence, position)
    body("Cast", body("Mul", queries, body.scalar(spec.scale)), out="queries", to=body.element)
    for pool, rows in (("k_cache", keys), ("v_cache", values)):
        body("ScatterND", pool, indices, body("Cast", rows, to=body.element), out=f"{pool}_out")
    inputs = [*KV_WRITE_INPUTS, *(NORM_INPUTS if spec.qk_norm else ())]
    return body.function(name, inputs, ["queries", "k_cache_out", "v_cache_out"])


def attention_function(name: str, spec: AttentionSpec) -> onnx.FunctionProto:
    """The body of an attention node."""
    body = _Body(spec)
    sequence, position = body.rows("queries")
    table = body("Max", body("Gather", body.integers("block_table"), sequence), body.ints(0))
    columns = body("Mul", body("Gather", body("Shape", table), body.ints(1)), body.ints(spec.block_size))
    key = body("Range", body.ints(0), columns, body.ints(1))
    place = body("Unsqueeze", position, body.ints([1]))
    visible = body("LessOrEqual", key, place)
    if spec.sliding_window:
        oldest = body("Sub", place, body.ints(spec.sliding_window))
        visible = body("And", visible, body("Greater", key, oldest))
    # NOTE: what nobody wrote may be NaN, which a weight of 0 does not hide.
    own = body("Unsqueeze", visible, body.ints([1, 3]))
    keys, values = (body("Where", own, body.gathered(pool, table), body.scalar(0.0)) for pool in ("k_cache", "v_cache"))
    grouped = body.ints([0, spec.num_kv_heads, spec.group, spec.head_dim])
    queries = body("Reshape", body.wide("queries"), grouped)
    scores = body("MatMul", queries, body("Transpose", keys, perm=[0, 1, 3, 2]))
    if spec.softcap:
        cap = body.scalar(spec.softcap)
        scores = body("Mul", body("Tanh", body("Div", scores, cap)), cap)
    masked = body("Where", body("Unsqueeze", visible, body.ints([1, 2])), scores, body.scalar(-np.inf))
    mixed = body("MatMul", body("Softmax", masked, axis=-1), values)
    flat = body("Reshape", mixed, body.ints([0, spec.num_heads * spec.head_dim]))
    body("Cast", flat, out="mixed", to=body.element)
    body("Identity", "scratch", out="scratch_out")
    return body.function(name, list(ATTENTION_INPUTS), ["mixed", "scratch_out"])


class _Body:
    """Collects a function's nodes; calling it appends one and returns the name of its output."""

    def __init__(self, spec: AttentionSpec) -> None:
        self.spec = spec
        self.element = TensorProto.FLOAT16 if spec.dtype == "float16" else TensorProto.BFLOAT16
        self._nodes: list[onnx.NodeProto] = []

    def __call__(self, operator: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        out = out or f"t{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [out], **attributes))
        return out

    def function(self, name: str, inputs: list[str], outputs: list[str]) -> onnx.FunctionProto:
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_function(PEREGRINE, name, inputs, outputs, self._nodes, opsets, list(ATTRIBUTES))

    def ints(self, values: int | Sequence[int]) -> str:
        return self("Constant", value=numpy_helper.from_array(np.array(values, dtype=np.int64)))

    def scalar(self, value: float) -> str:
        return self("Constant", value=numpy_helper.from_array(np.array(value, dtype=np.float32)))

    def integers(self, name: str) -> str:
        return self("Cast", name, to=TensorProto.INT64)

    def wide(self, name: str) -> str:
        return self("Cast", name, to=TensorProto.FLOAT)

    def split(self, value: str, sizes: list[int], axis: int) -> list[str]:
        names = [f"{value}.{i}" for i in range(len(sizes))]
        self._nodes.append(helper.make_node("Split", [value, self.ints(sizes)], names, axis=axis))
        return names

    def rows(self, packed: str) -> tuple[str, str]:
        """Each row's sequence and position, ``[T]``."""
        count = self("Gather", self("Shape", packed), self.ints(0))
        token = self("Range", self.ints(0), count, self.ints(1))
        starts = self.integers("cu_seqlens")
        ends = self("Slice", starts, self.ints([1]), self.ints([np.iinfo(np.int64).max]))
        ended = self("LessOrEqual", ends, self("Unsqueeze", token, self.ints([1])))
        sequence = self("ReduceSum", self("Cast", ended, to=TensorProto.INT64), self.ints([1]), keepdims=0)
        offset = self("Sub", token, self("Gather", starts, sequence))
        return sequence, self("Add", self("Gather", self.integers("past_lens"), sequence), offset)

    def normed(self, heads: str, gain: str) -> str:
        mean = self("ReduceMean", self("Mul", heads, heads), self.ints([2]))
        root = self("Sqrt", self("Add", mean, self.scalar(self.spec.norm_eps)))
        return self("Mul", self("Div", heads, root), gain)

    def rotated(self, heads: str, position: str) -> str:
        half = self.spec.rotary_dim // 2
        cos, sin = (self("Unsqueeze", self("Gather", table, position), self.ints([1])) for table in ("cos", "sin"))
        low, high, rest = self.split(heads, [half, half, self.spec.head_dim - 2 * half], axis=2)
        turned_low = self("Sub", self("Mul", low, cos), self("Mul", high, sin))
        turned_high = self("Add", self("Mul", high, cos), self("Mul", low, sin))
        return self("Concat", turned_low, turned_high, rest, axis=2)

    def cache_indices(self, sequence: str, position: str) -> str:
        """``[T, num_kv_heads, 3]``: block, head, slot."""
        size = self.ints(self.spec.block_size)
        last = self.ints([1])
        where = [self("Unsqueeze", part, last) for part in (sequence, self("Div", position, size))]
        block = self("GatherND", self.integers("block_table"), self("Concat", *where, axis=1))
        block, slot = (self("Unsqueeze", part, self.ints([1, 2])) for part in (block, self("Mod", position, size)))
        head = self.ints([[[h] for h in range(self.spec.num_kv_heads)]])  # type: ignore[list-item]
        shape = self("Shape", self("Add", block, head))
        return self("Concat", *(self("Expand", part, shape) for part in (block, head, slot)), axis=2)

    def gathered(self, pool: str, table: str) -> str:
        """A pool's blocks of each row as float32 ``[T, num_kv_heads, M * block_size, head_dim]``."""
        blocks = self("Transpose", self("Gather", self.wide(pool), table), perm=[0, 2, 1, 3, 4])
        return self("Reshape", blocks, self.ints([0, self.spec.num_kv_heads, -1, self.spec.head_dim]))
