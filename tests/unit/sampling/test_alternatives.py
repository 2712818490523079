"""The likeliest tokens beside a drawn one, and biases on the way to a draw."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from runtime.request import SamplingParams
from runtime.sampling import LogitBias, NumpySampler, alternatives, most_likely, sample_row
from runtime.sampling.reference import penalised_logits, weigh

LOGITS = np.array([2.0, -1.0, 0.5, 3.0, 2.0], dtype=np.float32)


def test_they_are_ranked_by_logit_and_equal_logits_by_id() -> None:
    assert most_likely(LOGITS, 4).tolist() == [3, 0, 4, 2]
    assert most_likely(LOGITS, 1).tolist() == [3]


def test_more_than_there_are_is_all_of_them() -> None:
    assert most_likely(LOGITS, 20).tolist() == [3, 0, 4, 2, 1]


def test_tokens_far_below_the_best_are_found_where_nearer_ones_are_not_enough() -> None:
    z = np.full(1000, -1e9, dtype=np.float32)
    z[[7, 900]] = [5.0, -30.0]
    assert most_likely(z, 4).tolist() == [7, 900, 0, 1]


@pytest.mark.parametrize("count", [1, 5, 20])
@pytest.mark.parametrize("width", [0.1, 3.0, 12.0])
def test_they_are_a_full_sorts_first(count: int, width: float) -> None:
    z = (np.random.default_rng(count).standard_normal(5000) * width).astype(np.float32)
    assert most_likely(z, count).tolist() == np.argsort(-z, kind="stable")[:count].tolist()


def test_logprobs_are_those_of_the_softmax_and_the_drawn_tokens_to_the_bit() -> None:
    weights, total = weigh(LOGITS)
    logprob = float(np.log(weights[0] / total))
    found = dict(alternatives(LOGITS, 3, 0, logprob))
    assert found[0] == logprob
    assert found == pytest.approx({3: np.log(weights[3] / total), 0: logprob, 4: logprob}, abs=1e-6)


def test_a_token_that_is_not_among_them_is_their_measure_all_the_same() -> None:
    assert alternatives(LOGITS, 1, 1, -4.5) == [(3, -0.5)]


def test_a_bias_is_added_before_masks_and_penalties() -> None:
    params = SamplingParams(logit_bias=((0, 1.0), (1, -3.0)), presence_penalty=0.5, allowed_token_ids=(0, 2))
    z = penalised_logits(LOGITS, params, {0: 1}, 0, frozenset())
    assert z.tolist() == [2.5, -1e9, 0.5, -1e9, -1e9]


def test_a_biased_draw_is_the_references() -> None:
    params = SamplingParams(
        top_k=-1, logit_bias=((4, 2.5), (3, -100.0)), frequency_penalty=-0.5, temperature=0.7, seed=3
    )
    sampler = NumpySampler(frozenset())
    sampler.start(0, params, 0, [1], [0, 0])
    drawn = LOGITS[None].copy()
    LogitBias(params.logit_bias).add_to(drawn[0])
    tokens, logprobs = sampler.sample([0], drawn, [0])
    uniform = 0.0
    want = penalised_logits(LOGITS, params, Counter([0, 0]), 2, frozenset())
    assert drawn[0].tolist() == want.tolist()
    assert tokens[0] != 3
    weights, total = weigh(want)
    assert logprobs == pytest.approx([float(np.log(weights[tokens[0]] / total))], abs=1e-6)
    assert sample_row(LOGITS, params, Counter([0, 0]), 2, frozenset(), uniform)[0] == 0
