"""Weights of the slot graph: float tables, or levels and scales that `DequantizeLinear` reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx

from build_engine.checkpoint import CheckpointTensor
from build_engine.errors import BuildError
from build_engine.graph.builder import GraphBuilder
from build_engine.graph.element import Element
from build_engine.graph.weight_file import Region, WeightFile
from build_engine.quantize import GROUP
from build_engine.quantize.symmetric import SymmetricMatrix, SymmetricPrecision, quantise_symmetric

SlotPrecision = Literal["fp32", "fp16", "bf16", "int8", "int4", "import"]

ELEMENTS: dict[str, np.dtype[np.generic]] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
_FLOATS: dict[str, Element] = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_LEVELS = {8: np.dtype(np.int8), 4: np.dtype(ml_dtypes.int4)}


@dataclass(frozen=True, slots=True)
class _Stored:
    """A matrix ``[rows, columns]`` in the weight file; ``scales`` only where ``dtype`` is that of levels."""

    values: Region
    dtype: np.dtype[np.generic]
    shape: tuple[int, int]
    scales: Region | None = None


class SlotWeights:
    """Converts each matrix once, whichever graphs read it.

    Embedding and output head are float in every precision: the quantised ones keep them in ``element``.

    Args:
        weights: Takes the matrices.
        precision: Of the layers' matrices.
        element: Of scales, and of what is not quantised.
    """

    def __init__(self, weights: WeightFile, precision: SlotPrecision, element: Element) -> None:
        self._weights = weights
        self._precision = precision
        self.element: Element = _FLOATS.get(precision, element)
        self._stored: dict[str, _Stored] = {}
        self._bits: set[int] = set()

    @property
    def label(self) -> str:
        """Precision of the layers' matrices, for the manifest: ``fp16``, ``q8-g32``, ``q4+q8-g32``, ..."""
        if self._precision in _FLOATS:
            return self._precision
        return "+".join(f"q{bits}" for bits in sorted(self._bits)) + f"-g{GROUP}"

    def table(self, tensor: CheckpointTensor) -> _Stored:
        """The embedding or the head: float."""
        return self._stored.get(tensor.name) or self._float([tensor])

    def matrix(self, tensors: Sequence[CheckpointTensor]) -> _Stored:
        """The rows of ``tensors``, which have equal columns.

        Raises:
            BuildError: The precision has groups that the columns do not fit.
        """
        stored = self._stored.get(_joined(tensors))
        if stored is not None:
            return stored
        return self._float(tensors) if self._precision in _FLOATS else self._quantised(tensors)

    def _float(self, tensors: Sequence[CheckpointTensor]) -> _Stored:
        dtype = ELEMENTS[self.element]
        parts = [tensor.float32().reshape(tensor.shape).astype(dtype) for tensor in tensors]
        values = np.concatenate(parts) if len(parts) > 1 else parts[0]
        rows, columns = values.shape
        stored = self._stored[_joined(tensors)] = _Stored(self._weights.write(values), dtype, (rows, columns))
        return stored

    def _quantised(self, tensors: Sequence[CheckpointTensor]) -> _Stored:
        for tensor in tensors:
            if tensor.shape[1] % GROUP:
                raise BuildError(
                    f"{tensor.name}: {tensor.shape[1]} columns are not a multiple of {GROUP}, the group of every "
                    "quantised precision; build with a float precision"
                )
        precision: SymmetricPrecision = self._precision  # type: ignore[assignment]  # the others are floats
        parts = [quantise_symmetric(tensor, precision, ELEMENTS[self.element]) for tensor in tensors]
        matrix = SymmetricMatrix(
            max(part.bits for part in parts),
            np.concatenate([part.levels for part in parts]),
            np.concatenate([part.scales for part in parts]),
        )
        self._bits.add(matrix.bits)
        values, scales = self._weights.write(matrix.packed_levels()), self._weights.write(matrix.scales)
        rows, columns = matrix.levels.shape
        stored = self._stored[_joined(tensors)] = _Stored(values, _LEVELS[matrix.bits], (rows, columns), scales)
        return stored


class SlotLinears:
    """The `Linears` of one slot graph: products in ``element``, whatever the weights are stored in.

    What `embedding` emitted before, `linear` reads as it is: a tied head.
    """

    def __init__(self, weights: SlotWeights, element: Element, emitted: dict[str, str] | None = None) -> None:
        self._weights = weights
        self._element: Element = element
        self._emitted = {} if emitted is None else emitted

    def head(self) -> SlotHead:
        """The output head's, on the same weights."""
        return SlotHead(self._weights, self._element, self._emitted)

    @property
    def label(self) -> str:
        """See `Linears`."""
        return self._weights.label

    def embedding(self, graph: GraphBuilder, ids: str, tensor: CheckpointTensor, output: str) -> str:
        """See `Linears`; ``ids`` may have any shape."""
        return graph.node("Gather", [self._emit(graph, tensor.name, self._weights.table(tensor)), ids], output, axis=0)

    def linear(
        self,
        graph: GraphBuilder,
        x: str,
        tensors: Sequence[CheckpointTensor],
        bias: npt.NDArray[np.float32] | None,
        output: str,
    ) -> str:
        """See `Linears`."""
        return self._product(graph, x, self._emit(graph, _joined(tensors), self._weights.matrix(tensors)), bias, output)

    def _product(
        self, graph: GraphBuilder, x: str, weight: str, bias: npt.NDArray[np.float32] | None, output: str
    ) -> str:
        inputs = [x, weight]
        if bias is not None:
            inputs.append(graph.vector(f"{output}.bias", bias.astype(ELEMENTS[self._element])))
        return graph.node("Gemm", inputs, output, transB=1)

    def _emit(self, graph: GraphBuilder, name: str, stored: _Stored) -> str:
        """The matrix as a value of the element type ``[rows, columns]``."""
        if name not in self._emitted:
            self._emitted[name] = self._declare(graph, name, stored)
        return self._emitted[name]

    def _declare(self, graph: GraphBuilder, name: str, stored: _Stored) -> str:
        values = graph.view(name, stored.values, stored.dtype, stored.shape)
        if stored.scales is None:
            return self._cast(graph, values, stored.dtype)
        dtype = ELEMENTS[self._weights.element]
        shape = (stored.shape[0], stored.shape[1] // GROUP)
        scales = self._cast(graph, graph.view(f"{name}.scales", stored.scales, dtype, shape), dtype)
        return graph.node("DequantizeLinear", [values, scales], f"{name}.dequantised", axis=1, block_size=GROUP)

    def _cast(self, graph: GraphBuilder, value: str, dtype: np.dtype[np.generic]) -> str:
        wanted = ELEMENTS[self._element]
        if dtype == wanted:
            return value
        return graph.node("Cast", [value], f"{value}.cast", to=onnx.helper.np_dtype_to_tensor_dtype(wanted))


class SlotHead(SlotLinears):
    """The `Linears` of the output head: float weights, float32 logits."""

    def linear(
        self,
        graph: GraphBuilder,
        x: str,
        tensors: Sequence[CheckpointTensor],
        bias: npt.NDArray[np.float32] | None,
        output: str,
    ) -> str:
        """See `Linears`."""
        (tensor,) = tensors
        weight = self._emit(graph, tensor.name, self._weights.table(tensor))
        if self._element == "float32":
            return self._product(graph, x, weight, bias, output)
        product = self._product(graph, x, weight, bias, f"{output}.{self._element}")
        return graph.node("Cast", [product], output, to=onnx.TensorProto.FLOAT)


def _joined(tensors: Sequence[CheckpointTensor]) -> str:
    return "+".join(tensor.name for tensor in tensors)
