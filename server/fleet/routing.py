"""Which engine a request goes to: the policies, and the little that a router remembers. Knows nothing of Ray.

``least_loaded`` is the power of two choices (Mitzenmacher, 1996) over the load of KV caches; ``prefix`` goes to the
engine with the longest cached prefix as long as that is not much more loaded than the least loaded one.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from server.fleet.report import Report
from server.fleet.settings import Routing

REMEMBERED_PREFIXES = 4096
"""Digests a router remembers of what it sent to an engine, until the engine's own reports have them."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a router has to know of a request.

    Attributes:
        tokens: KV tokens that it may need.
        prefixes: Digests of its prompt's blocks, the first block's first.
    """

    tokens: int = 0
    prefixes: Sequence[bytes] = ()


@dataclass(slots=True)
class Candidate:
    """An engine as one router knows it: its last report, and what was sent there since."""

    report: Report = field(default_factory=Report)
    sent_tokens: int = 0
    sent_prefixes: OrderedDict[bytes, None] = field(default_factory=OrderedDict)

    @property
    def load(self) -> float:
        """As a share of its KV cache."""
        return self.report.load + self.sent_tokens / max(1, self.report.capacity)

    def update(self, report: Report) -> None:
        """A report has come; it knows of what was sent before it."""
        if report.number != self.report.number:
            self.report, self.sent_tokens = report, 0

    def cached_blocks(self, prefixes: Sequence[bytes]) -> int:
        """How many blocks of a prompt it has, or will have when the request gets there."""
        for count in range(len(prefixes), 0, -1):
            if prefixes[count - 1] in self.report.prefixes or prefixes[count - 1] in self.sent_prefixes:
                return count
        return 0

    def send(self, demand: Demand) -> None:
        """A request goes there."""
        self.sent_tokens += demand.tokens
        for prefix in demand.prefixes:
            self.sent_prefixes[prefix] = None
            self.sent_prefixes.move_to_end(prefix)
        while len(self.sent_prefixes) > REMEMBERED_PREFIXES:
            self.sent_prefixes.popitem(last=False)


def choose(
    policy: Routing, candidates: Mapping[str, Candidate], demand: Demand, max_load_gap: float, draw: random.Random
) -> str:
    """The name of the engine to take.

    Args:
        policy: How to choose.
        candidates: The engines by name; at least one.
        demand: The request's.
        max_load_gap: See ``FleetSettings``.
        draw: Where chance comes from.
    """
    names = [*candidates]
    if policy == "random":
        return draw.choice(names)
    if policy == "prefix":
        least = min(candidate.load for candidate in candidates.values())
        near = [name for name in names if candidates[name].load <= least + max_load_gap]
        cached = {name: candidates[name].cached_blocks(demand.prefixes) for name in near}
        longest = max(cached.values())
        if longest:
            names = [name for name in near if cached[name] == longest]
    pair = draw.sample(names, min(2, len(names)))
    return min(pair, key=lambda name: candidates[name].load)
