"""The fast attention against the row-by-row one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from runtime.reference.attention import paged_attention, rotary_tables
from runtime.reference.prompt_attention import prompt_attention

_HEADS, _KV_HEADS, _DIM, _BLOCK = 6, 2, 8, 4
_GAIN = np.linspace(0.5, 1.5, _DIM, dtype=np.float32)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sliding_window": 3},
        {"softcap": 1.5},
        {"rotary_dim": 4},
        {"q_norm": _GAIN, "k_norm": _GAIN[::-1].copy(), "norm_eps": 1e-6},
    ],
    ids=["plain", "window", "softcap", "partial-rotation", "head-norms"],
)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_it_is_paged_attention_to_rounding(options: dict[str, Any], dtype: str) -> None:
    draws = np.random.default_rng(1)
    pools = [draws.standard_normal((16, _KV_HEADS, _BLOCK, _DIM)).astype(dtype) for _ in range(2)]
    qkv = draws.standard_normal((10, (_HEADS + 2 * _KV_HEADS) * _DIM)).astype(np.float32)
    lengths = (np.array([0, 1, 6, 10], np.int32), np.array([9, 0, 5], np.int32))
    table = np.array([[7, 2, 11], [3, 14, -1], [5, 0, 9]], np.int32)
    tables = rotary_tables(10000.0, options.get("rotary_dim", _DIM), 32)
    shape: dict[str, Any] = {"num_heads": _HEADS, "kv_num_heads": _KV_HEADS, "head_dim": _DIM, "scale": 0.4}
    results = []
    for attend in (paged_attention, prompt_attention):
        copies = [pool.copy() for pool in pools]
        results.append((attend(qkv, *copies, *lengths, table, *tables, **shape, **options), *copies))
    tolerance = 1e-5 if dtype == "float32" else 4e-3
    for expected, actual in zip(*results, strict=True):
        np.testing.assert_allclose(actual.astype(np.float32), expected.astype(np.float32), atol=tolerance)


def test_a_sequence_without_new_tokens_is_left_alone() -> None:
    draws = np.random.default_rng(1)
    pools = [np.zeros((2, _KV_HEADS, _BLOCK, _DIM), np.float32) for _ in range(2)]
    qkv = draws.standard_normal((2, (_HEADS + 2 * _KV_HEADS) * _DIM)).astype(np.float32)
    lengths = (np.array([0, 0, 2], np.int32), np.array([0, 0], np.int32))
    table = np.array([[0], [1]], np.int32)
    shape: dict[str, Any] = {"num_heads": _HEADS, "kv_num_heads": _KV_HEADS, "head_dim": _DIM, "scale": 0.4}
    out = prompt_attention(qkv, *pools, *lengths, table, *rotary_tables(10000.0, _DIM, 8), **shape)
    assert out.shape == (2, _HEADS * _DIM)
    assert not pools[0][0].any()
    assert pools[0][1].any()
