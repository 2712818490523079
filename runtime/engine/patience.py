"""How long a step may take before the engine counts as hung."""

from __future__ import annotations

import math

SHORTEST = 2.0
"""An engine without work shows a sign of life each second."""

_BEFORE_THE_FIRST_STEP = 10
_BEYOND_THE_MEAN = 3


class Patience:
    """As long as the operator says or, for a large step of a slow model, as long as its tokens take.

    At the mean time of a token a large step is overestimated, since tokens of small steps, the most of them, take
    longer; long contexts are what the factor is for. Before the first step nothing is known of the machine.

    Args:
        step_timeout: Seconds that every step is given; 0 gives them all the time there is.
    """

    def __init__(self, step_timeout: float = 0.0) -> None:
        self._least = max(step_timeout, SHORTEST) if step_timeout else math.inf
        self._tokens = 0
        self._seconds = 0.0

    def observe(self, tokens: int, seconds: float) -> None:
        """A step has run so many tokens in so much time."""
        self._tokens += tokens
        self._seconds += seconds

    def seconds(self, tokens: int = 0) -> float:
        """Seconds until a step of ``tokens`` tokens, or an engine that runs none, is overdue."""
        if tokens and not self._tokens:
            return self._least * _BEFORE_THE_FIRST_STEP
        return max(self._least, _BEYOND_THE_MEAN * tokens * self._seconds / max(1, self._tokens))
