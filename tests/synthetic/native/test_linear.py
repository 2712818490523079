from __future__ import annotations

import numpy as np
import pytest
from attention_cases import forced_isa
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_cases import (
    FORMS,
    NativeLinear,
    activations,
    available_linear_isas,
    forced_linear_isa,
    form_name,
    random_matrix,
    reference,
)
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument, RuntimeException

from build_engine.quantize import QuantMatrix, pack_tiles
from runtime.native import available_isas
from runtime.native.library import load_library


@pytest.mark.parametrize("form", FORMS, ids=form_name)
@pytest.mark.parametrize(("rows", "count"), [(32, 1), (100, 7), (64, 130)])
def test_every_kernel_computes_the_bits_of_the_reference(linear_isa: str, form, rows: int, count: int) -> None:
    matrix = random_matrix(rows, 192, **form)
    x = activations(count, 192)
    bias = np.random.default_rng(1).standard_normal(rows).astype(np.float32)
    np.testing.assert_array_equal(NativeLinear(matrix, bias)(x), reference(matrix, x, bias))
    np.testing.assert_array_equal(NativeLinear(matrix)(x), reference(matrix, x))


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(FORMS),
    st.integers(1, 150),
    st.integers(1, 5),
    st.integers(1, 40),
    st.sampled_from(available_linear_isas()),
)
def test_any_shape(form, rows: int, groups: int, count: int, isa: str) -> None:
    matrix = random_matrix(rows, groups * form["group"], **form)
    x = activations(count, matrix.columns)
    with forced_linear_isa(isa):
        np.testing.assert_array_equal(NativeLinear(matrix)(x), reference(matrix, x))


@pytest.mark.parametrize("level", [0, 255])
def test_extreme_levels_and_activations_do_not_saturate(linear_isa: str, level: int) -> None:
    matrix = QuantMatrix(8, np.full((32, 2, 64), level, np.uint8), np.ones((32, 2), np.float16))
    for sign in (1, -1):
        x = np.full((3, 128), sign, np.float32)
        np.testing.assert_array_equal(NativeLinear(matrix)(x), reference(matrix, x))


def test_the_product_is_that_of_the_dequantised_weights(linear_isa: str) -> None:
    matrix = random_matrix(96, 576, bits=4, offsets=True)
    x = activations(5, 576)
    exact = x.astype(np.float64) @ matrix.float32().astype(np.float64).T
    norms = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(matrix.float32(), axis=1)
    assert np.abs(NativeLinear(matrix)(x) - exact).max() < 0.003 * norms.max()


@pytest.mark.parametrize("form", [{"bits": 8, "group": 64}, {"bits": 4, "offsets": True}], ids=["q8", "q4"])
def test_rows_do_not_depend_on_their_neighbours_or_on_threads(linear_isa: str, form) -> None:
    matrix = random_matrix(800, 1536, **form)
    x = activations(300, 1536)
    op = NativeLinear(matrix)
    whole = op(x)
    np.testing.assert_array_equal(NativeLinear(matrix, threads=1)(x), whole)
    for first, last in [(0, 1), (1, 3), (5, 8), (10, 14), (100, 117), (299, 300)]:
        np.testing.assert_array_equal(op(x[first:last]), whole[first:last])


def test_zero_and_tiny_groups_are_zero(linear_isa: str) -> None:
    matrix = random_matrix(40, 64)
    for x in (np.zeros((2, 64), np.float32), np.full((2, 64), 1e-40, np.float32)):
        np.testing.assert_array_equal(NativeLinear(matrix)(x), np.zeros((2, 40), np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_spoils_its_own_row_alone(linear_isa: str, value: float) -> None:
    matrix = random_matrix(70, 128, bits=4, offsets=True)
    x = activations(6, 128)
    good = NativeLinear(matrix)(x)
    x[3, 77] = value
    found = NativeLinear(matrix)(x)
    assert np.isnan(found[3]).all()
    np.testing.assert_array_equal(np.delete(found, 3, 0), np.delete(good, 3, 0))


def test_no_rows() -> None:
    assert NativeLinear(random_matrix(40, 64))(np.empty((0, 64), np.float32)).shape == (0, 40)


def test_the_kernels_stay_within_the_instruction_set_of_the_other_ops() -> None:
    library = load_library()
    for isa in available_isas():
        with forced_isa(isa):
            found = library.peregrine_linear_isa().decode()
            best = available_linear_isas()[0]
            assert found in {"portable": {"portable"}, "avx2": {"avxvnni", "avx2"}}.get(isa, {best})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 5}, "bits must be 4 or 8"),
        ({"group": 48}, "group must be 32 or 64"),
        ({"scale_bytes": 3}, "scale_bytes must be 2 or 4"),
        ({"N": 0}, "N must be from 1"),
        ({"K": 80}, "K must be a positive multiple of group"),
        ({"swiglu": 1, "N": 40}, "N must be a multiple of 32 with swiglu"),
    ],
)
def test_bad_attributes_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(RuntimeException, match=message):
        NativeLinear(random_matrix(64, 64), **options)


@pytest.mark.parametrize("options", [{"N": 96}, {"bits": 4}, {"offsets": 1}, {"scale_bytes": 4}])
def test_weights_of_another_form_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(InvalidArgument, match="Linear: weight must have shape"):
        NativeLinear(random_matrix(64, 64), **options)(np.zeros((1, 64), np.float32))


@pytest.mark.parametrize("shape", [(2, 32), (64,), (1, 2, 64)])
def test_bad_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgument, match="Linear: x must have shape"):
        NativeLinear(random_matrix(64, 64))(np.zeros(shape, np.float32))


def test_a_bias_of_another_length_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="Linear: bias must have shape"):
        NativeLinear(random_matrix(64, 64), np.zeros(63, np.float32))(np.zeros((1, 64), np.float32))


def test_tiles_are_whole_cache_lines() -> None:
    assert pack_tiles(random_matrix(33, 96)).shape == (2, 96 * 32 + 3 * 64)
    assert pack_tiles(random_matrix(33, 32, bits=4, offsets=True)).shape == (2, 16 * 32 + 128)
