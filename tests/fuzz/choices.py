"""Structured input made of bytes, the same for the same bytes: what a fuzzer mutates is then mostly meaningful."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

NUMBERS = ("0", "1", "-1", "2", "7", "8", "64", "0.5", "1.0", "-0.0", "1e-9", "1e30", "1e400", "-1e400")
LARGE = ("2147483647", "2147483648", "4294967297", "18446744073709551616", "9" * 40, "NaN", "Infinity", "0x1", "01")
TEXTS = (
    "",
    "a",
    "hi",
    "é",
    "🦅",
    "\x00",
    "\uffff",
    "user",
    "system",
    "assistant",
    "text",
    "function",
    "object",
    "string",
)
RAW_STRINGS = ('"\\ud800"', '"\\ud83e\\udd85"', '"\\u0000"', '"\\x"', '"\n"', '"{}"', '"[1]"', '"{\\"a\\":1}"')
_MAX_DEPTH = 6


class Choices:
    """Decisions read off ``data``; once it is used up, every one of them is the first."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    @property
    def left(self) -> int:
        """Bytes that are left."""
        return len(self._data) - self._place

    def byte(self) -> int:
        """The next byte, or 0."""
        if self._place >= len(self._data):
            return 0
        self._place += 1
        return self._data[self._place - 1]

    def below(self, limit: int) -> int:
        """A number in [0, ``limit``)."""
        number = self.byte()
        if limit > 256:
            number = number << 8 | self.byte()
        return number % limit

    def pick(self, options: Sequence[T]) -> T:
        """One of ``options``."""
        return options[self.below(len(options))]

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes, or as many as there are."""
        taken = self._data[self._place : self._place + count]
        self._place += len(taken)
        return taken

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self.left)

    def text(self) -> str:
        """A short text."""
        return self.take(self.byte() % 24).decode("utf-8", "replace") if self.byte() & 1 else self.pick(TEXTS)

    def number(self) -> str:
        """A number of JSON's, or what looks like one."""
        kind = self.byte()
        if kind < 160:
            return self.pick(NUMBERS)
        return self.pick(LARGE) if kind < 200 else str(int.from_bytes(self.take(kind & 7), "little", signed=True))

    def json(self, keys: Sequence[str], depth: int = 0) -> str:
        """A JSON value, mostly sound, whose objects have ``keys``; each may come more than once."""
        kind = self.byte() % 16
        if depth >= _MAX_DEPTH:
            kind %= 8
        if kind < 2:
            return self.pick(("null", "true", "false"))
        if kind < 4:
            return self.number()
        if kind < 7:
            return json.dumps(self.text(), ensure_ascii=bool(kind & 1))
        if kind == 7:
            return self.pick(RAW_STRINGS)
        if kind < 11:
            return f"[{','.join(self.json(keys, depth + 1) for _ in range(self.byte() % 5))}]"
        return self.object(keys, depth)

    def object(self, keys: Sequence[str], depth: int = 0) -> str:
        """A JSON object."""
        pairs = [f"{json.dumps(self.pick(keys))}:{self.json(keys, depth + 1)}" for _ in range(self.byte() % 8)]
        return f"{{{','.join(pairs)}}}"
