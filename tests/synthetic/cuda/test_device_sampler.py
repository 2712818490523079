"""The sampling kernels, run on the CPU, against the one-row reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cuda_host.host_kernels import HostKernels
from sampler_harness import EOS, Harness, Request, check, random_logits, random_request

from runtime.request import SamplingParams
from runtime.sampling import BatchSampler


@pytest.mark.parametrize(("vocabulary", "rows", "rounds"), [(300, 60, 12), (3001, 60, 4), (49152, 32, 2)])
def test_agrees_with_the_reference_token_for_token(
    sampling_kernels: HostKernels, vocabulary: int, rows: int, rounds: int
) -> None:
    rng = np.random.default_rng(vocabulary)
    harness = Harness(sampling_kernels, vocabulary)
    exact = 0
    for _ in range(rounds):
        requests = [random_request(rng, vocabulary) for _ in range(rows)]
        logits = random_logits(rng, rows, vocabulary)
        exact += check(harness.draw(requests, logits), requests, logits)
    assert exact >= 0.99 * rows * rounds


@pytest.mark.parametrize("top_k", [1, 2, 7, -1])
@pytest.mark.parametrize("top_p", [1.0, 0.5, 0.25, 1e-6])
def test_ties_at_the_threshold_go_to_the_lower_ids(sampling_kernels: HostKernels, top_k: int, top_p: float) -> None:
    logits = np.zeros((60, 96), dtype=np.float32)
    logits[:20, ::3] = 1.0
    logits[20:40, 50:] = -3.0
    requests = [Request(SamplingParams(top_k=top_k, top_p=top_p, seed=i)) for i in range(60)]
    assert check(Harness(sampling_kernels, 96).draw(requests, logits), requests, logits) == 60


def test_neighbouring_floats_are_told_apart(sampling_kernels: HostKernels) -> None:
    """Logits that differ in their last bits: all in one bin of the first digit."""
    rng = np.random.default_rng(5)
    base = np.full((60, 500), 11.0, dtype=np.float32)
    logits = (base.view(np.uint32) + rng.integers(0, 5000, base.shape, dtype=np.uint32)).view(np.float32)
    logits[:, 0] = rng.choice([-20.0, 11.0, -1e9], 60)
    requests = [Request(SamplingParams(top_k=int(rng.integers(2, 400)), seed=i)) for i in range(60)]
    assert check(Harness(sampling_kernels, 500).draw(requests, logits), requests, logits) >= 59


def test_extreme_parameters_give_the_references_token(sampling_kernels: HostKernels) -> None:
    extreme = SamplingParams(
        temperature=1e-5,
        top_k=-1,
        presence_penalty=1e30,
        frequency_penalty=1e30,
        repetition_penalty=1e30,
        decay_factor=1e30,
        max_new_tokens=8000,
    )
    logits = random_logits(np.random.default_rng(3), 2, 300)
    requests = [Request(extreme, output=list(range(250)) * 2), Request(SamplingParams())]
    assert check(Harness(sampling_kernels, 300).draw(requests, logits), requests, logits) == 2


@pytest.mark.parametrize("allowed", [(2, 5), (299,)])
def test_only_what_is_allowed_is_drawn(sampling_kernels: HostKernels, allowed: tuple[int, ...]) -> None:
    params = SamplingParams(top_k=-1, allowed_token_ids=allowed, min_new_tokens=9, max_new_tokens=20)
    requests = [Request(replace(params, seed=seed)) for seed in range(20)]
    logits = random_logits(np.random.default_rng(8), 20, 300)
    if allowed == (299,):
        requests = [replace(request, params=replace(request.params, min_new_tokens=1)) for request in requests]
    drawn = Harness(sampling_kernels, 300).draw(requests, logits)
    check(drawn, requests, logits)
    assert {token for token, _ in drawn} <= set(allowed)


@pytest.mark.parametrize("poison", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("whole_row", [True, False])
def test_a_row_that_is_not_finite_fails_alone(sampling_kernels: HostKernels, poison: float, whole_row: bool) -> None:
    params = [SamplingParams(top_k=k, seed=3) for k in (1, 1, -1, 4, 1, -1)]
    requests = [Request(p) for p in params]
    logits = random_logits(np.random.default_rng(2), 6, 300)
    logits[1:5, slice(None) if whole_row else 7] = poison
    want = BatchSampler(EOS).sample(logits.copy(), [request.state() for request in requests])
    drawn = Harness(sampling_kernels, 300).draw(requests, logits)
    assert [token for token, _ in drawn] == [row.token for row in want]
    if whole_row or poison != -np.inf:
        assert [token < 0 for token, _ in drawn] == [False, True, True, True, True, False]


def test_a_row_has_the_same_bits_in_any_batch_and_any_block(sampling_kernels: HostKernels) -> None:
    rng = np.random.default_rng(1)
    requests = [random_request(rng, 3001) for _ in range(9)]
    logits = random_logits(rng, 9, 3001)
    together = Harness(sampling_kernels, 3001).draw(requests, logits)
    alone = [
        Harness(sampling_kernels, 3001, threads=256).draw([request], z[None])[0]
        for request, z in zip(requests, logits, strict=True)
    ]
    assert together == alone


def test_a_model_without_eos_is_sampled_as_it_is(sampling_kernels: HostKernels) -> None:
    harness = Harness(sampling_kernels, 10, eos=frozenset({10}))
    request = Request(SamplingParams(min_new_tokens=3, decay_factor=1.5))
    assert harness.draw([request], np.arange(10, dtype=np.float32)[None])[0][0] == 9


def test_prompt_logprobs_are_those_of_the_logits_as_they_are(sampling_kernels: HostKernels) -> None:
    rng = np.random.default_rng(6)
    harness = Harness(sampling_kernels, 3001)
    logits = random_logits(rng, 20, 3001)
    logits[3, 8], logits[4, 9], logits[5, 10] = np.nan, np.inf, -np.inf
    places, targets = rng.permutation(20), rng.integers(0, 3001, 20)
    download = harness.sampler.prompt_logprobs(harness.put(logits), places.tolist(), targets.tolist())
    harness.stream.synchronize()
    for value, place, target in zip(download.logprobs(), places, targets, strict=True):
        z = logits[place].astype(np.float64)
        if place in (3, 4, 5):
            assert np.isnan(value)
        else:
            assert value == pytest.approx(z[target] - z.max() - np.log(np.exp(z - z.max()).sum()), abs=1e-5)
