"""How a worker leaves: without cutting off a request that is on its way.

HTTP/1.1 has no way to take back a connection that the client believes it may use: a request that crosses with its
closing is lost. So nothing is closed of which the client has not been told: from the announcement on every answer
says ``Connection: close``, and connections that wait for a request are kept until one comes, or until they would
have been closed for idleness anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from server.phase import Phase

POLL_SECONDS = 0.2
QUIET_SECONDS = 0.6
"""Time without a request before a worker leaves: a body may still be arriving."""


class LeavingWorker(Protocol):
    """What has to be known of gunicorn's worker, and can be done with it."""

    @property
    def told_to_stop(self) -> bool:
        """No more connections are taken."""

    @property
    def connections(self) -> int:
        """Open ones, idle ones too."""

    def leave(self) -> None:
        """End the process, connections and all."""


@dataclass(frozen=True, slots=True)
class Departure:
    """One worker's way out.

    Attributes:
        worker: gunicorn's.
        phase: Reads what the supervisor has in mind.
        keepalive: Seconds after which an idle connection is closed in any case.
    """

    worker: LeavingWorker
    phase: Callable[[], Phase]
    keepalive: float

    def announced(self) -> bool:
        """Whether clients are to go elsewhere: readiness says no, and every answer closes its connection."""
        return self.phase() is not Phase.SERVING or self.worker.told_to_stop

    def patience(self) -> float:
        """Seconds without a request after which connections that are still open count as abandoned."""
        if self.phase() is Phase.RETIRING and self.worker.connections:
            return max(QUIET_SECONDS, self.keepalive)
        return QUIET_SECONDS

    async def leave_when_quiet(self, open_requests: Callable[[], int], last: Callable[[], Awaitable[None]]) -> None:
        """Wait until the worker is told to stop and nobody needs it any more, then have it leave.

        Args:
            open_requests: Counts the requests that are being answered.
            last: What to do before.
        """
        loop = asyncio.get_running_loop()
        busy_at = loop.time()
        while loop.time() - busy_at < self.patience():
            await asyncio.sleep(POLL_SECONDS)
            if open_requests() or not self.worker.told_to_stop:
                busy_at = loop.time()
        await last()
        self.worker.leave()
