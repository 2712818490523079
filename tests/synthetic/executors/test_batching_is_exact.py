"""In-flight batching on real arithmetic: tokens and log-probabilities have the bits of a run alone.

Once on the NumPy reference with float32 weights, so that a paging bug cannot hide behind numerics, and once on
ONNX Runtime with the native ops and quantised weights, as served.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from tiny import EOS, tiny_checkpoint

from build_engine.targets.cpu import CpuOptions, compile_cpu
from runtime.executors.host import HostExecutor, HostModel
from runtime.executors.ort import OrtModel
from runtime.executors.reference import ReferenceModel
from runtime.request import SamplingParams
from runtime.scheduler import (
    Aggressive,
    Counters,
    Emission,
    Group,
    KvCache,
    Scheduler,
    SchedulerConfig,
    check_invariants,
)

NUM_BLOCKS, BLOCK_SIZE = 12, 4
"""Too few for the crowd, so that it preempts; enough for any one of its requests."""
Request = tuple[list[int], SamplingParams, int]
Trace = dict[tuple[int, int], list[tuple[int, float]]]


@pytest.fixture(scope="module", params=["reference", "onnxruntime"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HostModel:
    if request.param == "reference":
        checkpoint = tiny_checkpoint("llama")
        weights = {name: tensor.float32() for name, tensor in checkpoint.tensors.items()}
        return ReferenceModel(checkpoint.architecture, weights, num_blocks=NUM_BLOCKS, block_size=BLOCK_SIZE)
    folder: Path = tmp_path_factory.mktemp("engine")
    checkpoint = tiny_checkpoint("qwen3")
    options = CpuOptions(precision="int8", kv_dtype="float16", block_size=BLOCK_SIZE)
    compile_cpu(checkpoint, folder, options, lambda *_: None)
    return OrtModel(folder, num_blocks=NUM_BLOCKS, max_logit_rows=16, threads=2)


def engine(model: HostModel, max_step_tokens: int) -> tuple[Scheduler, HostExecutor]:
    eos = frozenset({EOS})
    limits: dict[str, Any] = {"max_rows": 5, "max_step_tokens": max_step_tokens, "max_logit_rows": 8}
    executor = HostExecutor(model, eos_token_ids=eos, max_sequence_tokens=64, **limits)
    kv = KvCache(NUM_BLOCKS, BLOCK_SIZE)
    return Scheduler(SchedulerConfig(eos_token_ids=eos, **limits), kv, Aggressive()), executor


def step(scheduler: Scheduler, executor: HostExecutor) -> list[Emission]:
    planned = scheduler.plan()
    assert planned is not None
    emissions = scheduler.commit(planned, executor.collect(executor.submit(planned.plan)))
    assert check_invariants(scheduler) == []
    return emissions


def record(trace: Trace, emissions: list[Emission]) -> None:
    for emission in emissions:
        key = (emission.sequence.group.key[1], emission.sequence.sample)
        trace.setdefault(key, []).append((emission.token, emission.logprob))


def alone(model: HostModel, requests: list[Request]) -> Trace:
    """Each request on an engine of its own: no neighbours, no chunks, no prefix hits, nothing preempted."""
    trace: Trace = {}
    for number, (prompt, params, samples) in enumerate(requests):
        scheduler, executor = engine(model, 64)
        scheduler.add(Group((b"", number), list(prompt), params, samples=samples))
        while scheduler.has_work:
            record(trace, step(scheduler, executor))
        assert scheduler.counters.preemptions == 0
    return trace


def crowd(model: HostModel, requests: list[Request], rng: random.Random) -> tuple[Trace, Counters]:
    """All requests on one engine, each coming at a random moment."""
    trace: Trace = {}
    scheduler, executor = engine(model, rng.choice([6, 11, 40]))
    todo = list(enumerate(requests))
    while todo or scheduler.has_work:
        while todo and (rng.random() < 0.5 or not scheduler.has_work):
            number, (prompt, params, samples) = todo.pop(0)
            scheduler.add(Group((b"", number), list(prompt), params, samples=samples))
        record(trace, step(scheduler, executor))
    return trace, scheduler.counters


def random_request(rng: random.Random, stem: list[int]) -> Request:
    """One that fits the pool. No EOS, so that who is preempted depends on the seed and not on the processor."""
    params = SamplingParams(
        max_new_tokens=rng.randrange(8, 24),
        top_k=rng.choice([1, -1, 20]),
        temperature=rng.choice([1.0, 0.8]),
        repetition_penalty=rng.choice([1.0, 1.2]),
        frequency_penalty=rng.choice([0.0, 0.3]),
        input_penalty=rng.random() < 0.3,
        seed=rng.randrange(2**64),
        ignore_eos=True,
    )
    prompt = stem[: rng.randrange(4, 18)] + [rng.randrange(4, 260) for _ in range(rng.randrange(3))]
    samples = rng.choice([1, 1, 2])
    fits = samples * -(-(len(prompt) + params.max_new_tokens) // BLOCK_SIZE) <= NUM_BLOCKS
    return prompt, params, samples if fits else 1


@pytest.mark.parametrize("seed", range(6))
def test_a_crowded_run_has_the_bits_of_solo_runs(model: HostModel, seed: int) -> None:
    rng = random.Random(seed)
    stem = [rng.randrange(4, 260) for _ in range(18)]
    requests = [random_request(rng, stem) for _ in range(12)]
    trace, counters = crowd(model, requests, rng)
    assert counters.preemptions > 0
    assert counters.prefix_hits > 0
    assert trace == alone(model, requests)
