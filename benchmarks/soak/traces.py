"""Timed traces: which request of a pool is sent when, how its answer is to come, and whether its client stays."""

from __future__ import annotations

import random

import msgspec

from benchmarks.soak.asks import Ask
from benchmarks.soak.http_call import Manner


class Sending(msgspec.Struct, frozen=True, kw_only=True):
    """One request of a trace.

    Attributes:
        at: Seconds from the start of the trace.
        ask: Its number in the pool.
        stream: Whether the answer is to be a stream.
        leave_after_frames: The client goes after so many events of a stream.
        leave_after_seconds: The client goes then.
    """

    at: float
    ask: int
    stream: bool
    leave_after_frames: int | None = None
    leave_after_seconds: float | None = None

    @property
    def manner(self) -> Manner:
        """The client's."""
        return Manner(self.leave_after_frames, self.leave_after_seconds)


def timed_trace(rng: random.Random, pool: list[Ask], count: int, rate: float) -> list[Sending]:
    """``count`` requests, ``rate`` a second on average: crowds that come at once, and pauses between them."""
    sendings: list[Sending] = []
    now = 0.0
    while len(sendings) < count:
        crowd = min(rng.choice((1, 2, 4, 16)), count - len(sendings))
        now += rng.expovariate(rate / crowd)
        sendings += [_sending(rng, pool, now, rate) for _ in range(crowd)]
    return sendings


def _sending(rng: random.Random, pool: list[Ask], at: float, rate: float) -> Sending:
    ask = rng.randrange(len(pool))
    stream = pool[ask].streams and rng.random() < 0.5
    frames = seconds = None
    if stream and rng.random() < 0.2:
        frames = rng.randint(1, 12)
    elif rng.random() < 0.1:
        seconds = rng.uniform(0, 8 / rate)
    return Sending(at=at, ask=ask, stream=stream, leave_after_frames=frames, leave_after_seconds=seconds)
