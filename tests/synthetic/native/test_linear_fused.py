"""What `Linear` does beside the product: the norm of its input, the residual stream that joins its result."""

from __future__ import annotations

import numpy as np
import pytest
from attention_cases import Array
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_cases import (
    FORMS,
    NativeLinear,
    activations,
    available_linear_isas,
    forced_linear_isa,
    form_name,
    normed,
    random_matrix,
    reference,
)
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

EPSILON = 1e-3


def gain_of(columns: int) -> Array:
    return np.random.default_rng(columns).uniform(0.5, 2, columns).astype(np.float32)


def stream_of(rows: int, columns: int) -> Array:
    return (100 * np.random.default_rng([rows, columns]).standard_normal((rows, columns))).astype(np.float32)


@pytest.mark.parametrize("form", FORMS, ids=form_name)
@pytest.mark.parametrize(("rows", "count"), [(32, 1), (100, 7), (64, 130)])
def test_norm_and_residual_have_the_bits_of_the_reference(linear_isa: str, form, rows: int, count: int) -> None:
    matrix, gain, stream = random_matrix(rows, 192, **form), gain_of(192), stream_of(count, rows)
    x = activations(count, 192)
    bias = np.random.default_rng(1).standard_normal(rows).astype(np.float32)
    op = NativeLinear(matrix, bias, gain=gain, residual=True, norm_eps=EPSILON)
    np.testing.assert_array_equal(op(x, stream), reference(matrix, normed(x, gain, EPSILON), bias) + stream)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(FORMS),
    st.integers(1, 150),
    st.integers(1, 5),
    st.integers(1, 40),
    st.booleans(),
    st.booleans(),
    st.sampled_from(available_linear_isas()),
)
def test_any_shape(form, rows: int, groups: int, count: int, norm: bool, residual: bool, isa: str) -> None:
    matrix = random_matrix(rows, groups * form["group"], **form)
    x, gain, stream = activations(count, matrix.columns), gain_of(matrix.columns), stream_of(count, rows)
    expected = reference(matrix, normed(x, gain, EPSILON) if norm else x)
    with forced_linear_isa(isa):
        op = NativeLinear(matrix, gain=gain if norm else None, residual=residual, norm_eps=EPSILON)
        found = op(x, stream) if residual else op(x)
    np.testing.assert_array_equal(found, expected + stream if residual else expected)


def test_rows_do_not_depend_on_their_neighbours_or_on_threads(linear_isa: str) -> None:
    matrix, gain, stream = random_matrix(800, 1536, bits=4, offsets=True), gain_of(1536), stream_of(300, 800)
    x = activations(300, 1536)
    op = NativeLinear(matrix, gain=gain, residual=True)
    whole = op(x, stream)
    np.testing.assert_array_equal(NativeLinear(matrix, gain=gain, residual=True, threads=1)(x, stream), whole)
    for first, last in [(0, 1), (1, 3), (5, 8), (10, 17), (100, 117), (299, 300)]:
        np.testing.assert_array_equal(op(x[first:last], stream[first:last]), whole[first:last])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_spoils_its_own_row_alone(linear_isa: str, value: float) -> None:
    matrix, gain, stream = random_matrix(70, 128), gain_of(128), stream_of(6, 70)
    op = NativeLinear(matrix, gain=gain, residual=True)
    x = activations(6, 128)
    good = op(x, stream)
    x[3, 77] = value
    found = op(x, stream)
    assert np.isnan(found[3]).all()
    np.testing.assert_array_equal(np.delete(found, 3, 0), np.delete(good, 3, 0))


def test_a_norm_goes_before_a_gated_pair_of_layers(linear_isa: str) -> None:
    matrix, gain = random_matrix(64, 96), gain_of(96)
    x = activations(9, 96)
    fused = NativeLinear(matrix, gain=gain, norm_eps=EPSILON, swiglu=1)(x)
    np.testing.assert_array_equal(fused, NativeLinear(matrix, swiglu=1)(normed(x, gain, EPSILON)))


def test_a_gain_of_another_length_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="Linear: gain must have shape"):
        NativeLinear(random_matrix(64, 64), gain=gain_of(32))(np.zeros((1, 64), np.float32))


@pytest.mark.parametrize("shape", [(1, 64), (2, 63), (64,)])
def test_a_residual_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    op = NativeLinear(random_matrix(64, 64), residual=True)
    with pytest.raises(InvalidArgument, match="Linear: residual must have shape"):
        op(np.zeros((2, 64), np.float32), np.zeros(shape, np.float32))


def test_a_gated_pair_of_layers_takes_no_residual() -> None:
    op = NativeLinear(random_matrix(64, 64), residual=True, swiglu=1)
    with pytest.raises(InvalidArgument, match="Linear: swiglu takes no residual"):
        op(np.zeros((1, 64), np.float32), np.zeros((1, 64), np.float32))
