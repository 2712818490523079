"""How an output may begin: masks that depend on the output so far alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.request import OpeningState, SamplingParams
from runtime.sampling import NumpySampler, Openings, sample_row, uniforms
from runtime.sampling.openings import mask_of, well_formed

VOCABULARY = 70
EOS = frozenset({0})


def state(*allowed: int, after: dict[int, int] | None = None) -> OpeningState:
    return OpeningState.of(allowed, (after or {}).items())


MAZE = (state(3, 4, 69, after={3: 1, 4: 2}), state(5, 69, after={5: 2}), state(0, 6))
"""3 5 x, 4 x, 69 with 0 or 6 for x, or 3 69; then anything."""


def drawn(params: SamplingParams, prefix: list[int], count: int, logits: np.ndarray) -> list[tuple[int, float]]:
    """``count`` draws of a row that enters with ``prefix`` generated."""
    sampler = NumpySampler(EOS)
    openings = Openings(sampler)
    sampler.start(2, params, 1, [9], prefix)
    openings.start(2, params.opening, prefix)
    results = []
    for z in logits[:count]:
        openings.limit([0, 2], VOCABULARY)
        (token,), (logprob,) = sampler.sample([2], z[None].copy(), [0])
        openings.accept([2], [token])
        results.append((token, logprob))
    return results


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_each_draw_is_the_references_under_the_mask_of_its_state(seed: int) -> None:
    rng = np.random.default_rng(seed)
    params = SamplingParams(
        top_k=int(rng.choice([1, -1])),
        seed=seed,
        min_new_tokens=3,
        decay_factor=1e30,
        decay_start=0,
        presence_penalty=float(rng.choice([0, 1e30])),
        input_penalty=True,
        opening=MAZE,
    )
    logits = (rng.standard_normal((4, VOCABULARY)) * 3).astype(np.float32)
    at: int | None = 0
    output: list[int] = []
    for z, (token, logprob) in zip(logits, drawn(params, [], 4, logits), strict=True):
        mask = None if at is None else mask_of(MAZE[at], VOCABULARY)
        key = [np.array([v], dtype=np.uint64) for v in (seed, 1, len(output))]
        counts = {t: [9, *output].count(t) for t in {9, *output}}
        with np.errstate(over="ignore"):
            want = sample_row(z, params, counts, len(output), EOS, float(uniforms(*key)[0]), mask)
        assert (token, logprob) == (want[0], pytest.approx(want[1], abs=1e-5))
        if at is not None:
            assert token in np.frombuffer(MAZE[at].allowed, "<i4")
            at = dict(MAZE[at].following).get(token)
        output.append(token)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), cut=st.integers(0, 4))
def test_a_row_that_resumes_goes_on_where_it_was(seed: int, cut: int) -> None:
    logits = np.random.default_rng(seed).standard_normal((4, VOCABULARY)).astype(np.float32)
    params = SamplingParams(top_k=-1, seed=seed, opening=MAZE)
    whole = drawn(params, [], 4, logits)
    assert drawn(params, [token for token, _ in whole[:cut]], 4 - cut, logits[cut:]) == whole[cut:]


def test_a_free_row_is_as_any_other() -> None:
    logits = np.random.default_rng(5).standard_normal((4, VOCABULARY)).astype(np.float32)
    one, other = SamplingParams(opening=(state(7),)), SamplingParams()
    first, *rest = drawn(one, [], 4, logits)
    assert first == (7, 0.0)
    assert rest == drawn(other, [7], 3, logits[1:])


def test_a_row_forgets_what_it_held_before() -> None:
    sampler = NumpySampler(EOS)
    openings = Openings(sampler)
    openings.start(0, (state(7),), [])
    openings.start(0, (), [])
    openings.start(1, (state(7),), [])
    openings.end(1)
    openings.limit([0, 1], VOCABULARY)  # would be an error: the sampler knows neither row


@pytest.mark.parametrize(
    ("opening", "fits"),
    [
        ((), True),
        (MAZE, True),
        ((OpeningState(b""),), False),
        ((OpeningState(b"\1\0\0"),), False),
        ((state(70),), False),
        ((state(-1, 3),), False),
        ((state(3, after={3: 1}),), False),
        ((state(3, after={3: -1}),), False),
    ],
)
def test_what_leads_nowhere_is_not_well_formed(opening: tuple[OpeningState, ...], fits: bool) -> None:
    assert well_formed(opening, VOCABULARY) is fits
