"""Quantised matrices as ``peregrine::Linear`` streams them from memory.

A tile is 32 rows: the levels ``[columns / 4][32 rows][4 columns]``, one a byte, or of 4 bits the steps of four columns
in pairs, the first in the low halves; then for each group 32 scales and, where the matrix has them, 32 offsets; zeros
up to a multiple of 64 bytes. The last tile is filled up with rows of zeros.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from build_engine.quantize.matrix import QuantMatrix

TILE = 32
_ALIGNMENT = 64
_TILES_AT_ONCE = 256


def tile_bytes(columns: int, *, bits: int, group: int, offsets: bool, scale_bytes: int) -> int:
    """Size of a tile."""
    scales = columns // group * TILE * scale_bytes * (1 + offsets)
    return -(-(columns * TILE * bits // 8 + scales) // _ALIGNMENT) * _ALIGNMENT


def pack_tiles(matrix: QuantMatrix) -> npt.NDArray[np.uint8]:
    """The tiles of a matrix, uint8 ``[ceil(rows / 32), tile_bytes]``."""
    size = tile_bytes(
        matrix.columns,
        bits=matrix.bits,
        group=matrix.group,
        offsets=matrix.offsets is not None,
        scale_bytes=matrix.scales.dtype.itemsize,
    )
    packed = np.zeros((-(-matrix.rows // TILE), size), np.uint8)
    level_bytes = matrix.columns * TILE * matrix.bits // 8
    for first in range(0, len(packed), _TILES_AT_ONCE):
        rows = slice(first * TILE, (first + _TILES_AT_ONCE) * TILE)
        tiles = packed[first : first + _TILES_AT_ONCE]
        tiles[:, :level_bytes] = _levels(matrix, rows)
        scales = _scales(matrix, rows)
        tiles[:, level_bytes : level_bytes + scales.shape[1]] = scales
    return packed


def _levels(matrix: QuantMatrix, rows: slice) -> npt.NDArray[np.uint8]:
    levels = _filled(matrix.levels[rows].reshape(-1, matrix.columns))
    steps = levels.reshape(-1, TILE, matrix.columns // 4, 4).transpose(0, 2, 1, 3)
    if matrix.bits == 4:
        steps = steps[:, 0::2] | steps[:, 1::2] << np.uint8(4)
    return steps.reshape(len(steps), -1)


def _scales(matrix: QuantMatrix, rows: slice) -> npt.NDArray[np.uint8]:
    """Bytes ``[tiles, groups * (scales, offsets)]``."""
    parts = [matrix.scales] if matrix.offsets is None else [matrix.scales, matrix.offsets]
    tiled = [_filled(part[rows]).reshape(-1, TILE, part.shape[1]).transpose(0, 2, 1) for part in parts]
    together = np.ascontiguousarray(np.stack(tiled, axis=2))
    return together.reshape(len(together), -1).view(np.uint8)


def _filled(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.pad(rows, ((0, -len(rows) % TILE), (0, 0)))
