"""Notices an engine that does nothing any more: stopped, or in a step that never ends."""

from __future__ import annotations

from runtime.black_box import Pulse

TICK_SECONDS = 0.5
"""How often an engine's pulse is felt."""


class Silence:
    """How long an engine has shown no sign of life, in its watcher's own ticks.

    NOTE: ticks and not the clock: a machine that slept, or a process group that was stopped, has had no ticks either,
    so an engine that wakes up together with its watcher is given its whole time anew.
    """

    def __init__(self) -> None:
        self._heard = -1
        self.seconds = 0.0

    def tick(self, pulse: Pulse) -> bool:
        """Note a tick; returns whether the engine's patience is at an end."""
        self.seconds = 0.0 if pulse.beats != self._heard else self.seconds + TICK_SECONDS
        self._heard = pulse.beats
        return self.seconds > pulse.patience
