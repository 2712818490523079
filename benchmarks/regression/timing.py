"""Ratios of work to calibration, from many short slices that take turns."""

from __future__ import annotations

import statistics
from pathlib import Path

import msgspec

from benchmarks.regression.calibration import Spent
from benchmarks.regression.http import http_workload, start_workload
from benchmarks.regression.workloads import Workload, engine_workloads

ROUNDS = 12
STARTS = 3


class Ratio(msgspec.Struct, frozen=True):
    """How many times its calibration's time a workload takes: CPU time of all its threads, and time by the clock."""

    cpu: float
    wall: float


Ratios = dict[str, Ratio]


def measure(bundle: Path, rounds: int = ROUNDS, starts: int = STARTS) -> Ratios:
    """All timings of the engine in ``bundle``, with ``rounds`` slices of each workload and ``starts`` of a server."""
    with engine_workloads(bundle, rounds) as workloads:
        found = take_turns(workloads, rounds)
    with http_workload(bundle) as workload:
        found |= take_turns([workload], rounds)
    return found | take_turns([start_workload(bundle)], starts, warm_up=0)


def take_turns(workloads: list[Workload], rounds: int, warm_up: int = 1) -> Ratios:
    """Run all workloads in turn, ``rounds`` times after ``warm_up`` that do not count.

    Each slice has its calibration before and after it, so that a machine that drifts, or is shared, slows both; what
    counts is the median over the rounds of the slice's ratio to their mean.
    """
    ratios: dict[str, list[Ratio]] = {workload.name: [] for workload in workloads}
    for round_number in range(-warm_up, rounds):
        for workload in workloads:
            before, slice_, after = workload.yardstick(), workload.run(), workload.yardstick()
            if round_number >= 0:
                ratios[workload.name].append(_ratio(before, slice_, after))
    return {name: median(found) for name, found in ratios.items()}


def median(ratios: list[Ratio]) -> Ratio:
    """Of each clock by itself."""
    cpu, wall = (statistics.median(getattr(ratio, clock) for ratio in ratios) for clock in ("cpu", "wall"))
    return Ratio(cpu, wall)


def _ratio(before: Spent, slice_: Spent, after: Spent) -> Ratio:
    return Ratio(2 * slice_.cpu / (before.cpu + after.cpu), 2 * slice_.wall / (before.wall + after.wall))
