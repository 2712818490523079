"""The table of a sweep, for people."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from benchmarks.load.record import Record
from benchmarks.load.slo import Slo, highest_rate
from benchmarks.load.summary import Spread, Summary

GOALS = (0.99, 0.90)
"""Shares of good answers that a rate is looked for."""


class Run(msgspec.Struct, kw_only=True):
    """One point of a sweep.

    Attributes:
        mode: ``open``, ``closed`` or ``trace``.
        level: Requests a second, or requests at once; of a trace the mean rate.
        cpu_seconds: CPU time of the server's processes by role and of the ``client``, as far as it is known.
    """

    mode: str
    level: float
    summary: Summary
    cpu_seconds: dict[str, float]
    records: list[Record]


def table(runs: Sequence[Run], slo: Slo | None) -> list[str]:
    """Lines: latencies, CPU time, and up to which rate the objective was kept."""
    lines = ["", f"{'milliseconds':<24}{'p50':>9}{'p90':>9}{'p95':>9}{'p99':>9}{'max':>9}"]
    for run in runs:
        found = run.summary
        latencies = {
            "first token": found.ttft,
            "between tokens": found.gap,
            "mean per token": found.tpot,
            "end to end": found.e2e,
            "client late by": found.lag,
        }
        lines += [_percentiles(f"{run.level:g}", name, spread) for name, spread in latencies.items() if spread]
    lines += ["", *(_cpu(run) for run in runs if run.cpu_seconds)]
    if slo is not None and runs[0].mode == "open":
        lines += _highest(runs, slo)
    return lines


def titles(mode: str) -> str:
    """What is above the lines of ``throughput``."""
    unit = "at once" if mode == "closed" else "rate/s"
    columns = f"{unit:>8}{'sent':>7}{'whole':>7}{'req/s':>8}{'out tok/s':>11}{'goodput':>9}{'good/s':>8}{'drain s':>9}"
    return f"{columns}  errors"


def throughput(run: Run) -> str:
    """Throughput, goodput and errors of a run."""
    found = run.summary
    share = "-" if found.good_share is None else f"{found.good_share:.1%}"
    good = "-" if found.good_per_s is None else f"{found.good_per_s:.2f}"
    errors = ", ".join(f"{count} x {cause}" for cause, count in found.errors.items()) or "none"
    return (
        f"{run.level:>8g}{found.requests:>7}{found.whole:>7}{found.requests_per_s:>8.2f}"
        f"{found.output_tokens_per_s:>11.1f}{share:>9}{good:>8}{found.drain_seconds:>9.1f}  {errors}"
    )


def _percentiles(level: str, name: str, spread: Spread) -> str:
    values = (spread.p50, spread.p90, spread.p95, spread.p99, spread.max)
    return f"{level:>8} {name:<15}" + "".join(f"{1e3 * value:>9.1f}" for value in values)


def _cpu(run: Run) -> str:
    tokens = max(1, sum(len(record.token_times) for record in run.records))
    parts = (f"{role} {1e6 * seconds / tokens:.0f}" for role, seconds in run.cpu_seconds.items())
    return f"{run.level:>8g} CPU microseconds a streamed token: {', '.join(parts)}"


def _highest(runs: Sequence[Run], slo: Slo) -> list[str]:
    shares = [(run.level, run.summary.good_share or 0.0) for run in runs]
    lines = [""]
    for goal in GOALS:
        rate = highest_rate(shares, goal)
        found = "none of these rates" if rate is None else f"{rate:g} requests/s"
        lines.append(f"highest rate with {goal:.0%} of answers within {slo}: {found}")
    return lines
