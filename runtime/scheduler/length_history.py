"""How long outputs have been lately: the "past" half of *Past-Future Scheduler for LLM Serving under SLA Guarantees*.

The paper (ASPLOS'25) takes the empirical distribution of the last outputs' lengths, given the length that an output has
reached. An output that was cut off by its own limit says only that it would have been longer, so the distribution here
is the product-limit estimate, which such observations enter as what they are (Kaplan and Meier 1958).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, deque

WINDOW = 1000
"""Outputs that are remembered, as in the paper."""

LEAST = 32
"""Fewer outputs than this say nothing."""

_REFRESH = 16
"""Outputs that may come in before the estimate is made anew."""


class LengthHistory:
    """The last outputs' lengths, and what they foretell.

    Args:
        window: Outputs that are remembered.
        least: Outputs from which on they foretell anything.
    """

    def __init__(self, window: int = WINDOW, least: int = LEAST) -> None:
        self._least = least
        self._outputs: deque[tuple[int, bool]] = deque(maxlen=window)
        self._news = 0
        self._lengths: list[int] = []  # at which outputs ended by themselves, rising
        self._survivals: list[float] = []  # share of outputs that are longer, to each of them
        self._falls: list[float] = []  # the same, negated: rising, to be searched

    def __len__(self) -> int:
        return len(self._outputs)

    def add(self, length: int, *, cut: bool) -> None:
        """An output has ended after ``length`` tokens; ``cut`` if only its own limit ended it."""
        self._outputs.append((length, cut))
        self._news += 1

    def foretell(self, reached: int, share: float) -> int | None:
        """The length that ``share`` of the outputs stay within, of those that are longer than ``reached``.

        Args:
            reached: Tokens that the output has.
            share: In [0, 1).

        Returns:
            A length above ``reached``; ``None`` where the past does not tell.
        """
        if len(self._outputs) < self._least:
            return None
        if self._news >= _REFRESH or not self._lengths:
            self._estimate()
        first = bisect_right(self._lengths, reached)
        alive = self._survivals[first - 1] if first else 1.0
        index = bisect_left(self._falls, -alive * (1.0 - share), first)
        return self._lengths[index] if index < len(self._lengths) else None

    def _estimate(self) -> None:
        self._news = 0
        ended = Counter(length for length, cut in self._outputs if not cut)
        cut_off = Counter(length for length, cut in self._outputs if cut)
        self._lengths, self._survivals = [], []
        alive, survival = len(self._outputs), 1.0
        for length in sorted(ended.keys() | cut_off.keys()):
            if ended[length]:
                survival *= 1.0 - ended[length] / alive
                self._lengths.append(length)
                self._survivals.append(survival)
            alive -= ended[length] + cut_off[length]
        self._falls = [-survival for survival in self._survivals]
