"""Taking everybody out of their rows after a failed step, and letting some of them back."""

from __future__ import annotations

from collections.abc import Iterable

from runtime.scheduler.scheduler import Scheduler
from runtime.scheduler.sequence import Group


def withhold(scheduler: Scheduler) -> None:
    """Take all running groups out of their rows, to be computed anew when they are let: no step is in flight."""
    groups = list(dict.fromkeys(sequence.group for sequence in scheduler.running))
    for group in groups:
        scheduler.evict(group)
    scheduler.withheld += groups


def let(scheduler: Scheduler, groups: Iterable[Group]) -> None:
    """Give withheld groups that ran together their rows back."""
    for group in groups:
        scheduler.withheld.remove(group)
        scheduler.enter(group)
