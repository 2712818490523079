"""What is packed for the sampling kernels."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from runtime.cuda.row_parameters import (
    DRAW,
    LARGEST_COUNT,
    ROW,
    STEP,
    RowFlags,
    StepFlags,
    allowed_bits,
    count_pairs,
    pack_row,
    pack_step,
)
from runtime.request import SamplingParams
from runtime.sampling.reference import eos_growth


def test_the_structures_have_the_sizes_that_the_kernels_assert() -> None:
    assert (ROW.itemsize, STEP.itemsize, DRAW.itemsize) == (48, 20, 8)


def test_a_row_keeps_every_parameter() -> None:
    params = SamplingParams(
        temperature=0.7,
        top_p=0.9,
        top_k=40,
        presence_penalty=0.5,
        frequency_penalty=0.25,
        repetition_penalty=1.5,
        seed=2**64 - 1,
    )
    row = pack_row(params, 3)[0]
    assert row["temperature"] == np.float32(0.7)
    assert (row["repetition"], row["presence"], row["frequency"]) == (1.5, 0.5, 0.25)
    assert (row["top_p"], row["top_k"], row["sample"], row["seed"]) == (0.9, 40, 3, 2**64 - 1)


@pytest.mark.parametrize(
    ("params", "flags"),
    [
        (SamplingParams(top_k=-1), RowFlags(0)),
        (SamplingParams(), RowFlags.GREEDY | RowFlags.FILTERED),
        (SamplingParams(top_k=-1, top_p=0.5), RowFlags.FILTERED),
        (SamplingParams(top_k=9), RowFlags.FILTERED),
        (SamplingParams(top_k=-1, presence_penalty=0.1), RowFlags.PENALISED),
        (SamplingParams(top_k=-1, allowed_token_ids=(4,)), RowFlags.CONSTRAINED),
    ],
)
def test_flags_say_what_applies_to_a_row(params: SamplingParams, flags: RowFlags) -> None:
    assert pack_row(params, 0)["flags"][0] == flags


def test_a_top_k_beyond_32_bits_keeps_everything() -> None:
    assert pack_row(SamplingParams(top_k=2**40), 0)["top_k"][0] == 2**31 - 1


def test_a_step_without_eos_rules_has_no_flags() -> None:
    assert pack_step(3, 5, SamplingParams(), 7) == (3, 5, 7, 0.0, 0)


def test_eos_is_masked_until_it_may_be_the_last_token() -> None:
    params = SamplingParams(min_new_tokens=3)
    flags = [pack_step(0, 0, params, generated)[4] for generated in range(4)]
    assert flags == [StepFlags.MASKS_EOS, StepFlags.MASKS_EOS, 0, 0]


def test_the_decay_grows_as_the_reference_says() -> None:
    params = SamplingParams(decay_factor=1.2, decay_start=2)
    steps = [pack_step(0, 0, params, generated) for generated in range(6)]
    assert {step[4] for step in steps} == {StepFlags.DECAYS}
    assert [step[3] for step in steps] == [eos_growth(params, generated) for generated in range(6)]


@pytest.mark.parametrize("vocab_size", [1, 31, 32, 33, 300])
def test_a_bit_for_each_allowed_token(vocab_size: int) -> None:
    ids = sorted({0, vocab_size // 2, vocab_size - 1})
    bits = allowed_bits(ids, vocab_size)
    assert (bits.dtype, len(bits)) == (np.uint32, -(-vocab_size // 32))
    assert [token for token in range(len(bits) * 32) if bits[token // 32] >> (token % 32) & 1] == ids


def test_tokens_are_counted() -> None:
    tokens = [5, 1, 5, 5, 70000, 1]
    assert dict(map(tuple, count_pairs(tokens).tolist())) == Counter(tokens)
    assert count_pairs([]).shape == (0, 2)


def test_counts_stop_at_what_the_device_holds() -> None:
    assert count_pairs([3] * (LARGEST_COUNT + 9)).tolist() == [[3, LARGEST_COUNT]]
