"""How fast the queue empties, and so when there will be room in it."""

from __future__ import annotations

import math

MEMORY_SECONDS = 30.0
"""What was measured so long ago counts for a third."""

FEWEST = 4
"""From so few requests that left the queue nothing is concluded: those that run may all be long."""

LONGEST_SECONDS = 60
"""Nobody is told to stay away for longer: by then everything may have changed."""


class DrainRate:
    """Requests, and tokens of their prompts, that leave the queue in a second.

    Only time in which somebody waits counts: an idle engine's rate says nothing about a busy one's.
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._requests = 0.0
        self._tokens = 0.0
        self._last: tuple[float, int, int] | None = None  # of the last look, if somebody waited then
        self._promised: dict[str, float] = {}

    def observe(self, now: float, requests: int, tokens: int, *, waiting: bool) -> None:
        """Take in the totals of what has left the queue.

        Args:
            now: The time, in seconds.
            requests: Admitted since the start.
            tokens: Of their prompts.
            waiting: Whether somebody is left in the queue.
        """
        if self._last is not None:
            then, requests_then, tokens_then = self._last
            kept = math.exp((then - now) / MEMORY_SECONDS)
            self._seconds = kept * self._seconds + now - then
            self._requests = kept * self._requests + requests - requests_then
            self._tokens = kept * self._tokens + tokens - tokens_then
        self._last = (now, requests, tokens) if waiting else None

    def wait(self, requests: int, tokens: int, part: float) -> float | None:
        """Seconds that what waits takes to leave the queue; ``None`` while too little has left it to tell.

        Args:
            requests: That wait.
            tokens: Of their prompts.
            part: Their tenant's part of what leaves the queue.
        """
        if self._requests < FEWEST:
            return None
        return max(requests / self._requests, tokens / self._tokens) * self._seconds / part

    def retry_after(self, now: float, tenant: str, part: float, tokens: int = 0) -> int:
        """Whole seconds until there is room for one more request, or for ``tokens`` more.

        Each of those who are turned away is told a later moment than the one before, at the pace at which room
        appears: they do not all come back at once.

        Args:
            now: The time, in seconds.
            tenant: Who is turned away.
            part: The tenant's part of what leaves the queue.
            tokens: Prompt tokens that have to leave first; 0 where one request is enough.
        """
        if not self._seconds:
            return 1
        pace = (self._tokens if tokens else self._requests) / self._seconds * part
        wait = min((tokens or 1) / pace, LONGEST_SECONDS) if pace else LONGEST_SECONDS
        self._promised = {name: moment for name, moment in self._promised.items() if moment > now}
        moment = min(self._promised.get(tenant, now) + wait, now + LONGEST_SECONDS)
        self._promised[tenant] = moment
        return max(1, math.ceil(moment - now))
