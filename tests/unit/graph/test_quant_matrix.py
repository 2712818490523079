from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from tiny import block_tensor

from build_engine.quantize import QuantMatrix, pack_tiles, quantise, stack_rows
from build_engine.quantize.tiles import tile_bytes


def _matrix(encoding: str, rows: int = 6, columns: int = 96) -> QuantMatrix:
    values = np.random.default_rng(rows).standard_normal((rows, columns)).astype(np.float32)
    return quantise(block_tensor("w", values, encoding), "import")


def _level(tile: npt.NDArray[np.uint8], row: int, column: int, bits: int) -> int:
    """Where the layout's description says that it is."""
    if bits == 8:
        return int(tile[column // 4 * 128 + row * 4 + column % 4])
    byte = int(tile[column // 8 * 128 + row * 4 + column % 4])
    return byte >> 4 if column % 8 >= 4 else byte & 15


@pytest.mark.parametrize("encoding", ["q8_0", "q4_0", "q4_1"])
def test_tiles_hold_levels_scales_and_offsets_where_they_belong(encoding: str) -> None:
    matrix = _matrix(encoding, rows=70)
    tiles = pack_tiles(matrix)
    assert tiles.shape[0] == 3
    levels = matrix.levels.reshape(70, 96)
    for row in (0, 31, 32, 69):
        tile = tiles[row // 32]
        assert [_level(tile, row % 32, k, matrix.bits) for k in range(96)] == list(levels[row])
        parts = 1 if matrix.offsets is None else 2
        halves = tile[96 * 32 * matrix.bits // 8 :].view(np.float16)[: 3 * parts * 32].reshape(3, parts, 32)
        np.testing.assert_array_equal(halves[:, 0, row % 32], matrix.scales[row])
        if matrix.offsets is not None:
            np.testing.assert_array_equal(halves[:, 1, row % 32], matrix.offsets[row])


def test_the_last_tile_is_filled_up_with_zeros() -> None:
    tile = pack_tiles(_matrix("q4_1", rows=5))[0]
    assert not tile[: 96 * 16].reshape(-1, 32, 4)[:, 5:].any()
    assert not tile[96 * 16 :].view(np.float16).reshape(3, 2, 32)[:, :, 5:].any()


@pytest.mark.parametrize(
    ("bits", "group", "offsets", "each"), [(4, 32, True, 5), (8, 64, False, 8.25), (8, 32, False, 8.5)]
)
def test_tiles_cost_little_more_than_their_levels(bits: int, group: int, offsets: bool, each: float) -> None:
    size = tile_bytes(576, bits=bits, group=group, offsets=offsets, scale_bytes=2)
    assert size * 8 / (576 * 32) == pytest.approx(each, rel=1e-2)


@pytest.mark.parametrize(
    ("first", "second", "bits", "offsets"),
    [("q4_0", "q8_0", 8, False), ("q4_1", "q8_0", 8, True), ("q4_0", "q4_1", 4, True), ("q4_1", "q4_1", 4, True)],
)
def test_stacked_rows_keep_their_values(first: str, second: str, bits: int, offsets: bool) -> None:
    parts = [_matrix(first, rows=4), _matrix(second, rows=5)]
    stacked = stack_rows(parts)
    assert (stacked.bits, stacked.rows, stacked.columns) == (bits, 9, 96)
    assert (stacked.offsets is not None) == offsets
    np.testing.assert_array_equal(stacked.float32(), np.concatenate([part.float32() for part in parts]))


def test_stacking_one_matrix_copies_nothing() -> None:
    matrix = _matrix("q8_0")
    assert stack_rows([matrix]) is matrix


def test_rows_change_places_with_their_scales() -> None:
    matrix = _matrix("q4_1")
    order = np.array([3, 0, 5, 4, 1, 2])
    np.testing.assert_array_equal(matrix.rows_at(order).float32(), matrix.float32()[order])
