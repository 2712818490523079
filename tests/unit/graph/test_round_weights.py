from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import BlockTensor, FloatTensor, block_tensor

from build_engine.errors import BuildError
from build_engine.quantize import quantise
from build_engine.quantize.round_weights import round_int4, round_int8

_WEIGHTS = np.random.default_rng(3).standard_normal((40, 128)).astype(np.float32)


@pytest.mark.parametrize("group", [32, 64])
def test_int8_is_off_by_at_most_half_a_step(group: int) -> None:
    matrix = round_int8(_WEIGHTS, group)
    error = np.abs(matrix.float32() - _WEIGHTS).reshape(40, -1, group)
    assert np.all(error <= matrix.scales[..., None].astype(np.float32) * 0.5001)
    assert (matrix.group, matrix.offsets, matrix.scales.dtype) == (group, None, np.float16)
    assert 1 <= matrix.levels.min() <= matrix.levels.max() <= 255


@pytest.mark.parametrize("rounding", [round_int8, round_int4])
@pytest.mark.parametrize("size", [1e-7, 1e7])
def test_scales_out_of_float16s_range_are_float32(rounding, size: float) -> None:
    matrix = rounding(_WEIGHTS * np.float32(size))
    assert matrix.scales.dtype == np.float32
    small = rounding(_WEIGHTS).float32()
    np.testing.assert_allclose(matrix.float32() / size, small, atol=0.03 if matrix.bits == 8 else 0.2)


def test_int8_takes_the_groups_that_the_columns_allow() -> None:
    wide, narrow = (FloatTensor("w", _WEIGHTS[:, :columns], "f32") for columns in (128, 96))
    assert (quantise(wide, "int8", 64).group, quantise(narrow, "int8", 64).group) == (64, 32)


def test_int4_search_is_no_worse_than_plain_rounding_of_the_span() -> None:
    groups = _WEIGHTS.reshape(40, 4, 32)
    step = np.ptp(groups, axis=2, keepdims=True) / 15
    low = groups.min(axis=2, keepdims=True)
    point = np.rint(-low / step)
    plain = (np.clip(np.rint(groups / step) + point, 0, 15) - point) * step
    searched = round_int4(_WEIGHTS).float32().reshape(groups.shape)
    assert np.mean((searched - groups) ** 2) < np.mean((plain - groups) ** 2)


@pytest.mark.parametrize("rounding", [round_int8, round_int4])
def test_zero_groups_stay_zero(rounding) -> None:
    weights = np.concatenate([np.zeros((3, 32), np.float32), _WEIGHTS[:3, :32]], axis=1)
    assert not np.any(rounding(weights).float32()[:, :32])


@pytest.mark.parametrize("rounding", [round_int8, round_int4])
@pytest.mark.parametrize("size", [1e-45, 1e-42, 1e-38])
def test_groups_whose_scale_would_underflow_are_zero(rounding, size: float) -> None:
    weights = np.linspace(-size, size, 32, dtype=np.float32)[None]
    assert np.abs(rounding(weights).float32() - weights).max() <= size


@given(st.floats(-8, 8), st.floats(1e-3, 4))
def test_int4_holds_any_position_of_the_values_to_a_fifteenth_of_their_span(centre: float, width: float) -> None:
    weights = (centre + width * np.linspace(-1, 1, 32)).astype(np.float32)[None]
    span = max(weights.max(), 0) - min(weights.min(), 0)
    error = np.abs(round_int4(weights).float32() - weights)
    assert np.sqrt(np.mean(error**2)) <= span / 15


def test_rows_are_rounded_alike_however_many_there_are() -> None:
    many = np.tile(_WEIGHTS, (60, 1))
    whole, part = round_int4(many), round_int4(_WEIGHTS)
    np.testing.assert_array_equal(whole.levels[-40:], part.levels)
    np.testing.assert_array_equal(whole.scales[-40:], part.scales)


@pytest.mark.parametrize(
    ("precision", "encoding", "bits"),
    [
        ("import", "q8_0", 8),
        ("import", "q4_0", 4),
        ("import", "q4_1", 4),
        ("int8", "q8_0", 8),
        ("int8", "q4_1", 8),
        ("int4", "q4_0", 4),
        ("int4", "q8_0", 4),
    ],
)
def test_a_precision_decides_the_bits_of_a_stored_encoding(precision, encoding: str, bits: int) -> None:
    tensor: BlockTensor = block_tensor("w", _WEIGHTS, encoding)
    matrix = quantise(tensor, precision)
    assert matrix.bits == bits
    np.testing.assert_allclose(matrix.float32(), tensor.float32(), atol=0.5 if bits == 4 else 0.02)


@pytest.mark.parametrize(("precision", "bits"), [("import", 8), ("int8", 8), ("int4", 4)])
def test_float_tensors_are_rounded(precision, bits: int) -> None:
    assert quantise(FloatTensor("w", _WEIGHTS), precision).bits == bits


def test_columns_that_do_not_fill_groups_name_the_tensor_and_the_precision_that_works() -> None:
    tensor = FloatTensor("model.layers.0.mlp.down_proj.weight", _WEIGHTS[:, :40])
    with pytest.raises(BuildError, match=r"mlp\.down_proj\.weight: 40 columns .* precision fp32"):
        quantise(tensor, "int8")
