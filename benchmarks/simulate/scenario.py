"""What the simulator's commands have in common: traffic, an engine, an objective, and their flags."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from importlib import resources
from pathlib import Path

from benchmarks.simulate.cost import CostModel, read_model
from benchmarks.simulate.fleet import Fleet
from benchmarks.simulate.replica import EngineSettings, Replica, Sample
from benchmarks.simulate.result import Objective
from benchmarks.simulate.routing import LEAST_OF_ALL, Router
from benchmarks.simulate.trace import Arrival, read_trace
from benchmarks.simulate.traffic import TRAFFIC, Source
from benchmarks.usage import UsageError, at_least, positive
from runtime.scheduler import AdmissionPolicy, Aggressive, FuturePeak, PastFuture

POLICIES = ("future_peak", "past_future", "aggressive")
MEASURED = Path(str(resources.files("benchmarks.simulate"))) / "data" / "epyc-9005-2-cores.json"
"""The machine whose figures are in the docs."""


def policy_named(text: str) -> Callable[[], AdmissionPolicy]:
    """Argument type: ``future_peak``, ``past_future``, ``past_future:RESERVE`` or ``aggressive``.

    Raises:
        UsageError: It is none of these.
    """
    name, _, reserve = text.partition(":")
    simple: dict[str, Callable[[], AdmissionPolicy]] = {"future_peak": FuturePeak, "aggressive": Aggressive}
    if text in simple:
        return simple[text]
    try:
        share = float(reserve) if reserve else None
    except ValueError:
        share = -1.0
    if name != "past_future" or (share is not None and not 0 <= share < 1):
        message = f"must be {', '.join(POLICIES)} or past_future:RESERVE with a share of the cache, not {text!r}"
        raise UsageError(message)
    return PastFuture if share is None else partial(PastFuture, share)


def policy(text: str) -> str:
    """Argument type: the name of a policy.

    Raises:
        UsageError: There is none of this name.
    """
    policy_named(text)
    return text


def cost_model(text: str) -> CostModel:
    """Argument type: a file of ``benchmarks.simulate.measure``.

    Raises:
        UsageError: It is not.
    """
    try:
        return read_model(Path(text))
    except ValueError as error:
        raise UsageError(str(error)) from None


def engine_flags(parser: argparse.ArgumentParser, kv_tokens: int = 8192) -> None:
    """Of an engine and what is wanted of it."""
    parser.add_argument("--cost", type=cost_model, default=str(MEASURED), help="of benchmarks.simulate.measure")
    parser.add_argument("--kv-tokens", type=at_least(64), default=kv_tokens, help="KV cache of an engine")
    parser.add_argument("--max-running", type=at_least(1), default=EngineSettings().max_running)
    parser.add_argument("--max-step-tokens", type=at_least(1), default=EngineSettings().max_step_tokens)
    parser.add_argument("--max-queued", type=at_least(0), default=EngineSettings().max_queued)
    parser.add_argument("--first", type=positive, default=2.0, help="objective: seconds to the first token")
    parser.add_argument("--gap", type=positive, default=0.1, help="objective: mean seconds between tokens")
    parser.add_argument("--json", type=Path, help="write everything there")


def settings_of(args: argparse.Namespace) -> EngineSettings:
    """The engine that the flags describe."""
    return EngineSettings(
        kv_tokens=args.kv_tokens,
        max_running=args.max_running,
        max_step_tokens=args.max_step_tokens,
        max_queued=args.max_queued,
    )


def objective_of(args: argparse.Namespace) -> Objective:
    """The objective that the flags describe."""
    return Objective(first=args.first, gap=args.gap)


def traffic(name: str, rate: float, count: int, seed: int, longest: int) -> list[Arrival]:
    """Requests of a kind."""
    return TRAFFIC[name](Source(seed, longest), rate, count)


def stored(path: Path, rate: float | None) -> list[Arrival]:
    """The requests of a file, as they came or faster or slower, at a mean ``rate``.

    Raises:
        SystemExit: It cannot be read; the message says why.
    """
    try:
        arrivals = read_trace(path)
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
    if not arrivals:
        raise SystemExit(f"error: {path}: the trace is empty")
    if rate is None:
        return arrivals
    factor = arrivals[-1].seconds * rate / len(arrivals)
    return [arrival.at(arrival.seconds / factor) for arrival in arrivals] if factor else arrivals


def play(
    arrivals: list[Arrival],
    cost: CostModel,
    settings: EngineSettings,
    policy: Callable[[], AdmissionPolicy],
    watch: Callable[[Sample], None] | None = None,
) -> Fleet:
    """One engine with a trace."""
    fleet = Fleet(
        make=lambda number: Replica(number, cost, settings, policy, watch=watch), size=1, router=Router(LEAST_OF_ALL)
    )
    fleet.run(arrivals)
    return fleet
