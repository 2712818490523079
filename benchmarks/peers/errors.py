"""What can go wrong with a peer."""

from __future__ import annotations


class PeerError(RuntimeError):
    """A peer cannot be installed, prepared or measured; the message says why, in a line."""


def last_line(text: str) -> str:
    """The last line of a log that says something, shortened."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][-300:] if lines else "no output"
