"""Throughput without HTTP: ``python -m benchmarks.offline``. All requests are there at the start."""

from __future__ import annotations

import argparse
import random
import statistics
import time
from pathlib import Path

import msgspec

from benchmarks.engine import built_bundle, open_engine
from benchmarks.load.lengths import parse_lengths
from benchmarks.load.prompts import Ask, Words, drawn
from benchmarks.machine import describe, in_words
from benchmarks.usage import at_least
from runtime.engine.core import EngineCore
from runtime.messages import AddRequest
from runtime.request import SamplingParams


def run(core: EngineCore, asks: list[Ask]) -> dict[str, float]:
    """Generate all; greedy, EOS ignored.

    Returns:
        Rates a second, ``steps`` and the median ``step_ms``.
    """
    for number, ask in enumerate(asks):
        assert isinstance(ask.prompt, list)
        params = SamplingParams(max_new_tokens=ask.output_tokens, ignore_eos=True)
        rejected = core.add(b"", AddRequest(number, ask.prompt, params))
        if rejected is not None:
            raise SystemExit(f"error: {rejected.message}")
    steps: list[float] = []
    began = last = time.perf_counter()
    while core.has_work:
        core.step()
        now = time.perf_counter()
        steps.append(now - last)
        last = now
    seconds = last - began
    prompts, outputs = sum(len(ask.prompt) for ask in asks), sum(ask.output_tokens for ask in asks)
    return {
        "seconds": seconds,
        "requests_per_s": len(asks) / seconds,
        "prompt_tokens_per_s": prompts / seconds,
        "output_tokens_per_s": outputs / seconds,
        "tokens_per_s": (prompts + outputs) / seconds,
        "steps": len(steps),
        "step_ms": 1e3 * statistics.median(steps),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.offline", description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--requests", type=at_least(1), default=64)
    parser.add_argument("--input", type=parse_lengths, default="128", help="128, uniform:64:256 or lognormal:...")
    parser.add_argument("--output", type=parse_lengths, default="128", help="likewise")
    parser.add_argument("--repetitions", type=at_least(1), default=3)
    parser.add_argument("--running", type=at_least(1), help="samples in flight at once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    machine = describe()
    print(in_words(machine))
    core = open_engine(built_bundle(args.model), max_running=args.running, max_queued=args.requests)
    asks = drawn(args.input, args.output, Words(), random.Random(args.seed))
    rounds = [run(core, [next(asks) for _ in range(args.requests)]) for _ in range(args.repetitions + 1)][1:]
    for name in rounds[0]:
        values = [figures[name] for figures in rounds]
        print(f"{name:<22}{statistics.median(values):>10.1f}  ({min(values):.1f} to {max(values):.1f})")
    if args.json is not None:
        args.json.write_bytes(msgspec.json.encode({"kind": "offline", "machine": machine, "rounds": rounds}) + b"\n")


if __name__ == "__main__":
    main()
