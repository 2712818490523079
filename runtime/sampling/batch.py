"""The sampling pipeline for a batch of rows; agrees with ``runtime.sampling.reference`` token for token."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from runtime.request import SamplingParams
from runtime.sampling.philox import uniforms
from runtime.sampling.reference import FORBIDDEN, LARGEST_LOGIT, MASKED_EOS, allowed_tokens, draw, eos_growth
from runtime.sampling.row_state import RowState
from runtime.sampling.weights import weights_below

_REACHES = (2.5, 5.0, 8.0, 12.0, np.inf)
"""How far below the largest logit candidates for top-p and top-k are sought, until there are enough."""

_LOGITS_AT_ONCE = 2**16
"""What is worked on together stays in the processor's cache."""

Logits = npt.NDArray[np.float32]


class SampledRow(NamedTuple):
    """A drawn token and its log-probability; ``token`` is -1 when the row's logits are not finite."""

    token: int
    logprob: float


class BatchSampler:
    """Samples one token for each row.

    Every operation works along a row, in the same order whatever the number of rows: a row's result does not
    depend on its neighbours.

    Args:
        eos_token_ids: Ids that ``min_new_tokens`` masks and the length decay raises.
    """

    def __init__(self, eos_token_ids: frozenset[int]) -> None:
        self._eos = np.array(sorted(eos_token_ids), dtype=np.int64)

    def sample(self, logits: Logits, rows: list[RowState]) -> list[SampledRow]:
        """Draw a token for each row.

        Args:
            logits: float32 ``[R, V]``, C-contiguous; modified.
            rows: ``R`` states; not modified (``RowState.accept`` is the caller's).
        """
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is its row's own failure, found below
            return self._sample(logits, rows)

    def _sample(self, logits: Logits, rows: list[RowState]) -> list[SampledRow]:
        self._constrain(logits, rows)
        self._penalise(logits, rows)
        self._adjust_eos(logits, rows)
        self._mask(logits, rows)
        self._temper(logits, rows)
        group = max(1, _LOGITS_AT_ONCE // logits.shape[1])
        return [
            drawn
            for first in range(0, len(rows), group)
            for drawn in self._draw(logits[first : first + group], rows[first : first + group])
        ]

    @staticmethod
    def _draw(logits: Logits, rows: list[RowState]) -> list[SampledRow]:
        tokens = logits.argmax(axis=1)
        best = np.take_along_axis(logits, tokens[:, None], axis=1)
        weights = weights_below(logits - best)
        totals = weights.sum(axis=1, dtype=np.float64)
        finite = np.isfinite(totals)
        drawn = [index for index, row in enumerate(rows) if not row.greedy and finite[index]]
        if drawn:
            for index, uniform in zip(drawn, _uniforms([rows[i] for i in drawn]).tolist(), strict=True):
                tokens[index] = _invert(logits[index], weights[index], float(totals[index]), rows[index], uniform)
        chosen = np.take_along_axis(logits, tokens[:, None], axis=1)
        logprobs = (chosen - best)[:, 0].astype(np.float64) - np.log(totals)
        return [
            SampledRow(token, logprob) if ok else SampledRow(-1, 0.0)
            for token, logprob, ok in zip(tokens.tolist(), logprobs.tolist(), finite.tolist(), strict=True)
        ]

    @staticmethod
    def _constrain(logits: Logits, rows: list[RowState]) -> None:
        for z, row in zip(logits, rows, strict=True):
            if len(row.allowed):
                allowed = z[row.allowed]
                z.fill(FORBIDDEN)
                z[row.allowed] = allowed

    @staticmethod
    def _penalise(logits: Logits, rows: list[RowState]) -> None:
        for z, row in zip(logits, rows, strict=True):
            if row.counts is not None:
                params, tokens = row.params, row.counts.tokens
                repetition = np.float32(params.repetition_penalty)
                counted = z[tokens]
                counted = np.where(counted > 0, counted / repetition, counted * repetition)
                counted -= (row.counts.counts * params.frequency_penalty).astype(np.float32)
                z[tokens] = counted - np.float32(params.presence_penalty)

    def _adjust_eos(self, logits: Logits, rows: list[RowState]) -> None:
        if not len(self._eos):
            return
        for z, row in zip(logits, rows, strict=True):
            params = row.params
            if params.decay_factor != 1.0:
                eos = z[self._eos]
                z[self._eos] = np.minimum(eos + np.abs(eos) * eos_growth(params, row.generated), LARGEST_LOGIT)
            if row.generated < params.min_new_tokens - 1:
                z[self._eos] = MASKED_EOS

    @staticmethod
    def _mask(logits: Logits, rows: list[RowState]) -> None:
        for z, row in zip(logits, rows, strict=True):
            if row.mask is not None:
                z[~allowed_tokens(row.mask, len(z))] = -np.inf

    @staticmethod
    def _temper(logits: Logits, rows: list[RowState]) -> None:
        for z, row in zip(logits, rows, strict=True):
            if row.params.temperature != 1.0:
                np.divide(z, np.float32(row.params.temperature), out=z)


def _uniforms(rows: list[RowState]) -> npt.NDArray[np.float64]:
    seeds = np.array([row.params.seed for row in rows], dtype=np.uint64)
    samples = np.array([row.sample for row in rows], dtype=np.uint64)
    positions = np.array([row.generated for row in rows], dtype=np.uint64)
    return uniforms(seeds, samples, positions)


def _invert(z: Logits, weights: Logits, total: float, row: RowState, uniform: float) -> int:
    if not row.filtered:
        return draw(weights, uniform)
    kept = _survivors(z, weights, total, row.params)
    return int(kept[draw(weights[kept], uniform)])


def _survivors(z: Logits, weights: Logits, total: float, params: SamplingParams) -> npt.NDArray[np.int64]:
    """As the reference's, but only likely tokens are sorted."""
    limit = params.top_p * total
    best = z.max()
    for reach in _REACHES:
        candidates = np.flatnonzero(z >= best - np.float32(reach))
        if 0 < params.top_k <= len(candidates) or float(weights[candidates].sum(dtype=np.float64)) > limit:
            break
    ranked = candidates[np.argsort(-z[candidates], kind="stable")]  # of equal logits the lower ids rank first
    mass = np.cumsum(weights[ranked], dtype=np.float64)
    count = 1 + int(np.searchsorted(mass[:-1], limit, side="right"))
    if params.top_k > 0:
        count = min(count, params.top_k)
    survivors: npt.NDArray[np.int64] = np.sort(ranked[:count])
    return survivors
