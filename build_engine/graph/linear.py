"""How weights enter the graph: as float tables or as quantised groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from build_engine.checkpoint import CheckpointTensor
from build_engine.graph.builder import MICROSOFT, GraphBuilder
from build_engine.graph.weight_file import Region
from build_engine.quantize import GROUP, Precision, QuantMatrix, quantise, stack_rows

_LEVEL_OF_INT8_ACTIVATIONS = 4


class Linears(Protocol):
    """Emits the operators that read weights.

    Every emitted operator computes a row of its output from the same row of its input alone.
    """

    @property
    def label(self) -> str:
        """Precision of the weights emitted so far, for the manifest: ``q8-g32``, ``fp32``, ..."""
        ...

    def embedding(self, graph: GraphBuilder, ids: str, tensor: CheckpointTensor, output: str) -> str:
        """Rows of ``tensor`` ``[V, H]`` at ``ids`` int64 ``[T]``: float32 ``[T, H]``."""
        ...

    def linear(
        self,
        graph: GraphBuilder,
        x: str,
        tensors: Sequence[CheckpointTensor],
        bias: npt.NDArray[np.float32] | None,
        output: str,
    ) -> str:
        """``x @ concatenated_rows(tensors).T + bias``: float32 ``[T, N]``."""
        ...


class FloatLinears:
    """float32 weights; a tensor used twice is stored once."""

    label = "fp32"

    def __init__(self) -> None:
        self._stored: dict[str, str] = {}

    def embedding(self, graph: GraphBuilder, ids: str, tensor: CheckpointTensor, output: str) -> str:
        """See `Linears`."""
        return graph.node("Gather", [self._table(graph, [tensor]), ids], output, axis=0)

    def linear(
        self,
        graph: GraphBuilder,
        x: str,
        tensors: Sequence[CheckpointTensor],
        bias: npt.NDArray[np.float32] | None,
        output: str,
    ) -> str:
        """See `Linears`."""
        inputs = [x, self._table(graph, tensors)]
        if bias is not None:
            inputs.append(graph.vector(f"{output}.bias", bias))
        return graph.node("Gemm", inputs, output, transB=1)

    def _table(self, graph: GraphBuilder, tensors: Sequence[CheckpointTensor]) -> str:
        name = "+".join(tensor.name for tensor in tensors)
        if name not in self._stored:
            parts = [tensor.float32().reshape(tensor.shape) for tensor in tensors]
            self._stored[name] = graph.table(name, np.concatenate(parts) if len(parts) > 1 else parts[0])
        return self._stored[name]


class QuantLinears:
    """Groups of 32 through ``com.microsoft.MatMulNBits`` with int8 activations.

    The embedding always has 8-bit levels, and so has a head that is tied to it: both read the same bytes.
    """

    def __init__(self, precision: Precision) -> None:
        self._precision: Precision = precision
        self._stored: dict[str, _StoredMatrix] = {}
        self._bits: set[int] = set()

    @property
    def label(self) -> str:
        """See `Linears`."""
        return "+".join(f"q{bits}" for bits in sorted(self._bits)) + f"-g{GROUP}"

    def embedding(self, graph: GraphBuilder, ids: str, tensor: CheckpointTensor, output: str) -> str:
        """See `Linears`."""
        stored = self._stored[tensor.name] = _StoredMatrix.write(graph, self._embedding_matrix(tensor))
        inputs = [
            graph.view(f"{output}.levels", stored.levels, np.uint8, (stored.rows, stored.groups * GROUP)),
            ids,
            graph.view(f"{output}.scales", stored.scales, np.float32, (stored.rows, stored.groups)),
        ]
        if stored.points is not None:
            shape = (stored.rows, stored.groups)
            inputs.append(graph.view(f"{output}.zero_points", stored.points, np.uint8, shape))
        attributes = {"bits": 8, "block_size": GROUP, "gather_axis": 0, "quantize_axis": 1}
        return graph.node("GatherBlockQuantized", inputs, output, MICROSOFT, **attributes)

    def linear(
        self,
        graph: GraphBuilder,
        x: str,
        tensors: Sequence[CheckpointTensor],
        bias: npt.NDArray[np.float32] | None,
        output: str,
    ) -> str:
        """See `Linears`."""
        stored = self._stored.get(tensors[0].name)
        if stored is None:
            matrix = stack_rows([quantise(tensor, self._precision) for tensor in tensors])
            stored = _StoredMatrix.write(graph, matrix)
        self._bits.add(stored.bits)
        inputs = [x, *stored.operator_inputs(graph, output)]
        if bias is not None:
            inputs += [""] * (5 - len(inputs)) + [graph.vector(f"{output}.bias", bias)]
        return graph.node(
            "MatMulNBits",
            inputs,
            output,
            MICROSOFT,
            K=stored.groups * GROUP,
            N=stored.rows,
            bits=stored.bits,
            block_size=GROUP,
            accuracy_level=_LEVEL_OF_INT8_ACTIVATIONS,
        )

    def _embedding_matrix(self, tensor: CheckpointTensor) -> QuantMatrix:
        return quantise(tensor, "import" if self._precision == "import" else "int8").widened()


class _StoredMatrix:
    """Where the parts of a quantised matrix lie in the weight file."""

    def __init__(self, matrix: QuantMatrix, levels: Region, scales: Region, points: Region | None) -> None:
        self.bits, self.rows, self.groups = matrix.bits, matrix.rows, matrix.levels.shape[1]
        self.levels, self.scales, self.points = levels, scales, points

    @classmethod
    def write(cls, graph: GraphBuilder, matrix: QuantMatrix) -> _StoredMatrix:
        """Writes the matrix; zero points only where they are not the operator's default."""
        weights = graph.weights
        points = None if matrix.symmetric else weights.write(matrix.packed_zero_points())
        return cls(matrix, weights.write(matrix.packed_levels()), weights.write(matrix.scales), points)

    def operator_inputs(self, graph: GraphBuilder, name: str) -> list[str]:
        """Names of the ``MatMulNBits`` inputs after the first."""
        levels_shape = (self.rows, self.groups, GROUP * self.bits // 8)
        names = [
            graph.view(f"{name}.levels", self.levels, np.uint8, levels_shape),
            graph.view(f"{name}.scales", self.scales, np.float32, (self.rows, self.groups)),
        ]
        if self.points is not None:
            shape = (self.rows, (self.groups * self.bits + 7) // 8)
            names.append(graph.view(f"{name}.zero_points", self.points, np.uint8, shape))
        return names
