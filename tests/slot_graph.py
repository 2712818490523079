"""A small linear-slot graph over a tiny Llama's weights: what tests run where no engine has been built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from tiny import tiny_weights

from build_engine.checkpoint import Checkpoint

LAYER = "model.layers.{}."
CACHES = ("k_cache_{}", "v_cache_{}")


class _Graph:
    """Nodes and constants as they come; a value is its name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def op(self, kind: str, inputs: list[str], name: str = "", **attributes: Any) -> str:
        name = name or f"value_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(self, values: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values, dtype), name))
        return name

    def integers(self, *values: int) -> str:
        return self.constant(values, np.int64)


def write_slot_graph(checkpoint: Checkpoint, directory: Path, capacity: int) -> Path:
    """Write ``model.onnx``; a tiny plain Llama (no biases, windows or caps), or one with a linear score head."""
    weights = tiny_weights(checkpoint)
    shape = checkpoint.architecture
    graph = _Graph()
    inputs, outputs = _caches(checkpoint, capacity)
    positions, mask = _positions(graph, capacity)
    x = graph.op("Gather", [graph.constant(weights["model.embed_tokens.weight"]), "token_ids"])
    tables = _rotary_tables(graph, shape.rope_theta, shape.head_dim, capacity)
    for layer in range(shape.num_layers):
        mine = {key.removeprefix(LAYER.format(layer)): value for key, value in weights.items()}
        h = _norm(graph, x, mine["input_layernorm.weight"], shape.norm_eps)
        rotary = [*tables, positions]
        x = graph.op("Add", [x, _attention(graph, h, mine, layer, rotary, mask, shape.num_heads, shape.num_kv_heads)])
        h = _norm(graph, x, mine["post_attention_layernorm.weight"], shape.norm_eps)
        x = graph.op("Add", [x, _mlp(graph, h, mine)])
    x = graph.op("Reshape", [x, graph.integers(-1, shape.hidden_size)])
    x = graph.op("Gather", [x, "logits_rows"])
    x = _norm(graph, x, weights["model.norm.weight"], shape.norm_eps)
    if shape.score_head is None:
        _matmul(graph, x, weights["lm_head.weight"], "logits")
        head = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["R", shape.vocab_size])
    else:
        score = _matmul(graph, x, weights["score.weight"])
        graph.op("Squeeze", [score, graph.integers(1)], "score")
        head = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["R"])
    proto = helper.make_graph(graph.nodes, "slots", inputs, [head, *outputs], graph.constants)
    path = directory / "model.onnx"
    onnx.save(helper.make_model(proto, opset_imports=[helper.make_opsetid("", 24)], ir_version=11), path)
    return path


def _caches(checkpoint: Checkpoint, capacity: int) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    integer, shape = TensorProto.INT64, checkpoint.architecture
    inputs = [
        helper.make_tensor_value_info("token_ids", integer, ["B", "S"]),
        helper.make_tensor_value_info("write_indices", integer, ["B"]),
        helper.make_tensor_value_info("logits_rows", integer, ["R"]),
    ]
    names = [name.format(layer) for layer in range(shape.num_layers) for name in CACHES]
    dims = ["B", shape.num_kv_heads, capacity, shape.head_dim]
    inputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name in names]
    return inputs, [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, dims) for name in names]


def _positions(graph: _Graph, capacity: int) -> tuple[str, str]:
    """Positions ``[B, S]`` of the new tokens, and which columns each may see ``[B, 1, S, S_max]``."""
    zero, one = graph.constant(0, np.int64), graph.constant(1, np.int64)
    length = graph.op("Squeeze", [graph.op("Shape", ["token_ids"], start=1, end=2)])
    steps = graph.op("Range", [zero, length, one])
    positions = graph.op("Add", [graph.op("Unsqueeze", ["write_indices", graph.integers(1)]), steps])
    columns = graph.constant(np.arange(capacity).reshape(1, 1, 1, capacity), np.int64)
    mask = graph.op("LessOrEqual", [columns, graph.op("Unsqueeze", [positions, graph.integers(1, 3)])])
    return positions, mask


def _rotary_tables(graph: _Graph, theta: float, head_dim: int, capacity: int) -> list[str]:
    angles = np.outer(np.arange(capacity), theta ** -(np.arange(0, head_dim, 2) / head_dim))
    return [graph.constant(np.cos(angles)), graph.constant(np.sin(angles))]


def _attention(
    graph: _Graph, h: str, weights: dict[str, Any], layer: int, rotary: list[str], mask: str, heads: int, kv_heads: int
) -> str:
    def project(kind: str, count: int) -> str:
        y = _matmul(graph, h, weights[f"self_attn.{kind}_proj.weight"])
        return graph.op("Transpose", [graph.op("Reshape", [y, graph.integers(0, 0, count, -1)])], perm=[0, 2, 1, 3])

    q = graph.op("RotaryEmbedding", [project("q", heads), *rotary])
    new = [graph.op("RotaryEmbedding", [project("k", kv_heads), *rotary]), project("v", kv_heads)]
    names = [name.format(layer) for name in CACHES]
    k, v = (
        graph.op("TensorScatter", [name, values, "write_indices"], f"{name}_out", axis=2)
        for name, values in zip(names, new, strict=True)
    )
    y = graph.op("Transpose", [graph.op("Attention", [q, k, v, mask])], perm=[0, 2, 1, 3])
    return _matmul(graph, graph.op("Reshape", [y, graph.integers(0, 0, -1)]), weights["self_attn.o_proj.weight"])


def _mlp(graph: _Graph, h: str, weights: dict[str, Any]) -> str:
    gate, up = (_matmul(graph, h, weights[f"mlp.{kind}_proj.weight"]) for kind in ("gate", "up"))
    return _matmul(graph, graph.op("Mul", [graph.op("Swish", [gate]), up]), weights["mlp.down_proj.weight"])


def _norm(graph: _Graph, x: str, weight: npt.NDArray[np.float32], epsilon: float) -> str:
    return graph.op("RMSNormalization", [x, graph.constant(weight)], axis=-1, epsilon=epsilon)


def _matmul(graph: _Graph, x: str, weight: npt.NDArray[np.float32], name: str = "") -> str:
    return graph.op("MatMul", [x, graph.constant(weight.T)], name)
