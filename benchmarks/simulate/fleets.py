"""Fleets of up to a thousand replicas: ``python -m benchmarks.simulate.fleets --json FILE --plot SVG``.

Three questions: how routing policies do as a fleet grows, with as many requests for each replica; how the number of
replicas follows a load that rises and falls; what the death of a tenth of the replicas costs.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median

import msgspec

from benchmarks.machine import cpu_model
from benchmarks.simulate.cost import CostModel
from benchmarks.simulate.fleet import Autoscaling, Failure, Fleet
from benchmarks.simulate.pool import side_by_side
from benchmarks.simulate.replica import EngineSettings, Replica
from benchmarks.simulate.result import Objective, Summary, summarise
from benchmarks.simulate.routing import ROUTERS, Router
from benchmarks.simulate.scenario import engine_flags, objective_of, policy, policy_named, settings_of
from benchmarks.simulate.trace import Arrival, in_order
from benchmarks.simulate.traffic import Source, assistants
from benchmarks.usage import at_least, positive

SIZES = (1, 4, 16, 64, 256, 1000)
PROMPTS_A_REPLICA = 2
"""System prompts that there are for each replica: with more of them than a cache holds, routing decides on hits."""

REPLICAS_A_ROUTER = 32
TARGETS = (0.4, 0.6, 0.8)
_WAVE = 60.0


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One run.

    Attributes:
        part: ``size``, ``scaling`` or ``failure``.
        router: A name of ``ROUTERS``.
        replicas: At the start; of ``scaling`` those that the peak of the load is for.
        target: Load aimed at, of ``scaling``.
    """

    part: str
    router: str
    replicas: int
    seed: int
    rate: float
    requests: int
    target: float = 0.0
    policy: str
    cost: CostModel
    settings: EngineSettings
    objective: Objective


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it.

    Attributes:
        case: Its part, router, replicas, seed and target.
        sizes: Seconds and replicas, where their number changes.
        over_time: Seconds, and the 99th percentile of the time to first token of the requests that came about then.
        replica_seconds: What it cost.
    """

    part: str
    router: str
    replicas: int
    seed: int
    target: float
    summary: Summary
    sizes: list[tuple[float, int]] = []
    over_time: list[tuple[float, float]] = []
    replica_seconds: float = 0.0


def run(case: Case) -> Outcome:
    """Play it."""
    arrivals = assistants(
        Source(case.seed, case.settings.longest),
        case.rate * case.replicas,
        case.requests * case.replicas,
        systems=8 + PROMPTS_A_REPLICA * case.replicas,
    )
    autoscaling, failures, size = None, [], case.replicas
    if case.part == "scaling":
        arrivals = wave(arrivals)
        size = max(1, case.replicas // 4)
        autoscaling = Autoscaling(least=size, most=2 * case.replicas, target=case.target)
    if case.part == "failure":
        middle = arrivals[len(arrivals) // 2].seconds
        failures = [Failure(middle, number, away=10.0) for number in range(math.ceil(case.replicas / 10))]
    played = Fleet(
        make=lambda number: Replica(number, case.cost, case.settings, policy_named(case.policy)),
        size=size,
        router=Router(case.router, case.seed),
        views=math.ceil(case.replicas / REPLICAS_A_ROUTER),
        autoscaling=autoscaling,
        failures=failures,
        seed=case.seed,
    )
    played.run(arrivals)
    summary = summarise(played.outcomes, case.objective, played.preemptions)
    end = arrivals[0].seconds + summary.seconds
    return Outcome(
        part=case.part,
        router=case.router,
        replicas=case.replicas,
        seed=case.seed,
        target=case.target,
        summary=summary,
        sizes=played.sizes,
        over_time=_over_time(played) if case.part != "size" else [],
        replica_seconds=_cost(played.sizes, end),
    )


def wave(arrivals: Sequence[Arrival]) -> list[Arrival]:
    """The same requests at a rate between a fifth of their own and all of it, in waves."""
    now = last = 0.0
    result = []
    for arrival in arrivals:
        share = 0.6 - 0.4 * math.cos(2 * math.pi * now / _WAVE)
        now += (arrival.seconds - last) / share
        last = arrival.seconds
        result.append(arrival.at(now))
    return in_order(result)


def _over_time(played: Fleet, step: float = 2.0) -> list[tuple[float, float]]:
    bins: dict[int, list[float]] = {}
    for served in played.outcomes:
        if served.tokens:
            bins.setdefault(int(served.arrival.seconds / step), []).append(served.to_first)
    return [(place * step, sorted(times)[int(0.99 * len(times))]) for place, times in sorted(bins.items())]


def _cost(sizes: Sequence[tuple[float, int]], end: float) -> float:
    moments = [*sizes, (max(end, sizes[-1][0]), 0)]
    return sum(size * (after - now) for (now, size), (after, _) in pairwise(moments))


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    args = parser().parse_args(argv)
    cases = _cases(args)
    # NOTE: the largest ones first, so that no core waits for the last of them.
    order = sorted(range(len(cases)), key=lambda index: -cases[index].replicas * cases[index].requests)
    found = side_by_side(run, [cases[index] for index in order])
    outcomes = [outcome for _, outcome in sorted(zip(order, found, strict=True), key=lambda pair: pair[0])]
    print(f"steps as on {args.cost.machine}; {args.kv_tokens} tokens of KV cache; objective: {objective_of(args)}")
    print("\n".join(table(outcomes)))
    document = {"kind": "simulate-fleets", "machine": args.cost.machine, "ran_on": cpu_model(), "rate": args.rate}
    document["outcomes"] = outcomes
    if args.json is not None:
        args.json.write_bytes(msgspec.json.encode(document) + b"\n")
    if args.plot is not None:
        from benchmarks.simulate.figures import fleet_figure, save

        save(lambda: fleet_figure(msgspec.to_builtins(document)), args.plot)
    return 0


def parser() -> argparse.ArgumentParser:
    """The flags."""
    made = argparse.ArgumentParser(
        prog="benchmarks.simulate.fleets", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--sizes", type=at_least(1), nargs="+", default=list(SIZES), help="replicas")
    made.add_argument("--routers", nargs="+", choices=ROUTERS, default=list(ROUTERS))
    made.add_argument("--rate", type=positive, default=8.0, help="requests a second for each replica")
    made.add_argument("--requests", type=at_least(1), default=30, help="for each replica")
    made.add_argument("--seeds", type=at_least(1), default=3, help="of fleets of up to 64 replicas; larger ones have 1")
    made.add_argument("--middle", type=at_least(1), default=16, help="replicas of the runs with scaling and failures")
    made.add_argument("--policy", type=policy, default="past_future")
    made.add_argument("--plot", type=Path, help="an SVG with the curves")
    engine_flags(made)
    return made


def _cases(args: argparse.Namespace) -> list[Case]:
    def case(part: str, router: str, replicas: int, seed: int, requests: int, target: float = 0.0) -> Case:
        return Case(
            part=part,
            router=router,
            replicas=replicas,
            seed=seed,
            rate=args.rate,
            requests=requests,
            target=target,
            policy=args.policy,
            cost=args.cost,
            settings=settings_of(args),
            objective=objective_of(args),
        )

    few = range(args.seeds)
    cases = [
        case("size", router, size, seed, args.requests)
        for size in args.sizes
        for router in args.routers
        for seed in (few if size <= 64 else range(1))
    ]
    cases += [case("failure", router, args.middle, 0, 2 * args.requests) for router in args.routers]
    scaled = round(0.6 * 1.5 * _WAVE * args.rate)
    return cases + [case("scaling", args.routers[-1], args.middle, 0, scaled, target) for target in TARGETS]


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """Lines for people."""
    lines = [f"{'part':<9}{'replicas':>8} {'router':<16}{'good':>7}{'first p50':>10}{'p99':>8}{'cached':>8}  replica-s"]
    keys = dict.fromkeys((found.part, found.replicas, found.router, found.target) for found in outcomes)
    for part, replicas, router, target in keys:
        same = [o for o in outcomes if (o.part, o.replicas, o.router, o.target) == (part, replicas, router, target)]
        kept, cached = (median(getattr(found.summary, name) for found in same) for name in ("kept", "cached"))
        first, late = (median(found.summary.first[place] for found in same) for place in (0, 2))
        name = f"target {target:g}" if part == "scaling" else router
        cost = median(found.replica_seconds for found in same)
        lines.append(
            f"{part:<9}{replicas:>8} {name:<16}{kept:>7.1%}{first:>10.3f}{late:>8.3f}{cached:>8.1%}{cost:>11.0f}"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
