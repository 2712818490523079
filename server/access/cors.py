"""Cross-origin requests of browsers: allowed for the sites that the operator names, and for no other."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Iterable
from typing import Any

from server.connection import AsgiApp, Message, Receive, Send
from server.errors import StartError

ANYBODY = "*"
MAX_AGE_SECONDS = 600
EXPOSED = b"x-request-id, retry-after, x-ignored-parameters"
"""What scripts may read of an answer's head besides what they always may."""

_METHODS = b"GET, HEAD, POST"
_ORIGIN = re.compile(r"https?://(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?")
_HEADER_NAMES = re.compile(rb"[A-Za-z0-9, _-]{0,2000}")


def check_origins(origins: Iterable[str], *, keys: bool) -> tuple[str, ...]:
    """Origins as browsers write them.

    Args:
        origins: What the operator names.
        keys: Requests need a key.

    Raises:
        StartError: One of them can never match, or all sites are let in where keys are wanted.
    """
    checked = tuple(dict.fromkeys(origins))
    for origin in checked:
        if origin == ANYBODY:
            if keys:
                raise StartError("--cors_origin *: with API keys the sites have to be named")
        elif not _ORIGIN.fullmatch(origin):
            raise StartError(f"--cors_origin {origin}: need an origin such as https://example.com or http://host:3000")
    return checked


class CorsMiddleware:
    """ASGI layer: answers preflights, and marks every answer to an allowed site, errors and streams too.

    Cookies and the like are never asked for, so nothing is sent that scripts did not put there.

    Args:
        app: The application.
        origins: Sites; compared exactly.
    """

    def __init__(self, app: AsgiApp, origins: Iterable[str]) -> None:
        self._app = app
        self._origins = frozenset(origin.encode() for origin in origins)
        self._anybody = ANYBODY.encode() in self._origins

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        origin = headers.get(b"origin")
        allowed = self._anybody or origin in self._origins
        marks: list[tuple[bytes, bytes]] = [] if self._anybody else [(b"vary", b"Origin")]
        if origin is not None and allowed:
            marks.append((b"access-control-allow-origin", b"*" if self._anybody else origin))
            if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
                await _answer_preflight(send, marks, headers.get(b"access-control-request-headers", b""))
                return
            marks.append((b"access-control-expose-headers", EXPOSED))

        # NOTE: no coroutine of its own, because it is called for every token of every stream.
        def marked(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *marks]}
            return send(message)

        await self._app(scope, receive, marked)


async def _answer_preflight(send: Send, marks: list[tuple[bytes, bytes]], wanted: bytes) -> None:
    headers = [
        *marks,
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-max-age", b"%d" % MAX_AGE_SECONDS),
    ]
    if wanted and _HEADER_NAMES.fullmatch(wanted):
        headers.append((b"access-control-allow-headers", wanted))
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
