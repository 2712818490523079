"""A bfloat16 cache: what is stored, and that every instruction set rounds the same things."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from attention_cases import Array, Layout, forced_isa, random_call

from runtime.native import available_isas

LAYOUT = Layout(num_heads=9, kv_num_heads=3, head_dim=64, cache="bfloat16")
LENGTHS = [(1, 0), (1, 37), (19, 500), (70, 61), (1, 1100)]
FLIPPED = 2.0**-8
"""What one weight may move an output by that lies between two bfloat16 values and is rounded to the other one."""


def stored_values(values: Array) -> Array:
    """``values`` as the op writes them into the V cache, as bits."""
    layout = Layout(num_heads=1, kv_num_heads=1, head_dim=64, cache="bfloat16")
    rows = np.resize(values, (-(-len(values) // 64), 64))
    call = random_call(layout, [(len(rows), 0)])
    call.feeds["qkv"] = np.concatenate([np.zeros((len(rows), 128), np.float32), rows], axis=1)
    call.native()
    table, cache = call.feeds["block_table"][0], call.feeds["v_cache"]
    return cache[table].reshape(-1, 64)[: len(rows)].reshape(-1)[: len(values)].view(np.uint16)


def test_values_round_to_nearest_even(isa: str) -> None:
    exact = np.arange(0x7F80, dtype=np.uint16).view(ml_dtypes.bfloat16).astype(np.float32)[::7]
    middle = (exact[:-1] + (exact[1:] - exact[:-1]) / 2).astype(np.float32)
    near = [np.nextafter(middle, np.float32(0)), np.nextafter(middle, np.float32(np.inf))]
    values = np.concatenate([exact, middle, *near, np.array([3.4e38, np.inf, 1e-45, 1e-39], np.float32)])
    values = np.concatenate([values, -values])
    with np.errstate(over="ignore"):
        expected = values.astype(ml_dtypes.bfloat16).view(np.uint16)
    np.testing.assert_array_equal(stored_values(values), expected)


def test_not_a_number_stays_one(isa: str) -> None:
    nans = np.array([0x7F800001, 0xFF800001, 0x7FFFFFFF, 0x7FC00000], np.uint32).view(np.float32)
    stored = stored_values(np.concatenate([nans, np.zeros(60, np.float32)]))
    assert np.isnan(stored[:4].view(ml_dtypes.bfloat16).astype(np.float32)).all()
    assert (stored[4:] == 0).all()


@pytest.mark.parametrize("head_dim", [7, 20, 64, 80])
def test_instruction_sets_differ_by_the_rounding_of_sums_alone(head_dim: int) -> None:
    layout = Layout(**(vars(LAYOUT) | {"head_dim": head_dim, "rotary_dim": head_dim // 2 * 2}))
    call = random_call(layout, LENGTHS)
    outputs = []
    for isa in available_isas():
        with forced_isa(isa):
            outputs.append(call.copy().native())
    for output in outputs[1:]:
        difference = np.abs(output - outputs[0])
        assert difference.max() < FLIPPED
        assert np.median(difference) < 1e-5
