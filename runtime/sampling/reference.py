"""The sampling pipeline, one row at a time: the definition that every faster sampler has to agree with."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from runtime.request import SamplingParams
from runtime.sampling.weights import weights_below

MASKED_EOS = np.float32(-1e7)
"""Logit of an EOS token before ``min_new_tokens``."""
FORBIDDEN = np.float32(-1e9)
"""Logit of a token that a constraint disallows.

NOTE: LightLLM has -1e6, above the masked EOS: where only EOS is allowed it would draw something that is not.
"""
LARGEST_LOGIT = np.float32(1e30)
"""What the length decay can raise EOS to: certain, and still finite after any temperature."""
_LARGEST_EXPONENT = 69.0


def penalised_logits(
    logits: npt.NDArray[np.float32],
    params: SamplingParams,
    counts: Mapping[int, int],
    generated: int,
    eos_token_ids: frozenset[int],
    mask: npt.NDArray[np.uint32] | None = None,
) -> npt.NDArray[np.float32]:
    """Bias, allowed ids, count-based penalties, length decay, EOS mask, a grammar's mask and temperature.

    This is LightLLM's order but for the grammar's mask, which comes first there. It makes no difference to what is
    allowed, and here no penalty, decay or temperature can lift what is not.

    Args:
        logits: float32 ``[V]``; not modified.
        params: The request's parameters.
        counts: Occurrences of each counted token: generated ones, and the prompt's with ``input_penalty``.
        generated: Output tokens so far.
        eos_token_ids: Ids that end a sample.
        mask: uint32 ``[ceil(V / 32)]``, what a grammar allows.
    """
    z = logits.copy()
    for token, bias in params.logit_bias:
        z[token] += np.float32(bias)
    if params.allowed_token_ids:
        allowed = list(params.allowed_token_ids)
        kept = z[allowed]
        z = np.full_like(z, FORBIDDEN)
        z[allowed] = kept
    if params.penalised:
        repetition = np.float32(params.repetition_penalty)
        for token, count in counts.items():
            scaled = z[token] / repetition if z[token] > 0 else z[token] * repetition
            z[token] = scaled - np.float32(count * params.frequency_penalty) - np.float32(params.presence_penalty)
    for token in eos_token_ids:
        z[token] = min(z[token] + abs(z[token]) * eos_growth(params, generated), LARGEST_LOGIT)
        if generated < params.min_new_tokens - 1:
            z[token] = MASKED_EOS
    if mask is not None:
        z[~allowed_tokens(mask, len(z))] = -np.inf
    return z / np.float32(params.temperature)


def allowed_tokens(mask: npt.NDArray[np.uint32], vocab_size: int) -> npt.NDArray[np.bool_]:
    """The bits of ``mask``, the lowest of each word first, as bool ``[vocab_size]``."""
    octets = mask.astype("<u4", copy=False).view(np.uint8)
    return np.unpackbits(octets, count=vocab_size, bitorder="little").view(np.bool_)


def eos_growth(params: SamplingParams, generated: int) -> np.float32:
    """``decay_factor ** (generated - decay_start) - 1``, held below 1e30 so that no factor can overflow."""
    exponent = max(generated - params.decay_start, 0) * math.log(params.decay_factor)
    return np.float32(math.expm1(min(exponent, _LARGEST_EXPONENT)))


def weigh(z: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], float]:
    """Unnormalised softmax: ``exp(z - max z)`` float32 ``[V]``, and its exact sum."""
    weights = weights_below(z - z.max())
    return weights, float(weights.sum(dtype=np.float64))


def survivors(
    z: npt.NDArray[np.float32], weights: npt.NDArray[np.float32], total: float, params: SamplingParams
) -> npt.NDArray[np.int64]:
    """Token ids that may be drawn, ascending.

    Ranks are by falling logit, equal logits by rising id. A token goes when the probability mass before it
    exceeds ``top_p``, or its rank is ``top_k`` or more; both rules look at the same full distribution.
    """
    order = np.argsort(-z, kind="stable")
    mass = np.cumsum(weights[order], dtype=np.float64)
    before = np.concatenate(([0.0], mass[:-1]))
    kept = before <= params.top_p * total
    if params.top_k > 0:
        kept[params.top_k :] = False
    return np.sort(order[kept])


def draw(weights: npt.NDArray[np.float32], uniform: float) -> int:
    """Index drawn by inverting the cumulative ``weights`` (float64) at ``uniform`` in [0, 1)."""
    cumulative = np.cumsum(weights, dtype=np.float64)
    place = int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
    return min(place, len(weights) - 1)


def sample_row(
    logits: npt.NDArray[np.float32],
    params: SamplingParams,
    counts: Mapping[int, int],
    generated: int,
    eos_token_ids: frozenset[int],
    uniform: float,
    mask: npt.NDArray[np.uint32] | None = None,
) -> tuple[int, float]:
    """Draw one token.

    The draw goes through the surviving tokens in order of their ids, so that it needs no sort of the survivors
    and every implementation can reproduce it.

    Returns:
        The token and its natural log-probability after penalties and temperature, before top-p and top-k.
    """
    z = penalised_logits(logits, params, counts, generated, eos_token_ids, mask)
    weights, total = weigh(z)
    kept = survivors(z, weights, total, params)
    token = int(kept[draw(weights[kept], uniform)])
    return token, float(z[token] - z.max()) - math.log(total)
