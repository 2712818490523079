"""Prefix affinity against random routing: two engines, prompts that share their beginnings.

    python -m benchmarks.ray.prefixes [--requests N] [--json FILE]

Each of ``GROUPS`` beginnings is as long as a system prompt; every request has one of them and an end of its own, in an
order that is the same for all policies. Each engine's KV cache holds about half of the beginnings.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import random
import re
import statistics
from pathlib import Path

from benchmarks import machine
from benchmarks.client import StreamResult, stream
from benchmarks.ray.served import served

GROUPS, BEGINNING, END, OUTPUT = 16, 384, 32, 8
CAPACITY = 5120
AT_ONCE = 2
POLICIES = ("random", "least_loaded", "prefix")


def prompts(requests: int) -> list[list[int]]:
    draw = random.Random(1)
    beginnings = [[draw.randrange(100, 40_000) for _ in range(BEGINNING)] for _ in range(GROUPS)]
    return [draw.choice(beginnings) + [draw.randrange(100, 40_000) for _ in range(END)] for _ in range(requests)]


async def replay(port: int, trace: list[list[int]]) -> list[StreamResult]:
    waiting = iter(trace)

    async def client() -> list[StreamResult]:
        return [await stream("127.0.0.1", port, prompt, OUTPUT) for prompt in waiting]

    return [result for results in await asyncio.gather(*(client() for _ in range(AT_ONCE))) for result in results]


def counters(port: int) -> dict[str, float]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    found = re.findall(r"^peregrine_replica_(prefix_\w+)_total\{.*\} (\S+)$", text, re.MULTILINE)
    return {kind: sum(float(value) for name, value in found if name == kind) for kind, _ in found}


def run(policy: str, trace: list[list[int]]) -> dict[str, float]:
    flags = ("--replicas", "2", "--routing", policy, "--max_total_token_num", str(CAPACITY))
    with served("--max_req_total_len", "1024", *flags, ray=True) as fleet:
        results = asyncio.run(replay(fleet.port, trace))
        seen = counters(fleet.port)
    first = sorted(result.first_token for result in results)
    row = {
        "hit_rate": seen["prefix_hits"] / seen["prefix_queries"],
        "first_token_p50": statistics.median(first),
        "first_token_mean": statistics.fmean(first),
        "first_token_p90": first[int(0.9 * len(first))],
    }
    print(policy, " ".join(f"{name}={value:.3f}" for name, value in row.items()), flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=160)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = machine.describe()
    print(machine.in_words(found))
    trace = prompts(arguments.requests)
    rows = {policy: run(policy, trace) for policy in POLICIES}
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": found, "policies": rows}, indent=1))


if __name__ == "__main__":
    main()
