"""How many engines a load asks for.

NOTE: Serve sends this module's functions by value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from server.fleet.report import KV_LOAD

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext


def engines_for_load(context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
    """An autoscaling policy of Serve's: as many engines as have the KV load that is aimed at on average.

    Serve rounds up, keeps to the bounds and waits for the delays. What is aimed at is configured as
    ``target_ongoing_requests``; the load counts requests that wait for blocks, so it goes above 1.
    """
    loads = (context.aggregated_metrics or {}).get(KV_LOAD, {})
    if not loads:
        return context.target_num_replicas, {}
    return sum(loads.values()) / context.config.get_target_ongoing_requests(), {}
