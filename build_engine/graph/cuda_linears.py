"""Weights of the CUDA graph: float tables, or levels and scales that ``com.microsoft.MatMulNBits`` reads.

Its CUDA kernels want unsigned levels around the middle one and no zero points for their fast path, so the quantisation
is the symmetric one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from build_engine.checkpoint import CheckpointTensor
from build_engine.errors import BuildError
from build_engine.families.names import EMBEDDING, HEAD
from build_engine.graph.builder import MICROSOFT, GraphBuilder
from build_engine.graph.element import Element
from build_engine.graph.slot_weights import ELEMENTS, SlotLinears, SlotWeights
from build_engine.graph.weight_file import Region, WeightFile
from build_engine.quantize import GROUP
from build_engine.quantize.matrix import pack_nibbles
from build_engine.quantize.symmetric import SymmetricPrecision, quantise_symmetric


@dataclass(frozen=True, slots=True)
class NBitsMatrix:
    """A quantised matrix ``[rows, groups * 32]`` in the weight file.

    Attributes:
        bits: Of a level, 4 or 8.
        levels: uint8 ``[rows, groups, 4 * bits]``.
        scales: ``[rows, groups]`` of the engine's element type.
    """

    bits: int
    rows: int
    groups: int
    levels: Region
    scales: Region


class NBitsWeights:
    """Quantises each matrix once, whichever graphs read it.

    Args:
        weights: Takes levels and scales.
        precision: Of the levels.
        element: Of the scales.
    """

    def __init__(self, weights: WeightFile, precision: SymmetricPrecision, element: Element) -> None:
        self._weights = weights
        self._precision: SymmetricPrecision = precision
        self._stored: dict[str, NBitsMatrix] = {}
        self.element: Element = element

    @property
    def label(self) -> str:
        """For the manifest: ``q8-g32``, ``q4+q8-g32``, ..."""
        return "+".join(f"q{bits}" for bits in sorted({stored.bits for stored in self._stored.values()})) + f"-g{GROUP}"

    def matrix(self, tensors: Sequence[CheckpointTensor]) -> NBitsMatrix:
        """The rows of ``tensors``, which have equal columns, at the widest level among them.

        Raises:
            BuildError: The groups do not fit the columns.
        """
        name = "+".join(tensor.name for tensor in tensors)
        if name not in self._stored:
            self._stored[name] = self._write(tensors)
        return self._stored[name]

    def _write(self, tensors: Sequence[CheckpointTensor]) -> NBitsMatrix:
        for tensor in tensors:
            if tensor.shape[1] % GROUP:
                raise BuildError(
                    f"{tensor.name}: {tensor.shape[1]} columns are not a multiple of {GROUP}, the group of every "
                    "quantised precision; build with --precision fp16 or bf16"
                )
        parts = [quantise_symmetric(tensor, self._precision, ELEMENTS[self.element]) for tensor in tensors]
        bits = max(part.bits for part in parts)
        middle = 1 << (bits - 1)
        levels = np.concatenate([(part.levels.astype(np.int16) + middle).astype(np.uint8) for part in parts])
        scales = np.concatenate([part.scales for part in parts])
        packed = levels if bits == 8 else pack_nibbles(levels)
        rows, groups = scales.shape
        return NBitsMatrix(bits, rows, groups, self._weights.write(packed), self._weights.write(scales))


class CudaLinears(SlotLinears):
    """The `Linears` of one graph: products in ``element``, whatever the weights are stored in.

    Args:
        floats: Embedding and head; all matrices of a float precision.
        levels: The layers' matrices of a quantised precision.
        element: Of the products.
    """

    def __init__(self, floats: SlotWeights, levels: NBitsWeights | None, element: Element) -> None:
        super().__init__(floats, element)
        self._levels = levels

    @property
    def label(self) -> str:
        """See `Linears`."""
        return super().label if self._levels is None else self._levels.label

    def linear(
        self,
        graph: GraphBuilder,
        x: str,
        tensors: Sequence[CheckpointTensor],
        bias: npt.NDArray[np.float32] | None,
        output: str,
    ) -> str:
        """See `Linears`."""
        if self._levels is None or tensors[0].name in (EMBEDDING, HEAD):
            return super().linear(graph, x, tensors, bias, output)
        stored = self._levels.matrix(tensors)
        levels = graph.view(
            f"{output}.levels", stored.levels, np.uint8, (stored.rows, stored.groups, GROUP * stored.bits // 8)
        )
        dtype = ELEMENTS[self._levels.element]
        scales = graph.view(f"{output}.scales", stored.scales, dtype, (stored.rows, stored.groups))
        inputs = [x, levels, self._cast(graph, scales, dtype)]
        if bias is not None:
            inputs += ["", "", graph.vector(f"{output}.bias", bias.astype(ELEMENTS[self._element]))]
        return graph.node(
            "MatMulNBits",
            inputs,
            output,
            MICROSOFT,
            K=stored.groups * GROUP,
            N=stored.rows,
            bits=stored.bits,
            block_size=GROUP,
        )
