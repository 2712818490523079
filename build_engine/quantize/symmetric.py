"""Weights for ONNX ``DequantizeLinear`` without zero points: what TensorRT's weight-only products read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from build_engine.checkpoint import CheckpointTensor
from build_engine.quantize.matrix import GROUP, pack_nibbles

SymmetricPrecision = Literal["int8", "int4", "import"]

_TOP = {8: 127, 4: 7}
_SMALLEST = 1e-30
_STORED_BITS = {"q8_0": 8, "iq4_nl": 8, "q4_0": 4}
_SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8)
_ROWS_AT_ONCE = 2048


@dataclass(frozen=True, slots=True)
class SymmetricMatrix:
    """A matrix ``w = scale * level`` in groups of 32 along its columns.

    Attributes:
        bits: 4 or 8.
        levels: int8 ``[rows, columns]`` in ``[-2**(bits-1), 2**(bits-1))``.
        scales: ``[rows, columns / 32]`` in the element type of the products.
    """

    bits: int
    levels: npt.NDArray[np.int8]
    scales: npt.NDArray[Any]

    def float32(self) -> npt.NDArray[np.float32]:
        """The dequantised values, float32 ``[rows, columns]``."""
        return self.levels.astype(np.float32) * np.repeat(self.scales.astype(np.float32), GROUP, axis=1)

    def packed_levels(self) -> npt.NDArray[Any]:
        """As ONNX stores them: int8, or two 4-bit levels a byte, the even one in the low half."""
        if self.bits == 8:
            return self.levels
        return pack_nibbles(self.levels.reshape(-1).view(np.uint8) & np.uint8(0xF))


def quantise_symmetric(
    tensor: CheckpointTensor, precision: SymmetricPrecision, scale_dtype: npt.DTypeLike
) -> SymmetricMatrix:
    """Quantises one linear weight, columns a multiple of 32.

    ``import`` keeps Q8_0, IQ4_NL and Q4_0 blocks as they are if ``scale_dtype`` holds their scales exactly. Blocks with
    offsets and float weights are rounded to ``int8``.
    """
    bits = 4 if precision == "int4" else 8
    stored = _STORED_BITS.get(tensor.encoding)
    if stored is not None and (precision == "import" or stored == bits):
        blocks = tensor.blocks()
        scales = blocks.scales.astype(scale_dtype)
        if np.array_equal(scales.astype(np.float32), blocks.scales):
            return SymmetricMatrix(stored, blocks.values.reshape(tensor.shape).astype(np.int8), scales)
    weights = tensor.float32().reshape(tensor.shape)
    levels = np.empty(weights.shape, np.int8)
    scales = np.empty((len(weights), weights.shape[1] // GROUP), np.dtype(scale_dtype))
    for start in range(0, len(weights), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        levels[rows], scales[rows] = _round(weights[rows], bits, scales.dtype)
    return SymmetricMatrix(bits, levels, scales)


def _round(
    weights: npt.NDArray[np.float32], bits: int, scale_dtype: np.dtype[Any]
) -> tuple[npt.NDArray[np.int8], npt.NDArray[Any]]:
    """Levels for scales that were rounded first; 4-bit groups take the clipping range of least squared error."""
    groups = weights.reshape(len(weights), -1, GROUP)
    # NOTE: the signed extreme lies on -2**(bits-1), the level that the other side lacks (as Q4_0 has it).
    extreme = np.take_along_axis(groups, np.abs(groups).argmax(axis=2)[..., None], axis=2)[..., 0]
    best = np.full(extreme.shape, np.inf, np.float32)
    levels, scales = np.zeros(groups.shape, np.int8), np.ones(extreme.shape, scale_dtype)
    for shrink in _SHRINKS if bits == 4 else (1.0,):
        span = extreme * (shrink / -(_TOP[bits] + 1)) if bits == 4 else np.abs(extreme) / _TOP[bits]
        scale = np.where(np.abs(extreme) > _SMALLEST, span, 1).astype(scale_dtype)
        wide = scale.astype(np.float32)[..., None]
        wide = np.where(wide == 0, 1, wide)
        rounded = np.clip(np.rint(groups / wide), -_TOP[bits] - 1, _TOP[bits])
        error = np.square(groups - rounded * wide).sum(axis=2)
        better = error < best
        best[better], levels[better], scales[better] = error[better], rounded[better].astype(np.int8), scale[better]
    return levels.reshape(weights.shape), scales
