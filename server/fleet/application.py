"""The two deployments of a fleet, put together for Ray Serve."""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, RequestRouterConfig

from server.app import Application
from server.fleet.ingress import make_ingress
from server.fleet.replica import EngineReplica
from server.fleet.settings import ENGINE, INGRESS, QUICK_PATHS, FleetSettings

UNLIMITED = 1_000_000
"""Requests at once, to Serve: how many may run and wait is the engine's to say."""

GRACE_SECONDS = 10.0
"""Beyond the time that running requests have, for a replica to stop in good order."""


def fleet(settings: FleetSettings) -> serve.Application:
    """What ``serve.run`` runs."""
    encoded = settings.encode()

    def application() -> Application:
        return make_ingress(settings)

    engines = serve.deployment(EngineReplica, name=ENGINE).options(**_engine_options(settings))
    ingress = serve.deployment(serve.ingress(application)(), name=INGRESS).options(
        num_replicas=settings.ingresses,
        ray_actor_options={"num_cpus": 0, "runtime_env": {"env_vars": QUICK_PATHS}},
        max_ongoing_requests=UNLIMITED,
        graceful_shutdown_timeout_s=settings.engine.drain_seconds + GRACE_SECONDS,
    )
    return ingress.bind(engines.bind(encoded))


def _engine_options(settings: FleetSettings) -> dict[str, Any]:
    options: dict[str, Any] = {
        "ray_actor_options": {
            "num_cpus": settings.cpus,
            "num_gpus": settings.gpus,
            "runtime_env": {"env_vars": QUICK_PATHS},
        },
        "max_ongoing_requests": UNLIMITED,
        "graceful_shutdown_timeout_s": settings.engine.drain_seconds + GRACE_SECONDS,
        "graceful_shutdown_wait_loop_s": 0.5,
        "max_constructor_retry_count": 2,
        "health_check_period_s": settings.health_seconds,
        "health_check_timeout_s": 10.0,
        "request_router_config": RequestRouterConfig(
            request_router_class="server.fleet.router:EngineRouter",
            request_router_kwargs={"policy": settings.routing, "max_load_gap": settings.max_load_gap},
            request_routing_stats_period_s=settings.report_seconds,
        ),
    }
    if settings.max_replicas == settings.min_replicas:
        return options | {"num_replicas": settings.min_replicas}
    scaling = AutoscalingConfig(
        min_replicas=settings.min_replicas,
        max_replicas=settings.max_replicas,
        target_ongoing_requests=settings.target_load,
        metrics_interval_s=settings.report_seconds,
        look_back_period_s=settings.look_back,
        upscale_delay_s=settings.upscale_delay,
        downscale_delay_s=settings.downscale_delay,
        policy=AutoscalingPolicy(policy_function="server.fleet.scaling:engines_for_load"),
    )
    return options | {"autoscaling_config": scaling}
