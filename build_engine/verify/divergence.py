"""Sums over positions of how far one model's predictions are from another's."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from build_engine.verify.finite import refuse_not_finite
from runtime.bundle.manifest import Verification

_ROWS_AT_ONCE = 32  # a vocabulary is large, and the sums are in float64
_MAX_LOSS = 700.0  # exp overflows beyond


class Divergence:
    """Accumulates KL(reference || engine), top-1 agreement, the clearest disagreement and both perplexities."""

    def __init__(self) -> None:
        self._tokens = 0
        self._kl = 0.0
        self._agreed = 0
        self._flip_gap = 0.0
        self._predicted = 0
        self._reference_loss = 0.0
        self._engine_loss = 0.0

    def add(
        self,
        reference: npt.NDArray[np.float32],
        engine: npt.NDArray[np.float32],
        next_ids: npt.NDArray[np.int64],
    ) -> None:
        """Adds positions.

        Args:
            reference: Logits, float32 ``[T, V]``.
            engine: Logits, float32 ``[T, V]``.
            next_ids: int64 ``[T]``: the token that followed, -1 where none did.

        Raises:
            BuildError: A logit is not finite.
        """
        refuse_not_finite("logits", reference, engine)
        for start in range(0, len(reference), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            self._add_rows(reference[rows], engine[rows], next_ids[rows])

    def _add_rows(
        self,
        reference: npt.NDArray[np.float32],
        engine: npt.NDArray[np.float32],
        next_ids: npt.NDArray[np.int64],
    ) -> None:
        expected, actual = _log_softmax(reference), _log_softmax(engine)
        self._tokens += len(reference)
        self._kl += float(np.sum(np.exp(expected) * (expected - actual)))
        agreed = reference.argmax(axis=1) == engine.argmax(axis=1)
        self._agreed += int(np.sum(agreed))
        if not agreed.all():
            second, first = np.partition(reference[~agreed], -2, axis=1)[:, -2:].T
            self._flip_gap = max(self._flip_gap, float((first - second).max()))
        rows = np.flatnonzero(next_ids >= 0)
        self._predicted += len(rows)
        self._reference_loss -= float(expected[rows, next_ids[rows]].sum())
        self._engine_loss -= float(actual[rows, next_ids[rows]].sum())

    def result(self) -> Verification:
        """Means over all positions added."""
        predicted = max(self._predicted, 1)
        return Verification(
            tokens=self._tokens,
            mean_kl=self._kl / max(self._tokens, 1),
            top1_agreement=self._agreed / max(self._tokens, 1),
            flip_gap=self._flip_gap,
            perplexity=math.exp(min(self._engine_loss / predicted, _MAX_LOSS)),
            reference_perplexity=math.exp(min(self._reference_loss / predicted, _MAX_LOSS)),
        )


def _log_softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted
