"""Where a JSON value ends, by its structure alone."""

from __future__ import annotations

MAX_DEPTH = 64
"""Brackets within brackets."""

WHITE_SPACE = " \t\n\r"
_SCALAR = frozenset("+-.0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_CLOSING = {"{": "}", "[": "]"}


class JsonValue:
    """Follows brackets and strings; what is between them is not looked at.

    Attributes:
        done: The value has ended.
        failed: A bracket closes what is not open, or brackets are nested too deeply.
    """

    __slots__ = ("_closing", "_escaped", "_in_scalar", "_in_string", "done", "failed")

    def __init__(self) -> None:
        self._closing: list[str] = []
        self._in_string = self._escaped = self._in_scalar = False
        self.done = self.failed = False

    def push(self, text: str, start: int, stop: int) -> int:
        """Read ``text[start:stop]``; returns where the value ends or fails, or ``stop`` if it does neither."""
        for place in range(start, stop):
            character = text[place]
            if self._in_string:
                self._read_in_string(character)
            elif self._closing:
                self._read_in_brackets(character)
            else:
                self._read_outside(character)
            if self.failed or (self.done and self._in_scalar):
                return place
            if self.done:
                return place + 1
        return stop

    def _read_in_string(self, character: str) -> None:
        if self._escaped:
            self._escaped = False
        elif character == "\\":
            self._escaped = True
        elif character == '"':
            self._in_string = False
            self.done = not self._closing

    def _read_in_brackets(self, character: str) -> None:
        if character == '"':
            self._in_string = True
        elif character in _CLOSING:
            self._open(character)
        elif character in "}]":
            self.failed = character != self._closing.pop()
            self.done = not self.failed and not self._closing

    def _read_outside(self, character: str) -> None:
        if character in _SCALAR:
            self._in_scalar = True
        elif self._in_scalar:
            self.done = True
        elif character == '"':
            self._in_string = True
        elif character in _CLOSING:
            self._open(character)
        else:
            self.failed = True

    def _open(self, character: str) -> None:
        self._closing.append(_CLOSING[character])
        self.failed = len(self._closing) > MAX_DEPTH
