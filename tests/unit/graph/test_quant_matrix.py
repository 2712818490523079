from __future__ import annotations

import numpy as np
from tiny import block_tensor

from build_engine.quantize import QuantMatrix, quantise, stack_rows


def _matrix(encoding: str, rows: int = 6, columns: int = 96) -> QuantMatrix:
    values = np.random.default_rng(rows).standard_normal((rows, columns)).astype(np.float32)
    return quantise(block_tensor("w", values, encoding), "import")


def test_four_bit_levels_are_packed_low_half_first() -> None:
    matrix = _matrix("q4_0")
    packed = matrix.packed_levels()
    assert packed.shape == (6, 3, 16)
    np.testing.assert_array_equal(packed & 15, matrix.levels[..., 0::2])
    np.testing.assert_array_equal(packed >> 4, matrix.levels[..., 1::2])


def test_an_odd_number_of_four_bit_zero_points_fills_its_last_byte() -> None:
    points = _matrix("q4_0").packed_zero_points()
    np.testing.assert_array_equal(points, np.tile(np.array([0x88, 0x08], np.uint8), (6, 1)))


def test_eight_bit_matrices_are_stored_as_they_are() -> None:
    matrix = _matrix("q4_1")
    assert matrix.packed_levels() is matrix.levels
    assert matrix.packed_zero_points() is matrix.zero_points


def test_stacked_rows_keep_their_values_at_the_widest_level() -> None:
    four, eight = _matrix("q4_0", rows=4), _matrix("q8_0", rows=5)
    stacked = stack_rows([four, eight])
    assert (stacked.bits, stacked.rows, stacked.columns) == (8, 9, 96)
    np.testing.assert_array_equal(stacked.float32(), np.concatenate([four.float32(), eight.float32()]))


def test_stacking_one_matrix_copies_nothing() -> None:
    matrix = _matrix("q8_0")
    assert stack_rows([matrix]) is matrix
