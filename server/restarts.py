"""When a dead engine may be started anew.

An engine that was serving is replaced for ever, ever later while it keeps dying: a server that stays up answers 503
meanwhile, and whoever sends the killing request is refused before long. An engine that does not even start is given up
after some attempts, since nothing will have changed by the next; the server's end tells its process manager.
"""

from __future__ import annotations

from dataclasses import dataclass, field

DELAYS = (0.0, 1.0, 2.0, 4.0, 8.0)
STABLE_SECONDS = 60.0


@dataclass(slots=True)
class RestartPolicy:
    """Waits longer after each failure; a long good run starts over.

    Attributes:
        delays: Seconds before each attempt in a row; the last one again and again for an engine that was serving.
        stable_seconds: A run of this length was a good one.
    """

    delays: tuple[float, ...] = DELAYS
    stable_seconds: float = STABLE_SECONDS
    _failures: int = 0
    _refusals: int = 0
    _last: float = field(default=float("-inf"))

    def died(self, now: float) -> float:
        """Seconds to wait before the next attempt, after the end of an engine that was serving."""
        if now - self._last > self.stable_seconds:
            self._failures = 0
        self._refusals = 0
        return self._delay(now)

    def refused(self, now: float) -> float | None:
        """Seconds to wait after an attempt that brought no engine; ``None`` to give up."""
        self._refusals += 1
        return self._delay(now) if self._refusals < len(self.delays) else None

    def _delay(self, now: float) -> float:
        self._last = now
        self._failures += 1
        return self.delays[min(self._failures, len(self.delays)) - 1]
