"""Which replica a request goes to, by what a router can know of them.

A router knows what replicas told it last, and what it has sent since: loads are seconds old, and what other routers do
is news with the next report. Choosing costs the same whether there are ten replicas or a thousand.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.simulate.index import PrefixIndex, prefix_keys
from benchmarks.simulate.trace import Arrival

BOUND = 0.25
"""How far the load of a replica that has a prompt's beginning may be above the mean."""

_TRIES = 4
"""Holders of a prefix that are looked at: a popular one is held by many."""


@dataclass(slots=True)
class View:
    """What a router knows.

    Attributes:
        numbers: Replicas that are there.
        loads: Their loads, in the same order: as reported, and what was sent since.
        places: Where a replica is in both.
        capacity: KV tokens of a replica.
    """

    capacity: int
    numbers: list[int] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    places: dict[int, int] = field(default_factory=dict)

    def report(self, loads: dict[int, float]) -> None:
        """All replicas say how they are."""
        self.numbers, self.loads = [*loads], [*loads.values()]
        self.places = {number: place for place, number in enumerate(self.numbers)}

    def sent(self, number: int, arrival: Arrival) -> None:
        """A request goes to a replica."""
        self.loads[self.places[number]] += arrival.prompt_tokens / self.capacity

    def load(self, number: int) -> float:
        """Of a replica that is there."""
        return self.loads[self.places[number]]


class Router(Protocol):
    """A policy."""

    def choose(self, view: View, arrival: Arrival) -> int:
        """Number of the replica that gets the request; the view has one at least."""
        ...

    def sent(self, number: int, arrival: Arrival) -> None:
        """A request went to a replica, by whichever router."""
        ...

    def lost(self, number: int) -> None:
        """A replica is gone, and all that it had cached."""
        ...


class Random:
    """Any of them."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)

    def choose(self, view: View, arrival: Arrival) -> int:  # noqa: ARG002
        """See ``Router``."""
        return self.draw.choice(view.numbers)

    def sent(self, number: int, arrival: Arrival) -> None:
        """See ``Router``: nothing is remembered."""

    def lost(self, number: int) -> None:
        """See ``Router``."""


class LeastLoad(Random):
    """The one with the least load."""

    def choose(self, view: View, arrival: Arrival) -> int:  # noqa: ARG002
        """See ``Router``."""
        return view.numbers[view.loads.index(min(view.loads))]


class TwoChoices(Random):
    """The less loaded of two at random (Mitzenmacher 2001)."""

    def choose(self, view: View, arrival: Arrival) -> int:  # noqa: ARG002
        """See ``Router``."""
        return self.better(view, self.draw.choices(view.numbers, k=2))

    def better(self, view: View, numbers: list[int]) -> int:
        """The least loaded of some."""
        return min(numbers, key=view.load)


class PrefixAffinity(TwoChoices):
    """One that was sent the most of the prompt before, unless it is too busy; without any, the better of two.

    Args:
        seed: Of the draws.
        bound: How far above the mean the load of the chosen one may be.
        remembered: Blocks of prompts remembered of a replica: about as many as its cache keeps.
    """

    def __init__(self, seed: int, bound: float = BOUND, remembered: int = 2048) -> None:
        super().__init__(seed)
        self._bound = bound
        self._index = PrefixIndex(remembered)

    def choose(self, view: View, arrival: Arrival) -> int:
        """See ``Router``."""
        most = sum(view.loads) / len(view.loads) + self._bound
        for holders in self._index.holders(prefix_keys(arrival)):
            near = [number for number in self._some(holders) if number in view.places and view.load(number) <= most]
            if near:
                return self.better(view, near[:2])
        return super().choose(view, arrival)

    def sent(self, number: int, arrival: Arrival) -> None:
        """See ``Router``."""
        self._index.add(number, prefix_keys(arrival))

    def lost(self, number: int) -> None:
        """See ``Router``."""
        self._index.forget(number)

    def _some(self, holders: list[int]) -> Iterator[int]:
        if len(holders) <= _TRIES:
            yield from self.draw.sample(holders, len(holders))
        else:
            yield from self.draw.choices(holders, k=_TRIES)


ROUTERS: dict[str, Callable[[int], Router]] = {
    "random": Random,
    "least-load": LeastLoad,
    "two-choices": TwoChoices,
    "prefix-affinity": PrefixAffinity,
}
