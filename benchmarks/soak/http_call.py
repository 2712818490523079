"""One HTTP call that has a bounded end whatever the server does, by a client with the manners of its kind."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass, field

_BUFFER = 4096
"""Bytes that a client takes in before it reads them: a slow one is slow for the server too."""


@dataclass(frozen=True)
class Manner:
    """How a client behaves.

    Attributes:
        leave_after_frames: It hangs up when so many events have come.
        leave_after_seconds: It hangs up then, whatever has come.
        pause: Seconds that it rests after each piece that it reads.
    """

    leave_after_frames: int | None = None
    leave_after_seconds: float | None = None
    pause: float = 0.0


POLITE = Manner()


@dataclass
class Reply:
    """What came of a call.

    Attributes:
        end: ``whole``; ``left`` by the client; ``cut`` off by the server; ``silent``: it was not ended in time;
            ``refused``: there was no connection; ``surplus``: something came after the end.
        local_port: The client's, by which the server's end of the connection can be found.
        began: ``time.monotonic()`` before it was sent.
    """

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    end: str = "silent"
    local_port: int = 0
    began: float = 0.0
    ended: float = 0.0

    @property
    def frames(self) -> list[bytes]:
        """The data of all events that came whole, in order."""
        return [frame.removeprefix(b"data:").strip() for frame in bytes(self.body).split(b"\n\n")[:-1]]


async def call(port: int, path: str, body: bytes, *, seconds: float, manner: Manner = POLITE) -> Reply:
    """POST ``body``, or GET where it is empty, on a connection of its own; ends after ``seconds`` at the latest."""
    reply = Reply(began=time.monotonic())
    patience = seconds if manner.leave_after_seconds is None else manner.leave_after_seconds
    writer = None
    connection = socket.socket()
    connection.setblocking(False)
    try:
        async with asyncio.timeout(patience):
            if manner.pause:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
            reader, writer = await asyncio.open_connection(sock=connection, limit=_BUFFER if manner.pause else 2**16)
            reply.local_port = writer.get_extra_info("sockname")[1]
            writer.write(_head(path, body) + body)
            await _read(reader, reply, manner)
    except TimeoutError:
        reply.end = "left" if manner.leave_after_seconds is not None else "silent"
    except (OSError, asyncio.IncompleteReadError, ValueError):
        # NOTE: a refused connection has no writer; everything later is the server's, or the kernel's in its name.
        reply.end = "cut" if writer is not None else "refused"
    finally:
        reply.ended = time.monotonic()
        if writer is not None:
            writer.transport.abort()
        else:
            connection.close()
    return reply


def _head(path: str, body: bytes) -> bytes:
    method = "POST" if body else "GET"
    kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
    return f"{method} {path} HTTP/1.1\r\nHost: soak\r\n{kind}Connection: close\r\n\r\n".encode()


async def _read(reader: asyncio.StreamReader, reply: Reply, manner: Manner) -> None:
    status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
    reply.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    reply.status = int(status.split(" ", 2)[1])
    length = reply.headers.get("content-length")
    while True:
        size = int(length) if length is not None else int(await reader.readuntil(b"\r\n"), 16)
        reply.body += await reader.readexactly(size)
        await asyncio.sleep(manner.pause)
        if length is not None:
            break
        await reader.readexactly(2)
        if size == 0:
            break
        if manner.leave_after_frames is not None and reply.body.count(b"\n\n") >= manner.leave_after_frames:
            reply.end = "left"
            return
    reply.end = "surplus" if await reader.read(1) else "whole"
