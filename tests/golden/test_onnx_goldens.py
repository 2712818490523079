from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from golden_cases import CASES, GREEDY_PROMPT_TOKENS, GREEDY_TOKENS, GoldenCase
from paged import BLOCK_SIZE, Step, engine_step, forward, greedy, greedy_with_neighbours

from build_engine.targets.cpu import CpuOptions, compile_cpu


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> GoldenCase:
    return request.param


@pytest.fixture(scope="module")
def step(case: GoldenCase, tmp_path_factory: pytest.TempPathFactory) -> Step:
    directory: Path = tmp_path_factory.mktemp(case.name)
    options = CpuOptions(precision="fp32", kv_dtype="float32", block_size=BLOCK_SIZE)
    compile_cpu(case.checkpoint(), directory, options, lambda *_: None)
    return engine_step(directory)


def test_logits_agree_with_transformers(case: GoldenCase, step: Step) -> None:
    np.testing.assert_allclose(forward(step, case.prompt().tolist()), case.golden().logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("chunk", [1, 5, GREEDY_PROMPT_TOKENS])
def test_greedy_continuation_is_the_golden_one_in_any_chunking(case: GoldenCase, step: Step, chunk: int) -> None:
    prompt = case.prompt()[:GREEDY_PROMPT_TOKENS].tolist()
    assert greedy(step, prompt, GREEDY_TOKENS, chunk) == case.golden().continuation.tolist()


def test_greedy_continuation_is_the_golden_one_among_neighbours(case: GoldenCase, step: Step) -> None:
    prompt = case.prompt()[:GREEDY_PROMPT_TOKENS].tolist()
    assert greedy_with_neighbours(step, prompt, GREEDY_TOKENS) == case.golden().continuation.tolist()
