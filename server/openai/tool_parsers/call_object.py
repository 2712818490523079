"""A call as a JSON object: ``{"name": "f", "arguments": {...}}``, in some models with ``parameters``."""

from __future__ import annotations

import string
from collections.abc import Collection

from server.openai.tool_parsers.events import EventLog
from server.openai.tool_parsers.json_value import WHITE_SPACE, JsonValue

MAX_HELD = 8192
"""Characters of which it is uncertain whether they belong to a call."""

MAX_NAME = 64
_NAME_CHARACTERS = frozenset(string.ascii_letters + string.digits + "_-")
_ARGUMENTS = ("arguments", "parameters")
_NEXT = {"[": "{", "{": "key", ":": "value", ",": "key"}
"""What is wanted behind a character that was wanted; ``,`` is wanted behind a value."""


def is_name(name: str) -> bool:
    """Whether a function can be called so."""
    return 0 < len(name) <= MAX_NAME and _NAME_CHARACTERS.issuperset(name)


class CallObject:
    """Reads one object as far as it is a call. Keys may come in any order, unknown ones are skipped.

    Args:
        log: Gets the call's events.
        names: Names that make the object a call, if it has arguments too. ``None`` takes any name, and no arguments
            for empty ones.
        first: What comes before keys: the object's bracket, or a list's before that.
    """

    def __init__(self, log: EventLog, names: Collection[str] | None = None, first: str = "{") -> None:
        self._log, self._names = log, names
        self._want = first
        self._value: JsonValue | None = None
        self._parts: list[str] = []
        self._streaming = False
        self._key = self._name = self._early = ""
        self._held: list[str] = []
        self._held_size = 0
        self.begun = self.over = False

    @property
    def held(self) -> str:
        """See the protocol."""
        return "".join(self._held)

    def push(self, text: str, start: int) -> int:
        """See the protocol."""
        place = start
        while place < len(text) and not self.over:
            if self._held_size == MAX_HELD:
                self.over = True
            elif self._value is None:
                place = self._read_between(text[place], place)
            else:
                place = self._read_value(self._value, text, place)
        return place

    def _read_between(self, character: str, place: int) -> int:
        """Outside of keys and values; returns where to read on."""
        if character in WHITE_SPACE:
            self._hold(character)
        elif character == "}" and self._want in (",", "key"):
            self._close()
            return place + self.begun
        elif self._want in ("key", "value"):
            self._open_value(character)
            return place
        elif character == self._want:
            self._hold(character)
            self._want = _NEXT[character]
        else:
            self.over = True
            return place
        return place + 1

    def _open_value(self, character: str) -> None:
        """A key or a value begins with ``character``."""
        is_arguments = self._want == "value" and self._key in _ARGUMENTS and not self.begun
        is_string = self._want == "key" or (self._key == "name" and not self.begun)
        if (is_arguments and character != "{") or (is_string and character != '"'):
            self.over = True
            return
        self._value, self._parts = JsonValue(), []
        if is_arguments and self._name:
            self._streaming = True
            self._begin()

    def _read_value(self, value: JsonValue, text: str, place: int) -> int:
        """Inside of a key or a value; returns where to read on."""
        room = len(text) if self._streaming else MAX_HELD - self._held_size
        end = value.push(text, place, min(len(text), place + room))
        part = text[place:end]
        if self._streaming:
            self._log.arguments(part)
        else:
            self._hold(part)
            self._parts.append(part)
        if value.failed:
            self.over = True
        elif value.done:
            self._value = None
            self._end_value("".join(self._parts))
        return end

    def _end_value(self, text: str) -> None:
        if self._want == "key":
            self._key, self._want = text[1:-1], ":"
            return
        self._want = ","
        if self._streaming:
            self._streaming = False
            self._log.end()
        elif self.begun:
            return
        elif self._key in _ARGUMENTS:
            self._early = text
        elif self._key == "name":
            self._name = text[1:-1]
            self.over = not (is_name(self._name) if self._names is None else self._name in self._names)
        if self._name and self._early and not self.over:
            self._begin()
            self._log.arguments(self._early)
            self._log.end()

    def _begin(self) -> None:
        self.begun = True
        self._release()
        self._log.begin(self._name)

    def _close(self) -> None:
        """The object ends."""
        self.over = True
        if self.begun:
            self._release()
        elif self._name and self._names is None:
            self._begin()
            self._log.arguments("{}")
            self._log.end()

    def _hold(self, text: str) -> None:
        self._held.append(text)
        self._held_size += len(text)

    def _release(self) -> None:
        """What is held is markup."""
        self._held.clear()
        self._held_size = 0
