"""What resources have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from falcon.asgi import Request, Response

from server.native_format import encode
from server.services import Services


class Resource:
    """A resource that finds the services when a request comes: they start after the routes are made."""

    def __init__(self, services: Callable[[], Services]) -> None:
        self._services = services

    async def _body(self, request: Request) -> bytes:
        """The body, whatever its content type."""
        return bytes(await request.stream.read())


def answer(response: Response, content: Any, status: int = 200) -> None:
    """Send compact JSON."""
    response.status = status
    response.content_type = "application/json"
    response.data = encode(content)
