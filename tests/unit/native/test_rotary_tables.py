from __future__ import annotations

import numpy as np
import pytest

from runtime.bundle.architecture import RopeScaling
from runtime.reference import rotary_tables

LLAMA3 = RopeScaling(kind="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context_length=8192)


def frequencies(theta: float, dim: int, scaling: RopeScaling | None) -> np.ndarray:
    """Read off the angles of position 1, all below pi / 2."""
    cos, sin = rotary_tables(theta, dim, 2, scaling)
    return np.arctan2(sin[1].astype(np.float64), cos[1].astype(np.float64))


def test_shape_and_type() -> None:
    cos, sin = rotary_tables(10000.0, 16, 5)
    assert cos.shape == sin.shape == (5, 8)
    assert cos.dtype == sin.dtype == np.float32
    np.testing.assert_array_equal(cos[0], 1)
    np.testing.assert_array_equal(sin[0], 0)


def test_wavelengths_grow_geometrically() -> None:
    np.testing.assert_allclose(frequencies(10000.0, 8, None), [1, 0.1, 0.01, 0.001], rtol=1e-6)


def test_far_positions_are_exact_to_float32() -> None:
    cos, _ = rotary_tables(10000.0, 8, 100001)
    assert cos[100000, 0] == np.float32(np.cos(100000.0))


def test_linear_scaling_divides_positions() -> None:
    plain, scaled = (rotary_tables(10000.0, 8, 9, s)[0] for s in (None, RopeScaling(kind="linear", factor=4.0)))
    np.testing.assert_allclose(scaled[8], plain[2], rtol=1e-6)


def test_llama3_keeps_short_wavelengths_and_divides_long_ones() -> None:
    plain, scaled = frequencies(500000.0, 128, None), frequencies(500000.0, 128, LLAMA3)
    wavelengths = 2 * np.pi / plain
    short, long = wavelengths < 8192 / 4, wavelengths > 8192
    np.testing.assert_allclose(scaled[short], plain[short], rtol=1e-6)
    np.testing.assert_allclose(scaled[long], plain[long] / 8, rtol=1e-6)
    between = ~short & ~long
    assert between.any()
    assert ((scaled[between] < plain[between]) & (scaled[between] > plain[between] / 8)).all()


@pytest.mark.parity
@pytest.mark.parametrize("scaling", [RopeScaling(kind="linear", factor=3.0), LLAMA3])
def test_scaling_is_that_of_transformers(scaling: RopeScaling) -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = transformers.LlamaConfig(
        head_dim=64,
        rope_parameters={
            "rope_type": scaling.kind,
            "rope_theta": 10000.0,
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_context_length,
        },
    )
    expected, _ = ROPE_INIT_FUNCTIONS[scaling.kind](config, torch.device("cpu"))
    np.testing.assert_allclose(frequencies(10000.0, 64, scaling), expected.numpy(), rtol=1e-5)
