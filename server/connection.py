"""What Falcon does not tell: that a client has gone away, or has stopped reading."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from server.errors import ClientGoneError

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

SCOPE_KEY = "peregrine.connection"
SWEEP_SECONDS = 1.0


def _nothing() -> None:
    pass


class Connection:
    """One request's connection, watched from the moment that the request is there.

    Args:
        request: The message with the whole body.
        receive: Gives what comes after it: news of the client's leaving.
        send: Takes the answer.
        departing: Says whether the client is to be told that the connection closes.

    Attributes:
        stalled: It was gone with more waiting for it than the buffers on the way hold.
        close_announced: The answer says that it is the connection's last.
    """

    __slots__ = (
        "_clock",
        "_departing",
        "_left",
        "_on_close",
        "_on_leave",
        "_receive",
        "_request",
        "_send",
        "_task",
        "_watcher",
        "blocked_since",
        "close_announced",
        "stalled",
    )

    def __init__(self, request: Mapping[str, Any], receive: Receive, send: Send, departing: Callable[[], bool]) -> None:
        self._request: Mapping[str, Any] | None = request
        self._receive = receive
        self._send = send
        self._departing = departing
        self._task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        self._clock = loop.time
        self._left = asyncio.Event()
        self._on_leave: Callable[[], None] = _nothing
        self._on_close: Callable[[], None] = _nothing
        self.blocked_since: float | None = None
        self.stalled = False
        self.close_announced = False
        self._watcher = loop.create_task(self._watch())

    @property
    def gone(self) -> bool:
        """The client has disconnected, or was cut off because it stopped reading."""
        return self._left.is_set()

    def check(self) -> None:
        """Before anything is begun for the client: see whether it is still there.

        Raises:
            ClientGoneError: It is not.
        """
        if self.gone:
            raise ClientGoneError

    def hold(self, on_leave: Callable[[], None], on_close: Callable[[], None]) -> None:
        """Tie something to the connection that has to be freed however the answer ends.

        Args:
            on_leave: Called once when the client goes away; at once if it has gone.
            on_close: Called when the request is over, the answer sent or not.
        """
        self._on_leave, self._on_close = on_leave, on_close
        if self.gone:
            on_leave()

    async def receive(self) -> Mapping[str, Any]:
        """The application's ``receive``: the request, and then the client's leaving."""
        request, self._request = self._request, None
        if request is not None:
            return request
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Pass ``message`` on, keeping the time since when the client has not taken it."""
        if message["type"] == "http.response.start" and self._departing():
            self.close_announced = True
            message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
        self.blocked_since = self._clock()
        await self._send(message)
        self.blocked_since = None

    def cut(self) -> None:
        """Give up on a client that does not read."""
        self._leave()
        if self._task is not None:
            self._task.cancel()

    def close(self) -> None:
        """The request is over."""
        self._watcher.cancel()
        self._on_close()

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._leave()

    def _leave(self) -> None:
        if not self.gone:
            self._left.set()
            self.stalled = self.blocked_since is not None
            self._on_leave()


class ConnectionMiddleware:
    """ASGI layer: gives each request its ``Connection`` and cuts off clients that stopped reading.

    Inside the layer that reads the bodies: the first message that it gets has to be the whole request.

    Args:
        app: The application.
        stall_seconds: How long a client may leave a part of its answer unread.
        departing: Says whether clients are to be told that their connections close.
    """

    def __init__(self, app: AsgiApp, stall_seconds: float, departing: Callable[[], bool] = lambda: False) -> None:
        self._app = app
        self._departing = departing
        self._stall_seconds = stall_seconds
        self._open: set[Connection] = set()

    @property
    def open_requests(self) -> int:
        """Requests being answered."""
        return len(self._open)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        connection = Connection(await receive(), receive, send, self._departing)
        scope[SCOPE_KEY] = connection
        self._open.add(connection)
        try:
            await self._app(scope, connection.receive, connection.send)
        finally:
            self._open.discard(connection)
            connection.close()
        if connection.close_announced:
            # NOTE: gunicorn keeps a connection whatever the header says; it closes when an answered request fails.
            raise ConnectionAbortedError("the answer said that the connection closes")

    def sweep(self) -> None:
        """Cut off the clients that have not read for too long."""
        now = asyncio.get_running_loop().time()
        for connection in [*self._open]:
            since = connection.blocked_since
            if since is not None and now - since > self._stall_seconds:
                connection.cut()

    async def sweep_forever(self) -> None:
        """Sweep until cancelled."""
        while True:
            await asyncio.sleep(min(SWEEP_SECONDS, self._stall_seconds / 2))
            self.sweep()
