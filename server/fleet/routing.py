"""Which engine a request goes to: the policies, and the little that a router remembers. Knows nothing of Ray.

``least_loaded`` is the power of two choices (Mitzenmacher, 1996) over the load of KV caches; ``prefix`` goes to the
engine with the longest cached prefix as long as that is not much more loaded than engines are on average. The
simulator (``benchmarks.simulate``) plays fleets with this module.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TypeVar

from server.fleet.report import Report
from server.fleet.settings import Routing

Name = TypeVar("Name", bound=Hashable)

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
    """An engine as one router knows it: its last report, and what was sent there since.

    Attributes:
        report: The last one.
        load: As a share of its KV cache.
        sent_prefixes: Digests of what this router has sent it, the latest last.
    """

    report: Report = field(default_factory=Report)
    load: float = 0.0
    sent_prefixes: OrderedDict[bytes, None] = field(default_factory=OrderedDict)

    def update(self, report: Report) -> None:
        """A report has come; it knows of what was sent before it."""
        if report.number != self.report.number:
            self.report, self.load = report, report.load

    def cached_blocks(self, prefixes: Sequence[bytes]) -> int:
        """How many blocks of a prompt it has, or will have when the request gets there."""
        reported, sent = self.report.prefixes, self.sent_prefixes
        for count, prefix in enumerate(prefixes):
            if prefix not in reported and prefix not in sent:
                return count
        return len(prefixes)

    def send(self, demand: Demand) -> None:
        """A request goes there."""
        capacity = self.report.capacity
        # NOTE: an engine that has not said yet how large it is counts as full with its first request.
        self.load += demand.tokens / capacity if capacity else 1.0
        for prefix in demand.prefixes:
            self.sent_prefixes[prefix] = None
            self.sent_prefixes.move_to_end(prefix)
        while len(self.sent_prefixes) > REMEMBERED_PREFIXES:
            self.sent_prefixes.popitem(last=False)


def choose(
    policy: Routing, candidates: Mapping[Name, Candidate], demand: Demand, max_load_gap: float, draw: random.Random
) -> Name:
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
        most = fmean(candidate.load for candidate in candidates.values()) + max_load_gap
        cached = {
            name: candidate.cached_blocks(demand.prefixes)
            for name, candidate in candidates.items()
            if candidate.load <= most
        }
        if longest := max(cached.values(), default=0):
            names = [name for name, count in cached.items() if count == longest]
    pair = draw.sample(names, min(2, len(names)))
    return min(pair, key=lambda name: candidates[name].load)
