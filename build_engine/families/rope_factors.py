"""Rotary scalings with a divisor for each frequency: Llama 3's recognised in GGUF files, and LongRoPE's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from build_engine.errors import CheckpointError
from runtime.bundle.architecture import RopeScaling

_TOLERANCE = 1e-4


def rotation(theta: float, rope_dim: int, head_dim: int, context: int, scaling: RopeScaling | None) -> dict[str, Any]:
    """Keyword arguments of ``Architecture``; LongRoPE bounds the context."""
    if scaling is not None and scaling.kind == "longrope":
        context = min(context, scaling.original_context_length)
    return {
        "context_length": context,
        "rope_theta": theta,
        "rope_dim": 0 if rope_dim == head_dim else rope_dim,
        "rope_scaling": scaling,
    }


def llama3_factors(scaling: RopeScaling, theta: float, rope_dim: int) -> list[float]:
    """Divisor of each of the ``rope_dim / 2`` frequencies (transformers ``_compute_llama3_parameters``)."""
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    factors = []
    for pair in range(rope_dim // 2):
        turns = scaling.original_context_length / (2 * math.pi * theta ** (2 * pair / rope_dim))
        smooth = min(max((turns - low) / (high - low), 0.0), 1.0)
        factors.append(1.0 / ((1.0 - smooth) / scaling.factor + smooth))
    return factors


def llama3_scaling(factors: Sequence[float], theta: float, rope_dim: int) -> RopeScaling:
    """The scaling whose divisors are ``factors``, with the constants every Llama 3 release has used.

    Raises:
        CheckpointError: They are somebody else's.
    """
    scaling = RopeScaling(kind="llama3", factor=float(max(factors, default=0.0)))
    if _usable(factors, rope_dim):
        expected = llama3_factors(scaling, theta, rope_dim)
        if all(abs(a - b) <= _TOLERANCE * b for a, b in zip(factors, expected, strict=True)):
            return scaling
    raise CheckpointError(
        "tensor 'rope_freqs.weight' is not Llama 3's rotary scaling (low factor 1, high factor 4, original context "
        "8192); other frequency tables are not supported"
    )


def longrope_scaling(
    factors: Sequence[float], original_context: int, attention_factor: float, rope_dim: int, where: str
) -> RopeScaling:
    """LongRoPE with the divisors of short contexts, which hold up to ``original_context`` tokens.

    Args:
        factors: One for each of the ``rope_dim / 2`` frequencies.
        original_context: Beyond it, other divisors would be needed.
        attention_factor: On cosines and sines.
        rope_dim: Dimensions that rotate.
        where: Key or tensor that the factors come from, for messages.

    Raises:
        CheckpointError: The factors do not fit.
    """
    if not _usable(factors, rope_dim):
        raise CheckpointError(f"{where} has to hold {rope_dim // 2} positive numbers, one a rotary frequency")
    return RopeScaling(
        kind="longrope",
        factors=tuple(float(factor) for factor in factors),
        attention_factor=attention_factor,
        original_context_length=original_context,
    )


def longrope_attention_factor(stretch: float, original_context: int) -> float:
    """The factor on cosines and sines for a context ``stretch`` times as long (``_compute_longrope_parameters``)."""
    if stretch <= 1.0 or original_context <= 1:
        return 1.0
    return math.sqrt(1.0 + math.log(stretch) / math.log(original_context))


def _usable(factors: Sequence[float], rope_dim: int) -> bool:
    return len(factors) == rope_dim // 2 and all(math.isfinite(factor) and factor > 0 for factor in factors)
