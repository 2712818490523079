"""Server-sent events of any server, on asyncio streams alone: every engine behind HTTP is read by the same code."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator


async def events(host: str, port: int, path: str, request: object) -> AsyncIterator[bytes]:
    """The data of each event that answers ``request``, posted as JSON, as it comes.

    Raises:
        RuntimeError: The server answered with another status than 200.
    """
    body = json.dumps(request).encode()
    fields = f"Host: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close"
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"POST {path} HTTP/1.1\r\n{fields}\r\n\r\n".encode() + body)
        status = await reader.readline()
        if b" 200 " not in status:
            answer = (await reader.read()).decode(errors="replace")
            raise RuntimeError(f"the server answered {status.decode().strip()}: {answer[-300:]}")
        while line := await reader.readline():
            if line.startswith(b"data:"):
                yield line[5:].strip()
    finally:
        writer.close()
