"""What comes of steps: emissions for the clients, totals for the operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from runtime.request import FinishReason, TopLogprobs
from runtime.scheduler.sequence import Sequence


class Emission(NamedTuple):
    """One committed token of one sample, or its end without a token (``token == -1``), perhaps with a score."""

    sequence: Sequence
    token: int
    logprob: float
    finish: FinishReason
    error: str = ""
    score: float | None = None
    top_logprobs: TopLogprobs | None = None


@dataclass(slots=True)
class Counters:
    """Totals since the start."""

    preemptions: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    computed_tokens: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    admissions: int = 0
