"""What this process' router knows of the engines, for those who do not route."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Roster:
    """The engines that requests can go to.

    Attributes:
        engines: How many there are.
    """

    engines: int = 0


ROSTER = Roster()
"""Written by the router's thread, read by the application's."""
