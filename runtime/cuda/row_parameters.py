"""The structures that the sampling kernels read and write, as NumPy types, and what goes into them.

Field for field those of ``kernels/sampling.cu``.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntFlag

import numpy as np
import numpy.typing as npt

from runtime.request import SamplingParams
from runtime.sampling.reference import eos_growth

ROW = np.dtype(
    [
        ("seed", np.uint64),
        ("frequency", np.float64),
        ("top_p", np.float64),
        ("temperature", np.float32),
        ("repetition", np.float32),
        ("presence", np.float32),
        ("top_k", np.int32),
        ("sample", np.uint32),
        ("flags", np.uint32),
    ]
)
"""What a row keeps while it lives."""
STEP = np.dtype(
    [
        ("row", np.int32),
        ("place", np.int32),
        ("generated", np.uint32),
        ("growth", np.float32),
        ("flags", np.uint32),
    ]
)
"""One row's part in one step."""
DRAW = np.dtype([("token", np.int32), ("logprob", np.float32)])
"""What a row sampled; the token is -1 where its logits were not finite."""

LARGEST_COUNT = 65535
"""Occurrences of a token are counted so far; a frequency penalty grows no further."""
_LARGEST_RANKS = 2**31 - 1


class RowFlags(IntFlag):
    """What applies to a row."""

    PENALISED = 1
    CONSTRAINED = 2
    GREEDY = 4
    FILTERED = 8


class StepFlags(IntFlag):
    """What becomes of a row's EOS logits in a step."""

    DECAYS = 1
    MASKS_EOS = 2


def pack_row(params: SamplingParams, sample: int) -> npt.NDArray[np.void]:
    """A row's parameters: ``ROW`` ``[1]``.

    Args:
        params: The request's.
        sample: Index of the sample in its request.
    """
    flags = RowFlags(0)
    if params.penalised:
        flags |= RowFlags.PENALISED
    if params.allowed_token_ids:
        flags |= RowFlags.CONSTRAINED
    if params.top_k == 1:
        flags |= RowFlags.GREEDY
    if params.top_p < 1.0 or params.top_k > 0:
        flags |= RowFlags.FILTERED
    row = np.zeros(1, dtype=ROW)
    row["seed"] = params.seed
    row["frequency"] = params.frequency_penalty
    row["top_p"] = params.top_p
    row["temperature"] = params.temperature
    row["repetition"] = params.repetition_penalty
    row["presence"] = params.presence_penalty
    row["top_k"] = min(params.top_k, _LARGEST_RANKS)
    row["sample"] = sample
    row["flags"] = flags
    return row


def pack_step(row: int, place: int, params: SamplingParams, generated: int) -> tuple[int, int, int, float, int]:
    """A row's part in a step, as the fields of ``STEP``.

    Args:
        row: Of the row's state.
        place: Of its logits.
        params: The request's.
        generated: Output tokens before this step.
    """
    flags, growth = StepFlags(0), 0.0
    if params.decay_factor != 1.0:
        flags, growth = StepFlags.DECAYS, float(eos_growth(params, generated))
    if generated < params.min_new_tokens - 1:
        flags |= StepFlags.MASKS_EOS
    return row, place, generated, growth, int(flags)


def allowed_bits(token_ids: Sequence[int], vocab_size: int) -> npt.NDArray[np.uint32]:
    """One bit a token, uint32 ``[ceil(V / 32)]``, lowest bit first: whether it is among ``token_ids``."""
    bits = np.zeros(-(-vocab_size // 32) * 32, dtype=np.uint8)
    bits[list(token_ids)] = 1
    return np.packbits(bits, bitorder="little").view("<u4").astype(np.uint32, copy=False)


def count_pairs(tokens: Sequence[int]) -> npt.NDArray[np.int32]:
    """Distinct tokens with their occurrences, int32 ``[C, 2]``."""
    distinct, counts = np.unique(np.array(tokens, dtype=np.int64), return_counts=True)
    return np.stack([distinct, np.minimum(counts, LARGEST_COUNT)], axis=1).astype(np.int32)
