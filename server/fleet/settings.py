"""What a fleet looks like, apart from what each engine and each HTTP worker is told."""

from __future__ import annotations

from typing import Literal

import msgspec

from runtime.config import EngineConfig
from server.access.tenant import Tenant
from server.config import WorkerConfig

Routing = Literal["prefix", "least_loaded", "random"]

DEFAULT_LOAD_GAP = 0.25
"""See ``FleetSettings.max_load_gap``."""

QUICK_PATHS = {
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
}
"""Ray Serve's ways for many small messages: tokens go from process to process by gRPC instead of the object store,
and change no threads on the way. Deployments are given them; its proxies have them from the environment of a node."""

APPLICATION = "peregrine"
ENGINE = "engine"
INGRESS = "http"


class FleetSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Configuration of a fleet; goes to every process of it as JSON.

    Attributes:
        engine: Of each replica; the socket is filled in there.
        worker: Of each ingress; socket and keys are filled in there.
        tenants: Who has a key; with none, everybody is let in.
        environ: What ``server.environment`` reads.
        min_replicas: Engines at least.
        max_replicas: Engines at most; Serve's autoscaler moves between the two.
        ingresses: Processes that speak HTTP.
        cpus: Cores that Ray sets aside for an engine.
        gpus: GPUs that Ray sets aside for an engine.
        routing: How an engine is chosen for a request.
        max_load_gap: By how much the engine with the longest cached prefix may be more loaded than engines are on
            average, as a share of an engine's KV cache, before it is passed over.
        target_load: Share of the KV cache that the autoscaler aims at.
        look_back: Seconds that the autoscaler averages over.
        upscale_delay: Seconds that the load has to ask for more engines before it gets them.
        downscale_delay: The same for fewer.
        report_seconds: Between two reports of an engine's load and cached prefixes.
        health_seconds: Between two looks at an engine's health.
    """

    engine: EngineConfig
    worker: WorkerConfig
    tenants: tuple[Tenant, ...] = ()
    environ: dict[str, str] = {}
    min_replicas: int = 1
    max_replicas: int = 1
    ingresses: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    routing: Routing = "prefix"
    max_load_gap: float = DEFAULT_LOAD_GAP
    target_load: float = 0.7
    look_back: float = 15.0
    upscale_delay: float = 10.0
    downscale_delay: float = 120.0
    report_seconds: float = 1.0
    health_seconds: float = 2.0

    def encode(self) -> bytes:
        """JSON, for ``decode_settings``."""
        return msgspec.json.encode(self)


def decode_settings(data: bytes) -> FleetSettings:
    """What ``FleetSettings.encode`` made."""
    return msgspec.json.decode(data, type=FleetSettings)
