"""The native sampler against the one-row reference: the same tokens on every instruction set, whatever the batch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest
from attention_cases import forced_isa
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.native import available_isas
from runtime.request import SamplingParams
from runtime.sampling import NumpySampler, RowSampler, sample_row, uniforms
from runtime.sampling.native_sampler import NativeSampler
from runtime.sampling.reference import penalised_logits

EOS = frozenset({2, 5})
ROWS = 40
GREEDY = SamplingParams()


@dataclass(frozen=True)
class Request:
    params: SamplingParams
    sample: int
    prompt: list[int]
    output: list[int]
    mask: np.ndarray | None = None

    @property
    def counts(self) -> Counter[int]:
        return Counter(self.prompt + self.output if self.params.input_penalty else self.output)

    def start(self, sampler: RowSampler, row: int) -> None:
        sampler.start(row, self.params, self.sample, self.prompt, self.output)
        if self.mask is not None:
            sampler.constrain(row, self.mask)

    def adjusted(self, z: np.ndarray) -> np.ndarray:
        """The logits that the token is drawn from."""
        return penalised_logits(z, self.params, self.counts, len(self.output), EOS, self.mask)

    def want(self, z: np.ndarray) -> tuple[int, float]:
        generated = len(self.output)
        key = [np.array([value], dtype=np.uint64) for value in (self.params.seed, self.sample, generated)]
        with np.errstate(over="ignore"):
            return sample_row(z, self.params, self.counts, generated, EOS, float(uniforms(*key)[0]), self.mask)


def native(threads: int = 2, eos: frozenset[int] = EOS) -> NativeSampler:
    return NativeSampler(eos, max_rows=ROWS, threads=threads)


def a_request(rng: np.random.Generator, vocabulary: int) -> Request:
    pick = rng.choice
    params = SamplingParams(
        temperature=float(pick([1.0, 0.7, 1.8])),
        top_p=float(pick([1.0, 0.9, 0.3, 1e-6])),
        top_k=int(pick([1, -1, -1, 5, 40, 10_000])),
        presence_penalty=float(pick([0.0, 0.0, 0.6, -1.5])),
        frequency_penalty=float(pick([0.0, 0.0, 0.4, -0.3])),
        repetition_penalty=float(pick([1.0, 1.0, 1.3])),
        decay_factor=float(pick([1.0, 1.2])),
        decay_start=int(pick([1, 3])),
        min_new_tokens=int(pick([1, 4])),
        input_penalty=bool(pick([False, True])),
        allowed_token_ids=tuple(rng.integers(0, vocabulary, 50).tolist()) if rng.random() < 0.2 else (),
        seed=int(rng.integers(2**63)),
    )
    prompt = rng.integers(0, vocabulary, 20).tolist()
    output = rng.integers(0, vocabulary, int(rng.integers(0, 30))).tolist()
    mask = a_mask(rng, vocabulary) if rng.random() < 0.4 else None
    return Request(params, int(rng.integers(3)), prompt, output, mask)


def a_mask(rng: np.random.Generator, vocabulary: int) -> np.ndarray:
    """A grammar's: of one token, of a few or of most."""
    allowed = rng.random(vocabulary) < rng.choice([0.0, 0.01, 0.9])
    allowed[rng.integers(vocabulary)] = True
    octets = np.packbits(allowed, bitorder="little")
    return np.pad(octets, (0, -len(octets) % 4)).view(np.uint32)


def spread(rng: np.random.Generator, rows: int, vocabulary: int) -> np.ndarray:
    """Logits of three widths; a third of the rows has many equal ones."""
    logits = rng.standard_normal((rows, vocabulary)) * rng.choice([0.5, 3.0, 8.0], size=(rows, 1))
    logits[::3] = np.round(logits[::3])
    return logits.astype(np.float32)


@pytest.mark.parametrize("isa", available_isas())
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 9), vocabulary=st.integers(6, 5000))
def test_agrees_with_the_reference_token_for_token(isa: str, seed: int, count: int, vocabulary: int) -> None:
    rng = np.random.default_rng(seed)
    requests = [a_request(rng, vocabulary) for _ in range(count)]
    rows = rng.permutation(ROWS)[:count].tolist()
    logits = spread(rng, count, vocabulary)
    sampler = native()
    for row, request in zip(rows, requests, strict=True):
        request.start(sampler, row)
    drawn_from = logits.copy()
    with forced_isa(isa):
        tokens, logprobs = sampler.sample(rows, drawn_from, list(range(count)))
    wanted = [request.want(z) for request, z in zip(requests, logits, strict=True)]
    assert tokens == [token for token, _ in wanted]
    assert logprobs == pytest.approx([logprob for _, logprob in wanted], abs=1e-12)
    assert np.array_equal(drawn_from, [request.adjusted(z) for request, z in zip(requests, logits, strict=True)])


@pytest.mark.parametrize("vocabulary", [6, 15, 16, 17, 1023, 1024, 1025, 49152])
def test_every_length_of_row_is_read_to_its_end_and_no_farther(isa: str, vocabulary: int) -> None:
    params = [GREEDY, SamplingParams(top_k=-1, temperature=0.9), SamplingParams(top_k=7, top_p=0.9)]
    requests = [Request(replace(one, seed=7), 0, [1], []) for one in params]
    guarded = np.full((3, vocabulary + 32), 1e9, dtype=np.float32)
    logits = spread(np.random.default_rng(vocabulary), 3, vocabulary)
    logits[:, -1] = 30.0
    sampler = native(threads=1)
    for row, request in enumerate(requests):
        request.start(sampler, row)
        guarded[row, 16:-16] = logits[row]
        inside = guarded[row, 16:-16][None]
        assert sampler.sample([row], inside, [0])[0] == [request.want(logits[row])[0]]
    assert (guarded[:, :16] == 1e9).all()
    assert (guarded[:, -16:] == 1e9).all()


def test_a_row_has_the_same_bits_in_any_batch_and_on_any_number_of_threads() -> None:
    rng = np.random.default_rng(1)
    requests = [a_request(rng, 20000) for _ in range(33)]
    logits = spread(rng, 33, 20000)

    def sampled(threads: int, batches: list[list[int]]) -> list[tuple[int, float]]:
        sampler = native(threads)
        drawn: dict[int, tuple[int, float]] = {}
        for row, request in enumerate(requests):
            request.start(sampler, row)
        for rows in batches:
            tokens, logprobs = sampler.sample(rows, logits[rows], list(range(len(rows))))
            drawn |= dict(zip(rows, zip(tokens, logprobs, strict=True), strict=True))
        return [drawn[row] for row in range(33)]

    alone = sampled(1, [[row] for row in range(33)])
    for threads in (1, 2, 3):
        assert sampled(threads, [list(range(33))]) == alone
        assert sampled(threads, [list(range(7)), list(range(32, 6, -1))]) == alone


def test_it_and_numpy_go_on_alike_step_after_step() -> None:
    rng = np.random.default_rng(3)
    requests = [a_request(rng, 300) for _ in range(12)]
    samplers: list[RowSampler] = [native(), NumpySampler(EOS)]
    for sampler in samplers:
        for row, request in enumerate(requests):
            request.start(sampler, row)
    for step in range(60):
        rows = list(range(step % 3, 12))
        logits = spread(rng, 14, 300)
        places = rng.permutation(14)[: len(rows)].tolist()
        drawn = [sampler.sample(rows, logits.copy(), places) for sampler in samplers]
        assert drawn[0][0] == drawn[1][0]
        assert drawn[0][1] == pytest.approx(drawn[1][1], abs=1e-12)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 130])
def test_the_likeliest_tokens_of_any_number_of_rows_are_numpys(count: int) -> None:
    logits = spread(np.random.default_rng(count), count, 3001)
    logits[count // 2, 7] = np.nan
    untouched = logits.copy()
    tokens, logprobs = native().likeliest(logits)
    want = NumpySampler(EOS).likeliest(logits)
    assert tokens == want[0]
    assert logprobs == pytest.approx(want[1], abs=1e-12)
    assert [row for row, token in enumerate(tokens) if token < 0] == [count // 2]
    assert np.array_equal(logits, untouched, equal_nan=True)


def test_nothing_but_what_the_mask_allows_is_drawn_whatever_is_done_to_it(isa: str) -> None:
    lifting = SamplingParams(decay_factor=1e9, decay_start=0, top_k=-1, temperature=1e30, frequency_penalty=-1e9)
    sinking = SamplingParams(repetition_penalty=1e30, presence_penalty=1e30, frequency_penalty=1e30, top_k=40)
    mask = np.zeros(10, dtype=np.uint32)
    mask[[3, 9]] = [1 << 5, 1 << 11]
    logits = spread(np.random.default_rng(6), 1, 300)
    for params in (lifting, sinking, replace(lifting, min_new_tokens=16), GREEDY):
        request = Request(params, 0, [1], [2, 5, 7, 101, 299, 299], mask)
        for sampler in (native(), NumpySampler(EOS)):
            request.start(sampler, 3)
            with np.errstate(over="ignore"):
                assert sampler.sample([3], logits.copy(), [0])[0][0] in (101, 299)


def test_a_mask_is_read_anew_for_each_draw() -> None:
    mask = np.zeros(4, dtype=np.uint32)
    sampler = native()
    Request(GREEDY, 0, [1], [], mask).start(sampler, 0)
    for token in (0, 31, 32, 99):
        mask[:] = 0
        mask[token // 32] = np.uint32(1 << token % 32)
        assert sampler.sample([0], np.zeros((1, 100), dtype=np.float32), [0]) == ([token], [0.0])


def test_a_row_that_starts_again_has_forgotten_who_had_it_before() -> None:
    heavy = SamplingParams(top_k=-1, repetition_penalty=9.0, allowed_token_ids=(3, 4), temperature=0.1)
    logits = spread(np.random.default_rng(5), 1, 100)
    sampler = native()
    Request(heavy, 1, [1], [3], np.zeros(4, dtype=np.uint32)).start(sampler, 6)
    sampler.end(6)
    Request(GREEDY, 0, [1], []).start(sampler, 6)
    assert sampler.sample([6], logits.copy(), [0])[0] == [int(logits.argmax())]
    sampler.end(6)
    sampler.end(6)


@pytest.mark.parametrize("everywhere", [True, False])
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_fails_alone(isa: str, poison: float, everywhere: bool) -> None:
    params = [SamplingParams(top_k=k, top_p=p) for k, p in ((1, 1.0), (-1, 1.0), (-1, 0.5), (1, 1.0))]
    logits = spread(np.random.default_rng(2), 4, 3001)
    poisoned = logits.copy()
    poisoned[1:3, slice(None) if everywhere else 3000] = poison
    drawn = []
    for z in (logits.copy(), poisoned):
        sampler = native()
        for row, one in enumerate(params):
            Request(one, 0, [1], []).start(sampler, row)
        drawn.append(sampler.sample([0, 1, 2, 3], z, [0, 1, 2, 3])[0])
    healthy, sick = drawn
    one_token_of_no_weight = poison == -np.inf and not everywhere
    assert [row for row, token in enumerate(sick) if token == -1] == ([] if one_token_of_no_weight else [1, 2])
    assert (sick[0], sick[3]) == (healthy[0], healthy[3])


def test_a_failed_draw_is_not_counted_as_generated() -> None:
    params = SamplingParams(top_k=-1, temperature=2.0, seed=9)
    logits = spread(np.random.default_rng(8), 1, 500)
    sampler = native()
    request = Request(params, 0, [1], [])
    request.start(sampler, 0)
    assert sampler.sample([0], np.full((1, 500), np.nan, np.float32), [0]) == ([-1], [0.0])
    assert sampler.sample([0], logits.copy(), [0])[0] == [request.want(logits[0])[0]]


def test_ids_outside_the_vocabulary_are_left_alone() -> None:
    params = SamplingParams(top_k=1, allowed_token_ids=(5, 10**9), repetition_penalty=2.0, min_new_tokens=3)
    sampler = native(eos=frozenset({7, 10**9}))
    Request(params, 0, [1], [10**9, 4]).start(sampler, 0)
    assert sampler.sample([0], np.zeros((1, 50), dtype=np.float32), [0])[0] == [5]


def test_extreme_parameters_give_a_token() -> None:
    extreme = SamplingParams(
        temperature=1e-5,
        top_k=-1,
        presence_penalty=1e30,
        frequency_penalty=1e30,
        repetition_penalty=1e30,
        decay_factor=1e30,
    )
    request = Request(extreme, 0, [1], list(range(2500)))
    logits = spread(np.random.default_rng(3), 1, 3000)
    sampler = native()
    request.start(sampler, 0)
    assert sampler.sample([0], logits.copy(), [0])[0] == [request.want(logits[0])[0]]
