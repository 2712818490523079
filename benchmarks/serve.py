"""``make bench``: throughput and latency of the served model over HTTP, start-up, import time and memory.

Prints medians over alternating repetitions; prompts are new random token ids each time, so the prefix cache does
not help. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import time

from benchmarks.client import StreamResult, stream
from benchmarks.processes import resident_megabytes
from benchmarks.server import serving
from benchmarks.startup import import_seconds
from benchmarks.workloads import WORKLOADS, Workload


async def run(workload: Workload, port: int, rng: random.Random) -> dict[str, float]:
    """One repetition."""
    prompts = [[rng.randrange(100, 40000) for _ in range(workload.prompt)] for _ in range(workload.requests)]
    began = time.monotonic()
    results: list[StreamResult] = await asyncio.gather(
        *(stream("127.0.0.1", port, prompt, workload.output) for prompt in prompts)
    )
    seconds = max(result.ended for result in results) - began
    gaps = [b - a for result in results for a, b in zip(result.token_times, result.token_times[1:], strict=False)]
    return {
        "output_tokens_per_s": workload.requests * workload.output / seconds,
        "prompt_tokens_per_s": workload.requests * workload.prompt / max(result.first_token for result in results),
        "first_token_ms": 1000 * statistics.mean(result.first_token for result in results),
        "between_tokens_ms": 1000 * statistics.median(gaps) if gaps else 0.0,
    }


def measure(port: int, repetitions: int, names: list[str]) -> dict[str, dict[str, float]]:
    """All workloads in turn, ``repetitions`` times, after one round to warm up; medians."""
    rng = random.Random(0)
    chosen = [workload for workload in WORKLOADS if workload.name in names]
    runs: dict[str, list[dict[str, float]]] = {workload.name: [] for workload in chosen}
    for repetition in range(repetitions + 1):
        for workload in chosen:
            figures = asyncio.run(run(workload, port, rng))
            if repetition:
                runs[workload.name].append(figures)
    return {
        name: {key: statistics.median(figures[key] for figures in rounds) for key in rounds[0]}
        for name, rounds in runs.items()
    }


def report(figures: dict[str, dict[str, float]], facts: dict[str, float]) -> str:
    """A table for people."""
    by_name = {workload.name: workload for workload in WORKLOADS}
    lines = [
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        f"{'workload':<24}{'output tok/s':>14}{'prompt tok/s':>14}{'first token ms':>16}{'between ms':>12}",
    ]
    for name, row in figures.items():
        label = f"{name}: {by_name[name].describe()}"
        lines.append(
            f"{label:<24}{row['output_tokens_per_s']:>14.1f}{row['prompt_tokens_per_s']:>14.0f}"
            f"{row['first_token_ms']:>16.1f}{row['between_tokens_ms']:>12.2f}"
        )
    lines += [f"{name}: {value:.2f}" for name, value in facts.items()]
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--workloads", nargs="+", default=[workload.name for workload in WORKLOADS])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--flags", nargs=argparse.REMAINDER, default=[], help="passed on to peregrine serve; last")
    args = parser.parse_args()
    with serving(args.model, *args.flags) as (port, engine, start_seconds):
        idle = resident_megabytes(engine)
        figures = measure(port, args.repetitions, args.workloads)
        facts = {
            "start to /health, s": start_seconds,
            "import server, s": statistics.median(import_seconds()),
            "engine resident, MB, idle after start": idle,
            "engine resident, MB, peak under load": resident_megabytes(engine, "VmHWM"),
        }
    print(json.dumps({"workloads": figures, **facts}) if args.json else report(figures, facts))


if __name__ == "__main__":
    main()
