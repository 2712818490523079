from __future__ import annotations

import numpy as np
import pytest
from attention_cases import Array
from linear_cases import FORMS, attributes, form_name, one_op, random_matrix
from onnx import TensorProto
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument, RuntimeException

from build_engine.quantize import QuantMatrix, pack_tiles


def rows_at(matrix: QuantMatrix, ids: Array, threads: int = 2, **options: int) -> Array:
    types = {"ids": TensorProto.INT64, "weight": TensorProto.UINT8}
    op = one_op("QuantEmbedding", types, "rows", threads, **(attributes(matrix) | options))
    result: Array = op.run(None, {"ids": ids, "weight": pack_tiles(matrix)})[0]
    return result


@pytest.mark.parametrize("form", FORMS, ids=form_name)
def test_rows_are_those_of_the_dequantised_matrix(form) -> None:
    matrix = random_matrix(101, 192, **form)
    ids = np.random.default_rng(0).integers(0, 101, 300)
    for threads in (1, 2):
        np.testing.assert_array_equal(rows_at(matrix, ids, threads), matrix.float32()[ids])


def test_no_rows() -> None:
    assert rows_at(random_matrix(40, 64), np.empty(0, np.int64)).shape == (0, 64)


@pytest.mark.parametrize("bad", [-1, 40, 63])
def test_ids_out_of_range_are_refused(bad: int) -> None:
    with pytest.raises(InvalidArgument, match=rf"QuantEmbedding: id {bad} is not in \[0, 40\)"):
        rows_at(random_matrix(40, 64), np.array([3, bad]))


def test_ids_of_another_shape_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="ids must have shape"):
        rows_at(random_matrix(40, 64), np.zeros((1, 2), np.int64))


def test_weights_of_another_form_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="QuantEmbedding: weight must have shape"):
        rows_at(random_matrix(40, 64), np.zeros(1, np.int64), bits=4)
    with pytest.raises(RuntimeException, match="QuantEmbedding: bits must be 4 or 8"):
        rows_at(random_matrix(40, 64), np.zeros(1, np.int64), bits=3)
