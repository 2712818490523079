"""Error bodies in LightLLM's shapes, and in OpenAI's where a path speaks that."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import falcon
import msgspec
from falcon.asgi import App, Request, Response

from server.errors import ClientGoneError, InvalidRequestError, QueueFullError, ServerError, UnavailableError
from server.exchange import exchange_of
from server.native_types import Message, Refusal
from server.openai.errors import body_of, error_body, speaks_openai, status_of
from server.resources.base import answer
from server.services import Services
from server.tgi.format import error_fields

logger = logging.getLogger("peregrine.errors")

GENERATE_PATHS = ("/", "/generate", "/generate_stream")
_DETAILS = {404: "Not Found", 405: "Method Not Allowed"}


def add_error_answers(app: App[Request, Response], services: Callable[[], Services]) -> None:
    """Register the handlers."""

    async def expected(request: Request, response: Response, error: ServerError, _params: Any) -> None:
        openai = speaks_openai(request.path)
        status = status_of(error) if openai else _native_status(error, services().config.overload_status)
        exchange_of(request.scope).failure = error
        services().metrics.failure(error)
        if isinstance(error, UnavailableError):
            response.set_header("Retry-After", str(error.retry_after))
        content: Any = body_of(error) if openai else _native_body(error)
        if services().config.tgi and request.path in GENERATE_PATHS:
            content = msgspec.to_builtins(content) | error_fields(error)
        answer(response, content, status)
        services().metrics.tenants.failure(status)

    async def client_gone(_request: Request, response: Response, _error: ClientGoneError, _params: Any) -> None:
        response.status = 499

    async def unexpected(request: Request, response: Response, _error: Exception, _params: Any) -> None:
        logger.exception("%s %s failed", request.method, request.uri_template)
        error = ServerError("internal error")
        exchange_of(request.scope).failure = error
        services().metrics.failure(error)
        answer(response, body_of(error) if speaks_openai(request.path) else Message(error.message), 500)

    app.add_error_handler(Exception, unexpected)
    app.add_error_handler(falcon.HTTPError, _http_error)
    app.add_error_handler(ServerError, expected)
    app.add_error_handler(ClientGoneError, client_gone)


def _native_status(error: ServerError, overload_status: int) -> int:
    return overload_status if isinstance(error, QueueFullError) else error.status


def _native_body(error: ServerError) -> Refusal | Message:
    if isinstance(error, InvalidRequestError):
        return Refusal(error.message, error.error_code, error.param)
    return Message(error.message)


async def _http_error(request: Request, response: Response, error: falcon.HTTPError, _params: Any) -> None:
    # NOTE: a method that Falcon has never heard of is a bad request to it.
    status = 405 if isinstance(error, falcon.HTTPBadRequest) else error.status_code
    response.set_headers(error.headers or {})
    detail = _DETAILS.get(status, error.title or "Error")
    if speaks_openai(request.path):
        answer(response, error_body(status, f"{detail}: {request.method} {request.path}"), status)
    else:
        answer(response, {"detail": detail}, status)
