import numpy as np
import pytest

from build_engine.passes.orthogonal import Orthogonal, odd_part


def dense(order: int, seed: int = 0) -> np.ndarray:
    return Orthogonal(order, seed).after(np.eye(order, dtype=np.float32)).astype(np.float64)


@pytest.mark.parametrize("order", [1, 2, 7, 64, 72, 128, 160, 576, 1001])
def test_any_order_is_orthogonal(order: int) -> None:
    matrix = dense(order)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(order), atol=3e-7)


@pytest.mark.parametrize("order", [12, 128, 576])
def test_before_is_the_transpose_of_after(order: int) -> None:
    x = np.random.RandomState(3).standard_normal((5, order)).astype(np.float32)
    rotation = Orthogonal(order, 0)
    np.testing.assert_allclose(rotation.after(x), x @ dense(order), atol=2e-6)
    np.testing.assert_array_equal(rotation.before(np.ascontiguousarray(x.T)), rotation.after(x).T)


def test_rows_do_not_meet() -> None:
    x = np.random.RandomState(4).standard_normal((1500, 72)).astype(np.float32)
    rotation = Orthogonal(72, 0)
    np.testing.assert_allclose(rotation.after(x)[1400:], rotation.after(x[1400:]), atol=1e-6)


@pytest.mark.parametrize("order", [64, 576, 2048])
def test_one_large_coordinate_is_spread_over_all(order: int) -> None:
    largest = np.abs(dense(order)).max()
    assert largest < 3 / np.sqrt(order)


def test_a_power_of_two_is_spread_evenly() -> None:
    np.testing.assert_allclose(np.abs(dense(256)), 1 / 16)


def test_equal_seeds_give_equal_matrices() -> None:
    np.testing.assert_array_equal(dense(96, seed=5), dense(96, seed=5))
    assert (dense(96, seed=5) != dense(96, seed=6)).any()


def test_a_large_odd_part_is_refused() -> None:
    assert odd_part(576) == 9
    with pytest.raises(ValueError, match="8194 = 4097 x 2: the odd part is above 4096"):
        Orthogonal(8194, 0)
