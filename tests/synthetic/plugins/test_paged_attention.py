"""``paged_attention`` run on the CPU against the reference: ragged batches, windows, soft caps, splits, garbage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from paged_case import EPSILON, Bits, PagedCase, make_spec, to_float

from build_engine.plugins.spec import AttentionSpec

RAGGED = [(37, 1), (0, 5), (90, 1), (3, 70), (0, 0), (15, 1), (64, 17)]
DECODES = [(900, 1), (0, 3), (300, 1), (255, 1), (256, 1)]
SHORT = [(37, 1), (0, 5), (20, 19)]


def check(spec: AttentionSpec, sequences: Sequence[tuple[int, int]], seed: int = 0) -> None:
    case = PagedCase.random(spec, sequences, seed)
    expected, _, _ = case.reference()
    queries = case.write(seed)
    got = to_float(case.attend(queries, seed=seed), spec.dtype)
    assert np.isfinite(got).all()
    # Rounded weights and a rounded result; then the rounding of queries and keys as well, which the softmax magnifies.
    epsilon = EPSILON[spec.dtype]
    exact = case.attention_reference(queries)
    np.testing.assert_allclose(got, exact, rtol=2 * epsilon, atol=4 * epsilon)
    np.testing.assert_allclose(got, expected, rtol=0, atol=40 * epsilon)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("head_dim", "heads"), [(64, (4, 2)), (128, (8, 1))])
def test_tensor_cores_serve_decode_and_prefill_in_one_batch(dtype: str, head_dim: int, heads: tuple[int, int]) -> None:
    spec = make_spec(head_dim, dtype, heads)
    assert spec.tensor_cores
    check(spec, RAGGED, seed=1)


@pytest.mark.parametrize(
    ("head_dim", "dtype", "heads"), [(80, "float16", (3, 3)), (96, "bfloat16", (5, 1)), (16, "float16", (6, 2))]
)
def test_tensor_cores_take_multiples_of_sixteen(head_dim: int, dtype: str, heads: tuple[int, int]) -> None:
    check(make_spec(head_dim, dtype, heads), SHORT, seed=2)


@pytest.mark.parametrize(
    ("head_dim", "dtype", "heads"), [(256, "bfloat16", (4, 2)), (100, "float16", (7, 1)), (6, "float16", (2, 2))]
)
def test_every_other_head_size_takes_the_generic_kernel(head_dim: int, dtype: str, heads: tuple[int, int]) -> None:
    spec = make_spec(head_dim, dtype, heads)
    assert not spec.tensor_cores
    check(spec, SHORT, seed=3)


@pytest.mark.parametrize("head_dim", [64, 72])
def test_a_window_and_a_soft_cap_hold_in_both_kernels(head_dim: int) -> None:
    check(make_spec(head_dim, heads=(4, 4), sliding_window=33, softcap=5.0, block_size=8), RAGGED, seed=4)


@pytest.mark.parametrize("heads", [(20, 1), (70, 1)])
def test_groups_wider_than_a_fragment_or_a_tile_are_decoded(heads: tuple[int, int]) -> None:
    check(make_spec(32, heads=heads, splits=2), [(700, 1), (9, 1), (3, 2)], seed=5)


@pytest.mark.parametrize(
    "spec",
    [
        make_spec(64, splits=4),
        make_spec(128, "bfloat16", (5, 1), splits=8),
        make_spec(72, splits=3, sliding_window=600),
    ],
    ids=["tensor", "tensor-bf16", "generic"],
)
def test_keys_of_a_decode_are_split_and_the_last_block_adds_the_parts_up(spec: AttentionSpec) -> None:
    check(spec, DECODES, seed=6)


def attended(case: PagedCase, queries: Bits, seeds: Sequence[int]) -> list[bytes]:
    scratch = case.scratch()
    return [case.attend(queries, scratch, seed).tobytes() for seed in seeds]


@pytest.mark.parametrize("head_dim", [64, 72])
def test_the_order_of_threads_and_blocks_changes_no_bit_and_scratch_serves_again(head_dim: int) -> None:
    case = PagedCase.random(make_spec(head_dim, splits=4), [(1100, 1), (3, 30), (600, 1)], seed=7)
    results = attended(case, case.write(), seeds=[0, 1, 2, 7])
    assert len(set(results)) == 1


@pytest.mark.parametrize("head_dim", [64, 72])
def test_a_decoded_row_does_not_depend_on_its_neighbours(head_dim: int) -> None:
    case = PagedCase.random(make_spec(head_dim, splits=4), [(3, 30), (700, 1), (20, 1)], seed=8)
    queries = case.write()
    together = case.attend(queries)
    case.qkv, queries = case.qkv[30:31], queries[30:31].copy()
    case.cu_seqlens, case.past_lens = np.array([0, 1], np.int32), case.past_lens[1:2].copy()
    case.block_table = case.block_table[1:2].copy()
    assert case.attend(queries).tobytes() == together[30:31].tobytes()


@pytest.mark.parametrize("head_dim", [64, 72])
def test_blocks_that_left_the_window_are_not_read(head_dim: int) -> None:
    spec = make_spec(head_dim, sliding_window=20)
    case = PagedCase.random(spec, [(100, 1), (120, 3)], seed=9)
    queries = case.write()
    expected = case.attend(queries)
    for b in range(2):
        gone = (int(case.past_lens[b]) - 20 + 1) // spec.block_size
        case.k_cache[case.block_table[b, :gone]] = case.v_cache[case.block_table[b, :gone]] = 0x7FFF
        case.block_table[b, : gone * b] = -1
    assert (case.attend(queries) == expected).all()


@pytest.mark.parametrize("head_dim", [64, 72])
def test_rows_of_no_sequence_and_sequences_outside_the_buffers_are_passed_over(head_dim: int) -> None:
    case = PagedCase.random(make_spec(head_dim, splits=4), [(3, 2), (40, 1), (5, 3)], seed=10)
    queries = case.write()
    expected = case.attend(queries)
    case.past_lens[:] = [3, 1 << 30, -1]
    got = case.attend(queries)
    assert (got[:2] == expected[:2]).all()
    assert (got[2:] == 0x7FFF).all()
    case.past_lens[:] = [3, 40, 5]
    case.cu_seqlens[3] += 1
    assert (case.attend(queries)[3:] == 0x7FFF).all()
    case.cu_seqlens[:] = [5, -3, 1 << 30, 9]
    assert (case.attend(queries) == 0x7FFF).all()
