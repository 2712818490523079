"""What the gate prints."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.regression.compare import Difference, Move
from benchmarks.regression.timing import Ratio, Ratios


def counters_table(found: Sequence[Difference], total: int) -> str:
    """The counters that differ, or that none does."""
    if not found:
        return f"counters: all {total} as they were"
    return "\n".join([f"counters: {len(found)} of {total} differ", *(f"  {difference}" for difference in found)])


def moves_table(found: Sequence[Move]) -> str:
    """Each ratio, what it was, and what to think of it."""
    lines = [f"{'work / calibration':<24}{'clock':>6}{'was':>9}{'is':>9}{'factor':>8}{'limit':>7}"]
    for move in found:
        verdict = "  SLOWER" if move.slower else "  faster" if move.faster else ""
        lines.append(
            f"{move.name:<24}{move.clock:>6}{move.was:>9.3f}{move.now:>9.3f}{move.factor:>8.2f}{move.limit:>7.2f}"
            f"{verdict}"
        )
    return "\n".join(lines)


def ratios_table(ratios: Ratios) -> str:
    """Ratios that there is nothing to compare with."""
    lines = [f"{'work / calibration':<24}{'cpu':>9}{'wall':>9}"]
    return "\n".join([*lines, *(f"{name:<24}{ratio.cpu:>9.3f}{ratio.wall:>9.3f}" for name, ratio in ratios.items())])


def spread_table(runs: Sequence[Ratios]) -> str:
    """How far apart several runs are: each ratio's median, and its extremes as factors of that."""
    lines = ["| work / calibration | clock | median | lowest | highest |", "|---|---|---|---|---|"]
    for name in runs[0]:
        for clock in Ratio.__struct_fields__:
            values = [getattr(run[name], clock) for run in runs]
            middle = statistics.median(values)
            lines.append(
                f"| {name} | {clock} | {middle:.3g} | {min(values) / middle:.2f} | {max(values) / middle:.2f} |"
            )
    return "\n".join(lines)
