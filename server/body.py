"""Request bodies, taken whole and under a limit before anything else is done for a request."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from server.connection import AsgiApp, Receive, Send
from server.native_format import encode
from server.native_types import Message
from server.openai.errors import error_body, speaks_openai

DISCARD_SECONDS = 3.0


class BodyMiddleware:
    """Outermost ASGI layer: the application sees requests that have arrived whole, and no too large ones.

    Args:
        app: The application.
        limit: Bytes that a body may have.
    """

    def __init__(self, app: AsgiApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        too_large = any(name == b"content-length" and self._exceeds(value) for name, value in scope["headers"])
        body, more = bytearray(), True
        while more and not too_large:
            message = await receive()
            if message["type"] == "http.disconnect":
                # NOTE: this is also what a server says when it is tired of waiting.
                await _refuse(scope, send, 408, "the body did not arrive in time")
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            too_large = len(body) > self._limit
        if too_large:
            await _refuse(scope, send, 413, f"the body has more than {self._limit} bytes")
            await _discard(receive)
            # NOTE: gunicorn keeps a connection whatever the header says; it closes when an answered request fails.
            raise ConnectionAbortedError("the body is too large")
        await self._app(scope, _replay(bytes(body), receive), send)

    def _exceeds(self, length: bytes) -> bool:
        # NOTE: Python refuses to read numbers of thousands of digits.
        return length.isdigit() and (len(length) > 18 or int(length) > self._limit)


def _replay(body: bytes, receive: Receive) -> Receive:
    """``receive`` as if nothing had been received."""
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Any:
        return messages.pop() if messages else await receive()

    return replay


async def _refuse(scope: dict[str, Any], send: Send, status: int, message: str) -> None:
    content = encode(error_body(status, message) if speaks_openai(scope["path"]) else Message(message))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(content)),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def _discard(receive: Receive) -> None:
    """Take what the client goes on to send: were it left unread, the answer could be lost in a connection reset."""
    with suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_SECONDS):
            while (await receive()).get("more_body"):
                pass
