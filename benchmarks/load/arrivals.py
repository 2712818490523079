"""When requests arrive."""

from __future__ import annotations

import random
from collections.abc import Iterator


def poisson(rate: float, rng: random.Random) -> Iterator[float]:
    """Seconds from the start at which independent clients send, ``rate`` a second on average; without end.

    The gaps of a Poisson process are exponential: bursts are part of it, and what queues are made of.
    """
    now = 0.0
    while True:
        now += rng.expovariate(rate)
        yield now
