"""Request bodies, taken whole and under a limit before anything else is done for a request."""

from __future__ import annotations

import logging
from typing import Any

from server.connection import AsgiApp, Receive, Send
from server.logs import Event
from server.refusal import discard, refuse

MAX_LOGGED_BYTES = 16384
_CLOSE = [(b"connection", b"close")]

logger = logging.getLogger("peregrine.prompts")


class BodyMiddleware:
    """ASGI layer: the application sees requests that have arrived whole, and no too large ones.

    Args:
        app: The application.
        limit: Bytes that a body may have.
        logged: Write bodies into the log.
    """

    def __init__(self, app: AsgiApp, limit: int, *, logged: bool = False) -> None:
        self._app = app
        self._limit = limit
        self._logged = logged

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
                await refuse(scope, send, 408, "the body did not arrive in time", headers=_CLOSE)
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            too_large = len(body) > self._limit
        if too_large:
            await refuse(scope, send, 413, f"the body has more than {self._limit} bytes", headers=_CLOSE)
            await discard(receive)
            # NOTE: gunicorn keeps a connection whatever the header says; it closes when an answered request fails.
            raise ConnectionAbortedError("the body is too large")
        if self._logged and body:
            text = body[:MAX_LOGGED_BYTES].decode(errors="replace")
            logger.info(Event("body", path=scope["path"], bytes=len(body), body=text))
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
