"""A token's row has the same bits however its sequence was computed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from attention_cases import Array, Call, Layout, random_call
from hypothesis import given, settings
from hypothesis import strategies as st

LAYOUTS = {
    "f32": Layout(num_heads=3, kv_num_heads=1, head_dim=32, block_size=16),
    "f16": Layout(num_heads=6, kv_num_heads=2, head_dim=16, block_size=8, cache="float16"),
    "odd-dim": Layout(num_heads=4, kv_num_heads=1, head_dim=20, block_size=32, cache="float16"),
    "bf16": Layout(num_heads=9, kv_num_heads=3, head_dim=64, block_size=16, cache="bfloat16"),
    "bf16-window": Layout(
        num_heads=4, kv_num_heads=2, head_dim=20, block_size=8, sliding_window=90, softcap=20.0, cache="bfloat16"
    ),
    "window": Layout(num_heads=7, kv_num_heads=1, head_dim=16, block_size=16, sliding_window=90),
    "options": Layout(num_heads=2, kv_num_heads=1, head_dim=16, softcap=20.0, norms=True, cache="float16"),
}
LENGTH = 700  # beyond a split of 512 keys


def in_chunks(whole: Call, chunks: Sequence[int], threads: int = 2) -> Array:
    """The first sequence of `whole`, computed in steps of so many tokens over its own cache."""
    feeds, rows, past = whole.copy().feeds, [], 0
    qkv = feeds["qkv"]
    for count in chunks:
        feeds["qkv"] = qkv[past : past + count]
        feeds["cu_seqlens"] = np.array([0, count], np.int32)
        feeds["past_lens"] = np.array([past], np.int32)
        rows.append(Call(whole.layout, feeds).native(threads))
        past += count
    return np.concatenate(rows)


def with_neighbours(whole: Call, chunks: Sequence[int], seed: int) -> Array:
    """The same sequence between two others, which go on in the same steps."""
    length, block_size = len(whole.feeds["qkv"]), whole.layout.block_size
    rng = np.random.default_rng(seed)
    total = sum(chunks) + len(chunks) + 300
    others = random_call(whole.layout, [(length, 0), (total, 0), (total, 0)], seed=seed + 1, spread=3.0)
    feeds = others.feeds | {name: whole.feeds[name] for name in ("q_norm", "k_norm") if name in whole.feeds}
    feeds["block_table"] = feeds["block_table"][[1, 0, 2]]
    feeds["cos"], feeds["sin"] = (table_of(whole, others, name) for name in ("cos", "sin"))
    assert block_size == others.layout.block_size
    lens, rows = np.zeros(3, np.int32), []
    for count in chunks:
        counts = np.array([1, count, rng.integers(0, 40)], np.int32)
        counts[2] = min(counts[2], total - lens[2])
        ends = np.cumsum([0, *counts]).astype(np.int32)
        qkv = rng.standard_normal((ends[-1], whole.layout.width)).astype(np.float32)
        qkv[ends[1] : ends[2]] = whole.feeds["qkv"][lens[1] : lens[1] + count]
        feeds |= {"qkv": qkv, "cu_seqlens": ends, "past_lens": lens.copy()}
        rows.append(Call(whole.layout, feeds).native()[ends[1] : ends[2]])
        lens += counts
    return np.concatenate(rows)


def table_of(first: Call, second: Call, name: str) -> Array:
    """The longer rotary table; the shorter one is its beginning."""
    return max(first.feeds[name], second.feeds[name], key=len)


def cut(length: int, sizes: Sequence[int]) -> list[int]:
    """`sizes` over and over until `length` is used up."""
    chunks: list[int] = []
    while (left := length - sum(chunks)) > 0:
        chunks.append(min(left, sizes[len(chunks) % len(sizes)]))
    return chunks


@pytest.mark.parametrize("name", LAYOUTS)
def test_chunking_does_not_change_bits(isa: str, name: str) -> None:
    whole = random_call(LAYOUTS[name], [(LENGTH, 0)])
    expected = whole.copy().native()
    for sizes in ([1], [64], [65, 3], [256], [500, 150, 1]):
        np.testing.assert_array_equal(in_chunks(whole, cut(LENGTH, sizes)), expected)


@pytest.mark.parametrize("name", LAYOUTS)
def test_neighbours_do_not_change_bits(isa: str, name: str) -> None:
    whole = random_call(LAYOUTS[name], [(LENGTH, 0)])
    expected = whole.copy().native()
    np.testing.assert_array_equal(with_neighbours(whole, cut(LENGTH, [97, 1, 33]), seed=3), expected)


@pytest.mark.parametrize("name", LAYOUTS)
def test_threads_do_not_change_bits(isa: str, name: str) -> None:
    call = random_call(LAYOUTS[name], [(1, 1300), (300, 700), (1, 90), (64, 0)])
    expected = call.copy().native(threads=1)
    for threads in (2, 3):
        np.testing.assert_array_equal(call.copy().native(threads), expected)


def test_a_long_context_is_cut_up_when_alone_and_not_in_company(isa: str) -> None:
    layout = Layout(num_heads=4, kv_num_heads=2, head_dim=64)
    call = random_call(layout, [(1, 2500), *[(1, 900)] * 12])
    alone = call.copy(
        qkv=call.feeds["qkv"][:1],
        cu_seqlens=call.feeds["cu_seqlens"][:2],
        past_lens=call.feeds["past_lens"][:1],
        block_table=call.feeds["block_table"][:1],
    )
    np.testing.assert_array_equal(alone.native(), call.native()[:1])


@settings(max_examples=15, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 90), min_size=1, max_size=5),
    name=st.sampled_from(sorted(LAYOUTS)),
    block_size=st.sampled_from([1, 5, 16, 64]),
    seed=st.integers(0, 99),
)
def test_neither_chunks_nor_block_size_change_bits(sizes: list[int], name: str, block_size: int, seed: int) -> None:
    length = 150
    whole = random_call(LAYOUTS[name], [(length, 0)], seed)
    expected = whole.copy().native()
    other = random_call(Layout(**(vars(LAYOUTS[name]) | {"block_size": block_size})), [(length, 0)], seed + 1)
    other.feeds |= {key: whole.feeds[key] for key in ("qkv", "q_norm", "k_norm") if key in whole.feeds}
    np.testing.assert_array_equal(in_chunks(other, cut(length, sizes)), expected)


def test_later_tokens_that_overflow_leave_earlier_rows_alone(isa: str) -> None:
    whole = random_call(LAYOUTS["f16"], [(60, 0)])
    expected = whole.copy().native()
    whole.feeds["qkv"][41] = 1e30
    whole.feeds["qkv"][53] = np.nan
    got = whole.native()
    np.testing.assert_array_equal(got[:41], expected[:41])
    assert np.isnan(got[53]).all()


def test_calls_at_the_same_time_do_not_meet(isa: str) -> None:
    calls = [random_call(LAYOUTS["f32"], [(40, 600 + seed), (1, 90)], seed) for seed in range(4)]
    expected = [call.copy().native() for call in calls]
    with ThreadPoolExecutor(len(calls)) as pool:
        for _ in range(5):
            for got, wanted in zip(pool.map(lambda call: call.copy().native(), calls), expected, strict=True):
                np.testing.assert_array_equal(got, wanted)
