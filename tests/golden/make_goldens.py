"""Writes the golden files with PyTorch and transformers.

Run ``PYTHONPATH=.:tests:tests/golden python tests/golden/make_goldens.py`` where torch is installed; names of cases
after it choose those.
"""

from __future__ import annotations

import sys

import numpy as np
from golden_cases import CASES, GREEDY_PROMPT_TOKENS, GREEDY_TOKENS, SCORE_CASES, GoldenCase
from published_model import PublishedModel


def main(names: list[str]) -> None:
    for case in (*CASES, *SCORE_CASES):
        if not names or case.name in names:
            print(f"{case.name}: {_make_scores(case) if case in SCORE_CASES else _make_logits(case)}")


def _make_logits(case: GoldenCase) -> str:
    model = PublishedModel(case.checkpoint())
    prompt = case.prompt()
    continuation = model.greedy(prompt[:GREEDY_PROMPT_TOKENS], GREEDY_TOKENS)
    ranked = np.sort(model.logits(np.append(prompt[:GREEDY_PROMPT_TOKENS], continuation)), axis=1)
    margin = (ranked[:, -1] - ranked[:, -2])[GREEDY_PROMPT_TOKENS - 1 : -1].min()
    np.savez_compressed(case.path, logits=model.logits(prompt), continuation=continuation)
    return f"smallest greedy margin {margin:.4f}, tokens {continuation.tolist()}"


def _make_scores(case: GoldenCase) -> str:
    scores = PublishedModel(case.checkpoint()).scores(case.prompt())
    np.savez_compressed(case.path, scores=scores)
    return f"scores {scores.round(3).tolist()}"


if __name__ == "__main__":
    main(sys.argv[1:])
