"""A streaming load client on asyncio alone: what it costs is small beside the server it measures."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

_TAIL = 4096
"""Bytes kept of the end of an answer: longer than an event."""


@dataclass
class StreamResult:
    """One request; times in seconds on the monotonic clock.

    Attributes:
        began: Before the connection was opened.
        token_times: When each event arrived.
        status: HTTP status; 0 where there was no answer.
        prompt_tokens: As the server counted them.
        error: Why the answer is not whole; empty where it is.
    """

    began: float
    token_times: list[float] = field(default_factory=list)
    status: int = 0
    prompt_tokens: int = 0
    error: str = ""

    @property
    def first_token(self) -> float:
        """Time to first token."""
        return self.token_times[0] - self.began

    @property
    def ended(self) -> float:
        """When the last token came."""
        return self.token_times[-1]


class _Events(asyncio.Protocol):
    """Notes when the events of one answer arrive.

    Events end with an empty line, which stands nowhere else in them; each is in one chunk.
    """

    def __init__(self, request: bytes, result: StreamResult, closed: asyncio.Future[None]) -> None:
        self._request = request
        self._result = result
        self._closed = closed
        self._head = b""
        self._tail = b""
        self._open_line = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        if not self._result.status:
            self._head += data
            head, ended, data = self._head.partition(b"\r\n\r\n")
            if not ended:
                return
            self._result.status = int(head.split(None, 2)[1])
        self._tail = (self._tail + data)[-_TAIL:]
        if self._result.status == 200:
            text = self._open_line + data
            self._result.token_times += [now] * text.count(b"\n\n")
            self._open_line = b"\n" if text.endswith(b"\n") and not text.endswith(b"\n\n") else b""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        if not self._closed.done():  # a cancelled one has its error already
            self._judge()
            self._closed.set_result(None)

    def _judge(self) -> None:
        result = self._result
        if result.status == 0:
            result.error = "no answer"
        elif result.status != 200:
            result.error = self._tail.decode(errors="replace")[-300:].strip()
        else:
            event = _last_event(self._tail)
            result.prompt_tokens = event.get("token", {}).get("prompt_tokens", 0)
            if event.get("finish_reason") == "error":
                result.error = f"error event: {event.get('error')}"
            elif not event.get("finished"):
                result.error = "cut off"


def _last_event(tail: bytes) -> dict[str, Any]:
    event, ended, _ = tail.rpartition(b"\n\n")
    try:
        found = json.loads((b"\n" + event).rpartition(b"\ndata:")[2]) if ended else {}
    except ValueError:
        found = {}
    return found if isinstance(found, dict) else {}


def encode_request(host: str, prompt: str | list[int], new_tokens: int) -> bytes:
    """A greedy ``/generate_stream`` request that ignores EOS, and closes its connection."""
    parameters = {"max_new_tokens": new_tokens, "ignore_eos": True, "do_sample": False}
    body = json.dumps({"inputs": prompt, "parameters": parameters}).encode()
    head = f"POST /generate_stream HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


async def exchange(host: str, port: int, request: bytes, timeout: float) -> StreamResult:  # noqa: ASYNC109
    """Send an encoded request on a connection of its own; whatever goes wrong is in the result."""
    result = StreamResult(time.monotonic())
    loop = asyncio.get_running_loop()
    closed: asyncio.Future[None] = loop.create_future()
    transport = None
    try:
        async with asyncio.timeout(timeout):
            transport, _ = await loop.create_connection(lambda: _Events(request, result, closed), host, port)
            await closed
    except TimeoutError:
        result.error = f"timeout: not answered within {timeout:g} s"
    except OSError as error:
        result.error = f"no connection: {error.strerror or error}"
    finally:
        if transport is not None:
            transport.abort()
    return result


async def stream(host: str, port: int, prompt: list[int], new_tokens: int) -> StreamResult:
    """One request that has to succeed.

    Raises:
        RuntimeError: It did not, or has another number of tokens.
    """
    result = await exchange(host, port, encode_request(host, prompt, new_tokens), timeout=600)
    if result.error:
        message = f"the server answered {result.status}: {result.error}"
        raise RuntimeError(message)
    if len(result.token_times) != new_tokens:
        message = f"{len(result.token_times)} events instead of {new_tokens}"
        raise RuntimeError(message)
    return result
