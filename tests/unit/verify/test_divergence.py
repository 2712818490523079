from __future__ import annotations

import numpy as np
import pytest

from build_engine.errors import BuildError
from build_engine.verify.divergence import Divergence

_LOGITS = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]], np.float32))


def test_equal_logits_do_not_diverge_whatever_constant_is_added() -> None:
    divergence = Divergence()
    divergence.add(_LOGITS, _LOGITS + np.float32(3), np.array([0, -1]))
    result = divergence.result()
    assert (result.tokens, result.top1_agreement) == (2, 1.0)
    assert result.mean_kl == pytest.approx(0, abs=1e-6)
    assert result.perplexity == pytest.approx(2)
    assert result.reference_perplexity == pytest.approx(2)


def test_known_distributions_give_the_textbook_figures() -> None:
    engine = np.log(np.array([[0.25, 0.5, 0.25], [0.1, 0.8, 0.1]], np.float32))
    divergence = Divergence()
    divergence.add(_LOGITS, engine, np.array([1, 1]))
    result = divergence.result()
    assert result.mean_kl == pytest.approx((0.5 * np.log(2) + 0.25 * np.log(0.5)) / 2, abs=1e-6)
    assert result.top1_agreement == 0.5
    assert result.perplexity == pytest.approx((0.5 * 0.8) ** -0.5, rel=1e-6)
    assert result.reference_perplexity == pytest.approx((0.25 * 0.8) ** -0.5, rel=1e-6)


def test_positions_may_come_in_any_portions() -> None:
    draws = np.random.default_rng(0)
    reference, engine = draws.standard_normal((2, 100, 7)).astype(np.float32)
    following = draws.integers(0, 7, 100)
    whole, parts = Divergence(), Divergence()
    whole.add(reference, engine, following)
    for start in range(0, 100, 9):
        part = slice(start, start + 9)
        parts.add(reference[part], engine[part], following[part])
    for name in ("tokens", "mean_kl", "top1_agreement", "perplexity", "reference_perplexity"):
        assert getattr(parts.result(), name) == pytest.approx(getattr(whole.result(), name))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_refused_and_not_published(value: float) -> None:
    broken = _LOGITS.copy()
    broken[1, 2] = value
    with pytest.raises(BuildError, match="the engine's logits are not finite"):
        Divergence().add(_LOGITS, broken, np.array([0, 0]))
    with pytest.raises(BuildError, match="the model's"):
        Divergence().add(broken, _LOGITS, np.array([0, 0]))


def test_a_hopeless_perplexity_stays_a_number() -> None:
    divergence = Divergence()
    divergence.add(_LOGITS * 1e4, _LOGITS * 1e4, np.array([1, 0]))
    assert 1e300 < divergence.result().perplexity < np.inf


def test_nothing_compared_is_no_division_by_zero() -> None:
    assert Divergence().result().tokens == 0
