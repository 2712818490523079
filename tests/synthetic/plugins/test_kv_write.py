"""``paged_kv_write``: norm, rotation, scale and the place in the cache, against the reference."""

from __future__ import annotations

import numpy as np
import pytest
from paged_case import EPSILON, PagedCase, make_spec, to_float

from build_engine.plugins.spec import AttentionSpec
from runtime.reference.attention import _rms_norm, _rotate

RAGGED = [(37, 1), (0, 5), (0, 0), (16, 1), (30, 9)]


def expected_queries(case: PagedCase) -> np.ndarray:
    spec = case.spec
    heads = to_float(case.qkv, spec.dtype).reshape(len(case.qkv), -1, spec.head_dim)[:, : spec.num_heads]
    out = np.empty_like(heads)
    for b, past in enumerate(case.past_lens.tolist()):
        first, end = case.cu_seqlens[b : b + 2].tolist()
        for token in range(first, end):
            position = past + token - first
            normed = _rms_norm(heads[token], case.norms[0] if case.norms else None, spec.norm_eps)
            out[token] = _rotate(normed, case.cos[position], case.sin[position], spec.rotary_dim) * spec.scale
    return out


@pytest.mark.parametrize(
    "spec",
    [
        make_spec(64),
        make_spec(128, "bfloat16", heads=(8, 1), qk_norm=True),
        make_spec(96, heads=(3, 3), rotary_dim=32, scale=0.3),
        make_spec(80, "bfloat16", rotary_dim=6, block_size=5),
        make_spec(256, heads=(2, 1), qk_norm=True, norm_eps=0.5),
    ],
    ids=["plain", "norm-bf16", "partial-rotation", "odd-blocks", "large-head"],
)
def test_queries_rotate_and_new_keys_and_values_are_cached(spec: AttentionSpec) -> None:
    case = PagedCase.random(spec, RAGGED, seed=1)
    _, k_cache, v_cache = case.reference()
    queries = to_float(case.write(), spec.dtype)
    tolerance = {"rtol": 2 * EPSILON[spec.dtype], "atol": 2e-6 if spec.dtype == "bfloat16" else 1e-5}
    np.testing.assert_allclose(queries, expected_queries(case), **tolerance)
    np.testing.assert_allclose(to_float(case.k_cache, spec.dtype), k_cache, **tolerance)
    np.testing.assert_allclose(to_float(case.v_cache, spec.dtype), v_cache, **tolerance)


def test_what_is_not_a_new_token_keeps_its_bits() -> None:
    case = PagedCase.random(make_spec(64), RAGGED, seed=2)
    before = case.k_cache.copy()
    case.write()
    changed = (case.k_cache != before).any(axis=(1, 3)).sum()
    assert changed == len(case.qkv)


def test_rows_behind_the_last_sequence_and_blocks_of_minus_one_are_left_alone() -> None:
    case = PagedCase.random(make_spec(64), [(3, 2), (0, 4)], seed=3)
    before = case.k_cache.copy()
    case.cu_seqlens[2] = 4
    case.block_table[1] = -1
    queries = case.write()
    assert (queries[4:] == 0x7FFF).all()
    assert (case.k_cache != before).any(axis=(1, 3)).sum() == 2


def test_positions_and_blocks_outside_the_buffers_are_passed_over() -> None:
    case = PagedCase.random(make_spec(64), [(3, 2), (4, 1), (5, 1), (6, 1)], seed=4)
    before = case.k_cache.copy()
    case.past_lens[:] = [-7, 1 << 30, 5, 6]
    case.block_table[2:] = [[1 << 20, -5], [len(case.k_cache), 0]]
    case.write()
    assert (case.k_cache == before).all()
