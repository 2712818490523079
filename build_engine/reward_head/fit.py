"""Bradley-Terry: the direction along which chosen texts lie above rejected ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
FOLDS = 5

_STEPS = 100
_TOLERANCE = 1e-10


def fit_direction(differences: Doubles, strength: float) -> Doubles:
    """Minimises ``mean(log(1 + exp(-d @ w))) + strength / 2 * w @ w`` over ``w`` by Newton's method.

    That is the logistic likelihood of Bradley and Terry (1952), in which the better text of a pair wins with
    probability ``sigmoid(score_chosen - score_rejected)``, with a ridge penalty.

    Args:
        differences: float64 ``[N, H]``: features of the chosen text less those of the rejected one.
        strength: Of the penalty, positive.

    Returns:
        float64 ``[H]``.
    """
    count, width = differences.shape
    direction = np.zeros(width)
    loss = _penalised(differences, direction, strength)
    for _ in range(_STEPS):
        doubt = _sigmoid(-differences @ direction)
        gradient = strength * direction - differences.T @ doubt / count
        curvature = (differences.T * (doubt * (1 - doubt))) @ differences / count
        curvature[np.diag_indices(width)] += strength
        step = np.linalg.solve(curvature, gradient)
        slope = float(gradient @ step)
        if slope < _TOLERANCE:
            break
        size = 1.0
        # NOTE: Newton's full step can overshoot far from the minimum; halving it keeps the loss falling.
        while (tried := _penalised(differences, direction - size * step, strength)) > loss - 1e-4 * size * slope:
            size /= 2
        direction, loss = direction - size * step, tried
    return direction


def choose_strength(
    differences: Doubles,
    groups: Sequence[int] | npt.NDArray[np.int64],
    strengths: Sequence[float] = STRENGTHS,
    folds: int = FOLDS,
) -> float:
    """The strength with the best log-likelihood on pairs left out, one fold of groups at a time.

    Args:
        differences: float64 ``[N, H]``.
        groups: ``[N]``: which question a pair belongs to; group ``g`` is in fold ``g % folds``.
        strengths: To choose from.
        folds: How many.
    """
    fold = np.asarray(groups) % folds

    def left_out_loss(strength: float) -> float:
        losses = [
            np.logaddexp(0, -differences[fold == number] @ fit_direction(differences[fold != number], strength))
            for number in range(folds)
        ]
        return float(np.concatenate(losses).mean())

    return min(strengths, key=left_out_loss)


def _penalised(differences: Doubles, direction: Doubles, strength: float) -> float:
    loss = np.logaddexp(0, -differences @ direction).mean()
    return float(loss + strength / 2 * (direction @ direction))


def _sigmoid(x: Doubles) -> Doubles:
    decay = np.exp(-np.abs(x))
    probability: Doubles = np.where(x >= 0, 1.0, decay) / (1 + decay)
    return probability
