"""Health, readiness, load, names and metrics."""

from __future__ import annotations

import logging

from falcon.asgi import Request, Response

from server.errors import UnavailableError
from server.metrics import CONTENT_TYPE
from server.native_types import Message, ModelName, Status, TokenLoad
from server.resources.base import Resource, answer

logger = logging.getLogger("peregrine.status")


class HealthResource(Resource):
    """``/health``; see ``server.health``."""

    async def on_get(self, request: Request, response: Response) -> None:  # noqa: ARG002
        """Answer for GET and HEAD."""
        healthy = await self._services().health.healthy()
        answer(response, Message("Ok" if healthy else "Error"), 200 if healthy else 503)

    on_head = on_get


class LivenessResource:
    """``/liveness``: this process answers."""

    async def on_get(self, request: Request, response: Response) -> None:  # noqa: ARG002
        """Answer for GET and POST."""
        answer(response, Status("ok"))

    on_post = on_get


class ReadinessResource(Resource):
    """``/readiness``: whether new requests are welcome; LightLLM says yes always."""

    async def on_get(self, request: Request, response: Response) -> None:  # noqa: ARG002
        """Answer for GET and POST."""
        services = self._services()
        ready = services.client.ready and not services.draining()
        answer(response, Status("ok" if ready else "unavailable"), 200 if ready else 503)

    on_post = on_get


class ModelNameResource(Resource):
    """``/get_model_name``."""

    async def on_get(self, request: Request, response: Response) -> None:  # noqa: ARG002
        """Answer for GET and POST."""
        answer(response, ModelName(self._services().config.model_name))

    on_post = on_get


class TokenLoadResource(Resource):
    """``/token_load``: shares of the KV cache, computed when asked."""

    async def on_get(self, request: Request, response: Response) -> None:  # noqa: ARG002
        """Answer."""
        stats = await self._services().client.stats()
        capacity = max(1, stats.capacity_tokens)
        peak = stats.peak_tokens / capacity
        load = TokenLoad(current_load=stats.used_tokens / capacity, logical_max_load=peak, dynamic_max_load=peak)
        answer(response, load)


class MetricsResource(Resource):
    """``/metrics``, also while the engine is down: then without the engine's own numbers."""

    async def on_get(self, request: Request, response: Response) -> None:  # noqa: ARG002
        """Answer."""
        services = self._services()
        try:
            stats = await services.engine_stats()
        except UnavailableError:
            logger.warning("metrics without the engine's: it does not answer")
            stats = None
        response.content_type = CONTENT_TYPE
        response.data = services.metrics.expose(stats)
