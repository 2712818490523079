"""Request bodies, taken whole and under a limit before anything else is done for a request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

from server.connection import AsgiApp, Receive, Send
from server.logs import Event
from server.refusal import discard, refuse

MAX_LOGGED_BYTES = 16384
BODIES_AT_ONCE = 16
"""Bodies of the largest size that a worker holds before they are whole."""

PLAIN = {b"content-encoding": (b"", b"identity"), b"transfer-encoding": (b"chunked",)}
"""What headers may say of a body's coding: nothing here decompresses."""

TOO_SLOW = "the body did not arrive in time"

Headers = Iterable[tuple[bytes, bytes]]

logger = logging.getLogger("peregrine.prompts")


class BodyMiddleware:
    """ASGI layer: the application sees requests that have arrived whole, and no too large ones.

    Args:
        app: The application.
        limit: Bytes that a body may have.
        seconds: Time that it may take to arrive.
        logged: Write bodies into the log.
    """

    def __init__(self, app: AsgiApp, limit: int, seconds: float = 60.0, *, logged: bool = False) -> None:
        self._app = app
        self._limit = limit
        self._seconds = seconds
        self._logged = logged
        self._room = BODIES_AT_ONCE * limit

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body = await self._take(scope["headers"], receive)
        except _RefusedError as refused:
            await refuse(scope, send, refused.status, refused.message, headers=refused.headers)
            if refused.unread:
                await discard(receive)
                # NOTE: gunicorn keeps a connection whatever the header says; it closes when an answered request fails.
                raise ConnectionAbortedError(refused.message) from None
            return
        if self._logged and body:
            text = body[:MAX_LOGGED_BYTES].decode(errors="replace")
            logger.info(Event("body", path=scope["path"], bytes=len(body), body=text))
        await self._app(scope, _replay(body, receive), send)

    async def _take(self, headers: Headers, receive: Receive) -> bytes:
        """The whole body.

        Raises:
            _RefusedError: It is too large, comes too slowly, or is coded.
        """
        if any(name == b"content-length" and self._exceeds(value) for name, value in headers):
            raise self._too_large()
        body = bytearray()
        try:
            async with asyncio.timeout(self._seconds) as limit:
                await self._fill(body, receive, limit)
        except TimeoutError:
            raise _RefusedError(408, TOO_SLOW) from None
        finally:
            self._room += len(body)
        if any(value.lower() not in PLAIN[name] for name, value in headers if name in PLAIN):
            raise _RefusedError(415, "send the body as it is, without compression")
        return bytes(body)

    async def _fill(self, body: bytearray, receive: Receive, limit: asyncio.Timeout) -> None:
        more = True
        while more:
            message = await receive()
            if limit.expired():
                # NOTE: Python 3.11's ``wait_for``, which gunicorn waits with, swallows a cancellation where data comes
                # at the same moment: the time would be up for nobody.
                raise TimeoutError
            if message["type"] == "http.disconnect":
                # NOTE: this is also what a server says when it is tired of waiting.
                raise _RefusedError(408, TOO_SLOW)
            part = message.get("body", b"")
            body += part
            self._room -= len(part)
            more = message.get("more_body", False)
            if len(body) > self._limit:
                raise self._too_large()
            if self._room < 0:
                raise _RefusedError(503, "too many bodies are arriving", unread=True)

    def _too_large(self) -> _RefusedError:
        return _RefusedError(413, f"the body has more than {self._limit} bytes", unread=True)

    def _exceeds(self, length: bytes) -> bool:
        # NOTE: Python refuses to read numbers of thousands of digits.
        return length.isdigit() and (len(length) > 18 or int(length) > self._limit)


class _RefusedError(Exception):
    """What the client is told; ``unread`` where it may be sending still."""

    def __init__(self, status: int, message: str, *, unread: bool = False) -> None:
        super().__init__(message)
        self.status, self.message, self.unread = status, message, unread
        self.headers = [] if status == 415 else [(b"connection", b"close")]
        if status == 503:
            self.headers.append((b"retry-after", b"1"))


def _replay(body: bytes, receive: Receive) -> Receive:
    """``receive`` as if nothing had been received."""
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Any:
        return messages.pop() if messages else await receive()

    return replay
