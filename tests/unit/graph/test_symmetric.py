from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from tiny import FloatTensor, block_tensor, tiny_weight

from build_engine.quantize.symmetric import quantise_symmetric

WEIGHTS = tiny_weight("layer.weight", (96, 128), 0)
HALF = np.dtype(np.float16)


def spans(weights: np.ndarray) -> np.ndarray:
    """Largest magnitude of the group of each weight."""
    return np.repeat(np.abs(weights.reshape(len(weights), -1, 32)).max(axis=2), 32, axis=1)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize(("precision", "bits", "step"), [("int8", 8, 1 / 127), ("int4", 4, 1 / 8)])
def test_no_weight_is_off_by_more_than_its_groups_step(
    precision: str, bits: int, step: float, dtype: np.dtype[np.generic]
) -> None:
    made = quantise_symmetric(FloatTensor("w", WEIGHTS), precision, dtype)  # type: ignore[arg-type]
    assert made.bits == bits
    assert made.scales.dtype == dtype
    assert made.levels.min() >= -(1 << (bits - 1))
    assert made.levels.max() < 1 << (bits - 1)
    assert np.all(np.abs(made.float32() - WEIGHTS) <= spans(WEIGHTS) * step * 1.3)


def test_four_bits_take_the_clipping_range_of_least_error() -> None:
    made = quantise_symmetric(FloatTensor("w", WEIGHTS), "int4", np.float32)
    groups = WEIGHTS.reshape(len(WEIGHTS), -1, 32)
    extreme = np.take_along_axis(groups, np.abs(groups).argmax(axis=2)[..., None], axis=2)
    plain = np.clip(np.rint(groups / (extreme / -8)), -8, 7) * (extreme / -8)
    assert np.mean((made.float32() - WEIGHTS) ** 2) < 0.97 * np.mean((plain.reshape(WEIGHTS.shape) - WEIGHTS) ** 2)


@pytest.mark.parametrize(("encoding", "bits"), [("q8_0", 8), ("q4_0", 4)])
def test_blocks_that_fit_are_kept_exactly(encoding: str, bits: int) -> None:
    tensor = block_tensor("w", WEIGHTS, encoding)
    made = quantise_symmetric(tensor, "import", HALF)
    assert made.bits == bits
    np.testing.assert_array_equal(made.float32(), tensor.float32())


def test_blocks_that_are_what_was_asked_for_are_kept() -> None:
    tensor = block_tensor("w", WEIGHTS, "q4_0")
    np.testing.assert_array_equal(quantise_symmetric(tensor, "int4", HALF).float32(), tensor.float32())
    assert quantise_symmetric(tensor, "int8", HALF).bits == 8


def test_blocks_whose_scales_would_be_rounded_are_made_anew() -> None:
    tensor = block_tensor("w", WEIGHTS, "q8_0")
    made = quantise_symmetric(tensor, "import", ml_dtypes.bfloat16)
    error = np.abs(made.float32() - tensor.float32())
    assert np.all(error <= spans(WEIGHTS) / 127 * 1.01)


def test_blocks_with_offsets_are_rounded_to_bytes() -> None:
    tensor = block_tensor("w", WEIGHTS, "q4_1")
    made = quantise_symmetric(tensor, "import", HALF)
    assert made.bits == 8
    assert np.abs(made.float32() - tensor.float32()).max() < spans(WEIGHTS).max() / 127


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_groups_of_nothing_stay_nothing(precision: str) -> None:
    weights = np.zeros((4, 64), np.float32)
    weights[1, 3] = 1e-9  # less than float16 can scale
    made = quantise_symmetric(FloatTensor("w", weights), precision, HALF)  # type: ignore[arg-type]
    assert np.abs(made.float32()).max() < 1e-6
    assert np.isfinite(made.float32()).all()


def test_four_bit_levels_are_two_a_byte_the_even_one_low() -> None:
    made = quantise_symmetric(FloatTensor("w", WEIGHTS), "int4", HALF)
    packed = made.packed_levels()
    assert packed.dtype == np.uint8
    assert packed.size == WEIGHTS.size // 2
    low = (packed & 0xF).astype(np.int8)
    np.testing.assert_array_equal(np.where(low > 7, low - 16, low), made.levels.reshape(-1)[0::2])
