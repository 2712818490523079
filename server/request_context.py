"""What a request brings besides its body: read once at the door, found wherever it is needed."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Awaitable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from runtime.tenants import NOBODY
from server.connection import AsgiApp, Message, Receive, Send

_SAFE_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContext:
    """Who asks, and how urgently.

    Attributes:
        tenant: Whose key the request came with.
        salt: Separates what the prefix cache may share; empty shares with everybody else who has none.
        priority: Larger ones are served first.
        deadline: ``time.monotonic()`` after which nobody wants the answer any more.
        request_id: The client's ``X-Request-Id`` if it is harmless, else one of our own. The answer has it too.
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


@contextmanager
def entered(context: RequestContext) -> Iterator[None]:
    """Has ``context`` be the current one."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)


class ContextMiddleware:
    """Outermost ASGI layer: puts each request's context in place while it is answered."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = _read(scope["headers"])

        # NOTE: no coroutine of its own, because it is called for every token of every stream.
        def identified(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                named = (b"x-request-id", context.request_id.encode())
                message = {**message, "headers": [*message["headers"], named]}
            return send(message)

        with entered(context):
            await self._app(scope, receive, identified)


def _read(headers: Iterable[tuple[bytes, bytes]]) -> RequestContext:
    names = {name.lower(): value for name, value in headers}
    request_id = names.get(b"x-request-id", b"").decode("latin-1")
    return RequestContext(request_id=request_id if _SAFE_ID.fullmatch(request_id) else uuid.uuid4().hex)
