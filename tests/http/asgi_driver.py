"""Drives an ASGI application in the test's own process: streams, disconnects and clients that do not read."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any


class Exchange:
    """One request and its answer as it comes."""

    def __init__(self, app: Any, scope: dict[str, Any], body: list[bytes]) -> None:
        self._messages = [
            {"type": "http.request", "body": part, "more_body": i + 1 < len(body)} for i, part in enumerate(body)
        ]
        self._gone = asyncio.Event()
        self.reading = asyncio.Event()
        self.reading.set()
        self._sent: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.task = asyncio.get_running_loop().create_task(self._run(app, scope))

    async def _run(self, app: Any, scope: dict[str, Any]) -> None:
        try:
            await app(scope, self._receive, self._send)
        finally:
            self._sent.put_nowait(None)

    async def _receive(self) -> dict[str, Any]:
        if self._messages and not self._gone.is_set():
            return self._messages.pop(0)
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        await self.reading.wait()
        if not self._gone.is_set():
            self._sent.put_nowait(message)

    def disconnect(self) -> None:
        """Close the client's end."""
        self._gone.set()

    async def start(self) -> Exchange:
        """Wait for the status line."""
        message = await asyncio.wait_for(self._sent.get(), 10)
        if message is None:
            await self.task
            raise AssertionError("the application answered nothing")
        self.status = message["status"]
        self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        return self

    async def chunk(self) -> bytes | None:
        """The next non-empty part of the body; ``None`` at its end."""
        while True:
            message = await asyncio.wait_for(self._sent.get(), 10)
            if message is None:
                return None
            if message.get("body"):
                return bytes(message["body"])

    async def chunks(self) -> list[bytes]:
        """All that is left."""
        parts = []
        while (part := await self.chunk()) is not None:
            parts.append(part)
        with suppress(asyncio.CancelledError):
            await self.task
        return parts


class Answer:
    """A whole answer."""

    def __init__(self, status: int, headers: dict[str, str], parts: list[bytes]) -> None:
        self.status, self.headers, self.parts = status, headers, parts
        self.body = b"".join(parts)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The events of a stream."""
        frames = self.body.decode().split("\n\n")
        assert frames.pop() == ""
        assert all(frame.startswith("data:") for frame in frames)
        return [json.loads(frame[5:]) for frame in frames]


class Client:
    """Runs an application's lifespan and sends it requests."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __aenter__(self) -> Client:
        self._events: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self._replies: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.4"}, "state": {}}
        self._lifespan = asyncio.get_running_loop().create_task(self.app(scope, self._events.get, self._replies.put))
        await self._tell("startup")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tell("shutdown")
        await self._lifespan

    async def _tell(self, event: str) -> None:
        await self._events.put({"type": f"lifespan.{event}"})
        reply = await asyncio.wait_for(self._replies.get(), 30)
        assert reply["type"] == f"lifespan.{event}.complete", reply

    def open(self, method: str, target: str, body: Any = b"", headers: dict[str, str] | None = None) -> Exchange:
        """Begin a request; a list of bytes is a body in parts, anything but bytes is JSON."""
        path, _, query = target.partition("?")
        if not isinstance(body, bytes | list):
            body = json.dumps(body).encode()
        parts = body if isinstance(body, list) else [body]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
        }
        return Exchange(self.app, scope, parts)

    async def request(self, method: str, target: str, body: Any = b"", headers: dict[str, str] | None = None) -> Answer:
        """Send a request and wait for the whole answer."""
        exchange = await self.open(method, target, body, headers).start()
        return Answer(exchange.status, exchange.headers, await exchange.chunks())

    async def generate(self, path: str = "/generate", inputs: Any = "hi", **parameters: Any) -> Answer:
        """POST a completion."""
        return await self.request("POST", path, {"inputs": inputs, "parameters": parameters})
