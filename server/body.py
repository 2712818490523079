"""Request bodies under a limit."""

from __future__ import annotations

from typing import Any

from falcon.asgi import Request

from server.connection import AsgiApp, Receive, Send
from server.errors import BodyTooLargeError
from server.native_format import encode


class BodyLimitMiddleware:
    """Refuses bodies that announce to be too large before a byte of them is asked for.

    Falcon waits for the first part of a body before it routes the request.

    Args:
        app: The application.
        limit: Bytes that a body may have.
    """

    def __init__(self, app: AsgiApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "http" and self._announces_too_much(scope["headers"]):
            content = encode({"message": _too_large(self._limit).message})
            headers = [
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(content)),
                (b"connection", b"close"),
            ]
            await send({"type": "http.response.start", "status": BodyTooLargeError.status, "headers": headers})
            await send({"type": "http.response.body", "body": content})
        else:
            await self._app(scope, receive, send)

    def _announces_too_much(self, headers: list[tuple[bytes, bytes]]) -> bool:
        lengths = (value for name, value in headers if name == b"content-length")
        return any(value.isdigit() and int(value[:20]) > self._limit for value in lengths)


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, whatever its content type.

    Raises:
        BodyTooLargeError: It has more than ``limit`` bytes.
    """
    parts, size = [], 0
    async for part in request.stream:
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    return b"".join(parts)


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body has more than {limit} bytes")
