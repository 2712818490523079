from __future__ import annotations

import numpy as np

from runtime.bundle.architecture import RopeScaling
from runtime.reference.attention import rotary_tables

FACTORS = (1.0, 2.0, 4.0, 5.5)


def test_longrope_divides_each_frequency_by_its_own_factor() -> None:
    cos, sin = rotary_tables(10000.0, 8, 2, RopeScaling(kind="longrope", factors=FACTORS))
    angles = np.arctan2(sin[1].astype(np.float64), cos[1].astype(np.float64))
    np.testing.assert_allclose(angles, np.array([1, 0.1, 0.01, 0.001]) / FACTORS, rtol=1e-6)


def test_longrope_multiplies_cosines_and_sines_by_the_attention_factor() -> None:
    plain = rotary_tables(10000.0, 8, 9, RopeScaling(kind="longrope", factors=FACTORS))
    scaled = rotary_tables(10000.0, 8, 9, RopeScaling(kind="longrope", factors=FACTORS, attention_factor=1.25))
    np.testing.assert_allclose(scaled, np.array(plain) * 1.25, rtol=1e-6)


def test_factors_of_one_are_no_scaling() -> None:
    plain = rotary_tables(10000.0, 8, 9)
    scaled = rotary_tables(10000.0, 8, 9, RopeScaling(kind="longrope", factors=(1.0,) * 4))
    np.testing.assert_array_equal(scaled, plain)
