"""Serve's request router for engines: carries reports and requests to ``server.fleet.routing``.

NOTE: Serve sends this module's classes and what they name by value; other modules go by name, so state is theirs.
"""

from __future__ import annotations

import random
from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from server.fleet import roster
from server.fleet.report import read_report
from server.fleet.routing import Candidate, Demand, choose
from server.fleet.wire import decode_demand


class EngineRouter(RequestRouter):  # type: ignore[misc]
    """One ingress' choice of engines."""

    def initialize_state(self, **settings: Any) -> None:
        """Called by Serve with what ``server.fleet.app`` configured."""
        self._policy = settings["policy"]
        self._max_load_gap = settings["max_load_gap"]
        self._draw = random.Random()  # noqa: S311 - nobody gains from guessing it
        self._candidates: dict[str, Candidate] = {}

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Called by Serve when replicas come, go or report."""
        known = self._candidates
        self._candidates = {}
        for replica in replicas:
            name = replica.replica_id.unique_id
            candidate = self._candidates[name] = known.get(name) or Candidate()
            candidate.update(read_report(replica.routing_stats))
        roster.ROSTER.engines = len(replicas)
        super().update_replicas(replicas)

    def on_replica_actor_died(self, replica_id: ReplicaID) -> None:
        """Called by Serve when a request finds a replica dead."""
        super().on_replica_actor_died(replica_id)
        self._candidates.pop(replica_id.unique_id, None)
        roster.ROSTER.engines = len(self._candidates)

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """The one engine that the policy takes."""
        replicas = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        candidates = {name: self._candidates.setdefault(name, Candidate()) for name in replicas}
        if not candidates:
            return []
        arguments = [] if pending_request is None else pending_request.args
        demand = decode_demand(arguments[-1]) if arguments else Demand()
        name = choose(self._policy, candidates, demand, self._max_load_gap, self._draw)
        candidates[name].send(demand)
        return [[replicas[name]]]
