"""The solver of the score head, on made-up features."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from build_engine.reward_head.accuracy import accuracy_lines, measure
from build_engine.reward_head.fit import choose_strength, fit_direction
from build_engine.reward_head.pairs import KINDS, Pair
from build_engine.reward_head.texts import texts_of
from build_engine.reward_head.train import train_head

WIDTH = 8


def preferences(count: int, seed: int = 0) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """A direction, and differences that were preferred with Bradley and Terry's probabilities."""
    draws = np.random.default_rng(seed)
    direction = draws.standard_normal(WIDTH)
    differences = draws.standard_normal((count, WIDTH))
    won = draws.random(count) < 1 / (1 + np.exp(-differences @ direction))
    return direction, np.where(won[:, None], differences, -differences)


def test_the_direction_that_made_the_preferences_is_found() -> None:
    direction, differences = preferences(20_000)
    assert fit_direction(differences, 1e-6) == pytest.approx(direction, abs=0.1)


@pytest.mark.parametrize("strength", [1e-3, 0.1, 10.0])
def test_the_gradient_of_the_penalised_loss_vanishes(strength: float) -> None:
    _, differences = preferences(300)
    direction = fit_direction(differences, strength)
    doubt = 1 / (1 + np.exp(differences @ direction))
    assert strength * direction - differences.T @ doubt / 300 == pytest.approx(0, abs=1e-5)


def test_preferences_without_exception_have_a_finite_answer() -> None:
    differences = np.full((5, 3), 1000.0)
    assert np.isfinite(fit_direction(differences, 1e-3)).all()


def test_noise_wants_a_stronger_penalty_than_signal() -> None:
    _, signal = preferences(400)
    noise = np.random.default_rng(1).standard_normal((400, WIDTH))
    groups = np.arange(400) // 4
    strengths = (1e-4, 1e-2, 1.0)
    assert choose_strength(signal, groups, strengths) < choose_strength(noise, groups, strengths)


def pairs_of(count: int) -> list[Pair]:
    return [Pair(f"q{number}", "good", kind, kind) for number in range(count) for kind in KINDS]


def states_of(pairs: list[Pair], seed: int, shift: float = 0.0) -> npt.NDArray[np.float32]:
    """Hidden states whose first feature tells good answers from bad ones, and whose last is constant."""
    texts = texts_of(pairs)
    draws = np.random.default_rng(seed)
    states = draws.standard_normal((len(texts.answers) * (len(KINDS) + 1), WIDTH))
    states[texts.chosen, 0] += 6
    states[:, 1] += shift
    states[:, -1] = 3
    return states.astype(np.float32)


def test_the_head_orders_new_pairs_and_its_scores_are_standardised() -> None:
    learned, unseen = pairs_of(40), pairs_of(10)
    states = {"chat": states_of(learned, 0), "marked": states_of(learned, 1)}
    head = train_head(states, texts_of(learned))
    scores = head.scores(np.concatenate(list(states.values())))
    assert scores.dtype == np.float32
    assert (scores.mean(), scores.std()) == pytest.approx((0, 1), abs=1e-4)
    measured = measure(head.scores(states_of(unseen, 2)), unseen, texts_of(unseen))
    assert measured.overall > 0.95
    assert measured.pairs == dict.fromkeys(KINDS, 10)


def test_the_form_of_a_text_does_not_decide_its_score() -> None:
    learned = pairs_of(40)
    states = {"chat": states_of(learned, 0), "marked": states_of(learned, 1, shift=9.0)}
    head, texts = train_head(states, texts_of(learned)), texts_of(learned)
    chat, marked = (head.scores(values) for values in states.values())
    assert (chat[texts.chosen] > marked[texts.rejected]).mean() > 0.9
    assert (marked[texts.chosen] > chat[texts.rejected]).mean() > 0.9


def test_a_tie_is_not_right() -> None:
    pairs = pairs_of(2)
    measured = measure(np.zeros(16, np.float32), pairs, texts_of(pairs))
    assert measured.overall == 0
    assert accuracy_lines({"chat": measured})[1].split() == ["shuffled", "0/2"]
