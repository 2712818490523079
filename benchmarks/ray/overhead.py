"""What Ray Serve costs: a fleet of one engine beside the plain server, in turns in one run.

    python -m benchmarks.ray.overhead [--rounds N] [--json FILE]

Both run one engine with one thread. Times are medians over the requests of a round, and the best of all rounds; CPU
time is that of all processes of a server over the tokens that it gave.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import machine
from benchmarks.client import stream
from benchmarks.ray.served import Served, served

PROMPT, OUTPUT = 64, 64
STREAMS = (1, 8, 32)
IDLE_SECONDS = 5.0


@dataclass(frozen=True)
class Round:
    """Seconds."""

    first_token: float
    token: float
    cpu_a_token: float


async def measure(server: Served, streams: int, draw: random.Random) -> Round:
    prompts = [[draw.randrange(100, 40_000) for _ in range(PROMPT)] for _ in range(streams)]
    before = server.cpu_seconds()
    results = await asyncio.gather(*(stream("127.0.0.1", server.port, prompt, OUTPUT) for prompt in prompts))
    return Round(
        statistics.median(result.first_token for result in results),
        statistics.median((result.ended - result.token_times[0]) / (OUTPUT - 1) for result in results),
        (server.cpu_seconds() - before) / (streams * OUTPUT),
    )


def best(rounds: Sequence[Round]) -> Round:
    return Round(*(min(values) for values in zip(*(asdict(each).values() for each in rounds), strict=True)))


def compare(plain: Served, fleet: Served, rounds: int) -> list[dict[str, object]]:
    draw = random.Random(0)
    rows: list[dict[str, object]] = []
    for streams in STREAMS:
        seen: tuple[list[Round], list[Round]] = ([], [])
        for _ in range(rounds + 1):
            for server, found in zip((plain, fleet), seen, strict=True):
                found.append(asyncio.run(measure(server, streams, draw)))
        one, other = (asdict(best(found[1:])) for found in seen)
        ratios = {name: other[name] / one[name] for name in one}
        rows.append({"streams": streams, "plain": one, "fleet": other, "ratio": ratios})
        print(
            f"{streams:3} streams: first token {one['first_token'] * 1e3:.1f} -> {other['first_token'] * 1e3:.1f} ms"
            f" (x{ratios['first_token']:.2f}), a token {one['token'] * 1e3:.2f} -> {other['token'] * 1e3:.2f} ms"
            f" (x{ratios['token']:.2f}), CPU a token {one['cpu_a_token'] * 1e3:.2f} ->"
            f" {other['cpu_a_token'] * 1e3:.2f} ms (x{ratios['cpu_a_token']:.2f})",
            flush=True,
        )
    return rows


def idle(server: Served) -> float:
    """Share of a core that a server takes that does nothing."""
    before = server.cpu_seconds()
    time.sleep(IDLE_SECONDS)
    return (server.cpu_seconds() - before) / IDLE_SECONDS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = machine.describe()
    print(machine.in_words(found))
    with served(ray=False) as plain, served(ray=True) as fleet:
        rows = compare(plain, fleet, arguments.rounds)
        shares = {"plain": idle(plain), "fleet": idle(fleet)}
    print(f"idle: {shares['plain']:.3f} of a core -> {shares['fleet']:.3f}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": found, "rows": rows, "idle": shares}, indent=1))


if __name__ == "__main__":
    main()
