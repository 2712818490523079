"""Admission policies beside each other: ``python -m benchmarks.simulate.policies``.

Each policy gets the same traces, at rates about the one that an engine with so little KV cache can serve. Figures are
medians over seeds, with the least and the most of them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from statistics import median

import msgspec

from benchmarks.machine import cpu_model
from benchmarks.simulate.cost import CostModel
from benchmarks.simulate.pool import side_by_side
from benchmarks.simulate.replica import EngineSettings
from benchmarks.simulate.result import Objective, Summary, summarise
from benchmarks.simulate.scenario import engine_flags, objective_of, play, policy, policy_named, settings_of, traffic
from benchmarks.usage import at_least

RATES = {
    "chat": (3.5, 4.5, 6.0),
    "bursts": (2.0, 3.0, 4.0),
    "code": (2.0, 2.5, 3.0),
    "assistants": (6.0, 8.0, 10.0),
    "conversations": (4.0, 6.0, 8.0),
}
"""Requests a second: an engine of the default flags keeps up, just so, and no more."""


class Case(msgspec.Struct, frozen=True):
    """One run."""

    traffic: str
    rate: float
    policy: str
    seed: int
    requests: int
    cost: CostModel
    settings: EngineSettings
    objective: Objective


def run(case: Case) -> Summary:
    """Its figures."""
    arrivals = traffic(case.traffic, case.rate, case.requests, case.seed, case.settings.longest)
    fleet = play(arrivals, case.cost, case.settings, policy_named(case.policy))
    return summarise(fleet.outcomes, case.objective, fleet.preemptions)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    made = argparse.ArgumentParser(
        prog="benchmarks.simulate.policies", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--traffic", nargs="+", choices=tuple(RATES), default=list(RATES))
    made.add_argument("--policy", nargs="+", type=policy, default=POLICIES)
    made.add_argument("--seeds", type=at_least(1), default=5)
    made.add_argument("--requests", type=at_least(1), default=400)
    engine_flags(made)
    args = made.parse_args(argv)
    cases = [
        Case(name, rate, chosen, seed, args.requests, args.cost, settings_of(args), objective_of(args))
        for name in args.traffic
        for rate in RATES[name]
        for chosen in args.policy
        for seed in range(args.seeds)
    ]
    found = side_by_side(run, cases)
    print(f"steps as on {args.cost.machine}; {args.kv_tokens} tokens of KV cache; objective: {objective_of(args)}")
    print(TITLES)
    rows = []
    for first in range(0, len(cases), args.seeds):
        case, summaries = cases[first], found[first : first + args.seeds]
        rows.append({"traffic": case.traffic, "rate": case.rate, "policy": case.policy, "summaries": summaries})
        print(line(case, summaries))
    if args.json is not None:
        document = {"kind": "simulate-policies", "machine": args.cost.machine, "ran_on": cpu_model(), "rows": rows}
        args.json.write_bytes(msgspec.json.encode(document) + b"\n")
    return 0


POLICIES = ["future_peak", "past_future:0", "past_future", "past_future:0.1", "aggressive"]
TITLES = (
    f"{'traffic':<15}{'rate':>5} {'policy':<17}{'good/s':>7}{'(least, most)':>15}{'tokens/s':>10}"
    f"{'first p50':>10}{'p99':>8}{'gap p99':>9}{'preempted':>10}"
)


def line(case: Case, summaries: Sequence[Summary]) -> str:
    """A row of the table."""
    good = [found.goodput for found in summaries]
    first, late = (median(found.first[place] for found in summaries) for place in (0, 2))
    spread = f"({min(good):.2f}, {max(good):.2f})"
    return (
        f"{case.traffic:<15}{case.rate:>5.3g} {case.policy:<17}{median(good):>7.2f}{spread:>15}"
        f"{median(found.throughput for found in summaries):>10.0f}{first:>10.2f}{late:>8.2f}"
        f"{median(found.gap[2] for found in summaries):>9.3f}{median(found.preemptions for found in summaries):>10.0f}"
    )


if __name__ == "__main__":
    sys.exit(main())
