"""A thin ONNX graph builder: values are names, nodes are appended in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from build_engine.graph.weight_file import Region, WeightFile

OPSET = 21
IR_VERSION = 10
MICROSOFT = "com.microsoft"
PEREGRINE = "peregrine"


class GraphBuilder:
    """Collects the nodes, inputs, outputs and initializers of one graph.

    Vectors go into the model file; matrices and tables go to the weight file.
    """

    def __init__(self, weights: WeightFile, opset: int = OPSET) -> None:
        self.weights = weights
        self._opset = opset
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._initializers: list[onnx.TensorProto] = []

    def input(self, name: str, dtype: npt.DTypeLike, shape: Sequence[int | str]) -> str:
        """Declares a graph input; strings in ``shape`` are symbolic dimensions."""
        self._inputs.append(_value_info(name, dtype, shape))
        return name

    def output(self, name: str, dtype: npt.DTypeLike, shape: Sequence[int | str]) -> str:
        """Declares the value ``name`` a graph output."""
        self._outputs.append(_value_info(name, dtype, shape))
        return name

    def node(
        self, operator: str, inputs: Sequence[str], outputs: str | Sequence[str], domain: str = "", **attributes: Any
    ) -> str:
        """Appends a node and returns the name of its first output; an empty name leaves an optional value out."""
        names = [outputs] if isinstance(outputs, str) else list(outputs)
        self._nodes.append(helper.make_node(operator, inputs, names, names[0], domain=domain, **attributes))
        return names[0]

    def vector(self, name: str, values: npt.NDArray[Any]) -> str:
        """An initializer stored in the model file itself."""
        self._initializers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def table(self, name: str, values: npt.NDArray[Any]) -> str:
        """An initializer stored in the weight file."""
        return self.view(name, self.weights.write(values), values.dtype, values.shape)

    def view(self, name: str, region: Region, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> str:
        """An initializer over bytes that are already in the weight file."""
        self._initializers.append(self.weights.tensor(name, region, dtype, shape))
        return name

    def model(self, name: str) -> onnx.ModelProto:
        """The finished model."""
        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, self._initializers)
        domains = sorted({node.domain for node in self._nodes} - {""})
        opsets = [helper.make_opsetid("", self._opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="peregrine build_engine"
        )


def _value_info(name: str, dtype: npt.DTypeLike, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
