"""Replicas behind a router: the event loop of the simulation. One replica is a fleet of one."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.simulate.replica import Replica, Served
from benchmarks.simulate.routing import Router
from benchmarks.simulate.trace import Arrival
from runtime.request import FinishReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscaling:
    """How many replicas there are: as many as keep a measure near its target.

    Attributes:
        least: Replicas that there always are.
        most: Replicas that there may be.
        target: Load of a replica, as ``Replica`` measures it, that is wanted.
        every: Seconds between two looks.
        start: Seconds that a new replica takes to serve.
    """

    least: int
    most: int
    target: float = 0.7
    every: float = 5.0
    start: float = 5.0


@dataclass(frozen=True, slots=True)
class Failure:
    """A replica dies, and another takes its place after a while."""

    seconds: float
    replica: int
    away: float


@dataclass(eq=False)
class Fleet:
    """Requests in, outcomes out.

    Args:
        make: Makes replica number so-and-so.
        size: Replicas at the start.
        router: Chooses among those that are there.
        autoscaling: Changes their number; ``None`` keeps it.
        failures: In order of time.
        retries: How often a request that died with its replica is sent to another.
    """

    make: Callable[[int], Replica]
    size: int
    router: Router
    autoscaling: Autoscaling | None = None
    failures: Sequence[Failure] = ()
    retries: int = 1
    replicas: list[Replica] = field(default_factory=list)
    outcomes: list[Served] = field(default_factory=list)
    sizes: list[tuple[float, int]] = field(default_factory=list)

    def run(self, arrivals: Sequence[Arrival]) -> list[Served]:
        """Play a trace to its end; returns what became of each request, in its order."""
        self.replicas = [self.make(number) for number in range(self.size)]
        self._up = {replica.number: replica for replica in self.replicas}
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = 0
        self._left = len(arrivals)
        self._scheduled: set[int] = set()
        self._lost: dict[int, int] = {}
        self.outcomes = [Served(arrival) for arrival in arrivals]
        self.sizes = [(0.0, self.size)]
        for served in self.outcomes:
            self._at(served.arrival.seconds, lambda now, served=served: self._arrive(served, now))
        for failure in self.failures:
            self._at(failure.seconds, lambda now, failure=failure: self._fail(failure, now))
        if self.autoscaling is not None:
            self._at(self.autoscaling.every, self._scale)
        while self._events and self._left:
            now, _, event = heapq.heappop(self._events)
            event(now)
        return self.outcomes

    def _at(self, seconds: float, event: Callable[[float], None]) -> None:
        self._order += 1
        heapq.heappush(self._events, (seconds, self._order, event))

    def _arrive(self, served: Served, now: float) -> None:
        replica = self.router.choose([*self._up.values()], served.arrival) if self._up else None
        if replica is None or not replica.add(served, now):
            served.finish = FinishReason.NONE
            self._left -= 1
            return
        self._watch(replica)

    def _watch(self, replica: Replica) -> None:
        """Come back when the replica's step ends."""
        if replica.number not in self._scheduled and replica.next_event < math.inf:
            self._scheduled.add(replica.number)
            self._at(replica.next_event, lambda now: self._advance(replica, now))

    def _advance(self, replica: Replica, now: float) -> None:
        self._scheduled.discard(replica.number)
        if replica.next_event <= now:  # later: it has died since, and has begun anew
            self._left -= len(replica.advance())
        self._watch(replica)

    def _fail(self, failure: Failure, now: float) -> None:
        replica = self._up.pop(failure.replica, None)
        if replica is None:
            return
        for served in replica.lose():
            tries = self._lost[id(served)] = self._lost.get(id(served), 0) + 1
            if tries > self.retries:
                served.finish = FinishReason.ERROR
                self._left -= 1
            else:
                served.first = served.last = math.inf
                served.tokens = 0
                self._arrive(served, now)
        self._at(now + failure.away, lambda _: self._up.setdefault(replica.number, replica))

    def _scale(self, now: float) -> None:
        scaling = self.autoscaling
        if scaling is None:
            return
        load = sum(replica.load for replica in self._up.values())
        wanted = min(scaling.most, max(scaling.least, math.ceil(load / scaling.target)))
        for _ in range(wanted - len(self._up)):
            replica = self.make(len(self.replicas))
            self.replicas.append(replica)
            self._at(now + scaling.start, lambda _, replica=replica: self._up.setdefault(replica.number, replica))
        # NOTE: one that leaves finishes what it has, and is asked for nothing more.
        for number in sorted(self._up, reverse=True)[: max(0, len(self._up) - wanted)]:
            del self._up[number]
        self.sizes.append((now, len(self._up)))
        self._at(now + scaling.every, self._scale)
