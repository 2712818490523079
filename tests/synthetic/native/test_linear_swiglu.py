from __future__ import annotations

import numpy as np
import pytest
from attention_cases import Array, forced_isa
from linear_cases import FORMS, NativeLinear, activations, form_name, one_op, random_matrix
from onnx import TensorProto

from build_engine.quantize import QuantMatrix
from runtime.native import available_isas


def interleaved(rows: int) -> Array:
    """Gates and ups, which come in two halves, in the two halves of each tile."""
    return np.arange(rows).reshape(2, -1, 16).swapaxes(0, 1).reshape(-1)


def unfused(matrix: QuantMatrix, x: Array, bias: Array | None = None) -> Array:
    gate_up = NativeLinear(matrix, bias)(x)
    result: Array = one_op("SiluMul", {"x": TensorProto.FLOAT}, "y", 2).run(None, {"x": gate_up})[0]
    return result


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize("form", FORMS, ids=form_name)
@pytest.mark.parametrize("count", [1, 6, 150])
def test_the_bits_are_those_of_the_product_and_then_the_activation(isa: str, form, count: int) -> None:
    matrix = random_matrix(352, 128, **form)
    bias = np.random.default_rng(2).standard_normal(352).astype(np.float32)
    order = interleaved(352)
    x = activations(count, 128, spread=0.5)
    with forced_isa(isa):
        for given in (None, bias):
            fused = NativeLinear(matrix.rows_at(order), None if given is None else given[order], swiglu=1)
            np.testing.assert_array_equal(fused(x), unfused(matrix, x, given))


def test_rows_do_not_depend_on_their_neighbours_or_on_threads() -> None:
    matrix = random_matrix(1024, 576, bits=4, offsets=True)
    x = activations(200, 576, spread=0.5)
    op = NativeLinear(matrix, swiglu=1)
    whole = op(x)
    assert whole.shape == (200, 512)
    np.testing.assert_array_equal(NativeLinear(matrix, threads=1, swiglu=1)(x), whole)
    for first, last in [(0, 1), (1, 3), (60, 70), (199, 200)]:
        np.testing.assert_array_equal(op(x[first:last]), whole[first:last])
