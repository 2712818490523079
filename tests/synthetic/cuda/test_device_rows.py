"""What rows keep on the device from step to step, and the memory that takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cuda_host.host_kernels import HostKernels
from fake_device import FakeDevice
from sampler_harness import Harness, Request, check, random_logits, random_request

from runtime.cuda.errors import CudaError
from runtime.cuda.sampler import DeviceSampler
from runtime.request import SamplingParams


def test_steps_follow_one_another_without_the_host(sampling_kernels: HostKernels) -> None:
    """Counts, positions and EOS rules move on by themselves, also for rows that a step passes over."""
    rng = np.random.default_rng(9)
    requests = [random_request(rng, 300) for _ in range(12)]
    for request in requests:
        request.params = replace(request.params, repetition_penalty=1.5, frequency_penalty=0.3, allowed_token_ids=())
    harness = Harness(sampling_kernels, 300)
    harness.start(requests)
    for step in range(8):
        rows = [row for row in range(12) if (row + step) % 3]
        logits = random_logits(rng, len(rows), 300)
        drawn = harness.sample(logits, rows)
        check(drawn, [requests[row] for row in rows], logits)
        for row, (token, _) in zip(rows, drawn, strict=True):
            requests[row].output.append(token)


def test_steps_can_be_enqueued_ahead(sampling_kernels: HostKernels) -> None:
    request = Request(SamplingParams(top_k=-1, frequency_penalty=0.5, seed=11))
    logits = random_logits(np.random.default_rng(7), 4, 300)
    ahead, step_by_step = Harness(sampling_kernels, 300), Harness(sampling_kernels, 300)
    ahead.start([request])
    step_by_step.start([request])
    downloads = [ahead.enqueue(z[None]) for z in logits]
    assert not ahead.device.named("synchronize")
    ahead.stream.synchronize()
    assert [download.tokens()[0] for download in downloads] == [step_by_step.sample(z[None])[0][0] for z in logits]


def test_a_reused_row_remembers_nothing(sampling_kernels: HostKernels) -> None:
    harness = Harness(sampling_kernels, 300)
    penalised = SamplingParams(repetition_penalty=2.0, input_penalty=True, allowed_token_ids=(1, 2))
    harness.draw([Request(penalised, prompt=list(range(300)))], random_logits(np.random.default_rng(0), 1, 300))
    fresh = [Request(SamplingParams(repetition_penalty=2.0), output=[3])]
    logits = random_logits(np.random.default_rng(1), 1, 300)
    assert check(harness.draw(fresh, logits), fresh, logits) == 1


def test_counts_of_a_long_prompt_arrive_in_parts(sampling_kernels: HostKernels) -> None:
    params = SamplingParams(frequency_penalty=0.5, input_penalty=True)
    requests = [Request(params, prompt=[*range(9000), 8999, 8999])]
    logits = np.zeros((1, 9001), dtype=np.float32)
    logits[0, :9000] = 0.4
    logits[0, 8999] = 1.4
    assert check(Harness(sampling_kernels, 9001).draw(requests, logits), requests, logits) == 1


def test_counts_stop_at_what_fits(sampling_kernels: HostKernels) -> None:
    """65535 occurrences at 0.001 each; one more would be none."""
    harness = Harness(sampling_kernels, 40)
    logits = np.zeros((1, 40), dtype=np.float32)
    logits[0, 7] = 100.0
    request = Request(SamplingParams(frequency_penalty=1e-3), output=[7] * 65535)
    assert harness.draw([request], logits)[0][0] == 7
    logits[0, 7] = 65.0
    assert harness.sample(logits)[0][0] == 0


def test_tokens_are_gathered_from_the_host_and_from_rows(sampling_kernels: HostKernels) -> None:
    harness = Harness(sampling_kernels, 300)
    logits = random_logits(np.random.default_rng(4), 3, 300)
    tokens = [token for token, _ in harness.draw([Request(SamplingParams())] * 3, logits)]
    host = list(range(1000, 1600))
    sources = [-1] * 600
    sources[0], sources[5], sources[599] = 2, 0, 1
    want = [*host]
    want[0], want[5], want[599] = tokens[2], tokens[0], tokens[1]
    assert harness.gathered(host, sources) == want


def test_a_failed_rows_last_token_is_a_valid_id(sampling_kernels: HostKernels) -> None:
    harness = Harness(sampling_kernels, 40)
    assert harness.draw([Request(SamplingParams())], np.full((1, 40), np.nan, dtype=np.float32))[0][0] == -1
    assert harness.gathered([7], [0]) == [0]


def test_memory_is_what_was_announced_and_is_given_back(sampling_kernels: HostKernels) -> None:
    harness = Harness(sampling_kernels, 49152)
    taken = sum(buffer.nbytes for buffer in harness.device.buffers)
    assert 0 <= taken - DeviceSampler.nbytes(49152, 64) < 50_000
    harness.sampler.close()
    assert harness.device.buffers == []


def test_what_was_allocated_is_given_back_when_memory_is_short(sampling_kernels: HostKernels) -> None:
    device = FakeDevice(total=2**20)
    with pytest.raises(CudaError, match="CUDA_ERROR_OUT_OF_MEMORY"):
        Harness(sampling_kernels, 49152, device=device)
    assert device.buffers == []
