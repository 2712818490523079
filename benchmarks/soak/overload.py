"""More than a server can do: ``python -m benchmarks.soak.overload``.

Finds the capacity in a closed loop, then sends 1, 2 and 4 times as much whatever the server does, to a server with
limits and to one with an unbounded queue beside it. Goodput is the rate of answers within the objective; with limits
it should be at the highest load what it is at its best.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.load.arguments import MODEL
from benchmarks.load.arrivals import poisson
from benchmarks.load.drive import Extent, Target, closed_loop, open_loop
from benchmarks.load.lengths import parse_lengths
from benchmarks.load.prompts import Ask, Words, drawn
from benchmarks.load.record import Record
from benchmarks.load.slo import Slo, parse_slo
from benchmarks.load.summary import Spread, spread
from benchmarks.machine import describe, in_words
from benchmarks.soak.models import SCRIPTED, model_of
from benchmarks.soak.served import served
from benchmarks.usage import at_least, positive
from server.listener import allow_many_connections

UNBOUNDED = ("--max_queued", str(2**31 - 1))
UNBOUNDED_NAME = "unbounded queue"

WAITING = 0.5
"""Share of the objective's time to the first token that a request may spend in the queue."""

GOAL = 0.9
"""Share of the best goodput that is left at the highest load."""

_FILLING = 0.25
"""Share of a run in which queues fill up; answers that end in it do not count."""


@dataclass(frozen=True)
class Point:
    """One server at one load.

    Attributes:
        multiple: Of the capacity.
        goodput: Answers within the objective, a second, while requests came and queues were full.
        ttft: Of all whole answers.
        shed: Share of the requests that were turned away.
        gave_up: Share whose clients waited as long as they could.
        failed: Share of anything else.
    """

    server: str
    multiple: float
    sent: int
    goodput: float
    ttft: Spread | None
    shed: float
    gave_up: float
    failed: float


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 1 if the goal is missed."""
    args = parser().parse_args(argv)
    machine = describe()
    print(in_words(machine))
    allow_many_connections()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, ExitStack() as servers:
        model = model_of(args.model, Path(folder))
        args.words = Words(model.last_token)

        def port(name: str, flags: Sequence[str]) -> int:
            return servers.enter_context(served(model.bundle, (*model.flags, *flags), Path(folder) / name)).port

        ports = {UNBOUNDED_NAME: port("unbounded", (*args.flags, *UNBOUNDED))}
        capacity = _capacity(ports[UNBOUNDED_NAME], args)
        limits = args.limits.split() if args.limits else queue_limit(args.slo)
        ports |= {" ".join(limits): port("limits", (*args.flags, *limits))}
        print(f"capacity {capacity:.2f} requests/s; objective {args.slo}; clients wait {args.patience:g} s\n{TITLES}")
        points = list(_points(ports, capacity, args))
    own = [point for point in points if point.server != UNBOUNDED_NAME]
    best, last = max(point.goodput for point in own), max(own, key=lambda point: point.multiple)
    print(f"goodput at {last.multiple:g}x is {last.goodput / max(best, 1e-9):.2f} of its best; the goal is {GOAL}")
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "kind": "overload",
            "machine": machine,
            "slo": str(args.slo),
            "capacity": capacity,
            "points": points,
        }
        args.json.write_bytes(msgspec.json.encode(document))
    return int(last.goodput < GOAL * best)


def parser() -> argparse.ArgumentParser:
    """All options."""
    made = argparse.ArgumentParser(
        prog="benchmarks.soak.overload", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--model", default=MODEL, help=f"what to serve, or {SCRIPTED} (default: %(default)s)")
    made.add_argument("--multiples", type=positive, nargs="+", default=[1.0, 2.0, 4.0], metavar="X")
    made.add_argument("--seconds", type=positive, default=30.0, help="time of sending at each load (default: 30)")
    made.add_argument(
        "--concurrency", type=at_least(1), default=48, help="clients that find the capacity (default: 48)"
    )
    made.add_argument("--capacity", type=positive, metavar="R", help="requests/s, where it is known")
    made.add_argument("--slo", type=parse_slo, default="ttft=2.0,tpot=0.1", help="a good answer (default: %(default)s)")
    made.add_argument("--patience", type=positive, default=10.0, metavar="S", help="of a client (default: 10)")
    made.add_argument("--input", type=parse_lengths, default="uniform:32:128", metavar="L")
    made.add_argument("--output", type=parse_lengths, default="uniform:16:96", metavar="L")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--json", type=Path, metavar="FILE", help="write what came of it there")
    made.add_argument(
        "--limits", metavar="FLAGS", help="of the server with limits (default: a queue as the rule has it)"
    )
    made.add_argument("--flags", nargs=argparse.REMAINDER, default=[], help="of both servers; last")
    return made


TITLES = f"{'':<28}{'load':>6}{'sent':>7}{'good/s':>8}{'TTFT p50':>10}{'p99':>8}{'shed':>8}{'gave up':>9}{'failed':>8}"


def line(point: Point) -> str:
    """For people."""
    p50, p99 = (f"{point.ttft.p50:.2f}", f"{point.ttft.p99:.2f}") if point.ttft else ("-", "-")
    shares = f"{point.shed:>8.1%}{point.gave_up:>9.1%}{point.failed:>8.1%}"
    return f"{point.server:<28}{point.multiple:>5g}x{point.sent:>7}{point.goodput:>8.2f}{p50:>10}{p99:>8}{shares}"


def queue_limit(slo: Slo) -> list[str]:
    """The rule: nobody waits for longer than leaves its first token a good chance."""
    return [] if slo.ttft is None else ["--max_queue_seconds", f"{WAITING * slo.ttft:g}"]


def goodput(records: Sequence[Record], slo: Slo, begin: float, end: float) -> float:
    """Answers within the objective that ended between two times, a second."""
    good = sum(slo.met(record) and begin <= record.token_times[-1] < end for record in records)
    return good / (end - begin)


def _capacity(port: int, args: argparse.Namespace) -> float:
    """Requests a second of clients that wait for their answers, when all of them have begun."""
    if args.capacity:
        return float(args.capacity)
    target = Target("127.0.0.1", port)
    records, _ = closed_loop(target, args.concurrency, _asks(args, "capacity"), Extent(args.seconds))
    return goodput(records, Slo(), _FILLING * args.seconds, args.seconds)


def _points(ports: dict[str, int], capacity: float, args: argparse.Namespace) -> Iterator[Point]:
    for multiple in args.multiples:
        for server, port in ports.items():
            rng = random.Random(f"{args.seed} {multiple}")
            arrivals = poisson(multiple * capacity, rng)
            target = Target("127.0.0.1", port, args.patience)
            records, _ = open_loop(target, arrivals, _asks(args, str(multiple)), Extent(args.seconds))
            point = _point(server, multiple, records, args)
            print(line(point), flush=True)
            yield point


def _point(server: str, multiple: float, records: list[Record], args: argparse.Namespace) -> Point:
    count = max(1, len(records))
    whole = sum(record.whole for record in records)
    shed = sum(record.status in (429, 503) for record in records)
    gave_up = sum(record.error.startswith("timeout") for record in records)
    return Point(
        server=server,
        multiple=multiple,
        sent=len(records),
        goodput=goodput(records, args.slo, _FILLING * args.seconds, args.seconds),
        ttft=spread([record.ttft for record in records if record.whole]),
        shed=shed / count,
        gave_up=gave_up / count,
        failed=(len(records) - whole - shed - gave_up) / count,
    )


def _asks(args: argparse.Namespace, what: str) -> Iterator[Ask]:
    return drawn(args.input, args.output, args.words, random.Random(f"{args.seed} {what}"))


if __name__ == "__main__":
    sys.exit(main())
