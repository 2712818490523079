"""Engines behind HTTP: what differs between their APIs is a ``Dialect``."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.peers.engine import Completion
from benchmarks.peers.errors import PeerError
from benchmarks.peers.sse import events

_HOST = "127.0.0.1"


@dataclass(frozen=True)
class Dialect:
    """A streaming API.

    Attributes:
        path: Where requests go.
        body: The request for a prompt and a number of new tokens.
        tokens: How many tokens an event says that the request has got so far, itself included, given the number before.
    """

    path: str
    body: Callable[[list[int], int], dict[str, Any]]
    tokens: Callable[[dict[str, Any], int], int]


def _generate_stream(prompt: list[int], new_tokens: int) -> dict[str, Any]:
    return {"inputs": prompt, "parameters": {"max_new_tokens": new_tokens, "ignore_eos": True, "do_sample": False}}


def _llama_completion(prompt: list[int], new_tokens: int) -> dict[str, Any]:
    sampling = {"temperature": 0, "samplers": ["top_k"], "top_k": 1, "ignore_eos": True, "cache_prompt": False}
    return {"prompt": prompt, "n_predict": new_tokens, "stream": True, **sampling}


def _openai_completion(prompt: list[int], new_tokens: int) -> dict[str, Any]:
    greedy = {"temperature": 0, "ignore_eos": True, "max_tokens": new_tokens, "min_tokens": new_tokens}
    return {"model": "model", "prompt": prompt, "stream": True, "stream_options": {"include_usage": True}, **greedy}


# NOTE: two of the APIs hold text back until a character is complete, so their events are not their tokens; both say
# how many there were.
LIGHTLLM = Dialect("/generate_stream", _generate_stream, lambda _, before: before + 1)
LLAMA = Dialect("/completion", _llama_completion, lambda event, before: event.get("tokens_predicted", before))
OPENAI = Dialect(
    "/v1/completions",
    _openai_completion,
    lambda event, before: (event.get("usage") or {}).get("completion_tokens", before),
)


@dataclass
class HttpEngine:
    """An engine that listens on ``port`` of this machine."""

    root: int
    port: int
    dialect: Dialect

    def generate(self, prompts: list[list[int]], new_tokens: int) -> list[Completion]:
        """One streaming request a prompt, all at once."""

        async def everything() -> list[Completion]:
            return await asyncio.gather(*(self._one(prompt, new_tokens) for prompt in prompts))

        try:
            return asyncio.run(everything())
        except (OSError, RuntimeError, ValueError, EOFError) as error:
            raise PeerError(f"{type(error).__name__}: {error}") from error

    async def _one(self, prompt: list[int], new_tokens: int) -> Completion:
        began = time.monotonic()
        first = ended = 0.0
        tokens = 0
        async for data in events(_HOST, self.port, self.dialect.path, self.dialect.body(prompt, new_tokens)):
            if data == b"[DONE]":
                break
            ended = time.monotonic()
            first = first or ended
            tokens = self.dialect.tokens(json.loads(data), tokens)
        return Completion(began, first, ended, tokens)
