"""Weight-only quantisation of float matrices in groups of 32 columns."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from build_engine.quantize.matrix import GROUP, QuantMatrix

_INT4_MAX = 15
_SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75)
_ROWS_AT_ONCE = 2048
_SMALLEST = 1e-30
"""Groups below it are zero: their scale would lose its bits to underflow."""


def round_int8(weights: npt.NDArray[np.float32]) -> QuantMatrix:
    """Symmetric 8-bit groups: ``scale = max|w| / 127``, zero point 128.

    Args:
        weights: float32 ``[rows, columns]``, columns a multiple of 32.
    """
    groups = weights.reshape(weights.shape[0], -1, GROUP)
    peak = np.abs(groups).max(axis=2)
    scales = np.where(peak > _SMALLEST, peak / 127, 1).astype(np.float32)
    levels = np.empty(groups.shape, dtype=np.uint8)
    for start in range(0, len(groups), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        levels[rows] = np.rint(groups[rows] / scales[rows, :, None]) + 128
    return QuantMatrix(8, levels, scales, np.full(scales.shape, 128, dtype=np.uint8))


def round_int4(weights: npt.NDArray[np.float32]) -> QuantMatrix:
    """Asymmetric 4-bit groups of least squared error over a few clipping ranges.

    Each candidate shrinks the span of a group (with zero inside it), rounds, then refits the scale by least squares.

    Args:
        weights: float32 ``[rows, columns]``, columns a multiple of 32.
    """
    groups = weights.reshape(weights.shape[0], -1, GROUP)
    levels = np.empty(groups.shape, dtype=np.uint8)
    scales = np.empty(groups.shape[:2], dtype=np.float32)
    points = np.empty(groups.shape[:2], dtype=np.uint8)
    for start in range(0, len(groups), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        levels[rows], scales[rows], points[rows] = _search_int4(groups[rows])
    return QuantMatrix(4, levels, scales, points)


def _search_int4(
    groups: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    best = np.full(groups.shape[:2], np.inf, dtype=np.float32)
    levels = np.zeros(groups.shape, dtype=np.uint8)
    scales = np.ones(groups.shape[:2], dtype=np.float32)
    points = np.zeros(groups.shape[:2], dtype=np.uint8)
    low = np.minimum(groups.min(axis=2), 0)
    high = np.maximum(groups.max(axis=2), 0)
    for shrink in _SHRINKS:
        scale = np.where(high - low > _SMALLEST, (high - low) * (shrink / _INT4_MAX), 1).astype(np.float32)
        point = np.clip(np.rint(-low * shrink / scale), 0, _INT4_MAX)
        rounded = np.clip(np.rint(groups / scale[..., None]) + point[..., None], 0, _INT4_MAX)
        centred = rounded - point[..., None]
        energy = np.einsum("rgi,rgi->rg", centred, centred)
        fitted = np.einsum("rgi,rgi->rg", centred, groups)
        scale = np.where(fitted > 0, fitted / np.maximum(energy, 1e-30), scale).astype(np.float32)
        residual = groups - centred * scale[..., None]
        error = np.einsum("rgi,rgi->rg", residual, residual)
        better = error < best
        best[better] = error[better]
        levels[better] = rounded[better].astype(np.uint8)
        scales[better] = scale[better]
        points[better] = point[better].astype(np.uint8)
    return levels, scales, points
