"""A quantised matrix in the terms of ``com.microsoft.MatMulNBits``: unsigned levels in groups of 32 columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

GROUP = 32


@dataclass(frozen=True, slots=True)
class QuantMatrix:
    """A matrix ``w = scale * (level - zero_point)`` in groups of 32 along its columns.

    Attributes:
        bits: 4 or 8.
        levels: uint8 ``[rows, groups, 32]`` in ``[0, 2**bits)``, one level a byte.
        scales: float32 ``[rows, groups]``.
        zero_points: uint8 ``[rows, groups]`` in ``[0, 2**bits)``.
    """

    bits: int
    levels: npt.NDArray[np.uint8]
    scales: npt.NDArray[np.float32]
    zero_points: npt.NDArray[np.uint8]

    @property
    def rows(self) -> int:
        """Output features."""
        return int(self.levels.shape[0])

    @property
    def columns(self) -> int:
        """Input features."""
        return int(self.levels.shape[1]) * GROUP

    @property
    def symmetric(self) -> bool:
        """Every zero point is the middle level, the operator's default."""
        return bool(np.all(self.zero_points == 1 << (self.bits - 1)))

    def float32(self) -> npt.NDArray[np.float32]:
        """The dequantised values, float32 ``[rows, columns]``."""
        centred = self.levels.astype(np.float32) - self.zero_points[..., None].astype(np.float32)
        centred *= self.scales[..., None]
        return centred.reshape(self.rows, self.columns)

    def widened(self) -> QuantMatrix:
        """The same values with 8 bits a level: the levels of 4 bits are levels of 8 bits."""
        return QuantMatrix(8, self.levels, self.scales, self.zero_points)

    def packed_levels(self) -> npt.NDArray[np.uint8]:
        """Operator layout: uint8 ``[rows, groups, 32 * bits / 8]``, the even level in the low half of a byte."""
        return self.levels if self.bits == 8 else pack_nibbles(self.levels)

    def packed_zero_points(self) -> npt.NDArray[np.uint8]:
        """Operator layout: uint8 ``[rows, ceil(groups * bits / 8)]``."""
        if self.bits == 8:
            return self.zero_points
        odd = self.zero_points.shape[1] % 2
        return pack_nibbles(np.pad(self.zero_points, ((0, 0), (0, odd))))


def pack_nibbles(levels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Packs pairs along the last axis (even length) into bytes, the first of a pair in the low half."""
    packed: npt.NDArray[np.uint8] = levels[..., 0::2] | levels[..., 1::2] << np.uint8(4)
    return packed


def stack_rows(parts: Sequence[QuantMatrix]) -> QuantMatrix:
    """Concatenates the rows of matrices with equal columns, at the widest level among them."""
    if len(parts) == 1:
        return parts[0]
    bits = max(part.bits for part in parts)
    return QuantMatrix(
        bits,
        np.concatenate([part.levels for part in parts]),
        np.concatenate([part.scales for part in parts]),
        np.concatenate([part.zero_points for part in parts]),
    )
