"""TensorRT's nested build phases as one rising number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

_UNITS = 1000


@dataclass(slots=True)
class _Phase:
    name: str
    parent: str | None
    steps: int
    done: int = 0


class PhaseProgress:
    """Follows the phases that are open: a phase is a step of the one around it.

    Args:
        report: Called as ``("compile", done, total)``.
    """

    def __init__(self, report: Callable[[str, int, int], None]) -> None:
        self._report = report
        self._open: dict[str, _Phase] = {}
        self._shown = 0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase of ``steps`` steps begins inside ``parent``."""
        self._open[name] = _Phase(name, parent, max(steps, 1))
        self._show()

    def step(self, name: str, step: int) -> None:
        """The step of index ``step`` is done."""
        if name in self._open:
            self._open[name].done = step + 1
        self._show()

    def finish(self, name: str) -> None:
        """A phase is over."""
        self._open.pop(name, None)

    def complete(self) -> None:
        """Everything is over."""
        self._report("compile", _UNITS, _UNITS)

    def _show(self) -> None:
        roots = [phase for phase in self._open.values() if phase.parent not in self._open]
        share = max((self._share(phase) for phase in roots), default=0.0)
        self._shown = max(self._shown, min(round(share * _UNITS), _UNITS - 1))
        self._report("compile", self._shown, _UNITS)

    def _share(self, phase: _Phase) -> float:
        inner = max((self._share(child) for child in self._open.values() if child.parent == phase.name), default=0.0)
        return min((phase.done + inner) / phase.steps, 1.0)
