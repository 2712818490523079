"""Progress of a build: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

_BAR_CELLS = 24
_REDRAW_SECONDS = 0.1


class Progress:
    """Says nothing; the base of those that do. Calling it reports ``done`` of ``total`` units of ``stage``."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` units of ``stage`` are finished."""

    def note(self, message: str) -> None:
        """Report one line."""

    def close(self) -> None:
        """Leave the terminal as it was found."""


class LineProgress(Progress):
    """One line when a stage begins and one, with its time, when it ends."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._stage = ""
        self._started = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` units of ``stage`` are finished."""
        if stage != self._stage:
            self._stage, self._started = stage, time.monotonic()
            self.note(f"{stage} ...")
        if done >= total:
            self.note(f"{stage} done in {time.monotonic() - self._started:.1f} s")
            self._stage = ""

    def note(self, message: str) -> None:
        """Report one line."""
        self._stream.write(f"{message}\n")
        self._stream.flush()


class BarProgress(Progress):
    """A bar that is redrawn in place, and stays when its stage ends."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._stage = ""
        self._started = 0.0
        self._drawn = 0.0
        self._open = False

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` units of ``stage`` are finished."""
        now = time.monotonic()
        if stage != self._stage:
            self.close()
            self._stage, self._started, self._drawn = stage, now, 0.0
        finished = done >= total
        if not finished and now - self._drawn < _REDRAW_SECONDS:
            return
        self._drawn = now
        share = min(done / total, 1.0) if total > 0 else 1.0
        cells = round(share * _BAR_CELLS)
        bar = "#" * cells + "." * (_BAR_CELLS - cells)
        self._draw(f"{stage:<12} [{bar}] {share:4.0%} {now - self._started:6.1f} s")
        if finished:
            self.close()

    def note(self, message: str) -> None:
        """Report one line."""
        self.close()
        self._stream.write(f"{message}\n")
        self._stream.flush()

    def close(self) -> None:
        """End the line that is being redrawn."""
        if self._open:
            self._stream.write("\n")
            self._stream.flush()
        self._open, self._stage = False, ""

    def _draw(self, text: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        self._stream.write(f"\r\x1b[K{text[:width]}")
        self._stream.flush()
        self._open = True


def make_progress(*, quiet: bool = False, stream: TextIO | None = None) -> Progress:
    """The progress that suits ``stream`` (standard error by default)."""
    if quiet:
        return Progress()
    stream = sys.stderr if stream is None else stream
    return BarProgress(stream) if stream.isatty() else LineProgress(stream)
