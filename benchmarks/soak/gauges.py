"""What a server says of itself."""

from __future__ import annotations

import asyncio
import json
import re
import time

from benchmarks.soak.http_call import call

_SECONDS = 30.0
_LINE = re.compile(r"^(?P<name>[a-z_:]+)(\{[^}]*\})? (?P<value>\S+)$", re.MULTILINE)

RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"


async def metrics(port: int) -> dict[str, float]:
    """Sums over the labels of each metric of ``/metrics``; nothing if it does not answer."""
    reply = await call(port, "/metrics", b"", seconds=_SECONDS)
    found: dict[str, float] = {}
    for line in _LINE.finditer(bytes(reply.body).decode() if reply.status == 200 else ""):
        found[line["name"]] = found.get(line["name"], 0.0) + float(line["value"])
    return found


async def load(port: int) -> float:
    """Share of the KV cache that running requests hold; 1 if the server does not say."""
    reply = await call(port, "/token_load", b"", seconds=_SECONDS)
    return float(json.loads(reply.body)["current_load"]) if reply.status == 200 else 1.0


async def leftovers(port: int, seconds: float) -> list[str]:
    """What requests still hold ``seconds`` after the last one has ended; nothing as soon as it is nothing."""
    deadline = time.monotonic() + seconds
    while True:
        held, found = await load(port), await metrics(port)
        left = [f"{name} is {found.get(name)}" for name in (RUNNING, WAITING) if found.get(name) != 0]
        left += [f"the KV load is {held}"] if held else []
        if not left or time.monotonic() > deadline:
            return left
        await asyncio.sleep(0.1)
