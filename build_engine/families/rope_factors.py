"""Llama 3's rotary scaling, recognised from the per-frequency divisors that GGUF files store for it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from build_engine.errors import CheckpointError
from runtime.bundle.architecture import RopeScaling

_TOLERANCE = 1e-4


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
        CheckpointError: They are somebody else's (Phi-3's long and short factors, say).
    """
    scaling = RopeScaling(kind="llama3", factor=float(max(factors, default=0.0)))
    valid = len(factors) == rope_dim // 2 and all(math.isfinite(factor) and factor > 0 for factor in factors)
    if valid:
        expected = llama3_factors(scaling, theta, rope_dim)
        if all(abs(a - b) <= _TOLERANCE * b for a, b in zip(factors, expected, strict=True)):
            return scaling
    raise CheckpointError(
        "tensor 'rope_freqs.weight' is not Llama 3's rotary scaling (low factor 1, high factor 4, original context "
        "8192); other frequency tables are not supported"
    )
