"""Random small traces with the scheduler's books checked: ``python -m benchmarks.simulate.invariants``.

Every trace has an engine or a small fleet of its own, of random limits, policy, traffic, failures and clients that hang
up. The books are checked before and after every plan, and in the end nobody may be missing anything.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Sequence

from benchmarks.simulate.cost import KNOTS, CostModel
from benchmarks.simulate.fleet import Autoscaling, Failure, Fleet
from benchmarks.simulate.pool import side_by_side
from benchmarks.simulate.replica import EngineSettings, Replica, Served
from benchmarks.simulate.routing import ROUTERS, Router
from benchmarks.simulate.scenario import policy_named
from benchmarks.simulate.trace import Arrival, Segment, in_order
from benchmarks.usage import at_least
from runtime.request import FinishReason

COST = CostModel(curve=[0.001 * (1 + knot / 32) for knot in KNOTS], key=1e-8, product=1e-9, output=1e-5)
POLICIES = ("future_peak", "past_future", "past_future:0", "aggressive")
_ENDED = {FinishReason.STOP, FinishReason.LENGTH}
_BATCH = 50


def trace(draw: random.Random, longest: int) -> list[Arrival]:
    """A few requests; some share beginnings, some give up."""
    stems = [Segment(f"stem-{number}", draw.randrange(1, longest // 2)) for number in range(3)]
    arrivals = []
    for number in range(draw.randrange(1, 24)):
        prompt = [Segment(f"own-{number}", draw.randrange(1, longest // 4))]
        if draw.random() < 0.6:
            prompt.insert(0, draw.choice(stems))
        limit = draw.randrange(1, longest - sum(segment.tokens for segment in prompt) + 1)
        arrivals.append(
            Arrival(
                seconds=draw.uniform(0, draw.choice((0.01, 0.3, 2.0))),
                prompt=prompt,
                output=draw.randrange(1, limit + 2),
                limit=limit,
                name=f"output-{number}",
                tenant=draw.choice(("", "", "other")),
                patience=draw.uniform(0.001, 0.5) if draw.random() < 0.2 else None,
            )
        )
    return in_order(arrivals)


def fleet(draw: random.Random, settings: EngineSettings, policy: str) -> Fleet:
    """One to three replicas that may die, grow in number and become fewer."""
    size = draw.choice((1, 1, 2, 3))
    failures = [Failure(draw.uniform(0, 0.5), draw.randrange(size), 0.1) for _ in range(draw.choice((0, 0, 1, 2)))]
    scaling = Autoscaling(least=1, most=4, every=0.1, start=0.15, patience=0.2) if draw.random() < 0.2 else None
    return Fleet(
        make=lambda number: Replica(number, COST, settings, policy_named(policy), check=True),
        size=size,
        router=Router(draw.choice(ROUTERS), draw.randrange(1000)),
        views=draw.choice((1, 2)),
        report=draw.choice((0.01, 0.3)),
        autoscaling=scaling,
        failures=failures,
        seed=draw.randrange(1000),
    )


def violations(seed: int) -> list[str]:
    """What is wrong with the trace of a seed; nothing, one hopes."""
    draw = random.Random(seed)
    size = draw.choice((4, 8, 16))
    settings = EngineSettings(
        kv_tokens=size * draw.randrange(10, 40),
        block_size=size,
        max_running=draw.randrange(1, 10),
        max_step_tokens=draw.choice((8, 16, 64)),
        max_queued=draw.choice((3, 1000)),
        prefix_cache=draw.random() < 0.8,
    )
    policy = draw.choice(POLICIES)
    arrivals = trace(draw, settings.kv_tokens)
    played = fleet(draw, settings, policy)
    try:
        outcomes = played.run(arrivals)
    except AssertionError as error:
        return [f"seed {seed}: {error}"]
    bad = [wrong for served in outcomes for wrong in _wrong(served)]
    bad += [
        f"replica {replica.number} has not let go of everything"
        for replica in played.replicas
        if replica.served or replica.scheduler.kv.referenced or replica.scheduler.has_work
    ]
    if policy == "future_peak" and played.preemptions:
        bad.append("somebody had to give way to who was admitted conservatively")
    return [f"seed {seed}: {wrong}" for wrong in bad]


def _wrong(served: Served) -> Iterator[str]:
    arrival = served.arrival
    if served.finish in _ENDED and served.tokens != arrival.generated:
        yield f"{arrival.name} ended with {served.tokens} tokens of {arrival.generated}"
    if served.finish is FinishReason.ABORT and arrival.patience is None:
        yield f"{arrival.name} was aborted by nobody"
    if served.tokens and not arrival.seconds < served.first <= served.last:
        yield f"{arrival.name} had tokens before their time"
    if served.cached >= arrival.prompt_tokens + max(1, served.tokens):
        yield f"{arrival.name} has {served.cached} tokens from the cache"


def batch(seeds: range) -> list[str]:
    """The violations of several traces."""
    return [wrong for seed in seeds for wrong in violations(seed)]


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 1 if anything was wrong."""
    made = argparse.ArgumentParser(
        prog="benchmarks.simulate.invariants", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--traces", type=at_least(1), default=10_000)
    made.add_argument("--seed", type=at_least(0), default=0, help="of the first trace; the others' follow")
    args = made.parse_args(argv)
    end = args.seed + args.traces
    parts = [range(first, min(end, first + _BATCH)) for first in range(args.seed, end, _BATCH)]
    bad = [wrong for found in side_by_side(batch, parts) for wrong in found]
    print("\n".join(bad[:50]))
    print(f"{args.traces} traces from seed {args.seed} on: {len(bad) or 'no'} violations")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
