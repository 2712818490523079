"""Compiled graphs, with paged blocks and with linear slots, give the goldens."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from golden_cases import CASES, GREEDY_PROMPT_TOKENS, GREEDY_TOKENS, SCORE_CASES, GoldenCase
from paged import BLOCK_SIZE, Step, engine_step, feed_in_chunks, forward, greedy, greedy_with_neighbours
from slot_engine import compile_slots, slot_step

from build_engine.targets.cpu import CpuOptions, compile_cpu

generation = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
scoring = pytest.mark.parametrize("case", SCORE_CASES, ids=lambda case: case.name)


@pytest.fixture(scope="module", params=["paged", "slots"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[GoldenCase], Step]:
    """Compiles the graph of a case once; each call is a fresh engine on it."""
    paged = request.param == "paged"

    @cache
    def compiled(name: str) -> Path:
        directory: Path = tmp_path_factory.mktemp(name)
        case = next(case for case in (*CASES, *SCORE_CASES) if case.name == name)
        if paged:
            options = CpuOptions(precision="fp32", kv_dtype="float32", block_size=BLOCK_SIZE)
            compile_cpu(case.checkpoint(), directory, options, lambda *_: None)
        else:
            compile_slots(case.checkpoint(), directory)
        return directory

    def step(case: GoldenCase) -> Step:
        directory = compiled(case.name)
        return engine_step(directory) if paged else slot_step(directory, chunk=24)

    return step


@generation
def test_logits_agree_with_transformers(case: GoldenCase, engine: Callable[[GoldenCase], Step]) -> None:
    logits = forward(engine(case), case.prompt().tolist())
    np.testing.assert_allclose(logits, case.golden().logits, atol=1e-4, rtol=1e-4)


@generation
@pytest.mark.parametrize("chunk", [1, 5, GREEDY_PROMPT_TOKENS])
def test_greedy_continuation_is_the_golden_one_in_any_chunking(
    case: GoldenCase, engine: Callable[[GoldenCase], Step], chunk: int
) -> None:
    prompt = case.prompt()[:GREEDY_PROMPT_TOKENS].tolist()
    assert greedy(engine(case), prompt, GREEDY_TOKENS, chunk) == case.golden().continuation.tolist()


@generation
def test_greedy_continuation_is_the_golden_one_among_neighbours(
    case: GoldenCase, engine: Callable[[GoldenCase], Step]
) -> None:
    prompt = case.prompt()[:GREEDY_PROMPT_TOKENS].tolist()
    assert greedy_with_neighbours(engine(case), prompt, GREEDY_TOKENS) == case.golden().continuation.tolist()


@scoring
@pytest.mark.parametrize("chunk", [1, 5, 24])
def test_scores_agree_with_the_published_code(
    case: GoldenCase, engine: Callable[[GoldenCase], Step], chunk: int
) -> None:
    scores = feed_in_chunks(engine(case), case.prompt().tolist(), chunk)
    assert scores.shape == (24,)
    np.testing.assert_allclose(scores, case.scores(), atol=1e-4, rtol=1e-4)
