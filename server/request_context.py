"""What a request brings besides its body: read once at the door, found wherever it is needed."""

from __future__ import annotations

import math
import re
import time
import uuid
from collections.abc import Awaitable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from runtime.tenants import NOBODY
from server.connection import AsgiApp, Message, Receive, Send
from server.errors import InvalidRequestError

PRIORITY_HEADER = "X-Request-Priority"
TIMEOUT_HEADER = "X-Request-Timeout"
HIGHEST_PRIORITY = 8
LONGEST_TIMEOUT = 1e6

_SAFE_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContext:
    """Who asks, and how urgently.

    Attributes:
        tenant: Whose key the request came with.
        salt: Separates what the prefix cache may share; empty shares with everybody else who has none.
        priority: Larger ones are served first, in [-8, 8].
        deadline: ``time.monotonic()`` after which nobody wants the answer any more.
        request_id: The client's ``X-Request-Id`` if it is harmless, else one of our own. The answer has it too.
        problem: What is wrong with the headers; nothing is to be done for the request then.
    """

    tenant: str = NOBODY
    salt: str = ""
    priority: int = 0
    deadline: float = math.inf
    request_id: str = ""
    problem: InvalidRequestError | None = None


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
    """Outermost ASGI layer: puts each request's context in place while it is answered.

    Args:
        app: The application.
        timeout: Seconds that a request may take at most.
    """

    def __init__(self, app: AsgiApp, timeout: float | None = None) -> None:
        self._app = app
        self._timeout = math.inf if timeout is None else timeout

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = _read(scope["headers"], self._timeout)

        # NOTE: no coroutine of its own, because it is called for every token of every stream.
        def identified(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                named = (b"x-request-id", context.request_id.encode())
                message = {**message, "headers": [*message["headers"], named]}
            return send(message)

        with entered(context):
            await self._app(scope, receive, identified)


def _read(headers: Iterable[tuple[bytes, bytes]], longest: float) -> RequestContext:
    names = {name.lower(): value.decode("latin-1") for name, value in headers}
    request_id = names.get(b"x-request-id", "")
    request_id = request_id if _SAFE_ID.fullmatch(request_id) else uuid.uuid4().hex
    try:
        priority = _priority(names.get(PRIORITY_HEADER.lower().encode(), "0"))
        seconds = _seconds(names.get(TIMEOUT_HEADER.lower().encode()))
    except InvalidRequestError as problem:
        return RequestContext(request_id=request_id, problem=problem)
    return RequestContext(priority=priority, deadline=time.monotonic() + min(seconds, longest), request_id=request_id)


def _priority(text: str) -> int:
    if re.fullmatch(r"[+-]?[0-9]{1,3}", text) is None or abs(int(text)) > HIGHEST_PRIORITY:
        allowed = f"a whole number from {-HIGHEST_PRIORITY} to {HIGHEST_PRIORITY}"
        raise InvalidRequestError(f"{PRIORITY_HEADER} must be {allowed}", param=PRIORITY_HEADER)
    return int(text)


def _seconds(text: str | None) -> float:
    """Seconds that a request leaves for its answer."""
    if text is None:
        return math.inf
    seconds = float(text) if re.fullmatch(r"[0-9]{1,7}(\.[0-9]{1,9})?", text) else 0.0
    if not 0 < seconds <= LONGEST_TIMEOUT:
        raise InvalidRequestError(
            f"{TIMEOUT_HEADER} must be a number of seconds, up to {LONGEST_TIMEOUT:.0f}", param=TIMEOUT_HEADER
        )
    return seconds
