"""Sums over positions of how far one reward model's scores are from another's."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from build_engine.verify.finite import refuse_not_finite
from runtime.bundle.manifest import ScoreVerification


class ScoreErrors:
    """Collects the scores of reference and engine: a number a position."""

    def __init__(self) -> None:
        self._reference: list[npt.NDArray[np.float64]] = []
        self._engine: list[npt.NDArray[np.float64]] = []

    def add(self, reference: npt.NDArray[np.float32], engine: npt.NDArray[np.float32]) -> None:
        """Adds positions.

        Args:
            reference: Scores, float32 ``[T]``.
            engine: Scores, float32 ``[T]``.

        Raises:
            BuildError: A score is not finite.
        """
        refuse_not_finite("scores", reference, engine)
        self._reference.append(reference.astype(np.float64))
        self._engine.append(engine.astype(np.float64))

    def result(self) -> ScoreVerification:
        """Figures over all positions added; zeros where there were none."""
        if not sum(map(len, self._reference)):
            return ScoreVerification(tokens=0, mean_error=0.0, max_error=0.0, reference_deviation=0.0, correlation=0.0)
        reference, engine = np.concatenate(self._reference), np.concatenate(self._engine)
        errors = np.abs(engine - reference)
        return ScoreVerification(
            tokens=len(reference),
            mean_error=float(errors.mean()),
            max_error=float(errors.max()),
            reference_deviation=float(reference.std()),
            correlation=_correlation(reference, engine),
        )


def _correlation(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    """Pearson's; 0 where one of the two never varies."""
    scale = first.std() * second.std()
    return float(np.mean((first - first.mean()) * (second - second.mean())) / scale) if scale else 0.0
