"""Which of a graph's weights a step reads."""

from __future__ import annotations

from pathlib import Path

import onnx

_READ_IN_PARTS = ("Gather", "QuantEmbedding", "PagedAttention")
"""Ops that read some rows of a table alone."""


def weights_read(graph: Path) -> int:
    """Bytes of the initializers of an ONNX graph that a run reads whole; large ones are in a file beside it."""
    model = onnx.load(graph, load_external_data=False)
    whole = {name for node in model.graph.node if node.op_type not in _READ_IN_PARTS for name in node.input}
    return sum(_size(tensor) for tensor in model.graph.initializer if tensor.name in whole)


def _size(tensor: onnx.TensorProto) -> int:
    external = {entry.key: entry.value for entry in tensor.external_data}
    return int(external["length"]) if "length" in external else tensor.ByteSize()
