"""``/generate``, ``/generate_stream`` and ``/``."""

from __future__ import annotations

import time
from collections.abc import Callable

from falcon.asgi import Request, Response

from server.connection import SCOPE_KEY, Connection
from server.errors import ClientGoneError, UnavailableError
from server.generate_format import EventWriter
from server.generation import Generation, TokenEvent
from server.resources.base import Resource
from server.resources.request_log import SAFE_NAME, closer, logger
from server.services import Services

IGNORED_HEADER = "X-Ignored-Parameters"
MAX_IGNORED_NAMES = 16


class GenerateResource(Resource):
    """Completion in LightLLM's native format, or in TGI's.

    Args:
        services: Gives the shared parts.
        streaming: Whether the answer is a stream; ``None`` lets the body's ``stream`` decide.
    """

    def __init__(self, services: Callable[[], Services], streaming: bool | None) -> None:
        super().__init__(services)
        self._streaming = streaming
        self._logged_names: set[str] = set()

    async def on_post(self, request: Request, response: Response) -> None:
        """Complete a prompt."""
        services, arrived = self._services(), time.perf_counter()
        valid, streaming = await services.format.parse(await self._body(request), streaming=self._streaming)
        seconds = time.perf_counter() - arrived
        services.metrics.validated(seconds)
        connection: Connection = request.scope[SCOPE_KEY]
        connection.check()
        generation = services.generator.start(valid, seconds)
        connection.hold(generation.cancel, closer((generation,), request))
        self._name_ignored(response, valid.ignored)
        # NOTE: nothing is sent before the engine's first output, so that refusals have their own status.
        events = await generation.events()
        _raise_failure(generation, events, tokens_count=False)
        if streaming:
            response.content_type = "text/event-stream; charset=utf-8"
            response.cache_control = ["no-cache"]
            response.set_header("X-Accel-Buffering", "no")
            response.stream = EventStream(generation, events, services.format.writer(valid))
            return
        while not generation.done:
            events += await generation.events()
        _raise_failure(generation, events, tokens_count=True)
        response.content_type = "application/json"
        response.data = services.format.answer(generation, events)

    def _name_ignored(self, response: Response, names: tuple[str, ...]) -> None:
        safe = [name for name in names if SAFE_NAME.fullmatch(name)][:MAX_IGNORED_NAMES]
        if not safe:
            return
        response.set_header(IGNORED_HEADER, ", ".join(safe))
        for name in safe:
            if name not in self._logged_names and len(self._logged_names) < 256:
                self._logged_names.add(name)
                logger.warning("parameter %s has no effect here", name)


class EventStream:
    """The frames of a running generation, one per token; what has come since the last chunk is one chunk."""

    __slots__ = ("_broken", "_events", "_generation", "_writer")

    def __init__(self, generation: Generation, events: list[TokenEvent], writer: EventWriter) -> None:
        self._generation = generation
        self._writer = writer
        self._events = events
        self._broken = False

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> bytes:
        events, self._events = self._events, []
        if not events:
            if self._broken or self._generation.done:
                raise StopAsyncIteration
            try:
                events = await self._generation.events()
            except ClientGoneError:
                raise StopAsyncIteration from None
            except Exception:
                # NOTE: this runs outside Falcon's error handlers; what escapes cuts the connection.
                logger.exception("request %d failed", self._generation.request_id)
                self._broken = True
                return self._writer.failure("internal error", sum(self._generation.counts))
        return b"".join([self._writer.frame(event) for event in events])


def _raise_failure(generation: Generation, events: list[TokenEvent], *, tokens_count: bool) -> None:
    """Raise for a failed output; unless ``tokens_count``, only for one that failed before its first token."""
    for event in events:
        if event.error and (tokens_count or not event.count):
            raise generation.failure or UnavailableError(event.error)
