"""Prompt lookup: what followed the last time that a text ended like this.

Saxena, *Prompt Lookup Decoding* (2023); the copy that may run into itself is that of LZ77.
"""

from __future__ import annotations

SIZES = (3, 2)
"""Lengths of the n-grams that are looked up, the most telling first."""
WINDOW = 4096
"""Newest tokens that are always looked at; no more than twice as many are remembered."""


class NgramIndex:
    """Where each n-gram of a growing text was seen last. A token costs the same, however long the text is."""

    def __init__(self) -> None:
        self._ends: dict[int, dict[tuple[int, ...], int]] = {size: {} for size in SIZES}
        self._first = self._read = 0

    def continuation(self, tokens: list[int], length: int) -> list[int]:
        """The ``length`` tokens that might come next, or none where the text's last n-gram is new.

        Args:
            tokens: The text: that of the call before, and what was appended to it.
            length: Tokens wanted.
        """
        self._catch_up(tokens)
        for size, ends in self._ends.items():
            place = ends.get(tuple(tokens[-size:]))
            if place is not None:
                return _copy(tokens, place, length)
        return []

    def _catch_up(self, tokens: list[int]) -> None:
        """Note the n-grams that something follows: all but the last one."""
        stop = len(tokens) - 1
        if stop - self._first > 2 * WINDOW:
            self._first = self._read = stop - WINDOW
            for ends in self._ends.values():
                ends.clear()
        for size, ends in self._ends.items():
            for end in range(max(self._read, self._first + size - 1) + 1, stop + 1):
                ends[tuple(tokens[end - size : end])] = end
        self._read = max(self._read, stop)


def _copy(tokens: list[int], place: int, length: int) -> list[int]:
    """``length`` tokens from ``place`` on; where the text ends the copy goes on with itself."""
    found = tokens[place : place + length]
    while len(found) < length:
        found += found[: length - len(found)]
    return found
