"""Scores of a reward model on real arithmetic: whatever else is in the step, and however it comes, the same bits.

Once on the NumPy reference with float32 weights, so that a paging bug cannot hide behind numerics, and on ONNX
Runtime with the native ops, as served.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence as Many
from pathlib import Path

import numpy as np
import pytest
from tiny import VOCAB_SIZE, FloatTensor, tiny_checkpoint, tiny_weights

from build_engine.checkpoint import Checkpoint
from build_engine.families.names import EMBEDDING
from build_engine.targets.cpu import CpuOptions, compile_cpu
from runtime.bundle.architecture import ScoreHead
from runtime.executors.finishers import SCORE_NOT_FINITE
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
    Sequence,
    check_invariants,
)
from runtime.scheduler.admission import Load

NUM_BLOCKS, BLOCK_SIZE = 160, 4
POISON = VOCAB_SIZE - 1
MODELS = {
    "reference": ("none", tiny_checkpoint("llama", score_head=ScoreHead())),
    "fp32-linear": ("fp32", tiny_checkpoint("internlm2", score_head=ScoreHead())),
    "int8-linear": ("int8", tiny_checkpoint("llama", score_head=ScoreHead(bias=True))),
    "int8-mlp": ("int8", tiny_checkpoint("qwen2", score_head=ScoreHead(hidden_size=64, bias=True))),
}


class Careless(Aggressive):
    """Lets everybody in, so that somebody has to give way."""

    def admits(self, running: Many[Sequence], candidate: Group, load: Load) -> bool:
        return True


def host_model(precision: str, checkpoint: Checkpoint, folder: Path) -> HostModel:
    if precision == "none":
        weights = tiny_weights(checkpoint)
        return ReferenceModel(checkpoint.architecture, weights, num_blocks=NUM_BLOCKS, block_size=BLOCK_SIZE)
    compile_cpu(checkpoint, folder, CpuOptions(precision=precision, block_size=BLOCK_SIZE), lambda *_: None)
    return OrtModel(folder, num_blocks=NUM_BLOCKS, max_logit_rows=40, threads=2)


@pytest.fixture(scope="module", params=MODELS, ids=str)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HostModel:
    return host_model(*MODELS[request.param], tmp_path_factory.mktemp("engine"))


class Engine:
    """Scheduler and executor over a model's pool, of which it uses the first ``num_blocks``."""

    def __init__(self, model: HostModel, rows: int, step_tokens: int, num_blocks: int, *, careless: bool) -> None:
        limits = {"max_rows": rows, "max_step_tokens": step_tokens, "max_logit_rows": rows + 1}
        self.executor = HostExecutor(model, eos_token_ids=frozenset(), max_sequence_tokens=64, **limits)
        policy = Careless() if careless else Aggressive()
        self.scheduler = Scheduler(SchedulerConfig(**limits), KvCache(num_blocks, BLOCK_SIZE), policy)
        self.steps = 0

    def emissions(self, prompts: list[list[int]]) -> list[Emission]:
        """What comes of prompts that arrive together, in their order."""
        collected: dict[int, Emission] = {}
        for number, prompt in enumerate(prompts):
            self.scheduler.add(Group((b"", number), list(prompt), SamplingParams(max_new_tokens=1)))
        while self.scheduler.has_work:
            step = self.scheduler.plan()
            assert step is not None
            output = self.executor.collect(self.executor.submit(step.plan))
            collected |= {e.sequence.group.key[1]: e for e in self.scheduler.commit(step, output)}
            assert check_invariants(self.scheduler) == []
            self.steps += 1
        return [collected[number] for number in range(len(prompts))]

    def scores(self, prompts: list[list[int]]) -> list[float | None]:
        return [emission.score for emission in self.emissions(prompts)]


def engine(
    model: HostModel, rows: int = 24, step_tokens: int = 1024, num_blocks: int = NUM_BLOCKS, *, careless: bool = False
) -> Engine:
    return Engine(model, rows, step_tokens, num_blocks, careless=careless)


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    """Twenty of all lengths up to ten blocks; some begin alike."""
    rng = random.Random(7)
    stem = [rng.randrange(4, POISON) for _ in range(40)]
    fresh = [[rng.randrange(4, POISON) for _ in range(length)] for length in (1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 31, 40)]
    return fresh + [[*stem[:cut], rng.randrange(4, POISON)] for cut in (3, 4, 12, 13, 20, 27, 32, 39)]


@pytest.fixture(scope="module")
def alone(model: HostModel, prompts: list[list[int]]) -> list[float | None]:
    """Each prompt on an engine of its own."""
    scores = [engine(model).scores([prompt])[0] for prompt in prompts]
    assert len(set(scores)) == len(prompts)
    return scores


def test_in_one_batch(model: HostModel, prompts: list[list[int]], alone: list[float | None]) -> None:
    together = engine(model)
    assert together.scores(prompts) == alone
    assert together.steps == 1


@pytest.mark.parametrize("rows", [1, 3])
def test_chunked_in_threes(model: HostModel, prompts: list[list[int]], alone: list[float | None], rows: int) -> None:
    assert engine(model, rows, step_tokens=3).scores(prompts) == alone


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_with_a_warm_prefix_cache(
    model: HostModel, prompts: list[list[int]], alone: list[float | None], share: float
) -> None:
    warm = engine(model)
    known = [prompt[: max(1, int(share * len(prompt)))] for prompt in prompts]
    warm.scores(known)
    emissions = warm.emissions(prompts)
    assert [emission.score for emission in emissions] == alone
    for emission, prompt, prefix in zip(emissions, prompts, known, strict=True):
        full = min(len(prefix), len(prompt) - 1) // BLOCK_SIZE * BLOCK_SIZE
        assert emission.sequence.cached >= full


def test_after_giving_way(model: HostModel, prompts: list[list[int]], alone: list[float | None]) -> None:
    crowd = engine(model, rows=8, step_tokens=23, num_blocks=12, careless=True)
    assert crowd.scores(prompts) == alone
    assert crowd.scheduler.counters.preemptions > 0


@pytest.mark.parametrize("precision", ["none", "fp32"])
def test_a_score_that_is_not_finite_fails_alone(precision: str, prompts: list[list[int]], tmp_path: Path) -> None:
    """Nor does what it left in the blocks spoil the next who gets them."""
    checkpoint = tiny_checkpoint("llama", score_head=ScoreHead())
    table = checkpoint.tensors[EMBEDDING].float32().copy()
    table[POISON] = np.nan
    tensors = {**checkpoint.tensors, EMBEDDING: FloatTensor(EMBEDDING, table)}
    model = host_model(precision, dataclasses.replace(checkpoint, tensors=tensors), tmp_path)
    healthy = [engine(model).scores([prompt])[0] for prompt in prompts]
    mixed = [
        prompt[:place] + [POISON] * poisoned + prompt[place:]
        for prompt in prompts
        for place, poisoned in ((len(prompt) // 2, 1), (0, 0))
    ]
    for crowd in (engine(model, rows=40), engine(model, rows=8, step_tokens=23, num_blocks=12, careless=True)):
        emissions = crowd.emissions(mixed)
        assert [emission.error for emission in emissions[0::2]] == [SCORE_NOT_FINITE] * len(prompts)
        assert [emission.score for emission in emissions[1::2]] == healthy
