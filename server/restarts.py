"""When a dead engine may be started anew."""

from __future__ import annotations

from dataclasses import dataclass, field

DELAYS = (0.0, 1.0, 2.0, 4.0, 8.0)
STABLE_SECONDS = 60.0


@dataclass(slots=True)
class RestartPolicy:
    """Waits longer after each failure and gives up when the delays are used up; a long good run starts over.

    Attributes:
        delays: Seconds before each attempt in a row.
        stable_seconds: A run of this length was a good one.
    """

    delays: tuple[float, ...] = DELAYS
    stable_seconds: float = STABLE_SECONDS
    _failures: int = 0
    _last: float = field(default=float("-inf"))

    def next_delay(self, now: float) -> float | None:
        """Seconds to wait before the next attempt, after a failure at ``now``; ``None`` to give up."""
        if now - self._last > self.stable_seconds:
            self._failures = 0
        self._last = now
        if self._failures >= len(self.delays):
            return None
        self._failures += 1
        return self.delays[self._failures - 1]
