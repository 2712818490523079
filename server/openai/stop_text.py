"""Output without the string that ended it."""

from __future__ import annotations

from collections.abc import Sequence


class StopText:
    """Hands text on as soon as no stop string can begin in it any more; nothing from the first one on.

    Args:
        strings: What ends the output; not empty ones.
    """

    __slots__ = ("_held", "_strings")

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = strings
        self._held = ""

    def push(self, piece: str, last: bool) -> str:
        """The text to hand out.

        Args:
            piece: What is new.
            last: It ends with this piece.
        """
        if not self._strings:
            return piece
        text = self._held + piece
        ends = [end for string in self._strings if (end := text.find(string)) >= 0]
        if ends or last:
            self._held = ""
            return text[: min(ends, default=len(text))]
        keep = max(_overlap(text, string) for string in self._strings)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, string: str) -> int:
    """Length of the longest beginning of ``string``, but not all of it, that ``text`` ends with."""
    longest = min(len(text), len(string) - 1)
    return next((length for length in range(longest, 0, -1) if text.endswith(string[:length])), 0)
