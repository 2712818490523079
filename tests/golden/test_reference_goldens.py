from __future__ import annotations

import numpy as np
import pytest
from golden_cases import CASES, GREEDY_PROMPT_TOKENS, GREEDY_TOKENS, GoldenCase
from paged import forward, greedy, greedy_with_neighbours, reference_step

pytestmark = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.mark.parametrize("rowwise", [False, True], ids=["matrices", "rowwise"])
def test_logits_agree_with_transformers(case: GoldenCase, rowwise: bool) -> None:
    logits = forward(reference_step(case.checkpoint(), rowwise=rowwise), case.prompt().tolist())
    np.testing.assert_allclose(logits, case.golden().logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("chunk", [1, 5, GREEDY_PROMPT_TOKENS])
def test_greedy_continuation_is_the_golden_one_in_any_chunking(case: GoldenCase, chunk: int) -> None:
    prompt = case.prompt()[:GREEDY_PROMPT_TOKENS].tolist()
    tokens = greedy(reference_step(case.checkpoint()), prompt, GREEDY_TOKENS, chunk)
    assert tokens == case.golden().continuation.tolist()


def test_greedy_continuation_is_the_golden_one_among_neighbours(case: GoldenCase) -> None:
    prompt = case.prompt()[:GREEDY_PROMPT_TOKENS].tolist()
    tokens = greedy_with_neighbours(reference_step(case.checkpoint()), prompt, GREEDY_TOKENS)
    assert tokens == case.golden().continuation.tolist()
