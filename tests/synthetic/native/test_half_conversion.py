from __future__ import annotations

import numpy as np
import pytest
from attention_cases import Array

from runtime.native.library import load_library


def to_half(values: Array) -> Array:
    out = np.empty(values.shape, np.uint16)
    load_library().peregrine_to_half(values.ctypes.data, out.ctypes.data, values.size)
    return out


def to_float(halves: Array) -> Array:
    out = np.empty(halves.shape, np.float32)
    load_library().peregrine_to_float(halves.ctypes.data, out.ctypes.data, halves.size)
    return out


def quieted(halves: Array) -> Array:
    """What a conversion makes of signalling NaNs."""
    nan = (halves & 0x7FFF) > 0x7C00
    return np.where(nan, halves | 0x0200, halves).astype(np.uint16)


def test_every_half_converts_exactly_and_back(isa: str) -> None:
    halves = np.arange(1 << 16, dtype=np.uint16)
    floats = to_float(halves)
    np.testing.assert_array_equal(floats, halves.view(np.float16).astype(np.float32))
    np.testing.assert_array_equal(to_half(floats), quieted(halves))


def test_floats_round_to_nearest_even(isa: str) -> None:
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float64)
    middle = ((halves[:-1] + halves[1:]) / 2).astype(np.float32)
    around = [middle, np.nextafter(middle, np.float32(0)), np.nextafter(middle, np.float32(np.inf))]
    limits = np.array([65504, 65519.996, 65520, 1e30, np.inf, 2**-25, 2**-26, 1e-45, 0], np.float32)
    values = np.concatenate([*around, limits])
    values = np.concatenate([values, -values])
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(to_half(values), values.astype(np.float16).view(np.uint16))


def test_random_bits_convert_as_in_numpy(isa: str) -> None:
    bits = np.random.default_rng(0).integers(0, 1 << 32, 1 << 18, dtype=np.uint32)
    values = bits.view(np.float32)
    nan = np.isnan(values)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = values.astype(np.float16).view(np.uint16)
    got = to_half(values)
    np.testing.assert_array_equal(got[~nan], expected[~nan])
    kept = (bits >> 16 & 0x8000) | 0x7E00 | (bits >> 13 & 0x3FF)
    np.testing.assert_array_equal(got[nan], kept[nan])


@pytest.mark.parametrize("count", [0, 1, 3, 15, 17, 33])
def test_tails_are_converted_and_nothing_beyond(isa: str, count: int) -> None:
    values = np.linspace(-2, 2, count, dtype=np.float32)
    out = np.full(count + 16, 0xABCD, np.uint16)
    load_library().peregrine_to_half(values.ctypes.data, out.ctypes.data, count)
    np.testing.assert_array_equal(out[:count], values.astype(np.float16).view(np.uint16))
    assert (out[count:] == 0xABCD).all()
