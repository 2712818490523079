"""What the supervisor tells the operator."""

from __future__ import annotations

from server.logs import announce


def say(line: str) -> None:
    """Tell of something that is as it should be, on standard output."""
    announce(line)


def warn(line: str) -> None:
    """Tell of something that may not be as the operator thinks, on standard error."""
    announce(f"warning: {line}", error=True)


def complain(line: str) -> None:
    """Tell of a failure, on standard error."""
    announce(f"error: {line}", error=True)
