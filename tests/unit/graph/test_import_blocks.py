from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import BlockTensor, block_tensor

from build_engine.checkpoint import QuantBlocks
from build_engine.quantize.import_blocks import import_q4_0, import_q4_1, import_q8_0


def _random_tensor(encoding: str, seed: int = 0) -> BlockTensor:
    values = np.random.default_rng(seed).standard_normal((48, 96)).astype(np.float32)
    return block_tensor("w", values, encoding)


def _one_block(step: float, offset: float) -> QuantBlocks:
    values = (np.arange(32, dtype=np.int16) % 16).reshape(1, 1, 32)
    return QuantBlocks(values, np.full((1, 1), step, np.float32), np.full((1, 1), offset, np.float32))


def _exact(blocks: QuantBlocks) -> npt.NDArray[np.float64]:
    assert blocks.offsets is not None
    values = blocks.scales[..., None].astype(np.float64) * blocks.values + blocks.offsets[..., None]
    return values.reshape(len(values), -1)


def test_q8_0_blocks_are_kept_exactly() -> None:
    tensor = _random_tensor("q8_0")
    matrix = import_q8_0(tensor.blocks())
    assert (matrix.bits, matrix.symmetric) == (8, True)
    np.testing.assert_array_equal(matrix.float32(), tensor.float32())


def test_q4_0_blocks_are_kept_exactly_in_four_bits_and_in_eight() -> None:
    tensor = _random_tensor("q4_0")
    matrix = import_q4_0(tensor.blocks())
    assert (matrix.bits, matrix.symmetric) == (4, True)
    np.testing.assert_array_equal(matrix.float32(), tensor.float32())
    np.testing.assert_array_equal(matrix.widened().float32(), tensor.float32())


def test_q4_1_blocks_lose_far_less_than_a_step() -> None:
    tensor = _random_tensor("q4_1")
    matrix = import_q4_1(tensor.blocks())
    error = np.abs(matrix.float32() - tensor.float32()).reshape(48, -1, 32) / tensor.blocks().scales[..., None]
    assert matrix.bits == 8
    assert error.max() < 1 / 18
    assert np.sqrt(np.mean(error**2)) < 0.01


def test_q4_1_steps_stay_exact_so_the_error_of_a_block_is_one_shift() -> None:
    tensor = _random_tensor("q4_1")
    error = (import_q4_1(tensor.blocks()).float32() - tensor.float32()).reshape(48, -1, 32)
    shifted = np.ptp(error, axis=2) < 1e-6
    assert shifted.mean() > 0.95


@given(st.floats(1e-4, 1.0), st.floats(-40.0, 20.0))
def test_q4_1_error_is_bounded_by_what_255_levels_can_do(step: float, steps_from_zero: float) -> None:
    blocks = _one_block(step, step * steps_from_zero)
    exact = _exact(blocks)
    error = np.abs(import_q4_1(blocks).float32() - exact).max()
    span = max(exact.max(), 0) - min(exact.min(), 0)
    assert error <= 0.501 * span / 255


@pytest.mark.parametrize("offset", [-0.75, 0.0, 0.25])
def test_a_block_without_a_step_is_its_offset(offset: float) -> None:
    blocks = _one_block(0.0, offset)
    np.testing.assert_allclose(import_q4_1(blocks).float32(), offset, rtol=1e-6)


def test_an_offset_that_dwarfs_its_step_is_rounded_to_the_blocks_own_levels() -> None:
    blocks = _one_block(0.001, 1.0)
    np.testing.assert_allclose(import_q4_1(blocks).float32(), _exact(blocks), atol=1.02 / 255 / 2 * 1.01)


def test_q4_1_needs_offsets() -> None:
    blocks = _random_tensor("q8_0").blocks()
    with pytest.raises(ValueError, match="offsets"):
        import_q4_1(blocks)
