"""Sends requests: at given times whatever the server does, or so many at once and the next when one is answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, takewhile

from benchmarks.client import encode_request, exchange
from benchmarks.load.prompts import Ask
from benchmarks.load.record import Record

Sent = tuple[list[Record], float]
"""What came of the requests, and the seconds from the start until the last one was answered."""


@dataclass(frozen=True)
class Target:
    """A server, and how long one of its answers may take in seconds."""

    host: str
    port: int
    timeout: float = 600.0


@dataclass(frozen=True)
class Extent:
    """How much is sent: until ``seconds`` have passed, or ``requests`` if given."""

    seconds: float
    requests: int | None = None


def open_loop(target: Target, arrivals: Iterable[float], asks: Iterator[Ask], extent: Extent) -> Sent:
    """Send each request at its time, however many are open by then.

    Args:
        target: Where to.
        arrivals: Seconds from the start, ascending.
        asks: What to send.
        extent: How much of it.
    """
    if extent.requests is None:
        times = list(takewhile(lambda arrival: arrival < extent.seconds, arrivals))
    else:
        times = list(islice(arrivals, extent.requests))
    # NOTE: encoded before the start, so that the client has less to do when it should be on time.
    bodies = [(ask, encode_request(target.host, ask.prompt, ask.output_tokens)) for ask in islice(asks, len(times))]
    return asyncio.run(_send_at(target, times, bodies))


def closed_loop(target: Target, concurrency: int, asks: Iterator[Ask], extent: Extent) -> Sent:
    """Keep ``concurrency`` requests open: each client sends its next one when it has its answer.

    Such clients slow down with the server: this finds its throughput, and says nothing about latency under a load
    that does not wait.
    """
    return asyncio.run(_keep_open(target, concurrency, asks, extent))


async def _send_at(target: Target, times: list[float], bodies: list[tuple[Ask, bytes]]) -> Sent:
    start = time.monotonic()
    tasks = []
    for arrival, (ask, body) in zip(times, bodies, strict=True):
        await asyncio.sleep(max(0.0, start + arrival - time.monotonic()))
        tasks.append(asyncio.create_task(_one(target, ask, body, start, arrival)))
    records = await asyncio.gather(*tasks)
    return records, time.monotonic() - start


async def _keep_open(target: Target, concurrency: int, asks: Iterator[Ask], extent: Extent) -> Sent:
    records: list[Record] = []
    left = islice(asks, extent.requests)
    start = time.monotonic()

    async def client() -> None:
        for ask in left:
            if extent.requests is None and time.monotonic() - start >= extent.seconds:
                return
            body = encode_request(target.host, ask.prompt, ask.output_tokens)
            records.append(await _one(target, ask, body, start, time.monotonic() - start))

    await asyncio.gather(*(client() for _ in range(concurrency)))
    return records, time.monotonic() - start


async def _one(target: Target, ask: Ask, body: bytes, start: float, arrival: float) -> Record:
    result = await exchange(target.host, target.port, body, target.timeout)
    return Record(
        arrival=arrival,
        sent=result.began - start,
        token_times=[round(moment - start, 6) for moment in result.token_times],
        prompt_tokens=result.prompt_tokens,
        wanted_tokens=ask.output_tokens,
        status=result.status,
        error=result.error,
    )
