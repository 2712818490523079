"""All sorts of clients: those that behave, those that leave, read slowly, or send what is no request."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.soak.asks import Ask
from benchmarks.soak.http_call import POLITE, Manner

BODY_LIMIT = 65_536
"""Of the server, in bytes."""


@dataclass(frozen=True)
class Client:
    """One call.

    Attributes:
        kind: ``polite``, ``leaving``, ``slow``, ``malformed`` or ``oversized``.
        ask: Its number in the pool; ``None`` of what is no valid request.
        refusals: Statuses of which one is the right answer to what is no valid request.
    """

    kind: str
    path: str
    body: bytes
    stream: bool = False
    ask: int | None = None
    manner: Manner = POLITE
    refusals: tuple[int, ...] = ()


_MALFORMED = (
    ("/generate", b"{"),
    ("/generate", b"\xff\xfe\x00"),
    ("/generate", b'{"inputs": "x"}'),
    ("/generate_stream", b'{"inputs": 5, "parameters": {}}'),
    ("/generate", b'{"inputs": "x", "parameters": {"best_of": 9, "n": 9}}'),
    ("/generate", b'{"inputs": "x", "parameters": {"max_new_tokens": 1000000}}'),
    ("/generate", b'{"inputs": [1, 999999999], "parameters": {}}'),
    ("/generate", b'{"inputs": "x", "parameters": {"guided_json": "{]"}}'),
    ("/generate", b"[" * 5000),
    ("/v1/completions", b'{"model": "m"}'),
    ("/v1/completions", b'{"model": "m", "prompt": "x", "temperature": -1}'),
    ("/v1/chat/completions", b'{"model": "m", "messages": "hello"}'),
    ("/v1/chat/completions", b'{"model": "m", "messages": [{"role": 1}]}'),
    ("/v1/nothing", b"{}"),
    ("/health", b"{}"),
)


def mixed(rng: random.Random, pool: list[Ask]) -> Iterator[Client]:
    """Clients without end; four in five ask for something that can be answered."""
    while True:
        draw = rng.random()
        if draw < 0.15:
            path, body = rng.choice(_MALFORMED)
            yield Client("malformed", path, body, refusals=(400, 404, 405, 417, 422))
        elif draw < 0.2:
            body = json.dumps({"inputs": "x" * rng.randint(BODY_LIMIT, 4 * BODY_LIMIT), "parameters": {}}).encode()
            yield Client("oversized", rng.choice(("/generate", "/v1/completions")), body, refusals=(413,))
        else:
            yield _valid(rng, pool)


def _valid(rng: random.Random, pool: list[Ask]) -> Client:
    number = rng.randrange(len(pool))
    stream = pool[number].streams and rng.random() < 0.7
    draw, kind, manner = rng.random(), "polite", POLITE
    if draw < 0.1:
        kind, manner = "leaving", Manner(leave_after_seconds=rng.uniform(0.0, 1.0))
    elif draw < 0.15 and stream:
        kind, manner = "leaving", Manner(leave_after_frames=rng.randint(1, 8))
    elif draw < 0.25:
        kind, manner = "slow", Manner(pause=rng.uniform(0.01, 0.1))
    path, body = pool[number].call(stream=stream)
    return Client(kind, path, body, stream=stream, ask=number, manner=manner)
