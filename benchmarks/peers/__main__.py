"""``python -m benchmarks.peers``: Peregrine and other engines on one machine, in one run, in one table.

Installs each peer in a virtual environment of its own and makes its form of the default model, both kept in the cache.
Then every round starts each engine in turn, from another one on, asks for its first token, warms it up, runs the
workloads and ends it: one engine at a time has the machine. Run it on an otherwise idle one.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.machine import describe
from benchmarks.peers.catalogue import CAPACITY, THREADS, contenders
from benchmarks.peers.contender import Contender
from benchmarks.peers.errors import PeerError
from benchmarks.peers.measure import measure_round
from benchmarks.peers.report import Record, document, tables
from benchmarks.peers.rounds import rotated
from benchmarks.peers.us import US
from benchmarks.workloads import WORKLOADS, Workload
from build_engine.errors import BuildError


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns 1 if an engine failed."""
    known = contenders()
    arguments = _parser(list(known)).parse_args(argv)
    chosen = [known[name] for name in dict.fromkeys([US, *arguments.peers])]
    workloads = [workload for workload in WORKLOADS if workload.name in arguments.workloads]
    records = {engine.name: Record(engine.name, engine.version, engine.interface, engine.settings) for engine in chosen}
    prepare(chosen, records)
    if arguments.prepare:
        for record in records.values():
            print(f"{record.name} {record.version}: {record.failure or 'ready'}")
        return int(any(record.failure for record in records.values()))
    started = time.monotonic()
    conditions = describe() | {"threads": THREADS, "kv_tokens": CAPACITY, "rounds": arguments.rounds}
    run(chosen, records, workloads, arguments.rounds)
    conditions |= {"minutes": round((time.monotonic() - started) / 60, 1)}
    names = [workload.name for workload in workloads]
    made = tables(list(records.values()), names)
    print("\n\n".join(table.markdown() if arguments.markdown else table.text() for table in made))
    if arguments.json:
        report = document(list(records.values()), names, conditions)
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return int(any(record.failure for record in records.values()))


def prepare(chosen: list[Contender], records: dict[str, Record]) -> None:
    """Install everything before anything is measured."""
    for engine in chosen:
        try:
            engine.prepare()
        except (PeerError, BuildError, OSError) as error:
            records[engine.name].failure = str(error)
            say(f"{engine.name}: {error}")


def run(chosen: list[Contender], records: dict[str, Record], workloads: list[Workload], rounds: int) -> None:
    """All rounds; an engine that fails is left out from there on, with the reason in its record."""
    for index in range(rounds):
        for engine in rotated(chosen, index):
            record = records[engine.name]
            if record.failure:
                continue
            began = time.monotonic()
            try:
                record.rounds.append(measure_round(engine, workloads, index))
                say(f"round {index + 1} of {rounds}: {engine.name}, {time.monotonic() - began:.0f} s")
            except PeerError as error:
                record.failure = str(error)
                say(f"round {index + 1} of {rounds}: {engine.name}: {error}")


def say(message: str) -> None:
    """Progress, for people."""
    print(message, file=sys.stderr, flush=True)


def _parser(names: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    peers = [name for name in names if name != US]
    workloads = [workload.name for workload in WORKLOADS]
    parser.add_argument(
        "--peers", nargs="*", choices=peers, default=peers, metavar="NAME", help=f"of {', '.join(peers)}"
    )
    parser.add_argument("--workloads", nargs="+", choices=workloads, default=workloads)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prepare", action="store_true", help="install and convert, measure nothing")
    parser.add_argument("--markdown", action="store_true", help="print tables for the docs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write raw rounds, settings and machine facts")
    return parser


if __name__ == "__main__":
    sys.exit(main())
