"""Load on a server over HTTP: ``python -m benchmarks.load --rate 2 4 8 --slo ttft=1,tpot=0.05``.

``--rate`` is an open loop: requests arrive as a Poisson process, whatever the server does. ``--concurrency`` is a
closed loop. Without either, a trace with arrivals is replayed. Several values are a sweep. ``docs/benchmarks.md``
says how to read the figures.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from benchmarks.engine import built_bundle
from benchmarks.load.arguments import parser
from benchmarks.load.arrivals import poisson
from benchmarks.load.drive import Extent, Target, closed_loop, open_loop
from benchmarks.load.lengths import parse_lengths
from benchmarks.load.prompts import Ask, Words, drawn, replayed
from benchmarks.load.report import Run, table, throughput, titles
from benchmarks.load.summary import summarize
from benchmarks.machine import describe, in_words
from benchmarks.processes import cpu_by_role, parent_of, roles
from benchmarks.server import serving
from benchmarks.usage import UsageError
from server.listener import allow_many_connections


@dataclass(frozen=True)
class Point:
    """One run of a sweep: ``open`` or ``closed`` at a level, or ``trace``."""

    mode: str
    level: float


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 2 for what cannot be asked, 1 if no request at all was answered."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    made = parser(__doc__)
    args = made.parse_args(arguments)
    try:
        points = _points(args)
    except UsageError as error:
        made.error(str(error))
    machine = describe()
    print(in_words(machine))
    print(titles(points[0].mode))
    allow_many_connections()
    runs = []
    with _server(args) as (target, supervisor):
        _warm_up(target, args)
        for number, point in enumerate(points, 1):
            run = _measure(point, target, supervisor, args, random.Random(f"{args.seed}/{number}"))
            print(throughput(run), flush=True)
            runs.append(run)
    print("\n".join(table(runs, args.slo)))
    if args.json is not None:
        _write(args, {"machine": machine, "arguments": arguments, "runs": runs})
    return int(not any(run.summary.whole for run in runs))


def _points(args: argparse.Namespace) -> list[Point]:
    if args.rate:
        return [Point("open", rate) for rate in args.rate]
    if args.concurrency:
        return [Point("closed", count) for count in args.concurrency]
    if not args.trace or args.trace[0].arrival is None:
        message = "nothing to do: give --rate, --concurrency or a --trace with arrivals"
        raise UsageError(message)
    return [Point("trace", len(args.trace) / max(1e-9, args.trace[-1].arrival))]


def _measure(point: Point, target: Target, supervisor: int | None, args: argparse.Namespace, rng: random.Random) -> Run:
    extent = Extent(args.seconds, args.requests)
    asks = _asks(args, rng)
    processes = {} if supervisor is None else roles(supervisor)
    gc.collect()
    gc.freeze()
    before, own = cpu_by_role(processes), time.process_time()
    match point.mode:
        case "open":
            records, seconds = open_loop(target, poisson(point.level, rng), asks, extent)
        case "closed":
            records, seconds = closed_loop(target, int(point.level), asks, extent)
        case _:
            arrivals = [entry.arrival or 0.0 for entry in args.trace][: args.requests]
            records, seconds = open_loop(target, arrivals, asks, Extent(0, len(arrivals)))
    own, after = time.process_time() - own, cpu_by_role(processes)
    cpu = {role: after[role] - before[role] for role in before} | {"client": own}
    return Run(
        mode=point.mode,
        level=point.level,
        summary=summarize(records, seconds, args.slo),
        cpu_seconds=cpu,
        records=records,
    )


def _asks(args: argparse.Namespace, rng: random.Random) -> Iterator[Ask]:
    words = Words(args.last_token, args.shared_prefix, args.shared_prefixes)
    return replayed(args.trace, words, rng) if args.trace else drawn(args.input, args.output, words, rng)


def _warm_up(target: Target, args: argparse.Namespace) -> None:
    """Requests that are not counted: memory is touched, pages are mapped."""
    if args.warm_up:
        asks = drawn(parse_lengths("64"), parse_lengths("16"), Words(args.last_token), random.Random(args.seed))
        closed_loop(target, min(8, args.warm_up), asks, Extent(0, args.warm_up))


@contextmanager
def _server(args: argparse.Namespace) -> Iterator[tuple[Target, int | None]]:
    """The server of ``--url``, or one of our own; and its supervisor's process where that is known."""
    if args.url is not None:
        yield Target(args.url.hostname, args.url.port or 80, args.timeout), args.server_pid
        return
    with serving(built_bundle(args.model), *args.flags) as (port, engine, _):
        yield Target("127.0.0.1", port, args.timeout), parent_of(engine)


def _write(args: argparse.Namespace, found: dict[str, Any]) -> None:
    server = args.model if args.url is None else args.url.geturl()
    document = {"kind": "load", "server": server, "slo": None if args.slo is None else str(args.slo)} | found
    args.json.write_bytes(msgspec.json.encode(document) + b"\n")


if __name__ == "__main__":
    sys.exit(main())
