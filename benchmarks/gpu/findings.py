"""What a part of the check found, written down as it is found: a crash loses nothing of what came before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

Status = Literal["ok", "failed", "not run"]


class NotRunError(Exception):
    """The machine lacks what the part needs; the message says what."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What parts are told.

    Attributes:
        model: Recipe, GGUF file or Hugging Face directory of the engines.
        ceilings: Figures of part ``ceilings``, as far as there are any.
    """

    model: str = "smollm2-135m-instruct"
    ceilings: dict[str, float] = {}

    def share(self, ceiling: str, value: float) -> float | None:
        """``value`` as a share of a ceiling."""
        return round(value / self.ceilings[ceiling], 3) if ceiling in self.ceilings else None


class Outcome(msgspec.Struct, kw_only=True):
    """What became of a part.

    Attributes:
        message: Why it did not run or what failed, in the words of what failed.
        summary: The figure that matters, for the table.
        figures: All of them.
        log: End of what the part wrote to standard error, where it failed.
    """

    part: str
    status: Status = "failed"
    message: str = ""
    summary: str = ""
    seconds: float = 0.0
    figures: dict[str, Any] = {}
    log: str = ""


class Findings:
    """Writes a part's outcome to a file, anew with each finding.

    Args:
        path: The file.
        part: Name of the part.
    """

    def __init__(self, path: Path, part: str) -> None:
        self._path = path
        self.outcome = Outcome(part=part)

    def add(self, **figures: Any) -> None:
        """More figures."""
        self.outcome.figures = self.outcome.figures | figures
        self.write()

    def close(self, status: Status, message: str = "") -> None:
        """The part is over."""
        self.outcome.status, self.outcome.message = status, message
        self.write()

    def write(self) -> None:
        """Bring the file up to date."""
        self._path.write_bytes(msgspec.json.encode(self.outcome))
