from __future__ import annotations

import numpy as np
import pytest

from build_engine.errors import BuildError
from build_engine.verify.score_errors import ScoreErrors

SCORES = np.array([0.0, 2.0, 4.0, 6.0], np.float32)


def test_known_scores_give_the_textbook_figures() -> None:
    errors = ScoreErrors()
    errors.add(SCORES, np.array([0.0, 2.5, 3.0, 6.0], np.float32))
    result = errors.result()
    assert result.tokens == 4
    assert result.mean_error == pytest.approx(0.375)
    assert result.max_error == pytest.approx(1.0)
    assert result.reference_deviation == pytest.approx(5**0.5)
    assert result.correlation == pytest.approx(np.corrcoef([0, 2, 4, 6], [0, 2.5, 3, 6])[0, 1])


def test_a_constant_offset_is_an_error_that_correlation_does_not_see() -> None:
    errors = ScoreErrors()
    errors.add(SCORES, SCORES + np.float32(3))
    assert errors.result().correlation == pytest.approx(1)
    assert errors.result().mean_error == pytest.approx(3)


def test_positions_may_come_in_any_portions_and_the_arrays_be_used_again() -> None:
    reference, engine = np.random.default_rng(0).standard_normal((2, 50)).astype(np.float32)
    whole, parts = ScoreErrors(), ScoreErrors()
    whole.add(reference, engine)
    buffer = np.empty(7, np.float32)
    for start in range(0, 50, 7):
        stop = min(start + 7, 50)
        buffer[: stop - start] = engine[start:stop]
        parts.add(reference[start:stop], buffer[: stop - start])
    assert parts.result() == whole.result()


def test_a_model_that_scores_everything_the_same_correlates_with_nothing() -> None:
    errors = ScoreErrors()
    errors.add(SCORES, np.ones(4, np.float32))
    assert errors.result().correlation == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_refused(value: float) -> None:
    broken = SCORES.copy()
    broken[2] = value
    with pytest.raises(BuildError, match="the engine's scores are not finite"):
        ScoreErrors().add(SCORES, broken)
    with pytest.raises(BuildError, match="the model's"):
        ScoreErrors().add(broken, SCORES)


def test_nothing_compared_is_no_division_by_zero() -> None:
    assert ScoreErrors().result().tokens == 0
