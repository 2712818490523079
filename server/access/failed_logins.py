"""The audit of those who came without a key that counts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from server.logs import Event

LINES = 10
SECONDS = 10.0

logger = logging.getLogger("peregrine.audit")


class FailedLogins:
    """Logs each attempt, but no more than ``LINES`` in ``SECONDS``: who guesses keys is not to fill the disk.

    Args:
        clock: Seconds from any point on.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._lines = 0
        self._unsaid = 0

    def note(self, peer: str, path: str, reason: str) -> None:
        """An attempt of ``peer`` was turned away."""
        now = self._clock()
        if now - self._since >= SECONDS:
            self._since, self._lines = now, 0
        if self._lines == LINES:
            self._unsaid += 1
            return
        self._lines += 1
        unsaid, self._unsaid = self._unsaid, 0
        more = {"unlogged_before": unsaid} if unsaid else {}
        logger.warning(Event("login_failed", peer=peer, path=path[:200], reason=reason, **more))
