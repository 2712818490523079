"""A streaming load client on asyncio alone: what it costs is small beside the server it measures."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field


@dataclass
class StreamResult:
    """Times of one request, seconds on the monotonic clock."""

    began: float
    token_times: list[float] = field(default_factory=list)

    @property
    def first_token(self) -> float:
        """Time to first token."""
        return self.token_times[0] - self.began

    @property
    def ended(self) -> float:
        """When the last token came."""
        return self.token_times[-1]


async def stream(host: str, port: int, prompt: list[int], new_tokens: int) -> StreamResult:
    """One greedy ``/generate_stream`` request that ignores EOS."""
    parameters = {"max_new_tokens": new_tokens, "ignore_eos": True, "do_sample": False}
    body = json.dumps({"inputs": prompt, "parameters": parameters}).encode()
    head = f"POST /generate_stream HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    result = StreamResult(time.monotonic())
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(head.encode() + body)
        status = await reader.readline()
        if b" 200 " not in status:
            answer = (await reader.read()).decode(errors="replace")
            message = f"the server answered {status.decode().strip()}: {answer[-300:]}"
            raise RuntimeError(message)
        while line := await reader.readline():
            if line.startswith(b"data:"):
                result.token_times.append(time.monotonic())
    finally:
        writer.close()
    if len(result.token_times) != new_tokens:
        message = f"{len(result.token_times)} events instead of {new_tokens}"
        raise RuntimeError(message)
    return result
