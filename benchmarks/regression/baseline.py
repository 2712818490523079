"""The file of expected values: counters for all machines, ratios for each class of them, and why these hold."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec

from benchmarks.machine import cpu_model, machine_class, versions
from benchmarks.regression.counters import Counts
from benchmarks.regression.timing import Ratios

BASELINE = Path(__file__).parents[1] / "baseline.json"


class BaselineError(Exception):
    """The file cannot be used; the message says why."""


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """When, why and on what values were accepted."""

    date: str
    reason: str
    cpu: str
    versions: dict[str, str]


class ExpectedCounts(msgspec.Struct, frozen=True):
    """Counters, equal everywhere."""

    accepted: Accepted
    values: Counts


class ExpectedRatios(msgspec.Struct, frozen=True):
    """Timings of a class of machines."""

    accepted: Accepted
    values: Ratios


class Baseline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``benchmarks/baseline.json`` holds; timings by `machine_class`."""

    counters: ExpectedCounts | None = None
    timings: dict[str, ExpectedRatios] = {}


def read_baseline(path: Path) -> Baseline:
    """The expected values; none of any kind where there is no file yet.

    Raises:
        BaselineError: It is not such a file.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Baseline)
    except FileNotFoundError:
        return Baseline()
    except (OSError, msgspec.DecodeError) as error:
        raise BaselineError(f"{path} cannot be read: {error}") from error


def renewed(old: Baseline, reason: str, counts: Counts, ratios: Ratios) -> Baseline:
    """``old`` with what was measured here and now; where no ``ratios`` were, its timings stay."""
    date = datetime.now(UTC).date().isoformat()
    accepted = Accepted(date=date, reason=reason, cpu=cpu_model(), versions=versions())
    timings = old.timings | ({machine_class(): ExpectedRatios(accepted, ratios)} if ratios else {})
    return Baseline(ExpectedCounts(accepted, counts), dict(sorted(timings.items())))


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Replace the file."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(baseline), indent=1) + b"\n")
