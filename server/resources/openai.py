"""``/v1/models``, ``/v1/completions`` and ``/v1/chat/completions``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from falcon.asgi import Request, Response

from server.connection import SCOPE_KEY, Connection
from server.errors import InvalidRequestError
from server.native_format import encode
from server.openai.call import Call, Events
from server.openai.chat_writer import ChatWriter
from server.openai.completion_writer import CompletionWriter
from server.openai.errors import error_body
from server.openai.event_stream import ChunkWriter, EventStream
from server.openai.model_types import Model, ModelList
from server.resources.base import Resource, answer
from server.resources.request_log import closer
from server.services import Services
from server.validation import ValidRequest


class Writer(ChunkWriter, Protocol):
    """Says what goes into an answer."""

    def answer(self, events: Events) -> Any:
        """The whole answer, from all tokens."""


class OpenAIResource(Resource):
    """A resource that takes JSON by name: what a form of another site can send is refused."""

    async def _json(self, request: Request) -> bytes:
        """The body.

        Raises:
            InvalidRequestError: It says that it is something else than JSON.
        """
        kind = (request.content_type or "application/json").partition(";")[0].strip().lower()
        if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
            raise InvalidRequestError(f"send Content-Type: application/json, not {kind}", "invalid_json")
        return await self._body(request)

    async def _answer(
        self,
        request: Request,
        response: Response,
        requests: Sequence[ValidRequest],
        writer_of: Callable[[Call], Writer],
        *,
        arrived: float,
        stream: bool,
    ) -> None:
        """Generate, and answer whole or as a stream."""
        services = self._services()
        seconds = time.perf_counter() - arrived
        services.metrics.validated(seconds)
        connection: Connection = request.scope[SCOPE_KEY]
        connection.check()
        call = Call.start(services.generator, requests, seconds)
        log = closer(call.generations, request)

        def close() -> None:
            call.close()
            log()

        connection.hold(call.cancel, close)
        writer = writer_of(call)
        # NOTE: nothing is sent before the engine's first output, so that refusals have their own status.
        events = await call.events()
        if stream:
            response.content_type = "text/event-stream; charset=utf-8"
            response.cache_control = ["no-cache"]
            response.set_header("X-Accel-Buffering", "no")
            response.stream = EventStream(call, writer, events)
            return
        while not call.done:
            events += await call.events()
        response.content_type = "application/json"
        # NOTE: a thousand scored prompts are half a second's work, which no other stream is to wait for.
        response.data = await asyncio.to_thread(lambda: encode(writer.answer(events)))


class CompletionsResource(OpenAIResource):
    """``/v1/completions``."""

    async def on_post(self, request: Request, response: Response) -> None:
        """Complete prompts."""
        services, arrived = self._services(), time.perf_counter()
        call = await services.completion_parser.parse(await self._json(request))
        await self._answer(
            request,
            response,
            call.requests,
            lambda running: CompletionWriter(call, running.generations, services.token_texts),
            arrived=arrived,
            stream=bool(call.fields.stream),
        )


class ChatCompletionsResource(OpenAIResource):
    """``/v1/chat/completions``."""

    async def on_post(self, request: Request, response: Response) -> None:
        """Go on with a chat."""
        services, arrived = self._services(), time.perf_counter()
        call = await services.chat_parser.parse(await self._json(request))
        await self._answer(
            request,
            response,
            [call.request],
            lambda running: ChatWriter(call, running.generations[0], services.token_texts),
            arrived=arrived,
            stream=bool(call.fields.stream),
        )


class ModelsResource(Resource):
    """``/v1/models``."""

    def __init__(self, services: Callable[[], Services]) -> None:
        super().__init__(services)
        self._created = int(time.time())

    async def on_get(self, request: Request, response: Response) -> None:  # noqa: ARG002
        """All models."""
        answer(response, ModelList(data=[self._model()]))

    async def on_get_one(self, request: Request, response: Response, name: str) -> None:  # noqa: ARG002
        """The one of that name."""
        model = self._model()
        if name == model.id:
            answer(response, model)
            return
        message = f"The model {name!r} does not exist; this server has {model.id!r}"
        answer(response, error_body(404, message, code="model_not_found", param="model"), 404)

    def _model(self) -> Model:
        services = self._services()
        limit = services.client.limits.max_request_tokens
        return Model(id=services.config.model_name, created=self._created, max_model_len=limit)
