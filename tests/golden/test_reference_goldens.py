from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from golden_cases import CASES, GREEDY_PROMPT_TOKENS, GREEDY_TOKENS, SCORE_CASES, GoldenCase
from paged import feed_in_chunks, forward, greedy, greedy_with_neighbours, reference_step

generation = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
scoring = pytest.mark.parametrize("case", SCORE_CASES, ids=lambda case: case.name)
both_ways = pytest.mark.parametrize("rowwise", [False, True], ids=["matrices", "rowwise"])


@generation
@both_ways
def test_logits_agree_with_transformers(case: GoldenCase, rowwise: bool) -> None:
    logits = forward(reference_step(case.checkpoint(), rowwise=rowwise), case.prompt().tolist())
    np.testing.assert_allclose(logits, case.golden().logits, atol=1e-4, rtol=1e-4)


@generation
@pytest.mark.parametrize("chunk", [1, 5, GREEDY_PROMPT_TOKENS])
def test_greedy_continuation_is_the_golden_one_in_any_chunking(case: GoldenCase, chunk: int) -> None:
    prompt = case.prompt()[:GREEDY_PROMPT_TOKENS].tolist()
    tokens = greedy(reference_step(case.checkpoint()), prompt, GREEDY_TOKENS, chunk)
    assert tokens == case.golden().continuation.tolist()


@generation
def test_greedy_continuation_is_the_golden_one_among_neighbours(case: GoldenCase) -> None:
    prompt = case.prompt()[:GREEDY_PROMPT_TOKENS].tolist()
    tokens = greedy_with_neighbours(reference_step(case.checkpoint()), prompt, GREEDY_TOKENS)
    assert tokens == case.golden().continuation.tolist()


@scoring
@both_ways
@pytest.mark.parametrize("chunk", [1, 5, 24])
def test_scores_agree_with_the_published_code(case: GoldenCase, rowwise: bool, chunk: int) -> None:
    scores = feed_in_chunks(reference_step(case.checkpoint(), rowwise=rowwise), case.prompt().tolist(), chunk)
    assert scores.shape == (24,)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, case.scores(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("gemma2", {"attention_softcap": 0.0}),
        ("gemma2", {"logits_softcap": 0.0}),
        ("gemma2", {"embedding_scale": 1.0}),
        ("gemma2", {"output_norms": False}),
        ("gemma2", {"attention_scale": 0.0}),
        ("gemma2", {"activation": "silu"}),
        ("gemma2", {"sliding_windows": (6, 0) * 3}),
        ("gemma2", {"sliding_windows": (0, 5) * 3}),
        ("phi3-window", {"sliding_windows": (5, 5)}),
        ("phi3-partial-rotation", {"rope_dim": 0}),
        ("phi3-longrope-long", {"rope_scaling": {"attention_factor": 1.0}}),
        ("phi3-longrope-long", {"rope_scaling": {"factors": (1.0,) * 6}}),
        ("qwen2-reward", {"score_head": {"bias": False}}),
    ],
    ids=str,
)
def test_the_goldens_tell_each_option(name: str, changed: dict[str, Any]) -> None:
    case = next(case for case in (*CASES, *SCORE_CASES) if case.name == name)
    checkpoint = case.checkpoint()
    architecture = checkpoint.architecture
    fields = {
        field: msgspec.structs.replace(getattr(architecture, field), **value) if isinstance(value, dict) else value
        for field, value in changed.items()
    }
    other = replace(checkpoint, architecture=msgspec.structs.replace(architecture, **fields))
    golden = case.scores() if architecture.score_head else case.golden().logits
    difference = forward(reference_step(other), case.prompt().tolist()) - golden
    assert np.abs(difference).max() > 0.05
