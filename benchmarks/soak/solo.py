"""What each request of a pool is answered when nobody else is there."""

from __future__ import annotations

import asyncio
from pathlib import Path

from benchmarks.soak.answers import Answer, read_whole
from benchmarks.soak.asks import Ask
from benchmarks.soak.http_call import call
from benchmarks.soak.models import Model
from benchmarks.soak.served import served

SOLO_FLAGS = ("--disable_dynamic_prompt_cache", "--disable_speculation", "--return_all_prompt_logprobs")
"""Nothing is shared with what came before, and nothing is guessed."""

_SECONDS = 120.0


def solo_answers(model: Model, pool: list[Ask], folder: Path) -> list[Answer]:
    """One request after the other on a server of their own.

    Raises:
        SystemExit: The server refuses one: it is not valid after all.
    """
    with served(model.bundle, SOLO_FLAGS, folder) as server:
        return asyncio.run(_ask_all(server.port, pool))


async def _ask_all(port: int, pool: list[Ask]) -> list[Answer]:
    answers = []
    for ask in pool:
        path, body = ask.call(stream=False)
        reply = await call(port, path, body, seconds=_SECONDS)
        if (reply.status, reply.end) != (200, "whole"):
            raise SystemExit(f"error: alone, {body!r} is answered {reply.status} ({reply.end}): {bytes(reply.body)!r}")
        answers.append(read_whole(ask, bytes(reply.body)))
    return answers
