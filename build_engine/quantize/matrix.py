"""A quantised matrix: unsigned levels in groups along the columns, with a scale and perhaps an offset each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

GROUP: Literal[32] = 32
"""The least group, and that of every GGUF block."""
ROTATED_GROUP: Literal[64] = 64
"""Wide enough a group for int8 weights and activations of a rotated model, which has no outliers."""
_SMALLEST_NORMAL = float(np.finfo(np.float16).tiny)


@dataclass(frozen=True, slots=True)
class QuantMatrix:
    """A matrix in groups along its columns.

    Weights are ``scale * (level - 2**(bits - 1))`` without offsets and ``scale * level + offset`` with them.

    Attributes:
        bits: 4 or 8.
        levels: uint8 ``[rows, groups, group]`` in ``[0, 2**bits)``, one level a byte.
        scales: float16 or float32 ``[rows, groups]``.
        offsets: Like ``scales``, or ``None``.
    """

    bits: int
    levels: npt.NDArray[np.uint8]
    scales: npt.NDArray[Any]
    offsets: npt.NDArray[Any] | None = None

    @property
    def rows(self) -> int:
        """Output features."""
        return int(self.levels.shape[0])

    @property
    def columns(self) -> int:
        """Input features."""
        return int(self.levels.shape[1] * self.levels.shape[2])

    @property
    def group(self) -> int:
        """Columns that share a scale."""
        return int(self.levels.shape[2])

    def float32(self) -> npt.NDArray[np.float32]:
        """The dequantised values, float32 ``[rows, columns]``."""
        values = self.levels.astype(np.float32)
        if self.offsets is None:
            values -= np.float32(1 << (self.bits - 1))
        values *= self.scales.astype(np.float32)[..., None]
        if self.offsets is not None:
            values += self.offsets.astype(np.float32)[..., None]
        return values.reshape(self.rows, self.columns)

    def rows_at(self, order: npt.NDArray[np.int64]) -> QuantMatrix:
        """The same matrix with other rows in the places of its own."""
        offsets = None if self.offsets is None else self.offsets[order]
        return replace(self, levels=self.levels[order], scales=self.scales[order], offsets=offsets)

    def narrowed(self) -> QuantMatrix:
        """The same values with scales and offsets in float16, if that holds them exactly."""
        parts = [self.scales] if self.offsets is None else [self.scales, self.offsets]
        with np.errstate(over="ignore"):
            halves = [part.astype(np.float16) for part in parts]
        if not all(map(np.array_equal, halves, parts)):
            return self
        return replace(self, scales=halves[0], offsets=halves[1] if len(halves) > 1 else None)

    def with_offsets(self) -> QuantMatrix:
        """The same values as ``scale * level + offset``."""
        if self.offsets is not None:
            return self
        offsets = self.scales.astype(np.float32) * np.float32(-(1 << (self.bits - 1)))
        return replace(self, scales=self.scales.astype(np.float32), offsets=offsets).narrowed()

    def widened(self) -> QuantMatrix:
        """The same values with 8 bits a level."""
        if self.bits == 8:
            return self
        levels = self.levels if self.offsets is not None else self.levels + np.uint8(128 - 8)
        return replace(self, bits=8, levels=levels)


def fits_half(scales: npt.NDArray[np.float32]) -> bool:
    """Whether float16 holds the scales (or offsets) to its full precision: none overflows or is subnormal."""
    sizes = np.abs(scales[scales != 0])
    return bool(np.all((sizes >= _SMALLEST_NORMAL) & (sizes <= np.finfo(np.float16).max)))


def pack_nibbles(levels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Packs pairs along the last axis (even length) into bytes, the first of a pair in the low half."""
    packed: npt.NDArray[np.uint8] = levels[..., 0::2] | levels[..., 1::2] << np.uint8(4)
    return packed


def stack_rows(parts: Sequence[QuantMatrix]) -> QuantMatrix:
    """Concatenates the rows of matrices with equal columns and groups, in a form that holds all of them exactly."""
    if len(parts) == 1:
        return parts[0]
    bits = max(part.bits for part in parts)
    same = [part.widened() if bits == 8 else part for part in parts]
    if any(part.offsets is not None for part in same):
        same = [part.with_offsets() for part in same]
    offsets = [part.offsets for part in same if part.offsets is not None]
    # NOTE: concatenating float16 with float32 gives float32.
    return QuantMatrix(
        bits,
        np.concatenate([part.levels for part in same]),
        np.concatenate([part.scales for part in same]),
        np.concatenate(offsets) if offsets else None,
    )
