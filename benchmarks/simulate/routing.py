"""Which replica a request goes to: by the routing that ships, and by one more that it is compared with.

A router knows what replicas told it last, and what it has sent since: loads are seconds old, and what other routers do
is news with the next report.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import get_args

from benchmarks.simulate.trace import Arrival
from runtime.scheduler.prefix_digest import prompt_digests
from server.fleet.report import Report
from server.fleet.routing import Candidate, Demand, choose
from server.fleet.settings import DEFAULT_LOAD_GAP, Routing

LEAST_OF_ALL = "least_of_all"
"""The least loaded of all replicas, where ``least_loaded`` looks at two."""

ROUTERS: tuple[str, ...] = (*get_args(Routing), LEAST_OF_ALL)


@dataclass(slots=True)
class View:
    """What one router knows: the replicas that are there."""

    candidates: dict[int, Candidate] = field(default_factory=dict)

    def members(self, numbers: Iterable[int]) -> None:
        """These are there, and no others."""
        self.candidates = {number: self.candidates.get(number) or Candidate() for number in numbers}

    def report(self, reports: Mapping[int, Report]) -> None:
        """Replicas say how they are."""
        for number, report in reports.items():
            self.candidates[number].update(report)

    def sent(self, number: int, demand: Demand) -> None:
        """A request goes to a replica."""
        self.candidates[number].send(demand)


@dataclass(slots=True)
class Router:
    """A policy.

    Attributes:
        policy: One of ``ROUTERS``.
        seed: Of what chance decides.
        max_load_gap: See ``server.fleet.settings.FleetSettings``.
    """

    policy: str
    seed: int = 0
    max_load_gap: float = DEFAULT_LOAD_GAP
    draw: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)

    @property
    def prefixes(self) -> bool:
        """Whether it looks at what replicas have cached."""
        return self.policy == "prefix"

    def demand(self, arrival: Arrival, block_size: int) -> Demand:
        """What it has to know of a request."""
        digests = prompt_digests("", arrival.prompt_ids(), block_size) if self.prefixes else ()
        return Demand(arrival.prompt_tokens + arrival.limit, digests)

    def choose(self, view: View, demand: Demand) -> int:
        """Number of the replica that gets the request; the view has one at least."""
        candidates = view.candidates
        if self.policy == LEAST_OF_ALL:
            return min(candidates, key=lambda number: candidates[number].load)
        return choose(self.policy, candidates, demand, self.max_load_gap, self.draw)  # type: ignore[arg-type]
