"""How weights enter the graph: as float tables or as quantised groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from build_engine.checkpoint import CheckpointTensor
from build_engine.graph.builder import PEREGRINE, GraphBuilder
from build_engine.quantize import GROUP, Precision, QuantMatrix, pack_tiles, quantise, stack_rows
from build_engine.quantize.tiles import TILE


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
    """Groups of 32 or 64 columns through ``peregrine::Linear``, with int8 activations in the same groups.

    Under ``int4`` the embedding has 8-bit levels; a head that is tied to it reads the same bytes.

    Args:
        precision: Any but ``fp32``.
        group: Of float weights that become ``int8``, where their columns allow it. Activations of models whose
            residual stream has outliers want 32.
    """

    def __init__(self, precision: Precision, group: int = GROUP) -> None:
        self._precision: Precision = precision
        self._group = group
        self._stored: dict[str, _StoredMatrix] = {}
        self._forms: set[tuple[int, int]] = set()

    @property
    def label(self) -> str:
        """See `Linears`."""
        groups = sorted({group for _, group in self._forms})
        parts = ["+".join(f"q{bits}" for bits, of in sorted(self._forms) if of == group) for group in groups]
        return "+".join(f"{part}-g{group}" for part, group in zip(parts, groups, strict=True))

    def embedding(self, graph: GraphBuilder, ids: str, tensor: CheckpointTensor, output: str) -> str:
        """See `Linears`."""
        precision: Precision = "int8" if self._precision == "int4" else self._precision
        matrix = quantise(tensor, precision, self._group)
        stored = self._stored[tensor.name] = _StoredMatrix.write(graph, tensor.name, matrix)
        return graph.node("QuantEmbedding", [ids, stored.name], output, PEREGRINE, **stored.attributes)

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
            stored = _StoredMatrix.write(graph, f"{output}.weight", self._stacked(tensors))
        return self._product(graph, x, stored, bias, output)

    def swiglu(
        self,
        graph: GraphBuilder,
        x: str,
        tensors: Sequence[CheckpointTensor],
        bias: npt.NDArray[np.float32] | None,
        output: str,
    ) -> str:
        """``silu(x @ gate.T) * (x @ up.T)`` of ``tensors`` gate and up ``[I, H]``: float32 ``[T, I]``.

        The bits are those of `linear` followed by ``SiluMul``. ``I`` is a multiple of 16, as groups are of 32.
        """
        matrix = self._stacked(tensors)
        # NOTE: each tile of 32 rows has 16 gates and the ups that go with them.
        order = np.arange(matrix.rows).reshape(2, -1, TILE // 2).swapaxes(0, 1).reshape(-1)
        stored = _StoredMatrix.write(graph, f"{output}.weight", matrix.rows_at(order))
        return self._product(graph, x, stored, None if bias is None else bias[order], output, swiglu=1)

    def _stacked(self, tensors: Sequence[CheckpointTensor]) -> QuantMatrix:
        return stack_rows([quantise(tensor, self._precision, self._group) for tensor in tensors])

    def _product(
        self,
        graph: GraphBuilder,
        x: str,
        stored: _StoredMatrix,
        bias: npt.NDArray[np.float32] | None,
        output: str,
        **options: int,
    ) -> str:
        self._forms.add((stored.attributes["bits"], stored.attributes["group"]))
        inputs = [x, stored.name]
        if bias is not None:
            inputs.append(graph.vector(f"{output}.bias", bias))
        return graph.node("Linear", inputs, output, PEREGRINE, **stored.attributes, **options)


@dataclass(frozen=True, slots=True)
class _StoredMatrix:
    """An initializer of tiles, and the attributes that say what is in them."""

    name: str
    attributes: dict[str, int]

    @classmethod
    def write(cls, graph: GraphBuilder, name: str, matrix: QuantMatrix) -> _StoredMatrix:
        """Packs the matrix into the weight file."""
        attributes = {
            "N": matrix.rows,
            "K": matrix.columns,
            "bits": matrix.bits,
            "group": matrix.group,
            "offsets": int(matrix.offsets is not None),
            "scale_bytes": matrix.scales.dtype.itemsize,
        }
        return cls(graph.table(name, pack_tiles(matrix)), attributes)
