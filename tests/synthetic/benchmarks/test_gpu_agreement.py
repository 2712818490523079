"""Greedy tokens against the float32 reference, as the GPU check compares them."""

from __future__ import annotations

import pytest
from tiny import tiny_checkpoint, tiny_weights

from benchmarks.gpu.agreement import compare
from benchmarks.gpu.rates import generate
from runtime.engine.core import EngineCore
from runtime.executors.host import HostExecutor
from runtime.executors.reference import ReferenceModel
from runtime.limits import EngineLimits
from runtime.scheduler import FuturePeak

PROMPTS = [[5, 6, 7, 8], [40, 30, 20, 10, 9, 8, 7], [100]]


def greedy(new_tokens: int) -> list[list[int]]:
    checkpoint = tiny_checkpoint()
    model = ReferenceModel(checkpoint.architecture, tiny_weights(checkpoint), num_blocks=30, block_size=16)
    executor = HostExecutor(
        model, eos_token_ids=frozenset(), max_rows=8, max_step_tokens=16, max_logit_rows=16, max_sequence_tokens=64
    )
    limits = EngineLimits(
        max_request_tokens=64,
        max_total_tokens=480,
        max_running=8,
        max_queued=8,
        max_step_tokens=16,
        block_size=16,
        vocab_size=checkpoint.architecture.vocab_size,
        eos_token_ids=(),
        kv_bytes_per_token=8,
    )
    return generate(EngineCore(executor, limits, FuturePeak()), PROMPTS, new_tokens)


def test_the_references_own_tokens_agree() -> None:
    found = compare(tiny_checkpoint(), PROMPTS, greedy(9))
    assert (found["tokens"], found["others"]) == (27, 0)


def test_other_tokens_are_found() -> None:
    outputs = greedy(9)
    outputs[1][4] = (outputs[1][4] + 1) % 200
    with pytest.raises(ArithmeticError, match="below the float32 reference's best logit"):
        compare(tiny_checkpoint(), PROMPTS, outputs)
