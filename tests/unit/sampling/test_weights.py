"""The softmax weights that every sampler shares: close to exp, and sums of them exact in any order."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.sampling.weights import weights_below


def test_a_weight_is_exp_of_the_distance() -> None:
    distances = -np.linspace(0, 27, 100_001, dtype=np.float32)
    exact = np.exp(distances.astype(np.float64))
    np.testing.assert_allclose(weights_below(distances), exact, rtol=2e-6, atol=2.0**-36)


def test_the_maximum_weighs_one_and_what_is_far_below_nothing() -> None:
    distances = np.array([0.0, -30.0, -1e30, -np.inf], dtype=np.float32)
    assert weights_below(distances).tolist() == [1.0, 0.0, 0.0, 0.0]


def test_sums_do_not_depend_on_their_order() -> None:
    rng = np.random.default_rng(0)
    weights = weights_below(-np.abs(rng.standard_normal(2**18) * 6).astype(np.float32)).astype(np.float64)
    forward, backward = np.cumsum(weights)[-1], np.cumsum(weights[::-1])[-1]
    assert forward == backward == weights.reshape(512, -1).sum(axis=0).sum()


@pytest.mark.parametrize("odd", [1.0, 3.0])
def test_every_weight_is_a_multiple_of_the_grid(odd: float) -> None:
    weights = weights_below(-np.arange(0, 40, 0.001 * odd, dtype=np.float32)).astype(np.float64)
    assert (weights * 2.0**35 == np.rint(weights * 2.0**35)).all()
