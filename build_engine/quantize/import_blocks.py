"""GGUF blocks as ``MatMulNBits`` groups, without quantising a second time.

Q8_0, IQ4_NL and Q4_0 map exactly. Q4_1, Q4_K and Q5_K blocks ``w = d * q + m`` have a real zero point ``-m / d``, which
the operator's fast kernels do not take, but each becomes an 8-bit group: with scale ``d / k`` for an integer ``k`` the
levels ``k * q`` stay exact and only the offset is rounded, by ``|k z - round(k z)| * d / k`` where ``z = -m / d``. Of
k = 1..17 (1..8 with five bits) the one with the least error is taken; by Dirichlet's approximation theorem some
``k <= 17`` leaves at most ``d / (18 k)``.
Blocks that rounding to 255 levels of their own would serve better (far from zero, or without a step) get those.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from build_engine.checkpoint import QuantBlocks
from build_engine.quantize.matrix import QuantMatrix

_MAX_LEVEL = 255
_TOP_LEVEL = {4: 15, 5: 31}


def import_q8_0(blocks: QuantBlocks) -> QuantMatrix:
    """Q8_0 or IQ4_NL as 8-bit levels around 128, exactly."""
    return _symmetric(blocks, bits=8)


def import_q4_0(blocks: QuantBlocks) -> QuantMatrix:
    """Q4_0 as 4-bit levels around 8, exactly."""
    return _symmetric(blocks, bits=4)


def _symmetric(blocks: QuantBlocks, bits: int) -> QuantMatrix:
    middle = 1 << (bits - 1)
    levels = (blocks.values + middle).astype(np.uint8)
    return QuantMatrix(bits, levels, blocks.scales, np.full(blocks.scales.shape, middle, dtype=np.uint8))


def import_q4_1(blocks: QuantBlocks) -> QuantMatrix:
    """Q4_1 or Q4_K as 8-bit levels with integer zero points."""
    return _affine(blocks, bits=4)


def import_q5_k(blocks: QuantBlocks) -> QuantMatrix:
    """Q5_K as 8-bit levels with integer zero points."""
    return _affine(blocks, bits=5)


def _affine(blocks: QuantBlocks, bits: int) -> QuantMatrix:
    """The stored steps exactly, the offset to the nearest level.

    No value is off by more than 1/510 of the span of its block and zero.
    """
    if blocks.offsets is None:
        raise ValueError("the blocks have no offsets")
    multiplier, shift, zero_points = _best_multipliers(blocks.scales, blocks.offsets, _TOP_LEVEL[bits])
    levels = (shift[..., None] + multiplier[..., None] * blocks.values).astype(np.uint8)
    scales = blocks.scales / np.maximum(multiplier, 1).astype(np.float32)
    lost = multiplier == 0
    if np.any(lost):
        weights = blocks.scales[lost][:, None] * blocks.values[lost] + blocks.offsets[lost][:, None]
        levels[lost], scales[lost], zero_points[lost] = _round_blocks(weights)
    return QuantMatrix(8, levels, scales.astype(np.float32), zero_points.astype(np.uint8))


def _best_multipliers(
    steps: npt.NDArray[np.float32], offsets: npt.NDArray[np.float32], top: int
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int16], npt.NDArray[np.int16]]:
    """The multiplier (0: none serves), level shift and zero point of each block; all int16 ``[rows, groups]``."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        zero = np.where(steps > 0, -offsets.astype(np.float64) / steps, np.inf)
    multiplier = np.zeros(steps.shape, dtype=np.int16)
    shift = np.zeros_like(multiplier)
    point = np.zeros_like(multiplier)
    span = np.maximum(top - zero, 0) + np.maximum(zero, 0)
    best = np.where(np.isfinite(zero), span / (2 * _MAX_LEVEL), 0)
    for k in range(1, _MAX_LEVEL // top + 1):
        exact = np.clip(zero * k, -2 * _MAX_LEVEL, 2 * _MAX_LEVEL)
        rounded = np.rint(exact)
        lift = np.maximum(-rounded, 0)
        error = np.abs(exact - rounded) / k
        fits = (lift + k * top <= _MAX_LEVEL) & (rounded <= _MAX_LEVEL) & (error <= best)
        best = np.where(fits, error, best)
        multiplier[fits] = k
        shift[fits] = lift[fits].astype(np.int16)
        point[fits] = (rounded + lift)[fits].astype(np.int16)
    return multiplier, shift, point


def _round_blocks(
    weights: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Rounds blocks ``[n, 32]`` to 255 steps over the span of their values and zero."""
    low = np.minimum(weights.min(axis=1), 0)
    high = np.maximum(weights.max(axis=1), 0)
    scales = np.where(high > low, (high - low) / _MAX_LEVEL, 1).astype(np.float32)
    points = np.clip(np.rint(-low / scales), 0, _MAX_LEVEL)
    levels = np.clip(np.rint(weights / scales[:, None]) + points[:, None], 0, _MAX_LEVEL)
    return levels.astype(np.uint8), scales, points.astype(np.uint8)
