"""Writes the golden files from transformers.

Run ``PYTHONPATH=.:tests:tests/golden python tests/golden/make_goldens.py`` where torch is installed.
"""

from __future__ import annotations

import numpy as np
from golden_cases import CASES, GREEDY_PROMPT_TOKENS, GREEDY_TOKENS
from transformers_model import TransformersModel


def main() -> None:
    for case in CASES:
        model = TransformersModel(case.checkpoint())
        prompt = case.prompt()
        continuation = model.greedy(prompt[:GREEDY_PROMPT_TOKENS], GREEDY_TOKENS)
        ranked = np.sort(model.logits(np.append(prompt[:GREEDY_PROMPT_TOKENS], continuation)), axis=1)
        margin = (ranked[:, -1] - ranked[:, -2])[GREEDY_PROMPT_TOKENS - 1 : -1].min()
        np.savez_compressed(case.path, logits=model.logits(prompt), continuation=continuation)
        print(f"{case.name}: smallest greedy margin {margin:.4f}, tokens {continuation.tolist()}")


if __name__ == "__main__":
    main()
