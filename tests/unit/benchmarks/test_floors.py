"""The least time of a step, against counts by hand."""

from __future__ import annotations

import msgspec
import pytest

from benchmarks.floors import Ceilings, Costs, Work
from runtime.bundle.architecture import Architecture

SHAPE = Architecture(
    family="llama",
    vocab_size=100,
    hidden_size=8,
    intermediate_size=16,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=2,
    context_length=64,
)
LINEAR = 2 * (8 * (8 + 4 + 4) + 8 * 8 + 3 * 8 * 16)
HEAD = 8 * 100
KEY = 2 * 2 * 8
"""Multiply-adds of a query token and one key: products and weighted sum, in two layers."""


def test_a_floor_is_the_slower_of_reading_and_computing() -> None:
    ceilings = Ceilings(bandwidth=100.0, multiply_adds=1000.0)
    assert Work(500.0, 1000.0).floor(ceilings) == 5.0
    assert Work(50.0, 1000.0).floor(ceilings) == 1.0


@pytest.mark.parametrize(("rows", "past"), [(1, 0), (1, 9), (3, 20)])
def test_a_decode_step_reads_weights_once_and_every_rows_cache(rows: int, past: int) -> None:
    work = Costs(SHAPE, weight_bytes=1000, element_bytes=2).step(rows, 1, past)
    assert work.nbytes == 1000 + rows * (past + 1) * SHAPE.kv_bytes_per_token(2)
    assert work.multiply_adds == rows * (LINEAR + HEAD + KEY * (past + 1))


@pytest.mark.parametrize(("new", "past"), [(4, 0), (16, 32)])
def test_a_prompt_chunk_sees_what_is_before_each_token(new: int, past: int) -> None:
    work = Costs(SHAPE, weight_bytes=1000, element_bytes=2).step(1, new, past)
    pairs = sum(past + i + 1 for i in range(new))
    assert work.multiply_adds == new * LINEAR + HEAD + KEY * pairs
    assert work.nbytes == 1000 + (past + new) * SHAPE.kv_bytes_per_token(2)


def test_a_sliding_window_is_all_that_is_read() -> None:
    windowed = msgspec.structs.replace(SHAPE, sliding_windows=(8, 0))
    work = Costs(windowed, weight_bytes=0, element_bytes=2).step(1, 1, 40)
    assert work.nbytes == (8 + 41) * SHAPE.kv_bytes_per_token(2) / 2
    assert work.multiply_adds == LINEAR + HEAD + KEY / 2 * (8 + 41)
