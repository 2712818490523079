"""The metric of ``peregrine_answers``; lm-eval loads this file by its name."""

from __future__ import annotations

from typing import Any


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Whether the answer names one of the accepted words."""
    answer = results[0].casefold()
    return {"named": float(any(word.casefold() in answer for word in doc["accepted"]))}
