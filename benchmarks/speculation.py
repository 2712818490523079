"""What speculation is worth, in process and without HTTP: ``python -m benchmarks.speculation``.

Every workload runs with and without, in turns, on one engine. Steps and tokens are exact; a rate is that of the best
round, since whatever else the machine does only takes time away.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.copying_prompts import COPYING_PROMPTS
from runtime.config import EngineConfig
from runtime.engine.core import EngineCore
from runtime.engine.factory import build_engine
from runtime.messages import AddRequest
from runtime.request import SamplingParams
from server.chat_template import ChatTemplate
from server.tokenizer import TextCodec

STREAMS = (1, 4, 8, 32)
REQUESTS_A_STREAM = 2
"""Where there are several, so that ends come at different times and others begin."""
NEW_TOKENS = 256
GREEDY = SamplingParams(max_new_tokens=NEW_TOKENS)
SAMPLED = SamplingParams(max_new_tokens=NEW_TOKENS, temperature=0.7, top_p=0.9, top_k=-1)
NOISE = SamplingParams(max_new_tokens=NEW_TOKENS, top_k=-1, ignore_eos=True)
"""Random prompts at temperature 1: nothing comes twice. Greedily the model would repeat itself."""

Output = list[tuple[int, float]]


class Run(NamedTuple):
    """What one round of a workload came to."""

    outputs: dict[int, Output]
    steps: int
    accepted: int
    seconds: float


def run(core: EngineCore, requests: list[AddRequest], streams: int) -> Run:
    """Serve the requests, ``streams`` at a time: where one ends the next begins."""
    outputs: dict[int, Output] = {}
    stats = core.stats()
    began = time.perf_counter()
    waiting = deque(requests)
    while waiting or core.has_work:
        while waiting and len(core.scheduler.groups) < streams:
            core.add(b"", waiting.popleft())
        for answer in core.step().get(b"", []):
            outputs.setdefault(answer.request_id, []).append((answer.token_id, answer.logprob))
    seconds = time.perf_counter() - began
    after = core.stats()
    accepted = after.accepted_tokens_total - stats.accepted_tokens_total
    return Run(outputs, after.steps_total - stats.steps_total, accepted, seconds)


def chats(bundle: Path) -> dict[str, list[int]]:
    """The prompts as the model's chat template writes them, by kind."""
    codec, template = TextCodec.load(bundle), ChatTemplate.load(bundle, {})

    async def tokens(text: str) -> list[int]:
        chat = [{"role": "user", "content": text}]
        return await codec.encode(await template.render(chat, add_generation_prompt=True), add_special_tokens=False)

    return {kind: asyncio.run(tokens(text)) for kind, text in COPYING_PROMPTS.items()}


def workloads(bundle: Path, streams: int) -> Iterator[tuple[str, list[AddRequest]]]:
    """Name and requests of each: every kind for itself where one stream is served, otherwise all of them by turns."""
    prompts = chats(bundle)
    kinds = [{kind: prompts[kind]} for kind in prompts] if streams == 1 else [prompts]
    for chosen in kinds:
        for name, params in (("greedy", GREEDY), ("sampled", SAMPLED)):
            taken = islice(cycle(chosen.values()), REQUESTS_A_STREAM * streams if streams > 1 else 1)
            label = next(iter(chosen)) if streams == 1 else "all kinds"
            yield f"{label}, {name}", [AddRequest(number, prompt, params) for number, prompt in enumerate(taken)]
    rng = np.random.default_rng(streams)
    noise = [rng.integers(100, 40000, 128).tolist() for _ in range(streams)]
    yield "noise", [AddRequest(number, prompt, NOISE) for number, prompt in enumerate(noise)]


def compare(core: EngineCore, requests: list[AddRequest], streams: int, rounds: int) -> tuple[Run, Run]:
    """The best round without and with speculation; raises ``AssertionError`` if their outputs differ."""
    with_drafts = core.scheduler.speculation
    runs: dict[bool, list[Run]] = {False: [], True: []}
    for _ in range(rounds):
        for speculates in (False, True):
            core.scheduler.speculation = with_drafts if speculates else None
            runs[speculates].append(run(core, requests, streams))
    core.scheduler.speculation = with_drafts
    plain, drafted = (min(runs[speculates], key=lambda one: one.seconds) for speculates in (False, True))
    assert plain.outputs == drafted.outputs, "speculation changed the output"
    return plain, drafted


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, nargs="*", default=STREAMS)
    args = parser.parse_args()
    build = [sys.executable, "-m", "build_engine", "build", args.model, "--print-path"]
    bundle = subprocess.run(build, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1]
    core, _ = build_engine(EngineConfig(bundle=bundle, socket="", prefix_cache=False))
    titles = ("tokens", "steps", "with", "tokens/step", "accepted", "tokens/s", "with", "ratio")
    print(f"{'streams':>7}  {'workload':24}" + "".join(f"{title:>12}" for title in titles))
    for streams in args.streams:
        for name, requests in workloads(Path(bundle), streams):
            plain, drafted = compare(core, requests, streams, args.rounds)
            tokens = sum(map(len, plain.outputs.values()))
            print(
                f"{streams:>7}  {name:24}{tokens:>12}{plain.steps:>12}{drafted.steps:>12}"
                f"{tokens / drafted.steps:>12.2f}{drafted.accepted:>12}"
                f"{tokens / plain.seconds:>12.0f}{tokens / drafted.seconds:>12.0f}"
                f"{plain.seconds / drafted.seconds:>12.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
