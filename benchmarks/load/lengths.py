"""Distributions of prompt and output lengths, as written on the command line."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from benchmarks.usage import UsageError


@dataclass(frozen=True)
class Lengths:
    """Token counts.

    Attributes:
        kind: ``fixed``, ``uniform`` or ``lognormal``.
        low: Least length; the length itself of a fixed one.
        high: Largest length.
        median: Of a log-normal distribution, before it is cut to ``low`` and ``high``.
        sigma: Standard deviation of its logarithm.
    """

    kind: str
    low: int
    high: int
    median: float = 0.0
    sigma: float = 0.0

    def draw(self, rng: random.Random) -> int:
        """One length."""
        if self.kind == "lognormal":
            drawn = rng.lognormvariate(math.log(self.median), self.sigma)
            return min(max(round(drawn), self.low), self.high)
        return rng.randint(self.low, self.high)


def parse_lengths(text: str) -> Lengths:
    """Read ``128``, ``uniform:64:256`` or ``lognormal:200:0.8:2048`` (median, sigma, largest).

    Raises:
        UsageError: It is none of these.
    """
    kind, *numbers = text.split(":")
    try:
        if kind.isdecimal() and not numbers:
            found = Lengths("fixed", int(kind), int(kind))
        elif kind == "uniform":
            low, high = map(int, numbers)
            found = Lengths(kind, low, high)
        elif kind == "lognormal":
            median, sigma, high = float(numbers[0]), float(numbers[1]), int(numbers[2])
            found = Lengths(kind, 1, high, median, sigma)
        else:
            raise ValueError(kind)
    except (ValueError, IndexError):
        message = f"{text!r} is no distribution of lengths: write 128, uniform:64:256 or lognormal:200:0.8:2048"
        raise UsageError(message) from None
    if not 1 <= found.low <= found.high or (kind == "lognormal" and not (found.median >= 1 and found.sigma > 0)):
        message = f"{text!r}: lengths begin at 1 and end where they should, a sigma is above 0"
        raise UsageError(message)
    return found
