"""Plays a simulated trace to a real server: the same lengths at the same times, prompts that share what they should."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Sequence
from itertools import pairwise

from benchmarks.client import StreamResult, exchange
from benchmarks.simulate.replica import Served
from benchmarks.simulate.trace import Arrival, Segment
from runtime.request import FinishReason

WORDS = (100, 40_000)
"""Ids that prompts are drawn from."""

_FORCED = 1e30
"""Factor by which EOS grows more likely with each token: it is drawn as soon as ``min_new_tokens`` allows it."""


def prompt_of(segments: Sequence[Segment]) -> list[int]:
    """Token ids: the same ones for the same name, as in the simulation."""
    return [token for segment in segments for token in _words(segment)]


def _words(segment: Segment) -> list[int]:
    draw = random.Random(segment.name)
    return [draw.randrange(*WORDS) for _ in range(segment.tokens)]


def body_of(arrival: Arrival) -> bytes:
    """A request whose output ends by itself after ``arrival.output`` tokens, which its server cannot know before."""
    parameters: dict[str, object] = {"max_new_tokens": arrival.limit, "do_sample": False}
    if arrival.output <= arrival.limit:
        parameters |= {"min_new_tokens": arrival.output, "exponential_decay_length_penalty": [0, _FORCED]}
    else:
        parameters |= {"ignore_eos": True}
    return json.dumps({"inputs": prompt_of(arrival.prompt), "parameters": parameters}).encode()


def request_of(host: str, body: bytes) -> bytes:
    """HTTP."""
    head = f"POST /generate_stream HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


def play(port: int, arrivals: Sequence[Arrival], timeout: float = 300.0) -> list[Served]:
    """What became of each request of a trace, in its order."""
    requests = [request_of("127.0.0.1", body_of(arrival)) for arrival in arrivals]
    return asyncio.run(_play(port, arrivals, requests, timeout))


async def _play(port: int, arrivals: Sequence[Arrival], requests: Sequence[bytes], limit: float) -> list[Served]:
    start = time.monotonic()

    async def one(arrival: Arrival, request: bytes) -> Served:
        await asyncio.sleep(max(0.0, start + arrival.seconds - time.monotonic()))
        return outcome(arrival, await exchange("127.0.0.1", port, request, limit), start)

    return await asyncio.gather(*(one(*pair) for pair in zip(arrivals, requests, strict=True)))


def outcome(arrival: Arrival, result: StreamResult, start: float) -> Served:
    """As the simulator would say it."""
    served = Served(arrival)
    if result.token_times and not result.error:
        times = [moment - start for moment in result.token_times]
        served.first, served.last, served.tokens = times[0], times[-1], len(times)
        served.longest_gap = max((b - a for a, b in pairwise(times)), default=0.0)
        served.finish = FinishReason.STOP if arrival.output <= arrival.limit else FinishReason.LENGTH
    elif result.status == 200:
        served.finish = FinishReason.ERROR
    return served
