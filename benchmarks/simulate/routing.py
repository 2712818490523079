"""Which replica a request goes to."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Protocol

from benchmarks.simulate.replica import Replica
from benchmarks.simulate.trace import Arrival


class Router(Protocol):
    """Chooses among the replicas that are there; at least one is."""

    def choose(self, replicas: Sequence[Replica], arrival: Arrival) -> Replica:
        """Where the request goes."""
        ...


class Random:
    """Any of them."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)

    def choose(self, replicas: Sequence[Replica], arrival: Arrival) -> Replica:  # noqa: ARG002
        """See ``Router``."""
        return self._draw.choice(replicas)


class LeastLoad:
    """The one with the least load: what a router with a view of all of them does."""

    def choose(self, replicas: Sequence[Replica], arrival: Arrival) -> Replica:  # noqa: ARG002
        """See ``Router``."""
        return min(replicas, key=lambda replica: replica.load)


class TwoChoices:
    """The less loaded of two at random (Mitzenmacher 2001)."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)

    def choose(self, replicas: Sequence[Replica], arrival: Arrival) -> Replica:  # noqa: ARG002
        """See ``Router``."""
        pair = self._draw.sample(replicas, min(2, len(replicas)))
        return min(pair, key=lambda replica: replica.load)


class PrefixAffinity:
    """The one that has most of the prompt in its cache, unless it is too busy; otherwise the less loaded of two.

    Args:
        seed: Of the draws.
        bound: How far above the mean the load of the chosen one may be.
    """

    def __init__(self, seed: int, bound: float = 1.25) -> None:
        self._two = TwoChoices(seed)
        self._bound = bound

    def choose(self, replicas: Sequence[Replica], arrival: Arrival) -> Replica:
        """See ``Router``."""
        prompt = arrival.prompt_ids()
        best = max(replicas, key=lambda replica: replica.cached(prompt))
        mean = sum(replica.load for replica in replicas) / len(replicas)
        if best.cached(prompt) and best.load <= max(self._bound * mean, 0.5):
            return best
        return self._two.choose(replicas, arrival)


ROUTERS: dict[str, Callable[[int], Router]] = {
    "random": Random,
    "least-load": lambda _: LeastLoad(),
    "two-choices": TwoChoices,
    "prefix-affinity": PrefixAffinity,
}
