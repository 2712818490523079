"""Fits the head on hidden states of the training texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from build_engine.reward_head.fit import choose_strength, fit_direction
from build_engine.reward_head.texts import PairTexts

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TrainedHead:
    """``score = hidden @ weight + bias``.

    Attributes:
        weight: float32 ``[H]``.
        bias: So that the training texts' scores have a mean of zero; their standard deviation is one.
        strength: Of the ridge penalty, chosen by cross-validation.
    """

    weight: Floats
    bias: np.float32
    strength: float

    def scores(self, states: Floats) -> Floats:
        """Scores float32 ``[N]`` of hidden states float32 ``[N, H]``."""
        scores: Floats = states @ self.weight + self.bias
        return scores


def train_head(states: Mapping[str, Floats], texts: PairTexts) -> TrainedHead:
    """The head that tells the better from the worse answers of ``texts``, whichever form either comes in.

    Chosen answers of every form are compared with rejected ones of every form: that puts the forms' scores on one
    scale, so that a caller may compare them. Features are divided by their standard deviation before the fit, so that
    the penalty treats them alike.

    Args:
        states: Form -> hidden states, float32 ``[texts, H]``.
        texts: What the states are of.
    """
    everything = np.concatenate(list(states.values())).astype(np.float64)
    deviations = everything.std(axis=0)
    deviations[deviations == 0] = 1
    scaled = {form: values / deviations for form, values in states.items()}
    differences = np.concatenate(
        [better[texts.chosen] - worse[texts.rejected] for better in scaled.values() for worse in scaled.values()]
    )
    groups = np.tile(texts.questions, len(states) ** 2)
    strength = choose_strength(differences, groups)
    direction = fit_direction(differences, strength) / deviations
    scores = everything @ direction
    scale = scores.std()
    return TrainedHead(
        weight=(direction / scale).astype(np.float32), bias=np.float32(-scores.mean() / scale), strength=strength
    )
