"""Overlapping valid requests against their solo runs: ``python -m benchmarks.soak.requests --requests 2000 --seed 1``.

Random timed traces of requests of all kinds, whose clients come in crowds and leave at random moments, on servers
with too little KV cache in several configurations. Every answer has to have the text, tokens and log-probabilities of
its solo run, bit for bit; what a client has of a stream that it left has to be a beginning of them.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.load.arguments import MODEL
from benchmarks.soak.answers import Answer
from benchmarks.soak.asks import Ask, pool
from benchmarks.soak.models import TINY, Model, model_of
from benchmarks.soak.round import CONFIGURATIONS, Configuration, Fault, Tally, play
from benchmarks.soak.served import served
from benchmarks.soak.solo import solo_answers
from benchmarks.soak.traces import timed_trace
from benchmarks.usage import at_least
from server.listener import allow_many_connections

ROUND_REQUESTS = 50


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 1 if an answer was not its solo run's."""
    args = parser().parse_args(argv)
    allow_many_connections()
    faults: list[Fault] = []
    print(Tally.titles())
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        for name in args.model:
            faults += _test(model_of(name, Path(folder)), args, Path(folder) / name)
    for fault in faults[:10]:
        print(f"\n{fault.describe()}\nagain: {_command(fault, args)}")
    if faults:
        args.dump.parent.mkdir(parents=True, exist_ok=True)
        args.dump.write_bytes(msgspec.json.format(msgspec.json.encode(faults), indent=1))
        print(f"\n{len(faults)} faults; traces and answers are in {args.dump}")
    return int(bool(faults))


def parser() -> argparse.ArgumentParser:
    """All options."""
    made = argparse.ArgumentParser(
        prog="benchmarks.soak.requests", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--requests", type=at_least(1), default=2000, help="of all models together (default: 2000)")
    made.add_argument("--distinct", type=at_least(1), default=200, help="of each model (default: 200)")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument(
        "--model", nargs="+", default=[TINY, MODEL], help=f"{TINY}, or what can be served (default: both)"
    )
    made.add_argument("--round", type=at_least(0), help="this one alone, as a failure names it")
    made.add_argument("--dump", type=Path, default=Path("build/soak/requests.json"), help="where failures are written")
    made.add_argument("--flags", nargs=argparse.REMAINDER, default=[], help="for all servers; last")
    return made


def _test(model: Model, args: argparse.Namespace, folder: Path) -> list[Fault]:
    """All rounds of one model, those of a configuration one after the other on one server."""
    asks = pool(args.distinct, args.seed, model.last_token)
    began = time.monotonic()
    solo = solo_answers(model, asks, folder / "solo")
    print(f"{model.name}: {len(asks)} distinct requests, each alone, in {time.monotonic() - began:.1f} s", flush=True)
    count = -(-args.requests // len(args.model))
    rounds = range(-(-count // ROUND_REQUESTS)) if args.round is None else [args.round]
    faults: list[Fault] = []
    for place, configuration in enumerate(CONFIGURATIONS):
        own = [number for number in rounds if number % len(CONFIGURATIONS) == place]
        if own:
            faults += _rounds(model, configuration, own, (asks, solo), args, folder / str(place))
    return faults


def _rounds(
    model: Model,
    configuration: Configuration,
    numbers: list[int],
    known: tuple[list[Ask], list[Answer]],
    args: argparse.Namespace,
    folder: Path,
) -> list[Fault]:
    total, faults = Tally(), list[Fault]()
    with served(model.bundle, (*configuration.flags, *args.flags), folder) as server:
        for number in numbers:
            rng = random.Random(f"{args.seed} {model.name} {number}")
            trace = timed_trace(rng, known[0], min(ROUND_REQUESTS, args.requests), model.rate)
            tally, found = play(server.port, trace, *known)
            total += tally
            where = {"model": model.name, "configuration": configuration.name, "round": number, "trace": trace}
            faults += [msgspec.structs.replace(fault, **where) for fault in found]
    print(total.line(f"{model.name}, {configuration.name}"), flush=True)
    return faults


def _command(fault: Fault, args: argparse.Namespace) -> str:
    flags = f" --flags {' '.join(args.flags)}" if args.flags else ""
    return (
        f"python -m benchmarks.soak.requests --model {fault.model} --seed {args.seed} --distinct {args.distinct} "
        f"--round {fault.round}{flags}"
    )


if __name__ == "__main__":
    sys.exit(main())
