from __future__ import annotations

import numpy as np
import pytest
from golden_cases import CASES, GREEDY_PROMPT_TOKENS, GREEDY_TOKENS, SCORE_CASES, GoldenCase

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_goldens_are_what_transformers_computes(case: GoldenCase) -> None:
    pytest.importorskip("torch")
    from published_model import PublishedModel

    model, golden = PublishedModel(case.checkpoint()), case.golden()
    np.testing.assert_allclose(model.logits(case.prompt()), golden.logits, atol=1e-4, rtol=1e-4)
    continuation = model.greedy(case.prompt()[:GREEDY_PROMPT_TOKENS], GREEDY_TOKENS)
    np.testing.assert_array_equal(continuation, golden.continuation)


@pytest.mark.parametrize("case", SCORE_CASES, ids=lambda case: case.name)
def test_scores_are_what_the_published_code_computes(case: GoldenCase) -> None:
    pytest.importorskip("torch")
    from published_model import PublishedModel

    scores = PublishedModel(case.checkpoint()).scores(case.prompt())
    np.testing.assert_allclose(scores, case.scores(), atol=1e-4, rtol=1e-4)
