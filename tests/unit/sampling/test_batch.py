"""The batched sampler against the one-row reference: the same tokens, whatever the neighbours."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.request import SamplingParams
from runtime.sampling import BatchSampler, sample_row, uniforms
from runtime.sampling.row_state import RowState, TokenCounts

VOCABULARY = 3000
EOS = frozenset({2, 5})


def params_from(rng: np.random.Generator) -> SamplingParams:
    pick = rng.choice
    return SamplingParams(
        temperature=float(pick([1.0, 0.7, 1.8])),
        top_p=float(pick([1.0, 0.9, 0.3])),
        top_k=int(pick([1, -1, -1, 5, 40])),
        presence_penalty=float(pick([0.0, 0.0, 0.6])),
        frequency_penalty=float(pick([0.0, 0.0, 0.4])),
        repetition_penalty=float(pick([1.0, 1.0, 1.3])),
        decay_factor=float(pick([1.0, 1.2])),
        decay_start=int(pick([1, 3])),
        min_new_tokens=int(pick([1, 4])),
        input_penalty=bool(pick([False, True])),
        allowed_token_ids=tuple(rng.choice(VOCABULARY, 50, replace=False).tolist()) if rng.random() < 0.2 else (),
        seed=int(rng.integers(2**63)),
    )


def row_and_counts(rng: np.random.Generator) -> tuple[RowState, Counter[int]]:
    params = params_from(rng)
    prompt = rng.integers(0, VOCABULARY, 20).tolist()
    output = rng.integers(0, VOCABULARY, int(rng.integers(0, 30))).tolist()
    row = RowState(params, int(rng.integers(3)), prompt, output[:-1] if output else [])
    if output:
        row.accept(output[-1])
    return row, Counter(prompt + output if params.input_penalty else output)


def spread(rng: np.random.Generator, rows: int) -> np.ndarray:
    scale = rng.choice([0.5, 3.0, 8.0], size=(rows, 1))
    return (rng.standard_normal((rows, VOCABULARY)) * scale).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 9))
def test_agrees_with_the_reference_token_for_token(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    made = [row_and_counts(rng) for _ in range(count)]
    logits = spread(rng, count)
    sampled = BatchSampler(EOS).sample(logits.copy(), [row for row, _ in made])
    for (row, counts), z, drawn in zip(made, logits, sampled, strict=True):
        key = [np.array([v], dtype=np.uint64) for v in (row.params.seed, row.sample, row.generated)]
        want = sample_row(z, row.params, counts, row.generated, EOS, float(uniforms(*key)[0]))
        assert drawn.token == want[0]
        assert drawn.logprob == pytest.approx(want[1], abs=1e-5)


def agrees_with_the_reference(params: SamplingParams, eos: frozenset[int], vocabulary: int = VOCABULARY) -> bool:
    logits = spread(np.random.default_rng(4), 6)[:, :vocabulary].copy()
    rows = [RowState(params, sample, [1], []) for sample in range(6)]
    sampled = BatchSampler(eos).sample(logits.copy(), rows)
    for row, z, drawn in zip(rows, logits, sampled, strict=True):
        key = [np.array([v], dtype=np.uint64) for v in (params.seed, row.sample, 0)]
        if drawn.token != sample_row(z, params, {}, 0, eos, float(uniforms(*key)[0]))[0]:
            return False
    return True


def test_top_k_beyond_the_vocabulary_keeps_all_of_it() -> None:
    assert agrees_with_the_reference(SamplingParams(top_k=50, temperature=2.0), EOS, vocabulary=20)


def test_a_model_without_eos_is_sampled_as_it_is() -> None:
    params = SamplingParams(top_k=-1, min_new_tokens=3, decay_factor=1.5)
    assert agrees_with_the_reference(params, frozenset())


def test_a_row_has_the_same_bits_in_any_batch() -> None:
    rng = np.random.default_rng(1)
    rows = [row_and_counts(rng)[0] for _ in range(33)]
    logits = (rng.standard_normal((33, 49152)) * 3).astype(np.float32)
    sampler = BatchSampler(EOS)
    together = sampler.sample(logits.copy(), rows)
    alone = [sampler.sample(logits[i : i + 1].copy(), rows[i : i + 1])[0] for i in range(33)]
    assert together == alone


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_fails_alone(poison: float) -> None:
    rng = np.random.default_rng(2)
    rows = [RowState(SamplingParams(top_k=k), 0, [1], []) for k in (1, -1, 1)]
    logits = spread(rng, 3)
    healthy = BatchSampler(EOS).sample(logits.copy(), rows)
    logits[1] = poison
    sampled = BatchSampler(EOS).sample(logits, rows)
    assert sampled[1].token == -1
    assert (sampled[0], sampled[2]) == (healthy[0], healthy[2])


def test_extreme_parameters_give_a_token_and_leave_the_neighbour_alone() -> None:
    extreme = SamplingParams(
        temperature=1e-5,
        top_k=-1,
        presence_penalty=1e30,
        frequency_penalty=1e30,
        repetition_penalty=1e30,
        decay_factor=1e30,
        max_new_tokens=8000,
    )
    rows = [RowState(params, 0, [1], list(range(2500))) for params in (extreme, SamplingParams())]
    logits = spread(np.random.default_rng(3), 2)
    alone = BatchSampler(EOS).sample(logits[1:].copy(), rows[1:])
    sampled = BatchSampler(EOS).sample(logits, rows)
    assert 0 <= sampled[0].token < VOCABULARY
    assert sampled[1] == alone[0]


def test_token_counts_grow_from_nothing() -> None:
    counts = TokenCounts([])
    sequence = [3, 0, 3, 7, *range(40), 3]
    for token in sequence:
        counts.add(token)
    assert dict(zip(counts.tokens.tolist(), counts.counts.tolist(), strict=True)) == Counter(sequence)
