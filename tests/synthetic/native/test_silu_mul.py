from __future__ import annotations

from functools import cache

import numpy as np
import onnxruntime as ort
import pytest
from attention_cases import Array, one_node_model, open_session
from onnx import TensorProto, helper
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument


@cache
def op(threads: int = 2) -> ort.InferenceSession:
    node = helper.make_node("SiluMul", ["x"], ["y"], domain="peregrine")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    return open_session(one_node_model(node, ends[:1], ends[1:]), threads)


def silu_mul(x: Array, threads: int = 2) -> Array:
    result: Array = op(threads).run(None, {"x": x})[0]
    return result


def random_rows(rows: int, width: int, spread: float = 4.0) -> Array:
    return (spread * np.random.default_rng(width).standard_normal((rows, 2 * width))).astype(np.float32)


def expected(x: Array) -> Array:
    gate, up = np.split(x.astype(np.float64), 2, axis=1)
    with np.errstate(over="ignore"):
        return gate / (1 + np.exp(-gate)) * up


@pytest.mark.parametrize(("rows", "width"), [(1, 1), (3, 7), (2, 64), (5, 100), (40, 1536), (1, 70000)])
def test_values(isa: str, rows: int, width: int) -> None:
    x = random_rows(rows, width)
    np.testing.assert_allclose(silu_mul(x), expected(x), rtol=1e-6, atol=1e-30)


def test_extreme_gates(isa: str) -> None:
    gates = np.array([-1e4, -100, -87, -20, -1e-8, 0, 1e-8, 20, 87, 100, 1e4], np.float32)
    x = np.concatenate([gates, np.full_like(gates, 2)])[None]
    np.testing.assert_allclose(silu_mul(x), expected(x), rtol=1e-6, atol=1e-30)


def test_rows_do_not_depend_on_their_neighbours_or_on_threads(isa: str) -> None:
    x = random_rows(64, 1000)
    whole = silu_mul(x)
    np.testing.assert_array_equal(silu_mul(x, threads=1), whole)
    for row in (0, 13, 63):
        np.testing.assert_array_equal(silu_mul(x[row : row + 1]), whole[row : row + 1])


def test_no_rows() -> None:
    assert silu_mul(np.empty((0, 8), np.float32)).shape == (0, 4)


@pytest.mark.parametrize("shape", [(2, 3), (4,), (1, 2, 4)])
def test_bad_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgument, match="SiluMul: the input must have shape"):
        silu_mul(np.zeros(shape, np.float32))
