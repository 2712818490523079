"""What an engine does, driven step by step in this process: its tokens, and how fast they come."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from runtime.engine.core import EngineCore
from runtime.messages import AddRequest
from runtime.request import SamplingParams

_CLIENT = b""
PROMPT = 128
STEPS = 64


class RequestFailedError(Exception):
    """The engine gave up on a request."""


def generate(core: EngineCore, prompts: Sequence[Sequence[int]], new_tokens: int) -> list[list[int]]:
    """Greedy continuations, computed together.

    Raises:
        RequestFailedError: One of them failed.
    """
    for number, prompt in enumerate(prompts):
        _add(core, number, list(prompt), new_tokens)
    outputs: list[list[int]] = [[] for _ in prompts]
    while core.has_work:
        for number, token in _step(core):
            outputs[number].append(token)
    return outputs


def decode_seconds(core: EngineCore, streams: int, *, prompt: int = PROMPT, steps: int = STEPS) -> float:
    """Of a step in which ``streams`` sequences decode, prompts of ``prompt`` tokens behind them; the mean of ``steps``.

    Raises:
        RequestFailedError: One of them failed.
    """
    rng = np.random.default_rng(streams)
    for number in range(streams):
        _add(core, number, rng.integers(100, _words(core), prompt).tolist(), 4 * steps)
    counts = np.zeros(streams, dtype=np.int64)
    while counts.min() < 2:  # the first of a stream may be the end of its prompt
        _count(core, counts)
    began, before = time.perf_counter(), int(counts.sum())
    while counts.sum() - before < steps * streams:
        _count(core, counts)
    seconds = (time.perf_counter() - began) * streams / (int(counts.sum()) - before)
    core.abort_client(_CLIENT)
    while core.has_work:
        core.step()
    return seconds


def prefill_seconds(core: EngineCore, prompts: int, length: int) -> float:
    """Until ``prompts`` prompts of ``length`` tokens each have their first token.

    Raises:
        RequestFailedError: One of them failed.
    """
    rng = np.random.default_rng(length)
    began = time.perf_counter()
    generate(core, rng.integers(100, _words(core), (prompts, length)).tolist(), 1)
    return time.perf_counter() - began


def _add(core: EngineCore, number: int, prompt: list[int], new_tokens: int) -> None:
    params = SamplingParams(max_new_tokens=new_tokens, ignore_eos=True)
    rejected = core.add(_CLIENT, AddRequest(number, prompt, params))
    if rejected is not None:
        raise RequestFailedError(rejected.message)


def _step(core: EngineCore) -> list[tuple[int, int]]:
    """Requests and their tokens."""
    outputs = core.step().get(_CLIENT, [])
    for output in outputs:
        if output.error:
            raise RequestFailedError(output.error)
    return [(output.request_id, output.token_id) for output in outputs]


def _count(core: EngineCore, counts: np.ndarray) -> None:
    for number, _ in _step(core):
        counts[number] += 1


def _words(core: EngineCore) -> int:
    """Token ids that prompts are made of; the last ones may be special."""
    return max(101, core.limits.vocab_size - 1000)
