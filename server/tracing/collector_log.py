"""What OpenTelemetry's packages have to say, at most once a minute: a collector that is down stays down for long."""

from __future__ import annotations

import logging
import time

SECONDS = 60.0

logger = logging.getLogger("peregrine.tracing")


class CollectorLog(logging.Handler):
    """Passes on warnings of the ``opentelemetry`` loggers.

    Args:
        seconds: Between two lines.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        super().__init__(logging.WARNING)
        self._seconds = seconds
        self._next = float("-inf")
        self._left_out = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Log ``record`` in this server's form, or count it."""
        now = time.monotonic()
        if now < self._next:
            self._left_out += 1
            return
        more = f" (and {self._left_out} messages like this before)" if self._left_out else ""
        self._next, self._left_out = now + self._seconds, 0
        logger.warning("traces: %s%s", record.getMessage(), more)


def install() -> None:
    """Take over the ``opentelemetry`` loggers, once."""
    package = logging.getLogger("opentelemetry")
    if not any(isinstance(handler, CollectorLog) for handler in package.handlers):
        package.addHandler(CollectorLog())
        package.propagate = False
