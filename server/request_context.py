"""What a request brings besides its body: read once at the door, found wherever it is needed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from runtime.tenants import NOBODY
from server.connection import AsgiApp, Receive, Send


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContext:
    """Who asks, and how urgently.

    Attributes:
        tenant: Whose key the request came with.
        salt: Separates what the prefix cache may share; empty shares with everybody else who has none.
        priority: Larger ones are served first.
        deadline: ``time.monotonic()`` after which nobody wants the answer any more.
        request_id: The client's ``X-Request-Id``, unchecked; empty without one.
    """

    tenant: str = NOBODY
    salt: str = ""
    priority: int = 0
    deadline: float = math.inf
    request_id: str = ""


_NOTHING = RequestContext()
_current: ContextVar[RequestContext] = ContextVar("request", default=_NOTHING)


def current() -> RequestContext:
    """The context of the HTTP request that is being answered; an empty one outside any."""
    return _current.get()


class ContextMiddleware:
    """ASGI layer: puts each request's context in place while the application answers it."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        token = _current.set(_read(scope["headers"]))
        try:
            await self._app(scope, receive, send)
        finally:
            _current.reset(token)


def _read(headers: Iterable[tuple[bytes, bytes]]) -> RequestContext:
    names = {name.lower(): value for name, value in headers}
    return RequestContext(request_id=names.get(b"x-request-id", b"").decode("latin-1"))
