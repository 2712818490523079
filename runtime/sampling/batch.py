"""The sampling pipeline for a batch of rows; agrees with ``runtime.sampling.reference`` token for token."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from runtime.request import SamplingParams
from runtime.sampling.philox import uniforms
from runtime.sampling.reference import FORBIDDEN, LARGEST_LOGIT, MASKED_EOS, draw, eos_growth
from runtime.sampling.row_state import RowState

_CANDIDATE_WEIGHTS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-6, -1.0)
"""Falling thresholds on ``exp(z - max z)`` that candidates for top-p and top-k are sought above."""

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
        self._scratch = np.empty((0, 0), dtype=np.float32)

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
        self._temper(logits, rows)
        tokens = logits.argmax(axis=1)
        best = np.take_along_axis(logits, tokens[:, None], axis=1)
        weights = self._weights(logits, best)
        totals = weights.sum(axis=1)
        finite = np.isfinite(totals)
        drawn = [index for index, row in enumerate(rows) if not row.greedy and finite[index]]
        if drawn:
            for index, uniform in zip(drawn, _uniforms([rows[i] for i in drawn]), strict=True):
                row = rows[index]
                tokens[index] = _draw(logits[index], weights[index], totals[index], row, float(uniform))
        chosen = np.take_along_axis(logits, tokens[:, None], axis=1)
        logprobs = (chosen - best)[:, 0].astype(np.float64) - np.log(totals.astype(np.float64))
        return [
            SampledRow(token, logprob) if ok else SampledRow(-1, 0.0)
            for token, logprob, ok in zip(tokens.tolist(), logprobs.tolist(), finite.tolist(), strict=True)
        ]

    def _weights(self, logits: Logits, best: Logits) -> Logits:
        if self._scratch.shape[0] < logits.shape[0] or self._scratch.shape[1:] != logits.shape[1:]:
            self._scratch = np.empty_like(logits)
        weights = self._scratch[: logits.shape[0]]
        np.subtract(logits, best, out=weights)
        return np.exp(weights, out=weights)

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
    def _temper(logits: Logits, rows: list[RowState]) -> None:
        for z, row in zip(logits, rows, strict=True):
            if row.params.temperature != 1.0:
                np.divide(z, np.float32(row.params.temperature), out=z)


def _uniforms(rows: list[RowState]) -> npt.NDArray[np.float64]:
    seeds = np.array([row.params.seed for row in rows], dtype=np.uint64)
    samples = np.array([row.sample for row in rows], dtype=np.uint64)
    positions = np.array([row.generated for row in rows], dtype=np.uint64)
    return uniforms(seeds, samples, positions)


def _draw(z: Logits, weights: Logits, total: np.float32, row: RowState, uniform: float) -> int:
    if not row.filtered:
        return draw(weights, uniform)
    kept = _survivors(z, weights, total, row.params)
    return int(kept[draw(weights[kept], uniform)])


def _survivors(z: Logits, weights: Logits, total: np.float32, params: SamplingParams) -> npt.NDArray[np.int64]:
    """As the reference's, without an ordering of token ids: only values are sorted, and only likely ones."""
    limit = params.top_p * float(total)
    for threshold in _CANDIDATE_WEIGHTS:
        candidates = np.flatnonzero(weights > threshold)
        if 0 < params.top_k <= len(candidates) or float(weights[candidates].sum(dtype=np.float64)) > limit:
            break
    falling = np.sort(weights[candidates])[::-1]
    mass = np.cumsum(falling, dtype=np.float64)
    count = 1 + int(np.searchsorted(mass[:-1], limit, side="right"))
    if params.top_k > 0:
        count = min(count, params.top_k)
    values = z[candidates]
    lowest = np.partition(values, len(values) - count)[len(values) - count]
    kept = values > lowest
    equals = np.flatnonzero(values == lowest)
    kept[equals[: count - int(kept.sum())]] = True  # of equal logits the lower ids rank first
    survivors: npt.NDArray[np.int64] = candidates[kept]
    return survivors
