"""What a step costs, and one token more in it: a line through the times of recent steps."""

from __future__ import annotations

_DECAY = 0.98
"""Weight that a step keeps when the next one comes: some fifty steps count."""
_PRIOR_SHARE = 0.1
"""What one token more costs while nothing else is known, as a share of what a token costs on average.

Too cheap rather than too dear: the first is noticed.
"""
_PRIOR_WEIGHT = 4.0
"""How much the prior counts, in squared tokens of deviation from the mean."""
_LEAST = 0.1
"""What one token more costs at least, as a share of that."""
_WORST = 2.0
"""A step that took longer than expected by more than this factor was disturbed by something else."""
_SHORT = 8
"""After so many steps in a row that were shorter than expected by more than that factor the older ones are out of date:
they were disturbed, or the machine has become faster."""
_STALE = 0.1
"""Weight that they keep."""
_ALIKE = 16
"""Steps whose tokens differ by less than this part of them are alike."""


class StepTime:
    """Least squares over tokens and seconds of steps, the older ones counting less.

    NOTE: where all steps have the same number of tokens for long, what a token costs is forgotten, and tried again.
    """

    def __init__(self) -> None:
        self.fixed = 1.0 - _PRIOR_SHARE
        self.a_token = _PRIOR_SHARE
        self._short = 0
        self._weight = self._tokens = self._seconds = self._squares = self._products = 0.0

    @property
    def alike(self) -> bool:
        """Whether recent steps were too much alike to tell what a token costs."""
        return self._weight * self._squares - self._tokens**2 < (self._tokens / _ALIKE) ** 2

    def of(self, tokens: float) -> float:
        """Estimated seconds of a step of so many tokens; relative ones before the first observation."""
        return self.fixed + self.a_token * tokens

    def observe(self, tokens: int, seconds: float) -> None:
        """A step has been timed."""
        kept = _DECAY
        if self._weight:
            expected = self.of(tokens)
            self._short = self._short + 1 if _WORST * seconds < expected else 0
            kept = _STALE if self._short >= _SHORT else _DECAY
            seconds = min(seconds, _WORST * expected)
        self._weight = kept * self._weight + 1.0
        self._tokens = kept * self._tokens + tokens
        self._seconds = kept * self._seconds + seconds
        self._squares = kept * self._squares + tokens * tokens
        self._products = kept * self._products + tokens * seconds
        tokens_mean, mean = self._tokens / self._weight, self._seconds / self._weight
        deviation = self._squares - self._tokens * tokens_mean
        together = self._products - self._tokens * mean
        prior = _PRIOR_SHARE * mean / tokens_mean
        slope = (together + _PRIOR_WEIGHT * prior) / (deviation + _PRIOR_WEIGHT)
        # NOTE: a step of no tokens takes no negative time, and a token is never for nothing: where noise says so, what
        # is hopeless would be drafted too.
        self.a_token = min(max(slope, _LEAST * prior), mean / tokens_mean)
        self.fixed = mean - self.a_token * tokens_mean
