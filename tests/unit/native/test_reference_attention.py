from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from runtime.reference import paged_attention, rotary_tables

Array = npt.NDArray[Any]

HEADS, KV_HEADS, DIM, BLOCK = 4, 2, 8, 4
OPTIONS = {"num_heads": HEADS, "kv_num_heads": KV_HEADS, "head_dim": DIM, "scale": DIM**-0.5}
WIDTH = (HEADS + 2 * KV_HEADS) * DIM


def dense(qkv: Array, window: int = 0, softcap: float = 0.0) -> Array:
    """Attention of one sequence as a textbook has it: rotation by complex numbers, a mask, one softmax."""
    count = len(qkv)
    heads = qkv.reshape(count, -1, DIM).transpose(1, 0, 2).astype(np.float64)
    q, k, v = np.split(heads, [HEADS, HEADS + KV_HEADS])
    turn = np.exp(1j * np.arange(count)[:, None] * 10000.0 ** -(np.arange(0, DIM, 2) / DIM))
    q, k = (rotated(x, turn) for x in (q, k))
    k, v = (np.repeat(x, HEADS // KV_HEADS, axis=0) for x in (k, v))
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(DIM)
    if softcap:
        scores = softcap * np.tanh(scores / softcap)
    distance = np.arange(count)[:, None] - np.arange(count)
    scores = np.where((distance >= 0) & ((distance < window) | (window == 0)), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    out = weights / weights.sum(axis=-1, keepdims=True) @ v
    return out.transpose(1, 0, 2).reshape(count, -1)


def rotated(heads: Array, turn: Array) -> Array:
    turned = (heads[..., : DIM // 2] + 1j * heads[..., DIM // 2 :]) * turn
    return np.concatenate([turned.real, turned.imag], axis=-1)


def run(qkv: Array, chunks: list[int], dtype: str = "float32", **options: Any) -> Array:
    """One sequence in steps of so many tokens, over a cache of its own with shuffled blocks."""
    blocks = -(-len(qkv) // BLOCK)
    caches = [np.full((blocks + 1, KV_HEADS, BLOCK, DIM), np.nan, dtype) for _ in range(2)]
    table = np.random.default_rng(5).permutation(blocks).astype(np.int32)[None]
    cos, sin = rotary_tables(10000.0, DIM, len(qkv))
    rows, past = [], 0
    for count in chunks:
        lens = np.array([0, count], np.int32), np.array([past], np.int32)
        step = qkv[past : past + count]
        rows.append(paged_attention(step, *caches, *lens, table, cos, sin, **(OPTIONS | options)))
        past += count
    return np.concatenate(rows)


@pytest.fixture
def qkv() -> Array:
    return np.random.default_rng(0).standard_normal((21, WIDTH)).astype(np.float32)


@pytest.mark.parametrize(("window", "softcap"), [(0, 0.0), (1, 0.0), (6, 0.0), (0, 2.0), (5, 3.0)])
def test_it_is_dense_attention(qkv: Array, window: int, softcap: float) -> None:
    got = run(qkv, [21], sliding_window=window, softcap=softcap)
    np.testing.assert_allclose(got, dense(qkv, window, softcap), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_chunks_do_not_change_bits(qkv: Array, dtype: str) -> None:
    expected = run(qkv, [21], dtype)
    for chunks in ([1] * 21, [5, 5, 5, 6], [20, 1]):
        np.testing.assert_array_equal(run(qkv, chunks, dtype), expected)


def test_neighbours_do_not_change_bits(qkv: Array) -> None:
    caches = [np.zeros((8, KV_HEADS, BLOCK, DIM), np.float32) for _ in range(2)]
    tables = np.array([[0, 1, 2], [7, 3, 5]], np.int32)
    cos, sin = rotary_tables(10000.0, DIM, 12)
    starts, pasts = np.array([0, 10, 21], np.int32), np.zeros(2, np.int32)
    both = paged_attention(qkv, *caches, starts, pasts, tables, cos, sin, **OPTIONS)
    np.testing.assert_array_equal(both[:10], run(qkv[:10], [10]))
    np.testing.assert_array_equal(both[10:], run(qkv[10:], [11]))


def test_a_scale_of_0_is_the_usual_one(qkv: Array) -> None:
    np.testing.assert_array_equal(run(qkv, [21], scale=0.0), run(qkv, [21]))


def test_unit_gains_normalise_each_head(qkv: Array) -> None:
    ones = np.ones(DIM, np.float32)
    heads = qkv.reshape(21, -1, DIM).copy()
    rms = np.sqrt((heads.astype(np.float64) ** 2).mean(axis=-1, keepdims=True) + 1e-5)
    scaled = np.where(np.arange(heads.shape[1])[:, None] < HEADS + KV_HEADS, heads / rms, heads)
    got = run(qkv, [21], q_norm=ones, k_norm=ones, norm_eps=1e-5)
    np.testing.assert_allclose(got, run(scaled.reshape(21, -1).astype(np.float32), [21]), rtol=1e-5, atol=1e-6)


def test_elements_beyond_the_rotary_dim_stay(qkv: Array) -> None:
    cos, sin = rotary_tables(10000.0, 4, 1)
    cos, sin = np.zeros_like(cos), np.ones_like(sin)
    caches = [np.zeros((1, KV_HEADS, BLOCK, DIM), np.float32) for _ in range(2)]
    starts, table = np.array([0, 1], np.int32), np.zeros((1, 1), np.int32)
    paged_attention(qkv[:1], *caches, starts, starts[:1], table, cos, sin, rotary_dim=4, **OPTIONS)
    key = qkv[0].reshape(-1, DIM)[HEADS]
    np.testing.assert_array_equal(caches[0][0, 0, 0], [-key[2], -key[3], key[0], key[1], *key[4:]])
