"""Each HTTP request with its answer, as seen from the outside: what is counted and traced of all of them alike."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from server.connection import AsgiApp, Message, Receive, Send
from server.errors import ServerError

EXCHANGE_KEY = "peregrine.exchange"

_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})


@dataclass(slots=True)
class Exchange:
    """A request and its answer.

    Attributes:
        scope: The request, as ASGI has it.
        route: Template of the path that answers; empty where none does.
        status: Of the answer; 0 before it begins.
        streamed: The answer is a stream of events.
        failure: Why the answer is an error, or ends in one.
    """

    scope: dict[str, Any]
    route: str = ""
    status: int = 0
    streamed: bool = False
    failure: ServerError | None = None

    @property
    def method(self) -> str:
        """The method, if HTTP knows it: what clients make up must not become names in metrics."""
        method: str = self.scope["method"]
        return method if method in _METHODS else "_OTHER"


class Witness(Protocol):
    """What wants to know of every exchange. Its methods are called in the exchange's own task."""

    def began(self, exchange: Exchange) -> None:
        """A request is there, as far as its headers."""

    def answering(self, exchange: Exchange) -> None:
        """The answer begins."""

    def ended(self, exchange: Exchange) -> None:
        """The answer is complete, or never will be."""


class ExchangeMiddleware:
    """Outermost ASGI layer.

    Args:
        app: The application.
        witnesses: Are told of each exchange.
    """

    def __init__(self, app: AsgiApp, witnesses: Sequence[Witness]) -> None:
        self._app = app
        self._witnesses = witnesses

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = scope[EXCHANGE_KEY] = Exchange(scope)

        # NOTE: no coroutine of its own, because it is called for every token of every stream.
        def watched(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                self._answer(exchange, message)
            return send(message)

        for witness in self._witnesses:
            witness.began(exchange)
        try:
            await self._app(scope, receive, watched)
        finally:
            for witness in self._witnesses:
                witness.ended(exchange)

    def _answer(self, exchange: Exchange, message: Message) -> None:
        exchange.status = message["status"]
        exchange.streamed = any(
            name == b"content-type" and value.startswith(b"text/event-stream") for name, value in message["headers"]
        )
        for witness in self._witnesses:
            witness.answering(exchange)


def exchange_of(scope: dict[str, Any]) -> Exchange:
    """The exchange that ``scope`` belongs to."""
    found: Exchange = scope[EXCHANGE_KEY]
    return found
