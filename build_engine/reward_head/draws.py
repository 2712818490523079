"""Random draws that come out the same under every version of Python."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Draws:
    """A stream that ``seed`` alone decides.

    NOTE: of Python's generator only ``random()`` stays the same between versions; ``shuffle`` and ``choice`` may not.
    """

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)  # noqa: S311 - data, no secrets

    def below(self, bound: int) -> int:
        """An integer of ``[0, bound)``."""
        return int(self._random.random() * bound)

    def between(self, low: int, high: int) -> int:
        """An integer of ``[low, high]``."""
        return low + self.below(high - low + 1)

    def one_of(self, items: Sequence[T]) -> T:
        """One of ``items``."""
        return items[self.below(len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """``items`` in another order, each as likely (Fisher and Yates)."""
        order = list(items)
        for last in range(len(order) - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order
