"""The sampling kernels: the reference's tokens, and how fast they get through logits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from benchmarks.gpu.findings import Findings, Settings
from benchmarks.gpu.timing import seconds_each
from runtime.cuda.cuda_device import open_device
from runtime.cuda.device import Device, Module, Stream
from runtime.cuda.kernel_cache import sampling_kernels
from runtime.cuda.sampler import DeviceSampler
from runtime.request import SamplingParams
from runtime.sampling import sample_row, uniforms

EOS = frozenset({2})
SIZES = ((8, 49152), (64, 49152), (256, 151936))
"""Rows and vocabularies; the largest is beyond any cache."""
STEPS = 3
_MISSES = 0.01
"""Share of draws that may fall within the rounding of ``exp`` of the boundary between two tokens."""
VARIETY = (
    SamplingParams(),
    SamplingParams(top_k=-1),
    SamplingParams(top_k=-1, temperature=0.7, top_p=0.9),
    SamplingParams(top_k=40, temperature=1.3),
    SamplingParams(top_k=50, top_p=0.8, repetition_penalty=1.3, presence_penalty=0.4, frequency_penalty=0.3),
    SamplingParams(frequency_penalty=1.5, input_penalty=True),
    SamplingParams(top_k=-1, allowed_token_ids=(3, 77, 500, 900)),
    SamplingParams(min_new_tokens=8, decay_factor=1.2),
)
FILTERED = SamplingParams(top_k=40, top_p=0.9, temperature=0.8, seed=7)


def measure(settings: Settings, findings: Findings) -> None:
    """Agreement, then rates.

    Raises:
        CudaError: A call fails.
        ArithmeticError: Too many draws are not the reference's.
    """
    device = open_device()
    module = device.load(sampling_kernels(device.compute_capability))
    exact, draws = agreement(device, module)
    findings.add(draws=draws, exact=exact)
    rates: dict[str, dict[str, float | None]] = {}
    best = 0.0
    for rows, vocabulary in SIZES:
        for name, params in (("greedy", SamplingParams()), ("top-k 40, top-p 0.9", FILTERED)):
            seconds = step_seconds(device, module, rows, vocabulary, params)
            rate = rows * vocabulary * 4 / seconds / 1e9
            best = max(best, rate)
            rates[f"{rows} x {vocabulary}, {name}"] = {
                "microseconds": round(seconds * 1e6, 1),
                "logits_gb_s": round(rate, 1),
                "share_of_copy": settings.share("copy_gb_s", rate),
            }
    findings.add(rates=rates, logits_gb_s="bytes of logits over the time of a step; the kernels pass over them twice")
    findings.outcome.summary = f"{exact} of {draws} draws are the reference's; {best:.0f} GB/s of logits at most"
    device.close()


def agreement(device: Device, module: Module, rows: int = 128, vocabulary: int = 5000) -> tuple[int, int]:
    """Draws that are the very ones of the reference, and all.

    Raises:
        ArithmeticError: More are others than rounding explains, or a log-probability is off.
    """
    rng = np.random.default_rng(0)
    params = [_seeded(VARIETY[row % len(VARIETY)], row) for row in range(rows)]
    outputs: list[list[int]] = [[] for _ in range(rows)]
    sampler, stream = _make_sampler(device, module, rows, vocabulary)
    for row in range(rows):
        sampler.start(row, params[row], 0, [5, 6, 6], [])
    buffer = device.allocate(rows * vocabulary * 4)
    exact = 0
    for _ in range(STEPS):
        logits = (rng.standard_normal((rows, vocabulary)) * 3).astype(np.float32)
        stream.upload(buffer.address, logits)
        drawn = sampler.sample(range(rows), buffer.address, range(rows))
        stream.synchronize()
        for row, (token, logprob) in enumerate(zip(drawn.tokens(), drawn.logprobs(), strict=True)):
            want = _reference(params[row], outputs[row], logits[row])
            exact += token == want[0]
            if token == want[0] and abs(logprob - want[1]) > 1e-4:
                message = f"row {row}: log-probability {logprob}, the reference's is {want[1]}"
                raise ArithmeticError(message)
            outputs[row].append(token)
    sampler.close()
    buffer.close()
    if exact < (1 - _MISSES) * rows * STEPS:
        message = f"only {exact} of {rows * STEPS} draws are the reference's"
        raise ArithmeticError(message)
    return exact, rows * STEPS


def step_seconds(device: Device, module: Module, rows: int, vocabulary: int, params: SamplingParams) -> float:
    """Of a step in which all rows sample."""
    sampler, stream = _make_sampler(device, module, rows, vocabulary)
    for row in range(rows):
        sampler.start(row, _seeded(params, row), 0, [5], [])
    logits = np.random.default_rng(1).standard_normal((1, vocabulary)).astype(np.float32)
    buffer = device.allocate(rows * vocabulary * 4)
    for row in range(rows):
        stream.upload(buffer.address + row * logits.nbytes, logits)
    seconds = seconds_each(stream, lambda: sampler.sample(range(rows), buffer.address, range(rows)))
    sampler.close()
    buffer.close()
    return seconds


def _reference(params: SamplingParams, output: Sequence[int], logits: npt.NDArray[np.float32]) -> tuple[int, float]:
    key = [np.array([value], dtype=np.uint64) for value in (params.seed, 0, len(output))]
    counts = Counter([5, 6, 6, *output] if params.input_penalty else output)
    return sample_row(logits, params, counts, len(output), EOS, float(uniforms(*key)[0]))


def _make_sampler(device: Device, module: Module, rows: int, vocabulary: int) -> tuple[DeviceSampler, Stream]:
    stream = device.stream()
    sampler = DeviceSampler(
        device,
        stream,
        vocab_size=vocabulary,
        max_rows=rows,
        max_logit_rows=rows,
        eos_token_ids=EOS,
        kernels=module,
    )
    return sampler, stream


def _seeded(params: SamplingParams, seed: int) -> SamplingParams:
    return replace(params, seed=seed, max_new_tokens=100)
