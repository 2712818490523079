"""Quantisation of float matrices in groups of columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from build_engine.quantize.matrix import GROUP, QuantMatrix, fits_half

_INT4_MAX = 15
_SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75)
_ROWS_AT_ONCE = 2048
_SMALLEST = 1e-30
"""Groups below it are zero: their scale would lose its bits to underflow."""


def round_int8(weights: npt.NDArray[np.float32], group: int = GROUP) -> QuantMatrix:
    """Symmetric 8-bit groups: the scale is ``max|w| / 127``, rounded up to float16 where that has the range.

    Args:
        weights: float32 ``[rows, columns]``, columns a multiple of ``group``.
        group: Columns that share a scale.
    """
    groups = weights.reshape(weights.shape[0], -1, group)
    peak = np.abs(groups).max(axis=2)
    scales: npt.NDArray[Any] = np.where(peak > _SMALLEST, peak / 127, 1).astype(np.float32)
    if fits_half(scales):
        scales = _rounded_up(scales)
    levels = np.empty(groups.shape, dtype=np.uint8)
    for start in range(0, len(groups), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        levels[rows] = np.rint(groups[rows] / scales[rows, :, None].astype(np.float32)) + 128
    return QuantMatrix(8, levels, scales)


def round_int4(weights: npt.NDArray[np.float32]) -> QuantMatrix:
    """4-bit groups of 32 with offsets, of least squared error over a few clipping ranges.

    Each candidate shrinks the span of a group, rounds, then refits scale and offset by least squares. Both are float16
    where that has the range.

    Args:
        weights: float32 ``[rows, columns]``, columns a multiple of 32.
    """
    groups = weights.reshape(weights.shape[0], -1, GROUP)
    levels = np.empty(groups.shape, dtype=np.uint8)
    scales = np.empty(groups.shape[:2], dtype=np.float32)
    offsets = np.empty(groups.shape[:2], dtype=np.float32)
    for start in range(0, len(groups), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        levels[rows], scales[rows], offsets[rows] = _search_int4(groups[rows])
    if fits_half(scales) and np.abs(offsets).max(initial=0) <= np.finfo(np.float16).max:
        return QuantMatrix(4, levels, scales.astype(np.float16), offsets.astype(np.float16))
    return QuantMatrix(4, levels, scales, offsets)


def _rounded_up(scales: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    """The least float16 not below; so no level leaves its range."""
    halves = scales.astype(np.float16)
    low = halves.astype(np.float32) < scales
    return np.where(low, np.nextafter(halves, np.float16(np.inf)), halves)


def _search_int4(
    groups: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    best = np.full(groups.shape[:2], np.inf, dtype=np.float32)
    levels = np.zeros(groups.shape, dtype=np.uint8)
    scales = np.zeros(groups.shape[:2], dtype=np.float32)
    offsets = np.zeros(groups.shape[:2], dtype=np.float32)
    low, high = groups.min(axis=2), groups.max(axis=2)
    flat = high - low <= _SMALLEST
    middle = (low + high) / 2
    mean = groups.mean(axis=2)
    for shrink in _SHRINKS:
        step = np.where(flat, 1, (high - low) * (shrink / _INT4_MAX)).astype(np.float32)
        start = middle - step * (_INT4_MAX / 2)
        rounded = np.where(flat[..., None], 0, np.rint((groups - start[..., None]) / step[..., None]))
        rounded = np.clip(rounded, 0, _INT4_MAX).astype(np.float32)
        centre = rounded.mean(axis=2)
        centred = rounded - centre[..., None]
        energy = np.einsum("rgi,rgi->rg", centred, centred)
        scale = np.einsum("rgi,rgi->rg", centred, groups) / np.maximum(energy, 1e-30)
        offset = mean - scale * centre
        residual = groups - rounded * scale[..., None] - offset[..., None]
        error = np.einsum("rgi,rgi->rg", residual, residual)
        better = error < best
        best[better], scales[better], offsets[better] = error[better], scale[better], offset[better]
        levels[better] = rounded[better].astype(np.uint8)
    return levels, scales, offsets
