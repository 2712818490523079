"""One engine, simulated: ``python -m benchmarks.simulate --traffic chat --rate 2 4 --policy future_peak past_future``.

The scheduler, the KV bookkeeping and the admission policies are those that serve; a cost model says how long steps
take. ``docs/scale.md`` works an example through.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.simulate.replica import Sample
from benchmarks.simulate.result import Summary, summarise
from benchmarks.simulate.scenario import (
    engine_flags,
    objective_of,
    play,
    policy,
    policy_named,
    settings_of,
    stored,
    traffic,
)
from benchmarks.simulate.traffic import TRAFFIC
from benchmarks.usage import at_least, positive

POLICY_HELP = "future_peak, past_future, past_future:RESERVE (a share of the cache) or aggressive"
SAMPLES = 400
"""Points of a curve over time that are kept."""


class Run(msgspec.Struct, kw_only=True):
    """One trace with one policy."""

    rate: float
    policy: str
    seed: int
    summary: Summary
    use: list[tuple[float, float, int]]
    """Seconds, share of the KV cache that is in use, requests that wait."""


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    args = parser().parse_args(argv)
    objective, settings = objective_of(args), settings_of(args)
    print(f"steps as on {args.cost.machine}")
    print(f"{settings.kv_tokens} tokens of KV cache; objective: {objective}")
    print(TITLES)
    runs: list[Run] = []
    for rate in args.rate or [None]:
        for name in args.policy:
            for seed in args.seed if args.trace is None else [0]:
                arrivals = (
                    traffic(args.traffic, rate or 4.0, args.requests, seed, settings.longest)
                    if args.trace is None
                    else stored(args.trace, rate)
                )
                watched: list[Sample] = []
                fleet = play(arrivals, args.cost, settings, policy_named(name), watched.append)
                summary = summarise(fleet.outcomes, objective, fleet.preemptions)
                use = [(now.now, now.used, now.waiting) for now in watched[:: max(1, len(watched) // SAMPLES)]]
                found = len(arrivals) / max(1e-9, arrivals[-1].seconds)
                runs.append(Run(rate=rate or found, policy=name, seed=seed, summary=summary, use=use))
                print(line(runs[-1]), flush=True)
    document = {"kind": "simulate", "machine": args.cost.machine, "objective": objective, "runs": runs}
    if args.json is not None:
        args.json.write_bytes(msgspec.json.encode(document) + b"\n")
    if args.plot is not None:
        from benchmarks.simulate.figures import engine_figure, save

        save(lambda: engine_figure(msgspec.to_builtins(document)), args.plot)
    return 0


def parser() -> argparse.ArgumentParser:
    """The flags."""
    made = argparse.ArgumentParser(
        prog="benchmarks.simulate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--traffic", choices=tuple(TRAFFIC), default="chat")
    made.add_argument("--trace", type=Path, help="a file of JSON lines instead (docs/scale.md)")
    made.add_argument("--rate", type=positive, nargs="+", help="requests a second; a trace has its own")
    made.add_argument("--requests", type=at_least(1), default=400)
    made.add_argument("--policy", nargs="+", type=policy, default=["future_peak"], metavar="POLICY", help=POLICY_HELP)
    made.add_argument("--seed", type=at_least(0), nargs="+", default=[1])
    made.add_argument("--plot", type=Path, help="an SVG: KV use over time, and times to the first token")
    engine_flags(made)
    return made


TITLES = (
    f"{'rate':>6} {'policy':<18}{'seed':>5}{'answered':>9}{'refused':>8}{'tokens/s':>9}{'good/s':>8}{'good':>7}"
    f"{'first p50':>10}{'p99':>8}{'gap p50':>9}{'p99':>8}{'preempted':>10}{'cached':>8}"
)


def line(run: Run) -> str:
    """A row of the table."""
    found = run.summary
    return (
        f"{run.rate:>6.3g} {run.policy:<18}{run.seed:>5}{found.answered:>9}{found.refused:>8}{found.throughput:>9.0f}"
        f"{found.goodput:>8.2f}{found.kept:>7.1%}{found.first[0]:>10.3f}{found.first[2]:>8.3f}"
        f"{found.gap[0]:>9.4f}{found.gap[2]:>8.4f}{found.preemptions:>10}{found.cached:>8.1%}"
    )


if __name__ == "__main__":
    sys.exit(main())
