"""``make perf``: the regression gate; ``docs/regression.md`` says how it works.

Counts what the engine does in a replay and compares it with ``benchmarks/baseline.json``: any difference fails. Times
short slices of work against calibration kernels: ratios that grew beyond the band fail.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.machine import cpu_model, machine_class, versions
from benchmarks.regression.baseline import (
    BASELINE,
    Baseline,
    BaselineError,
    read_baseline,
    renewed,
    write_baseline,
)
from benchmarks.regression.compare import USUAL, WIDE, Band, differences, moves
from benchmarks.regression.counters import OPTIMISED, Counts, count_all
from benchmarks.regression.engines import MODEL, REWARD_MODEL, built
from benchmarks.regression.report import counters_table, moves_table, ratios_table, spread_table
from benchmarks.regression.timing import ROUNDS, STARTS, Ratios, measure, median

_ACCEPTED_RUNS = 5
_WIDE_ROUNDS, _WIDE_STARTS = 8, 1
ACCEPT = 'make perf-accept REASON="..."'


def check_counters(baseline: Baseline, counts: Counts) -> bool:
    """Whether all counters are as expected; prints what is not."""
    expected = baseline.counters
    if expected is None:
        print(f"there are no counters to compare with: {ACCEPT}")
        return False
    ours, theirs = versions()["onnxruntime"], expected.accepted.versions.get("onnxruntime")
    if ours != theirs:
        print(f"{OPTIMISED} is not compared: it was counted with version {theirs}, this is {ours}")
    found = differences(expected.values, counts, leave_out="" if ours == theirs else OPTIMISED)
    print(counters_table(found, sum(map(len, counts.values()))))
    return not found


def check_timings(baseline: Baseline, ratios: Ratios, band: Band) -> bool:
    """Whether no ratio grew beyond ``band``; prints all of them."""
    expected = baseline.timings.get(machine_class())
    if expected is None:
        print(ratios_table(ratios))
        print(f"timings are not compared, there are none of a machine like this ({machine_class()}): {ACCEPT}")
        return True
    found = moves(expected.values, ratios, band)
    print(moves_table(found))
    print(f"baseline of {expected.accepted.date}, {expected.accepted.cpu}: {expected.accepted.reason}")
    if any(move.faster for move in found):
        print(f"some are faster; to hold on to that: {ACCEPT}")
    return not any(move.slower for move in found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns 1 where something moved, 2 where the baseline cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wide", action="store_true", help="fewer slices, and a band for them that noise never leaves")
    parser.add_argument("--counters", action="store_true", help="counters alone")
    parser.add_argument(
        "--repeat", type=int, metavar="N", help="time everything N times and show how far apart runs are"
    )
    parser.add_argument("--accept", metavar="REASON", help="make what is measured the baseline")
    parser.add_argument("--baseline", type=Path, default=BASELINE, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.repeat is not None and args.repeat < 1:
        parser.error("--repeat is at least 1")
    if args.accept is not None and not args.accept.strip():
        parser.error(f"a reason is needed: {ACCEPT}")
    try:
        return _run(args, read_baseline(args.baseline))
    except BaselineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run(args: argparse.Namespace, baseline: Baseline) -> int:
    bundle = built(MODEL)
    rounds, starts = (_WIDE_ROUNDS, _WIDE_STARTS) if args.wide else (ROUNDS, STARTS)
    print(f"{cpu_model()}; {machine_class()}; " + ", ".join(f"{name} {it}" for name, it in versions().items()))
    if args.repeat and args.accept is None:
        print(spread_table([measure(bundle, rounds, starts) for _ in range(args.repeat)]))
        return 0
    counts = count_all(bundle, built(REWARD_MODEL))
    if args.accept is not None:
        times = 0 if args.counters else args.repeat or _ACCEPTED_RUNS
        runs = [measure(bundle, rounds, starts) for _ in range(times)]
        ratios = {name: median([run[name] for run in runs]) for name in (runs[0] if runs else ())}
        write_baseline(args.baseline, renewed(baseline, args.accept.strip(), counts, ratios))
        if ratios:
            print(ratios_table(ratios))
        print(f"{args.baseline} now has {len(ratios)} ratios and {len(counts)} sections of counters from here")
        return 0
    same = check_counters(baseline, counts)
    if args.counters:
        return not same
    kept = check_timings(baseline, measure(bundle, rounds, starts), WIDE if args.wide else USUAL)
    return not (same and kept)


if __name__ == "__main__":
    sys.exit(main())
