"""One trace, played to a server: each answer is held against the solo run's."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, fields
from typing import Any

import msgspec

from benchmarks.soak.answers import Answer, UnreadableError, difference, read_stream, read_whole
from benchmarks.soak.asks import Ask
from benchmarks.soak.gauges import leftovers, metrics
from benchmarks.soak.http_call import Reply, call
from benchmarks.soak.traces import Sending

_SECONDS = 120.0
"""The most that an answer may take."""

_OPEN = 96
"""Requests at once; further ones are late."""

_FREE_SECONDS = 10.0

_COUNTERS = {
    "preempted": "vllm:num_preemptions_total",
    "prefix_hits": "vllm:prefix_cache_hits_total",
    "drafted": "vllm:spec_decode_num_accepted_tokens_total",
}


@dataclass(frozen=True)
class Configuration:
    """A server's flags."""

    name: str
    flags: tuple[str, ...]


_ROOM = ("--max_req_total_len", "256", "--max_total_token_num")
_EAGER = ("--admission", "aggressive")

CONFIGURATIONS = (
    Configuration(
        "scarce KV",
        (*_ROOM, "640", *_EAGER, "--batch_max_tokens", "48", "--running_max_req_size", "24"),
    ),
    Configuration(
        "busy from half on",
        (*_ROOM, "768", "--router_token_ratio", "0.5", "--router_max_new_token_len", "4"),
    ),
    Configuration(
        "small steps",
        (
            *(*_ROOM, "768", *_EAGER, "--batch_max_tokens", "16", "--running_max_req_size", "16"),
            *("--disable_dynamic_prompt_cache", "--disable_speculation"),
        ),
    ),
    Configuration(
        "two workers, one thread",
        (
            *(*_ROOM, "768", *_EAGER, "--return_all_prompt_logprobs"),
            *("--httpserver_workers", "2", "--threads", "1"),
        ),
    ),
)
"""Preemption by two policies, chunks of all sizes, with and without what is shared and guessed."""


@dataclass
class Tally:
    """What came of the requests of a trace.

    Attributes:
        equal: Whole answers with the bits of the solo run.
        begun: Streams that their clients left, with the bits of its beginning.
        unseen: Clients that left before they saw anything.
        most_open: At once.
        slowest: Seconds that the slowest answer took.
        preempted: Preemptions; further down, prompt tokens from the prefix cache and tokens guessed right.
    """

    requests: int = 0
    equal: int = 0
    begun: int = 0
    unseen: int = 0
    most_open: int = 0
    slowest: float = 0.0
    preempted: int = 0
    prefix_hits: int = 0
    drafted: int = 0
    seconds: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        """Both together."""
        total = Tally(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))
        total.most_open = max(self.most_open, other.most_open)
        total.slowest = max(self.slowest, other.slowest)
        return total

    @staticmethod
    def titles() -> str:
        """What is above the lines."""
        names = ("sent", "equal", "begun", "unseen", "at once", "slowest", "preempted", "hits", "drafted", "seconds")
        return f"{'':<48}" + "".join(f"{name:>10}" for name in names)

    def line(self, name: str) -> str:
        """For people."""
        values = (getattr(self, field.name) for field in fields(self))
        return f"{name:<48}" + "".join(f"{value:>10.0f}" for value in values)


class Fault(msgspec.Struct, kw_only=True):
    """An answer that is not what it should be; everything that shows it."""

    problem: str
    sending: Sending | None = None
    ask: Ask | None = None
    alone: Any = None
    model: str = ""
    configuration: str = ""
    round: int = 0
    trace: list[Sending] = []

    def describe(self) -> str:
        """For people."""
        return f"{self.model}, {self.configuration}, round {self.round}: {self.problem[:1000]}\n  asked: {self.ask}"


def play(port: int, trace: list[Sending], asks: list[Ask], solo: list[Answer]) -> tuple[Tally, list[Fault]]:
    """Send a trace, and wait for the end of everything in it."""
    return asyncio.run(_play(port, trace, asks, solo))


async def _play(port: int, trace: list[Sending], asks: list[Ask], solo: list[Answer]) -> tuple[Tally, list[Fault]]:
    tally, faults, room = Tally(requests=len(trace)), list[Fault](), asyncio.Semaphore(_OPEN)
    before = await metrics(port)
    start = time.monotonic()
    opened = 0

    async def one(sending: Sending) -> None:
        nonlocal opened
        opened += 1
        tally.most_open = max(tally.most_open, opened)
        ask = asks[sending.ask]
        reply = await call(port, *ask.call(stream=sending.stream), seconds=_SECONDS, manner=sending.manner)
        opened -= 1
        room.release()
        problem = _judge(tally, sending, ask, reply, solo[sending.ask])
        if problem:
            faults.append(Fault(problem=problem, sending=sending, ask=ask, alone=solo[sending.ask]))

    async with asyncio.TaskGroup() as tasks:
        for sending in trace:
            await asyncio.sleep(start + sending.at - time.monotonic())
            await room.acquire()
            tasks.create_task(one(sending))
    faults += [Fault(problem=f"at the end {left}") for left in await leftovers(port, _FREE_SECONDS)]
    tally.seconds = time.monotonic() - start
    after = await metrics(port)
    for field, name in _COUNTERS.items():
        setattr(tally, field, int(after.get(name, 0) - before.get(name, 0)))
    return tally, faults


def _judge(tally: Tally, sending: Sending, ask: Ask, reply: Reply, solo: Answer) -> str:
    """Count a reply; what is wrong with it, if anything."""
    if reply.end == "left" and (not sending.stream or reply.status == 0):
        tally.unseen += 1
        return ""
    if reply.end not in ("left", "whole") or reply.status != 200:
        return f"answered {reply.status}, {reply.end}: {bytes(reply.body[-300:])!r}"
    whole = reply.end == "whole"
    try:
        found = read_stream(ask, reply.frames) if sending.stream else read_whole(ask, bytes(reply.body))
    except UnreadableError as error:
        return str(error)
    if found.error or (whole and found.ends != 1):
        return f"{found.ends} ends, error {found.error!r}"
    tally.slowest = max(tally.slowest, reply.ended - reply.began)
    tally.equal += whole
    tally.begun += not whole
    return difference(solo, found, whole=whole)
