"""The ASGI application of one HTTP worker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import falcon.asgi
from falcon.asgi import Request

from server.body import BodyMiddleware
from server.config import DEFAULT_BODY_LIMIT
from server.connection import AsgiApp, ConnectionMiddleware
from server.drain import Departure
from server.error_answers import add_error_answers
from server.errors import UnavailableError
from server.exchange import ExchangeMiddleware, Witness, exchange_of
from server.http_metrics import CountExchanges
from server.request_context import ContextMiddleware, current
from server.routes import routes
from server.services import Services


class Application:
    """Falcon behind the connection layer, with the services' life tied to ASGI's lifespan.

    Args:
        start: Makes the services; called once per worker process, on its event loop.
        max_body_bytes: Larger request bodies are refused.
        body_seconds: How long a client may take to send one.
        stall_seconds: How long a client may leave its answer unread.
        request_timeout: How long a request may take.
        ui: Serve the pages.
        tgi: LightLLM's paths speak TGI's format.
        log_prompts: Write request bodies into the log.
        guard: Puts what keeps strangers out in front of an application.
        departure: How this process ends; ``None`` where that is others' business.
        witnesses: Are told of each request and its answer, besides the metrics.
    """

    def __init__(
        self,
        start: Callable[[], Awaitable[Services]],
        *,
        max_body_bytes: int = DEFAULT_BODY_LIMIT,
        body_seconds: float = 60.0,
        stall_seconds: float = 60.0,
        request_timeout: float | None = None,
        ui: bool = True,
        tgi: bool = False,
        log_prompts: bool = False,
        guard: Callable[[AsgiApp], AsgiApp] = lambda app: app,
        departure: Departure | None = None,
        witnesses: Sequence[Witness] = (),
    ) -> None:
        self._start = start
        self._departure = departure
        self._services: Services | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._falcon = falcon.asgi.App(middleware=[self])
        self._add_routes(ui, tgi)
        departing = departure.announced if departure is not None else lambda: False
        self._connections = ConnectionMiddleware(self._falcon, stall_seconds, departing)
        bodies = BodyMiddleware(self._connections, max_body_bytes, body_seconds, logged=log_prompts)
        # NOTE: around the bodies, since a request's time runs while its body comes.
        context = ContextMiddleware(guard(bodies), request_timeout)
        counted = CountExchanges(lambda: self.services().metrics.http)
        self._outermost = ExchangeMiddleware(context, [counted, *witnesses])

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})
        else:
            await self._outermost(scope, receive, send)

    def services(self) -> Services:
        """The running services."""
        if self._services is None:
            raise RuntimeError("the application has not been started")
        return self._services

    async def process_request(self, _request: Any, _response: Any) -> None:
        """Called by Falcon before anything else is done for a request."""
        problem = current().problem
        if problem is not None:
            raise problem

    async def process_startup(self, _scope: Any, _event: Any) -> None:
        """Called by Falcon when the worker starts."""
        self._services = await self._start()
        loop, connections = asyncio.get_running_loop(), self._connections
        self._tasks = [loop.create_task(connections.sweep_forever())]
        if self._departure is not None:
            watch = self._departure.leave_when_quiet(lambda: connections.open_requests, self._note_counts)
            self._tasks.append(loop.create_task(watch))

    async def process_shutdown(self, _scope: Any, _event: Any) -> None:
        """Called by Falcon when the worker stops in good order."""
        for task in self._tasks:
            task.cancel()
        if self._services is not None:
            await self._services.close()

    async def process_resource(self, request: Request, _response: Any, _resource: Any, _params: Any) -> None:
        """Called by Falcon when it knows who answers."""
        exchange_of(request.scope).route = request.uri_template or ""

    async def _note_counts(self) -> None:
        """Have what the engine counted outlast it."""
        with suppress(UnavailableError):
            await self.services().engine_stats()

    def _add_routes(self, ui: bool, tgi: bool) -> None:
        for route in routes(self.services, ui=ui, tgi=tgi):
            self._falcon.add_route(route.path, route.resource, suffix=route.suffix)
        add_error_answers(self._falcon, self.services)
