"""Requests whose time is up."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from runtime.scheduler import Group


class Deadlines:
    """Finds the requests that nobody waits for any more, without looking at all of them each time.

    Args:
        groups: Gives all requests.

    Attributes:
        next: Nothing expires before; a time that only requests had that have ended may stand here.
    """

    def __init__(self, groups: Callable[[], Iterable[Group]]) -> None:
        self.next = math.inf
        self.expired = 0
        self._groups = groups

    def add(self, group: Group) -> None:
        """Watch a request."""
        self.next = min(self.next, group.deadline)

    def take(self, now: float) -> list[Group]:
        """Those whose time is up."""
        if now < self.next:
            return []
        groups = [*self._groups()]
        late = [group for group in groups if group.deadline <= now]
        self.next = min((group.deadline for group in groups if group.deadline > now), default=math.inf)
        self.expired += len(late)
        return late
