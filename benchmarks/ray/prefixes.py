"""Prefix affinity against other routing: two engines, prompts that share their beginnings, and the simulator beside it.

    python -m benchmarks.ray.prefixes [--requests N] [--json FILE]

Each of ``GROUPS`` beginnings is as long as a system prompt; every request has one of them and an end of its own. All
policies get the same requests at the same times. Each engine's KV cache holds less than all beginnings. The simulator
plays the trace with the same routing; how much slower steps are here than those that it was fitted to is found on the
first policy, by the mean time to the first token.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import re
import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.ray.served import served
from benchmarks.simulate.cost import CostModel, read_model
from benchmarks.simulate.fleet import Fleet
from benchmarks.simulate.replica import EngineSettings, Replica, Served
from benchmarks.simulate.routing import Router
from benchmarks.simulate.scenario import MEASURED
from benchmarks.simulate.served import play
from benchmarks.simulate.trace import Arrival, Segment
from runtime.scheduler import FuturePeak

GROUPS, BEGINNING, END, OUTPUT = 16, 384, 32, 8
CAPACITY = 5120
RATE = 5.0
"""Requests a second."""

POLICIES = ("random", "least_loaded", "prefix")
_PACES = (1.0, 8.0)


def trace(requests: int) -> list[Arrival]:
    draw = random.Random(1)
    now, arrivals = 0.0, []
    for number in range(requests):
        now += draw.expovariate(RATE)
        prompt = [Segment(f"beginning-{draw.randrange(GROUPS)}", BEGINNING), Segment(f"end-{number}", END)]
        arrivals.append(Arrival(seconds=now, prompt=prompt, output=OUTPUT + 1, limit=OUTPUT))
    return arrivals


def counters(port: int) -> dict[str, float]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    found = re.findall(r"^peregrine_replica_(prefix_\w+)_total\{.*\} (\S+)$", text, re.MULTILINE)
    return {kind: sum(float(value) for name, value in found if name == kind) for kind, _ in found}


def run(policy: str, arrivals: Sequence[Arrival]) -> dict[str, float]:
    flags = ("--replicas", "2", "--routing", policy, "--max_total_token_num", str(CAPACITY))
    with served("--max_req_total_len", "1024", *flags, ray=True) as fleet:
        outcomes = play(fleet.port, arrivals)
        seen = counters(fleet.port)
    return row(outcomes, seen["prefix_hits"] / seen["prefix_queries"])


def simulate(policy: str, arrivals: Sequence[Arrival], cost: CostModel) -> dict[str, float]:
    settings = EngineSettings(kv_tokens=CAPACITY)
    fleet = Fleet(
        make=lambda number: Replica(number, cost, settings, FuturePeak), size=2, router=Router(policy), seed=1
    )
    outcomes = fleet.run(arrivals)
    prompts = sum(arrival.prompt_tokens for arrival in arrivals)
    return row(outcomes, sum(served.cached for served in outcomes) / prompts)


def row(outcomes: Sequence[Served], hit_rate: float) -> dict[str, float]:
    first = sorted(served.to_first for served in outcomes)
    return {
        "hit_rate": hit_rate,
        "first_token_mean": statistics.fmean(first),
        "first_token_p50": statistics.median(first),
        "first_token_p90": first[int(0.9 * len(first))],
    }


def pace_of(cost: CostModel, policy: str, arrivals: Sequence[Arrival], mean: float) -> float:
    """How much slower steps are here: the simulated mean time to the first token is then the real one."""
    low, high = _PACES
    for _ in range(12):
        middle = (low + high) / 2
        too_low = simulate(policy, arrivals, cost.slower(middle))["first_token_mean"] < mean
        low, high = (middle, high) if too_low else (low, middle)
    return (low + high) / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=160)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = machine.describe()
    print(machine.in_words(found))
    arrivals = trace(arguments.requests)
    cost, rows = read_model(MEASURED), {}
    for policy in POLICIES:
        real = run(policy, arrivals)
        if not rows:
            pace = pace_of(cost, policy, arrivals, real["first_token_mean"])
            cost = cost.slower(pace)
            print(f"pace, found on {policy}: {pace:.2f}")
        rows[policy] = {"real": real, "simulated": simulate(policy, arrivals, cost)}
        for kind, values in rows[policy].items():
            print(
                f"{policy:<13}{kind:<10}", " ".join(f"{key}={value:.3f}" for key, value in values.items()), flush=True
            )
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": found, "pace": pace, "policies": rows}, indent=1))


if __name__ == "__main__":
    main()
