"""What has changed: counters that differ at all, ratios that differ by more than noise explains."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.regression.counters import Counts
from benchmarks.regression.timing import Ratio, Ratios


@dataclass(frozen=True, slots=True)
class Band:
    """Factors by which a ratio may grow before it counts as slower, by clock."""

    cpu: float
    wall: float


USUAL = Band(cpu=1.25, wall=3.0)
WIDE = Band(cpu=2.0, wall=8.0)
"""For machines that others use at the same time: only what is plainly broken is outside."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A counter that is not what it was; ``None`` stands for one that is not there."""

    section: str
    name: str
    was: int | None
    now: int | None

    def __str__(self) -> str:
        """One line for people."""
        was, now = ("absent" if value is None else f"{value:,}" for value in (self.was, self.now))
        change = f" ({self.now - self.was:+,})" if self.was is not None and self.now is not None else ""
        return f"{self.section}: {self.name}: was {was}, is {now}{change}"


@dataclass(frozen=True, slots=True)
class Move:
    """A ratio and what it was by one clock: ``factor`` above 1 is slower.

    Attributes:
        slower: By more than the band allows.
        faster: By as much as would be too much the other way round.
    """

    name: str
    clock: str
    was: float
    now: float
    limit: float

    @property
    def factor(self) -> float:
        """How many times what it was."""
        return self.now / self.was

    @property
    def slower(self) -> bool:
        """Whether it grew beyond the band."""
        return self.factor > self.limit

    @property
    def faster(self) -> bool:
        """Whether it fell by as much."""
        return self.factor < 1 / self.limit


def differences(was: Counts, now: Counts, leave_out: str = "") -> list[Difference]:
    """Every counter that differs, in the order of the sections; ``leave_out`` names a section not to compare."""
    sections = [section for section in was | now if section != leave_out]
    return [
        Difference(section, name, old.get(name), new.get(name))
        for section in sections
        for old, new in [(was.get(section, {}), now.get(section, {}))]
        for name in old | new
        if old.get(name) != new.get(name)
    ]


def moves(was: Ratios, now: Ratios, band: Band) -> list[Move]:
    """Each ratio that both have, against what it was."""
    return [
        Move(name, clock, getattr(was[name], clock), getattr(ratio, clock), getattr(band, clock))
        for name, ratio in now.items()
        if name in was
        for clock in Ratio.__struct_fields__
    ]
