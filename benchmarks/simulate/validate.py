"""The simulator beside the server that it simulates: ``python -m benchmarks.simulate.validate``.

The same traces go to a real server over HTTP and through the simulator. HTTP worker and load client share the engine's
cores, which is no part of the cost model's steps: how much slower steps are, and what bringing a token to its client
takes, is found on one trace. The others say how well the simulator foretells what it has not seen. With several
policies this also compares them for real.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

import msgspec

from benchmarks.engine import built_bundle
from benchmarks.machine import describe, in_words
from benchmarks.server import serving
from benchmarks.simulate.cost import CostModel
from benchmarks.simulate.replica import EngineSettings
from benchmarks.simulate.result import Objective, Summary, summarise
from benchmarks.simulate.scenario import (
    POLICIES,
    engine_flags,
    objective_of,
    play,
    policy_named,
    settings_of,
    traffic,
)
from benchmarks.simulate.served import play as play_for_real
from benchmarks.simulate.trace import Arrival
from benchmarks.usage import UsageError, at_least, positive

CALIBRATED = "chat:3"
TRACES = ("bursts:2.5", "code:2", "assistants:6")
_SLOWEST = 1e-3
"""Seconds that the delivery of a token certainly does not take."""

_PACES = (0.8, 3.0)
_ROUNDS = 3


class Pair(msgspec.Struct, kw_only=True):
    """One trace with one policy."""

    trace: str
    policy: str
    seed: int
    real: Summary
    simulated: Summary


def trace(text: str, count: int, seed: int, settings: EngineSettings) -> list[Arrival]:
    """Traffic ``NAME:RATE``.

    NOTE: a client does not know an answer before it has it, so that prompts that go on from one do not share it.
    """
    name, _, rate = text.partition(":")
    arrivals = traffic(name, float(rate), count, seed, settings.longest)
    return [
        msgspec.structs.replace(arrival, name="", output=max(2, arrival.output), limit=max(2, arrival.limit))
        for arrival in arrivals
    ]


def calibrated(
    cost: CostModel, real: Summary, arrivals: list[Arrival], args: argparse.Namespace
) -> tuple[CostModel, float]:
    """The model whose median gap and time to first token on one trace are those of a real run, and its pace.

    The pace is what steps take beside HTTP, and whatever else keeps the machine busy, over what they take alone.
    """

    def figures(pace: float, delivery: float) -> Summary:
        tried = msgspec.structs.replace(cost.slower(pace), delivery=delivery)
        return simulated(tried, arrivals, "future_peak", settings_of(args), objective_of(args))

    pace, delivery = 1.0, 0.0
    for _ in range(_ROUNDS):
        pace = _found(_PACES, lambda pace: figures(pace, delivery).first[0] < real.first[0])  # noqa: B023
        delivery = _found((0.0, _SLOWEST), lambda delivery: figures(pace, delivery).gap[0] < real.gap[0])  # noqa: B023
    return msgspec.structs.replace(cost.slower(pace), delivery=delivery), pace


def _found(bounds: tuple[float, float], too_low: Callable[[float], bool]) -> float:
    """Bisection."""
    low, high = bounds
    for _ in range(7):
        middle = (low + high) / 2
        low, high = (middle, high) if too_low(middle) else (low, middle)
    return (low + high) / 2


def simulated(
    cost: CostModel, arrivals: list[Arrival], policy: str, settings: EngineSettings, objective: Objective
) -> Summary:
    """What the simulator says."""
    fleet = play(arrivals, cost, settings, policy_named(policy))
    return summarise(fleet.outcomes, objective, fleet.preemptions)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    made = argparse.ArgumentParser(
        prog="benchmarks.simulate.validate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--model", default="smollm2-135m-instruct")
    made.add_argument("--calibrate", type=_trace, default=CALIBRATED, metavar="TRAFFIC:RATE")
    made.add_argument("--traces", type=_trace, nargs="+", default=list(TRACES), metavar="TRAFFIC:RATE")
    made.add_argument("--policy", nargs="+", choices=POLICIES, default=["future_peak"])
    made.add_argument("--seeds", type=at_least(1), default=1)
    made.add_argument("--requests", type=at_least(1), default=120)
    engine_flags(made)
    args = made.parse_args(argv)
    settings, objective = settings_of(args), objective_of(args)
    machine = in_words(describe())
    print(f"{machine}; steps as on {args.cost.machine}")
    pairs: list[Pair] = []
    cost = args.cost
    for policy in args.policy:
        with serving(built_bundle(args.model), *_flags(settings, policy)) as (port, _, _):
            play_for_real(port, trace("chat:20", 8, 99, settings))  # to warm up
            if policy == args.policy[0]:
                arrivals = trace(args.calibrate, args.requests, 0, settings)
                real = summarise(play_for_real(port, arrivals), objective)
                cost, pace = calibrated(cost, real, arrivals, args)
                found = simulated(cost, arrivals, policy, settings, objective)
                print(f"found on {args.calibrate}: pace {pace:.2f}, {1e6 * cost.delivery:.0f} us a token\n{TITLES}")
                pairs.append(_shown(Pair(trace=args.calibrate, policy=policy, seed=0, real=real, simulated=found)))
            for text in args.traces:
                for seed in range(1, args.seeds + 1):
                    arrivals = trace(text, args.requests, seed, settings)
                    real = summarise(play_for_real(port, arrivals), objective)
                    found = simulated(cost, arrivals, policy, settings, objective)
                    pairs.append(_shown(Pair(trace=text, policy=policy, seed=seed, real=real, simulated=found)))
    if args.json is not None:
        document = {"kind": "simulate-validate", "machine": machine, "delivery": cost.delivery, "pairs": pairs}
        args.json.write_bytes(msgspec.json.encode(document) + b"\n")
    return 0


def _trace(text: str) -> str:
    name, _, rate = text.partition(":")
    if name not in ("chat", "bursts", "code", "documents", "assistants", "conversations"):
        message = f"must be TRAFFIC:RATE as in chat:3, not {text!r}"
        raise UsageError(message)
    positive(rate)
    return text


def _flags(settings: EngineSettings, policy: str) -> list[str]:
    return [
        *("--max_total_token_num", str(settings.kv_tokens), "--max_req_total_len", str(settings.longest)),
        *("--running_max_req_size", str(settings.max_running), "--admission", policy, "--disable_speculation"),
    ]


TITLES = (
    f"{'trace':<15} {'policy':<12}{'seed':>5}{'good/s':>8}{'sim.':>7}{'tokens/s':>10}{'error':>7}"
    f"{'first p50':>10}{'error':>7}{'p99':>8}{'error':>7}{'gap p50':>9}{'error':>7}"
)


def _shown(pair: Pair) -> Pair:
    real, found = pair.real, pair.simulated
    parts = [f"{pair.trace:<15} {pair.policy:<12}{pair.seed:>5}{real.goodput:>8.2f}{found.goodput:>7.2f}"]
    for width, measured, foretold in (
        (10, real.throughput, found.throughput),
        (10, real.first[0], found.first[0]),
        (8, real.first[2], found.first[2]),
        (9, real.gap[0], found.gap[0]),
    ):
        digits = 0 if width == 10 and measured > 50 else 3
        parts.append(f"{measured:>{width}.{digits}f}{foretold / measured - 1:>+7.0%}")
    print("".join(parts), flush=True)
    return pair


if __name__ == "__main__":
    sys.exit(main())
