"""In-flight batching on real arithmetic: tokens and log-probabilities have the bits of a run alone.

Once on the NumPy reference with float32 weights, so that a paging bug cannot hide behind numerics, and once on
ONNX Runtime with the native ops and quantised weights, as served.
"""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tiny import EOS, tiny_checkpoint

from build_engine.targets.cpu import CpuOptions, compile_cpu
from runtime.bundle.manifest import Manifest
from runtime.executors.host import HostExecutor, HostModel
from runtime.executors.ort import OrtModel
from runtime.executors.reference import ReferenceModel
from runtime.request import SamplingParams
from runtime.scheduler import (
    Aggressive,
    Emission,
    Group,
    KvCache,
    Scheduler,
    SchedulerConfig,
    check_invariants,
)

NUM_BLOCKS, BLOCK_SIZE = 24, 4
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
    compiled = compile_cpu(checkpoint, folder, options, lambda *_: None)
    manifest = cast("Manifest", SimpleNamespace(architecture=checkpoint.architecture, kv=compiled.kv))
    return OrtModel(folder, manifest, num_blocks=NUM_BLOCKS, max_logit_rows=16, threads=2)


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


def run(model: HostModel, requests: list[tuple[list[int], SamplingParams, int]], rng: random.Random | None) -> Trace:
    """All requests at random moments when ``rng`` is given, else each on an engine of its own."""
    trace: Trace = {}
    batches = [list(enumerate(requests))] if rng else [[item] for item in enumerate(requests)]
    for batch in batches:
        scheduler, executor = engine(model, rng.choice([6, 11, 40]) if rng else 64)
        todo = list(batch)
        while todo or scheduler.has_work:
            while todo and (rng is None or rng.random() < 0.5 or not scheduler.has_work):
                number, (prompt, params, samples) = todo.pop(0)
                scheduler.add(Group((b"", number), list(prompt), params, samples=samples))
            for emission in step(scheduler, executor):
                key = (emission.sequence.group.key[1], emission.sequence.sample)
                trace.setdefault(key, []).append((emission.token, emission.logprob))
    return trace


@pytest.mark.parametrize("seed", range(3))
def test_a_crowded_run_has_the_bits_of_solo_runs(model: HostModel, seed: int) -> None:
    rng = random.Random(seed)
    stem = [rng.randrange(4, 260) for _ in range(18)]
    requests = [
        (
            stem[: rng.randrange(4, 18)] + [rng.randrange(4, 260) for _ in range(rng.randrange(3))],
            SamplingParams(
                max_new_tokens=rng.randrange(2, 14),
                top_k=rng.choice([1, 1, -1, 20]),
                temperature=rng.choice([1.0, 0.8]),
                repetition_penalty=rng.choice([1.0, 1.2]),
                seed=rng.randrange(2**64),
            ),
            rng.choice([1, 1, 2]),
        )
        for _ in range(10)
    ]
    assert run(model, requests, rng) == run(model, requests, None)
