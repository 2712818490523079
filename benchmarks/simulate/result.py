"""What a run was worth."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from benchmarks.simulate.replica import Served
from runtime.request import FinishReason


class Objective(msgspec.Struct, frozen=True, kw_only=True):
    """What a request has to keep for its tokens to count.

    Attributes:
        first: Seconds to the first token.
        gap: Mean seconds between tokens.
    """

    first: float = 2.0
    gap: float = 0.1

    def __str__(self) -> str:
        return f"first token within {self.first:g} s, {self.gap:g} s between tokens on average"

    def kept(self, served: Served) -> bool:
        """Whether it was."""
        return served.finish in _DONE and served.to_first <= self.first and served.gap <= self.gap


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one run; times in seconds, rates a second.

    Attributes:
        requests: In the trace.
        answered: In full.
        refused: Turned away.
        seconds: From the first arrival to the last token.
        throughput: Generated tokens.
        goodput: Requests that kept the objective.
        kept: Their share of all.
        first: 50th, 90th and 99th percentile of the time to the first token.
        gap: The same of the mean time between tokens.
        preemptions: Samples that had to give way.
        cached: Share of prompt tokens found in the prefix cache.
    """

    requests: int
    answered: int
    refused: int
    seconds: float
    throughput: float
    goodput: float
    kept: float
    first: tuple[float, float, float]
    gap: tuple[float, float, float]
    preemptions: int
    cached: float


_DONE = (FinishReason.STOP, FinishReason.LENGTH)


def summarise(outcomes: Sequence[Served], objective: Objective, preemptions: int = 0) -> Summary:
    """The figures of a run."""
    done = [served for served in outcomes if served.finish in _DONE]
    began = min(served.arrival.seconds for served in outcomes)
    ended = max((served.last for served in done), default=math.inf)
    seconds = ended - began
    kept = sum(objective.kept(served) for served in done)
    prompts = sum(served.arrival.prompt_tokens for served in done)
    return Summary(
        requests=len(outcomes),
        answered=len(done),
        refused=sum(served.finish is FinishReason.NONE for served in outcomes),
        seconds=seconds,
        throughput=sum(served.tokens for served in done) / seconds,
        goodput=kept / seconds,
        kept=kept / len(outcomes),
        first=_percentiles([served.to_first for served in done]),
        gap=_percentiles([served.gap for served in done if served.tokens > 1]),
        preemptions=preemptions,
        cached=sum(served.cached for served in done) / max(1, prompts),
    )


def _percentiles(values: Sequence[float]) -> tuple[float, float, float]:
    if not values:
        return (math.nan, math.nan, math.nan)
    low, middle, high = np.percentile(values, (50, 90, 99))
    return float(low), float(middle), float(high)
