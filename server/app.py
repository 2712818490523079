"""The ASGI application of one HTTP worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import falcon.asgi

from server.connection import ConnectionMiddleware
from server.error_answers import add_error_answers
from server.resources.generate import GenerateResource
from server.resources.status import (
    HealthResource,
    LivenessResource,
    MetricsResource,
    ModelNameResource,
    ReadinessResource,
    TokenLoadResource,
)
from server.resources.text import ScoreResource, TokensResource
from server.services import Services

logger = logging.getLogger("peregrine.app")


class Application:
    """Falcon behind the connection layer, with the services' life tied to ASGI's lifespan.

    Args:
        start: Makes the services; called once per worker process, on its event loop.
        stall_seconds: How long a client may leave its answer unread.
    """

    def __init__(self, start: Callable[[], Awaitable[Services]], stall_seconds: float = 60.0) -> None:
        self._start = start
        self._services: Services | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._falcon = falcon.asgi.App(middleware=[self])
        self._add_routes()
        self._connections = ConnectionMiddleware(self._falcon, stall_seconds)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one ASGI scope."""
        await self._connections(scope, receive, send)

    @property
    def open_requests(self) -> int:
        """Requests being answered."""
        return self._connections.open_requests

    def services(self) -> Services:
        """The running services."""
        if self._services is None:
            raise RuntimeError("the application has not been started")
        return self._services

    async def process_startup(self, _scope: Any, _event: Any) -> None:
        """Called by Falcon when the worker starts."""
        self._services = await self._start()
        self._sweeper = asyncio.get_running_loop().create_task(self._connections.sweep_forever())

    async def process_shutdown(self, _scope: Any, _event: Any) -> None:
        """Called by Falcon when the worker stops in good order."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._services is not None:
            await self._services.close()

    def _add_routes(self) -> None:
        app, services = self._falcon, self.services
        health, tokens = HealthResource(services), TokensResource(services)
        for path, resource in (
            ("/health", health),
            ("/healthz", health),
            ("/liveness", LivenessResource()),
            ("/readiness", ReadinessResource(services)),
            ("/token_load", TokenLoadResource(services)),
            ("/generate", GenerateResource(services, streaming=False)),
            ("/generate_stream", GenerateResource(services, streaming=True)),
            ("/", GenerateResource(services, streaming=None)),
            ("/tokens", tokens),
            ("/get_model_name", ModelNameResource(services)),
            ("/get_score", ScoreResource(services)),
            ("/metrics", MetricsResource(services)),
        ):
            app.add_route(path, resource)
        add_error_answers(app, services)
