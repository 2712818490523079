"""Errors that are answered before the application hears of a request."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from server.connection import Receive, Send
from server.native_format import encode
from server.native_types import Message
from server.openai.errors import error_body, speaks_openai

DISCARD_SECONDS = 3.0


async def refuse(
    scope: dict[str, Any],
    send: Send,
    status: int,
    message: str,
    *,
    code: str | None = None,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> None:
    """Answer with an error in the shape of the path's API.

    Args:
        scope: The request's.
        send: Where the answer goes.
        status: Its status.
        message: For the client.
        code: OpenAI's name of the error.
        headers: Further ones.
    """
    content = encode(error_body(status, message, code=code) if speaks_openai(scope["path"]) else Message(message))
    common = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": status, "headers": [*common, *headers]})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else content})


async def discard(receive: Receive) -> None:
    """Take what the client goes on to send: were it left unread, the answer could be lost in a connection reset."""
    with suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_SECONDS) as limit:
            # NOTE: a cancellation can be swallowed on its way, see ``server.body``.
            while (await receive()).get("more_body") and not limit.expired():
                pass
