"""A pass over the CPU graph: residual additions and RMSNorms become parts of the linear layers beside them.

``peregrine::Linear`` can normalise its input before it quantises it, and add a residual stream to its result. That
saves an operator a half layer, which would pass over the stream once more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import onnx
from onnx import helper

_GAIN, _RESIDUAL = 3, 4  # optional inputs of Linear


def fuse_norms(model: onnx.ModelProto) -> None:
    """Folds norms, and the additions before them, into quantised linear layers where nothing else reads what goes.

    What does not fit (float layers, norms after a layer, score heads) stays as it is.
    """
    graph = _Graph(model.graph)
    for node in list(model.graph.node):
        if node.op_type == "SimplifiedLayerNormalization":
            graph.fold_norm(node)
        elif node.op_type == "SkipSimplifiedLayerNormalization":
            graph.fold_add_and_norm(node)


class _Graph:
    """Who makes and who reads each value."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._makers = {name: node for node in graph.node for name in node.output if name}
        self._readers = {name: node for node in graph.node for name in node.input if name}
        outputs = [value.name for value in graph.output]
        self._uses = Counter([*outputs, *(name for node in graph.node for name in node.input)])

    def fold_norm(self, norm: onnx.NodeProto) -> None:
        """``Linear(norm(x))``."""
        x, gain = norm.input
        reader = self._linear(self._readers, norm.output[0])
        if reader is None:
            return
        _set_norm(reader, x, gain, norm.attribute)
        self._graph.node.remove(norm)

    def fold_add_and_norm(self, norm: onnx.NodeProto) -> None:
        """``Linear(norm(residual + Linear(.)))``, where others may read the sum too."""
        residual, branch, gain = norm.input
        normed, total = norm.output[0], norm.output[3]
        maker, reader = self._linear(self._makers, branch), self._linear(self._readers, normed)
        if maker is None or reader is None or _has_swiglu(maker):
            return
        _set_input(maker, _RESIDUAL, residual)
        maker.output[0] = total
        _set_norm(reader, total, gain, norm.attribute)
        self._graph.node.remove(norm)

    def _linear(self, nodes: dict[str, onnx.NodeProto], value: str) -> onnx.NodeProto | None:
        """The quantised linear layer that makes, or alone reads, a value used once."""
        node = nodes.get(value)
        return node if node is not None and node.op_type == "Linear" and self._uses[value] == 1 else None


def _set_norm(linear: onnx.NodeProto, x: str, gain: str, attributes: Iterable[onnx.AttributeProto]) -> None:
    epsilon = next(attribute.f for attribute in attributes if attribute.name == "epsilon")
    linear.input[0] = x
    _set_input(linear, _GAIN, gain)
    linear.attribute.append(helper.make_attribute("norm_eps", epsilon))


def _set_input(node: onnx.NodeProto, index: int, name: str) -> None:
    node.input.extend([""] * (index + 1 - len(node.input)))
    node.input[index] = name


def _has_swiglu(node: onnx.NodeProto) -> bool:
    return any(attribute.name == "swiglu" and attribute.i for attribute in node.attribute)
