from __future__ import annotations

import numpy as np
import pytest
from attention_cases import Call, Layout, random_call

MIXED = [(1, 0), (1, 37), (19, 0), (0, 8), (7, 25), (1, 64)]
CROSSES_SPLITS = [(3, 511), (1, 600), (2, 1023)]
CACHES = ["float32", "float16", "bfloat16"]
STEPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7}
ROUNDED = 2.0**-7
"""What queries and weights that are rounded to bfloat16 may move an output by, with values of about one."""

HEADS = [(1, 1), (4, 4), (4, 2), (9, 3), (8, 2), (5, 1), (12, 2), (7, 1), (8, 1), (40, 1)]
DIMS = [2, 7, 8, 16, 20, 32, 64, 80, 96, 128, 256]
BLOCK_SIZES = [1, 3, 8, 16, 32, 64, 256]


def assert_matches(call: Call) -> None:
    """Output within 1e-5, caches equal but for roundings of rotated keys, and nothing else written.

    With a bfloat16 cache, whose queries and weights are rounded too, the output is within ``ROUNDED``.
    """
    expected = call.copy()
    wanted, got = expected.reference(), call.native()
    tolerance = 1e-5
    for name in ("k_cache", "v_cache"):
        # NOTE: NumPy does not take the NaNs of bfloat16 arrays for NaNs.
        ours, theirs = (feeds[name].astype(np.float32) for feeds in (call.feeds, expected.feeds))
        np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
        if name == "v_cache":
            np.testing.assert_array_equal(ours, theirs)
        elif step := STEPS.get(call.layout.cache):
            # A key that lies between two halves may be rounded to either one.
            np.testing.assert_allclose(ours, theirs, rtol=step, atol=2.0**-24)
            tolerance = 1e-5 if np.array_equal(ours, theirs, equal_nan=True) else 3 * step
        else:
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    if call.layout.cache == "bfloat16":
        tolerance = max(tolerance, ROUNDED)
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=tolerance)


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize(("num_heads", "kv_num_heads"), HEADS)
def test_every_head_layout(isa: str, num_heads: int, kv_num_heads: int, cache: str) -> None:
    assert_matches(random_call(Layout(num_heads=num_heads, kv_num_heads=kv_num_heads, cache=cache), MIXED))


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("head_dim", DIMS)
def test_every_head_dim(isa: str, head_dim: int, cache: str) -> None:
    rotary_dim = head_dim // 2 * 2
    assert_matches(random_call(Layout(6, 2, head_dim, rotary_dim=rotary_dim, cache=cache), MIXED))


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_every_block_size_with_partial_last_blocks(isa: str, block_size: int, cache: str) -> None:
    assert_matches(random_call(Layout(block_size=block_size, cache=cache), [*MIXED, (70, 61)]))


@pytest.mark.parametrize("window", [1, 2, 17, 64, 100, 512, 700])
def test_sliding_windows(isa: str, window: int) -> None:
    layout = Layout(num_heads=3, kv_num_heads=1, sliding_window=window)
    assert_matches(random_call(layout, [*MIXED, (130, 40), *CROSSES_SPLITS]))


@pytest.mark.parametrize(
    "layout",
    [
        Layout(norms=True),
        Layout(norms=True, cache="float16", head_dim=20),
        Layout(norms=True, cache="bfloat16", head_dim=40),
        Layout(rotary_dim=6),
        Layout(rotary_dim=12, head_dim=80),
        Layout(softcap=5.0),
        Layout(softcap=30.0, norms=True, rotary_dim=8, sliding_window=20, cache="float16"),
    ],
    ids=["norms", "norms-f16", "norms-bf16", "partial-rotary", "partial-rotary-80", "softcap", "all"],
)
def test_options(isa: str, layout: Layout) -> None:
    assert_matches(random_call(layout, MIXED))


@pytest.mark.parametrize("cache", CACHES)
def test_contexts_beyond_a_split(isa: str, cache: str) -> None:
    layout = Layout(num_heads=3, kv_num_heads=1, head_dim=64, cache=cache)
    assert_matches(random_call(layout, CROSSES_SPLITS))
    assert_matches(random_call(layout, [(40, 1500)]))


def test_large_scores_do_not_overflow(isa: str) -> None:
    call = random_call(Layout(), MIXED, spread=30.0)
    np.testing.assert_allclose(call.copy().native(), call.reference(), rtol=1e-3, atol=1e-2)


def test_no_tokens_and_no_sequences() -> None:
    assert random_call(Layout(), []).native().shape == (0, 64)
    assert random_call(Layout(), [(0, 5), (0, 0)]).native().shape == (0, 64)
