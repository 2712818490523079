"""The pipeline's definition: each rule on logits small enough to do by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from runtime.request import SamplingParams
from runtime.sampling.reference import penalised_logits, sample_row, survivors, weigh

NO_EOS: frozenset[int] = frozenset()
LOGITS = np.array([2.0, -1.0, 0.5, 3.0], dtype=np.float32)


def adjusted(counts: dict[int, int] | None = None, generated: int = 0, eos: frozenset[int] = NO_EOS, **params) -> list:
    z = penalised_logits(LOGITS, SamplingParams(**params), counts or {}, generated, eos)
    return z.tolist()


def test_without_parameters_the_logits_are_untouched() -> None:
    assert adjusted() == LOGITS.tolist()


def test_repetition_divides_positive_and_multiplies_negative_logits() -> None:
    assert adjusted({0: 1, 1: 1}, repetition_penalty=2.0) == [1.0, -2.0, 0.5, 3.0]


def test_frequency_counts_occurrences_and_presence_does_not() -> None:
    assert adjusted({0: 3, 3: 1}, frequency_penalty=0.5, presence_penalty=0.25) == [0.25, -1.0, 0.5, 2.25]


def test_penalties_apply_repetition_first() -> None:
    assert adjusted({0: 2}, repetition_penalty=2.0, frequency_penalty=0.5, presence_penalty=1.0)[0] == -1.0


def test_disallowed_tokens_are_masked_before_everything_else() -> None:
    assert adjusted(allowed_token_ids=(1, 2)) == [-1e9, -1.0, 0.5, -1e9]


def test_a_disallowed_token_is_not_drawn_even_where_the_only_allowed_one_is_eos() -> None:
    params = SamplingParams(allowed_token_ids=(3,), min_new_tokens=5, max_new_tokens=9)
    assert sample_row(LOGITS, params, {}, 0, frozenset({3}), 0.5)[0] == 3


@pytest.mark.parametrize(("generated", "masked"), [(0, True), (1, True), (2, False)])
def test_eos_may_be_the_min_new_tokens_th_token_and_not_earlier(generated: int, masked: bool) -> None:
    z = adjusted(generated=generated, eos=frozenset({3}), min_new_tokens=3, max_new_tokens=9)
    assert (z[3] == -1e7) == masked


def test_length_decay_raises_eos_by_its_own_magnitude() -> None:
    z = adjusted(generated=5, eos=frozenset({1}), decay_start=3, decay_factor=1.5)
    assert z[1] == pytest.approx(-1.0 + 1.0 * (1.5**2 - 1))
    assert adjusted(generated=3, eos=frozenset({1}), decay_start=3, decay_factor=1.5)[1] == -1.0


def test_temperature_divides_last() -> None:
    assert adjusted({0: 1}, presence_penalty=1.0, temperature=0.5) == [2.0, -2.0, 1.0, 6.0]


def kept(probabilities: list[float], **params) -> list[int]:
    z = np.log(np.array(probabilities, dtype=np.float32))
    weights, total = weigh(z)
    return survivors(z, weights, total, SamplingParams(**params)).tolist()


def test_top_p_keeps_the_token_that_crosses_the_mass() -> None:
    assert kept([0.5, 0.3, 0.15, 0.05], top_p=0.6, top_k=-1) == [0, 1]
    assert kept([0.05, 0.15, 0.3, 0.5], top_p=0.85, top_k=-1) == [1, 2, 3]


def test_the_top_token_always_survives() -> None:
    assert kept([0.9, 0.1], top_p=1e-9, top_k=-1) == [0]


def test_top_k_and_top_p_look_at_the_same_distribution() -> None:
    assert kept([0.4, 0.3, 0.2, 0.1], top_p=0.5, top_k=3) == [0, 1]
    assert kept([0.4, 0.3, 0.2, 0.1], top_p=0.95, top_k=2) == [0, 1]


def test_equal_logits_rank_by_rising_id() -> None:
    assert kept([0.25, 0.25, 0.25, 0.25], top_k=2) == [0, 1]


def test_greedy_takes_the_first_of_equals_and_reports_log_softmax() -> None:
    logits = np.array([1.0, 4.0, 4.0], dtype=np.float32)
    token, logprob = sample_row(logits, SamplingParams(), {}, 0, NO_EOS, 0.999)
    assert token == 1
    assert logprob == pytest.approx(4 - math.log(math.exp(1) + 2 * math.exp(4)), abs=1e-6)


def test_logprob_follows_temperature_and_not_top_p_or_top_k() -> None:
    plain = sample_row(LOGITS, SamplingParams(top_k=1), {}, 0, NO_EOS, 0.0)
    filtered = sample_row(LOGITS, SamplingParams(top_k=1, top_p=0.1), {}, 0, NO_EOS, 0.0)
    warm = sample_row(LOGITS, SamplingParams(top_k=1, temperature=2.0), {}, 0, NO_EOS, 0.0)
    assert plain == filtered
    assert plain[0] == warm[0]
    assert plain[1] != warm[1]


def test_draws_follow_the_probabilities() -> None:
    params = SamplingParams(top_k=-1)
    p = np.exp(LOGITS - 3) / np.exp(LOGITS - 3).sum()
    grid = (np.arange(4000) + 0.5) / 4000
    tokens = [sample_row(LOGITS, params, {}, 0, NO_EOS, u)[0] for u in grid]
    shares = np.bincount(tokens, minlength=4) / 4000
    assert np.abs(shares - p).max() < 1e-3
