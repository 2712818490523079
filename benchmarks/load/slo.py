"""Service-level objectives: which requests were answered well, and up to which rate nearly all are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from benchmarks.load.record import Record
from benchmarks.usage import UsageError, positive


@dataclass(frozen=True)
class Slo:
    """Upper bounds in seconds that a good answer meets all of; ``None`` asks for nothing.

    Attributes:
        ttft: Time to first token.
        tpot: Mean time of each later token.
        gap: Longest wait between two tokens.
        e2e: Time to the last token.
    """

    ttft: float | None = None
    tpot: float | None = None
    gap: float | None = None
    e2e: float | None = None

    def met(self, record: Record) -> bool:
        """Whether a request came back whole and in time; what a single token has no measure of is met."""
        if not record.whole:
            return False
        found = {
            "ttft": record.ttft,
            "tpot": record.tpot,
            "gap": max(record.gaps, default=None),
            "e2e": record.e2e,
        }
        bounds = {field.name: getattr(self, field.name) for field in fields(self)}
        return all(found[name] is None or found[name] <= bound for name, bound in bounds.items() if bound is not None)

    def __str__(self) -> str:
        bounds = ((field.name, getattr(self, field.name)) for field in fields(self))
        return ",".join(f"{name}={bound:g}" for name, bound in bounds if bound is not None)


def parse_slo(text: str) -> Slo:
    """Read ``ttft=1.0,tpot=0.05``: seconds, of ``ttft``, ``tpot``, ``gap`` and ``e2e``.

    Raises:
        UsageError: A name is unknown or given twice, or a bound is no positive number.
    """
    names = [field.name for field in fields(Slo)]
    bounds: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        if name not in names or name in bounds:
            message = f"{part!r} is no objective: write {', '.join(names)} once each, as in ttft=1.0,tpot=0.05"
            raise UsageError(message)
        bounds[name] = positive(number)
    return Slo(**bounds)


def highest_rate(shares: Iterable[tuple[float, float]], least: float) -> float | None:
    """The highest of the tried rates up to which every one had a goodput of ``least``.

    Args:
        shares: Rates, and the share of good answers at each.
        least: Share that has to be reached.

    Returns:
        ``None`` where the lowest rate did not have it already.
    """
    best = None
    for rate, share in sorted(shares):
        if share < least:
            break
        best = rate
    return best
