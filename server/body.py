"""Reading a request body under a limit."""

from __future__ import annotations

from falcon.asgi import Request

from server.errors import BodyTooLargeError


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, whatever its content type.

    Raises:
        BodyTooLargeError: It has more than ``limit`` bytes, by its header or in fact.
    """
    error = BodyTooLargeError(f"the body has more than {limit} bytes")
    if (request.content_length or 0) > limit:
        raise error
    parts, size = [], 0
    async for part in request.stream:
        size += len(part)
        if size > limit:
            raise error
        parts.append(part)
    return b"".join(parts)
