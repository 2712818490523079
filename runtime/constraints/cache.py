"""The latest of something, as much as fits."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from runtime.request import Constraint

V = TypeVar("V")

_ENTRY_BYTES = 2**14
"""Counted besides the text; a short constraint's grammar takes about 150 kB."""


class ConstraintCache(Generic[V]):
    """Values by constraint; the least recently used go first.

    Args:
        max_bytes: Of the constraints' texts together, each with something added for what comes with it.
    """

    def __init__(self, max_bytes: int = 2**22) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._values: OrderedDict[Constraint, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, constraint: Constraint) -> V | None:
        """The value, which is now the most recently used."""
        value = self._values.get(constraint)
        if value is not None:
            self._values.move_to_end(constraint)
        return value

    def put(self, constraint: Constraint, value: V) -> None:
        """Remember a value."""
        if constraint not in self._values:
            self._bytes += _size(constraint)
        self._values[constraint] = value
        self._values.move_to_end(constraint)
        while self._bytes > self._max_bytes:
            oldest, _ = self._values.popitem(last=False)
            self._bytes -= _size(oldest)


def _size(constraint: Constraint) -> int:
    return _ENTRY_BYTES + len(constraint.text.encode(errors="replace"))
