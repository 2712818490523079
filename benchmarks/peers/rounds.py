"""Rounds: every engine in turn, in rotating order, on the same prompts."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from typing import TypeVar

from benchmarks.peers.engine import Completion, Engine, checked
from benchmarks.workloads import Workload

WARM_UP_TOKENS = 8
Item = TypeVar("Item")


def rotated(items: Sequence[Item], round_index: int) -> list[Item]:
    """``items`` from another one on each round, so that none always runs first."""
    start = round_index % len(items) if items else 0
    return [*items[start:], *items[:start]]


def prompts_of(workload: Workload, seed: object) -> list[list[int]]:
    """Random token ids; the same for the same ``seed``, so that all engines of a round get them."""
    rng = random.Random(f"{workload.name} {seed}")
    return [[rng.randrange(100, 40000) for _ in range(workload.prompt)] for _ in range(workload.requests)]


def run_workload(engine: Engine, workload: Workload, seed: object) -> dict[str, float]:
    """Figures of one measured run.

    Raises:
        PeerError: The engine failed, or did not give exactly the tokens asked for.
    """
    prompts = prompts_of(workload, seed)
    completions = engine.generate(prompts, workload.output)
    return figures(workload, checked(completions, workload.requests, workload.output))


def warm_up(engine: Engine, workload: Workload, seed: object) -> None:
    """The same shapes with other prompts, and a few tokens each: kernels chosen by shape are ready after it."""
    tokens = min(workload.output, WARM_UP_TOKENS)
    checked(engine.generate(prompts_of(workload, f"warm-up {seed}"), tokens), workload.requests, tokens)


def figures(workload: Workload, completions: list[Completion]) -> dict[str, float]:
    """Rates over the wall time from the first request's start; times to first token in milliseconds."""
    began = min(completion.began for completion in completions)
    prefilled = max(completion.first for completion in completions) - began
    return {
        "output_tokens_per_s": workload.requests * workload.output / (max(c.ended for c in completions) - began),
        "prompt_tokens_per_s": workload.requests * workload.prompt / prefilled,
        "first_token_ms": 1000 * statistics.mean(c.first - c.began for c in completions),
    }
