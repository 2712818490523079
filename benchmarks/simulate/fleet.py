"""Replicas behind routers: the event loop of the simulation. One replica is a fleet of one."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.simulate.replica import Replica, Served
from benchmarks.simulate.routing import Router, View
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
        patience: Seconds for which fewer have to be enough until one goes.
    """

    least: int
    most: int
    target: float = 0.7
    every: float = 5.0
    start: float = 5.0
    patience: float = 15.0


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
        views: Routers that do so side by side: each knows of what the others send by reports alone.
        report: Seconds between reports of replicas to routers.
        autoscaling: Changes their number; ``None`` keeps it.
        failures: In order of time.
        retries: How often a request that was with a replica when it died goes on at another.
        seed: Of which router a request comes to.
    """

    make: Callable[[int], Replica]
    size: int
    router: Router
    views: int = 1
    report: float = 1.0
    autoscaling: Autoscaling | None = None
    failures: Sequence[Failure] = ()
    retries: int = 1
    seed: int = 0
    replicas: list[Replica] = field(default_factory=list)
    outcomes: list[Served] = field(default_factory=list)
    sizes: list[tuple[float, int]] = field(default_factory=list)

    def run(self, arrivals: Sequence[Arrival]) -> list[Served]:
        """Play a trace to its end; returns what became of each request, in its order."""
        self.replicas = [self.make(number) for number in range(self.size)]
        self._up = {replica.number: replica for replica in self.replicas}
        self._starting = 0
        self._calm_since = 0.0
        self._draw = random.Random(self.seed)
        self._views = [View() for _ in range(self.views)]
        self._members_changed()
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = 0
        self._left = len(arrivals)
        self._scheduled: set[int] = set()
        self._lost: dict[int, int] = {}
        self.outcomes = [Served(arrival) for arrival in arrivals]
        self.sizes = [(0.0, self.size)]
        self._report(0.0)
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

    @property
    def preemptions(self) -> int:
        """Samples that had to give way, in all replicas."""
        return sum(replica.preemptions for replica in self.replicas)

    def _at(self, seconds: float, event: Callable[[float], None]) -> None:
        self._order += 1
        heapq.heappush(self._events, (seconds, self._order, event))

    def _arrive(self, served: Served, now: float) -> None:
        arrival = served.arrival
        if arrival.patience is not None:
            self._at(arrival.seconds + arrival.patience, lambda now: self._leave(served, now))
        self._send(served, now)

    def _send(self, served: Served, now: float) -> None:
        view = self._draw.choice(self._views)
        demand = self.router.demand(served.arrival, self.replicas[0].settings.block_size)
        replica = self._up[self.router.choose(view, demand)] if self._up else None
        if replica is None or not replica.add(served, now):
            self._end(served, FinishReason.NONE)
            return
        view.sent(replica.number, demand)
        self._watch(replica)

    def _leave(self, served: Served, now: float) -> None:
        """A client has waited long enough."""
        replica = self.replicas[served.replica]
        if replica.abort(served, now):
            self._left -= 1
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

    def _end(self, served: Served, finish: FinishReason) -> None:
        served.finish = finish
        self._left -= 1

    def _fail(self, failure: Failure, now: float) -> None:
        replica = self._up.pop(failure.replica, None)
        if replica is None:
            return
        self._members_changed()
        for served in replica.lose():
            tries = self._lost[id(served)] = self._lost.get(id(served), 0) + 1
            if tries > self.retries:
                self._end(served, FinishReason.ERROR)
            else:
                self._send(served, now)
        self._at(now + failure.away, lambda _: self._join(replica))

    def _join(self, replica: Replica) -> None:
        self._up[replica.number] = replica
        self._members_changed()

    def _members_changed(self) -> None:
        for view in self._views:
            view.members(self._up)

    def _report(self, now: float) -> None:
        reports = {number: replica.report(self.router.prefixes) for number, replica in self._up.items()}
        for view in self._views:
            view.report(reports)
        self._at(now + self.report, self._report)

    def _scale(self, now: float) -> None:
        """Add what is missing at once; take one away when fewer have been enough for a while."""
        scaling = self.autoscaling
        assert scaling is not None
        load = sum(replica.load for replica in self._up.values())
        wanted = min(scaling.most, max(scaling.least, math.ceil(load / scaling.target)))
        for _ in range(wanted - len(self._up) - self._starting):
            self._start(now + scaling.start)
        if wanted >= len(self._up):
            self._calm_since = now
        elif now - self._calm_since >= scaling.patience:
            # NOTE: those that leave finish what they have, and are asked for nothing more.
            for number in sorted(self._up, reverse=True)[: len(self._up) - wanted]:
                del self._up[number]
            self._members_changed()
        self.sizes.append((now, len(self._up)))
        self._at(now + scaling.every, self._scale)

    def _start(self, ready: float) -> None:
        replica = self.make(len(self.replicas))
        self.replicas.append(replica)
        self._starting += 1

        def join(_: float) -> None:
            self._starting -= 1
            self._join(replica)

        self._at(ready, join)
