"""A device sampler whose kernels run on the CPU, and the reference to compare it with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from cuda_host.host_kernels import HostKernels
from fake_device import FRESH, FakeDevice

from runtime.cuda.sampler import DeviceSampler, Download
from runtime.request import SamplingParams
from runtime.sampling import sample_row, uniforms
from runtime.sampling.row_state import RowState

EOS = frozenset({2, 5})


@dataclass
class Request:
    params: SamplingParams
    sample: int = 0
    prompt: list[int] = field(default_factory=lambda: [1])
    output: list[int] = field(default_factory=list)

    def state(self) -> RowState:
        return RowState(self.params, self.sample, self.prompt, self.output)

    def want(self, logits: np.ndarray, *, nudge: float = 0.0) -> tuple[int, float]:
        """The reference's draw, with the place that is drawn and the nucleus ``nudge`` larger."""
        generated = len(self.output)
        key = [np.array([v], dtype=np.uint64) for v in (self.params.seed, self.sample, generated)]
        counts = Counter(self.prompt + self.output if self.params.input_penalty else self.output)
        top_p = self.params.top_p * (1 + nudge) if self.params.top_p < 1 else 1.0
        uniform = min(float(uniforms(*key)[0]) * (1 + nudge), 1 - 2**-53)
        with np.errstate(over="ignore"):
            return sample_row(logits, replace(self.params, top_p=top_p), counts, generated, EOS, uniform)


class Harness:
    def __init__(
        self,
        kernels: HostKernels,
        vocabulary: int,
        *,
        max_rows: int = 64,
        threads: int = 64,
        eos: frozenset[int] = EOS,
        device: FakeDevice | None = None,
    ) -> None:
        self.device = device or FakeDevice()
        self.device.kernels = {name: partial(_launch, kernels, name) for name in kernels.names}
        self.stream = self.device.stream()
        self.sampler = DeviceSampler(
            self.device,
            self.stream,
            vocab_size=vocabulary,
            max_rows=max_rows,
            max_logit_rows=max_rows,
            eos_token_ids=eos,
            kernels=self.device.load(b""),
            threads=threads,
        )

    def start(self, requests: Sequence[Request]) -> None:
        for row, request in enumerate(requests):
            self.sampler.start(row, request.params, request.sample, request.prompt, request.output)

    def put(self, array: np.ndarray) -> int:
        buffer = self.device.allocate(array.nbytes)
        self.stream.upload(buffer.address, np.ascontiguousarray(array))
        return buffer.address

    def enqueue(self, logits: np.ndarray, rows: Sequence[int] | None = None) -> Download:
        """Row ``i`` of ``logits`` is row ``rows[i]``'s; they lie on the device in the opposite order."""
        places = list(range(len(logits)))[::-1]
        return self.sampler.sample(list(rows or range(len(logits))), self.put(logits[::-1]), places)

    def sample(self, logits: np.ndarray, rows: Sequence[int] | None = None) -> list[tuple[int, float]]:
        drawn = self.enqueue(logits, rows)
        self.stream.synchronize()
        assert all(buffer.memory[-1] == FRESH for buffer in self.device.buffers), "written past a buffer's end"
        return list(zip(drawn.tokens(), drawn.logprobs(), strict=True))

    def draw(self, requests: Sequence[Request], logits: np.ndarray) -> list[tuple[int, float]]:
        self.start(requests)
        return self.sample(logits)

    def gathered(self, host: list[int], sources: list[int]) -> list[int]:
        ids, places = np.array(host, dtype=np.int64), np.array(sources, dtype=np.int32)
        out = self.put(np.full_like(ids, -7))
        self.sampler.gather_tokens(out, self.put(ids), self.put(places), len(host))
        self.stream.synchronize()
        return self.device.view(out, ids.shape, np.int64).tolist()


def _launch(kernels: HostKernels, name: str, _: FakeDevice, grid: Any, block: Any, shared: int, args: Any) -> None:
    kernels.launch(name, grid, block, shared, *args, seed=5)


def random_request(rng: np.random.Generator, vocabulary: int) -> Request:
    pick = rng.choice
    allowed = rng.choice(vocabulary, int(pick([1, 5, 50])), replace=False).tolist() if rng.random() < 0.15 else []
    params = SamplingParams(
        temperature=float(pick([1.0, 0.7, 1.8, 30.0])),
        top_p=float(pick([1.0, 0.9, 0.3, 0.999])),
        top_k=int(pick([1, -1, -1, 5, 40, 100000])),
        presence_penalty=float(pick([0.0, 0.0, 0.6])),
        frequency_penalty=float(pick([0.0, 0.0, 0.4])),
        repetition_penalty=float(pick([1.0, 1.0, 1.3])),
        decay_factor=float(pick([1.0, 1.2])),
        decay_start=int(pick([1, 3])),
        min_new_tokens=int(pick([1, 4])),
        max_new_tokens=100,
        input_penalty=bool(pick([False, True])),
        allowed_token_ids=tuple(allowed),
        seed=int(rng.integers(2**64, dtype=np.uint64)),
    )
    prompt = rng.integers(0, vocabulary, 20).tolist()
    output = rng.integers(0, vocabulary, int(rng.integers(0, 30))).tolist()
    return Request(params, int(rng.integers(3)), prompt, output)


def random_logits(rng: np.random.Generator, rows: int, vocabulary: int) -> np.ndarray:
    """Rows of several spreads, some with many ties, all with zeros of both signs."""
    scale = rng.choice([0.1, 1.0, 3.0, 8.0], size=(rows, 1))
    logits = rng.standard_normal((rows, vocabulary)) * scale
    tied = rng.random(rows) < 0.3
    logits[tied] = np.round(logits[tied] * 2) / 2
    logits[rng.random((rows, vocabulary)) < 0.01] = 0.0
    logits[rng.random((rows, vocabulary)) < 0.01] *= -0.0
    return logits.astype(np.float32)


def check(drawn: list[tuple[int, float]], requests: Sequence[Request], logits: np.ndarray) -> int:
    """Asserts agreement; returns how many tokens are the very ones.

    The others are within the rounding of ``exp`` of a boundary: the reference, a millionth to either side, has them.
    """
    exact = 0
    for (token, logprob), request, z in zip(drawn, requests, logits, strict=True):
        want = request.want(z)
        exact += token == want[0]
        if token != want[0]:
            want = next((near for n in (1e-6, -1e-6) if (near := request.want(z, nudge=n))[0] == token), want)
        assert token == want[0], request
        assert logprob == pytest.approx(want[1], abs=1e-5, rel=1e-6), request
    return exact
