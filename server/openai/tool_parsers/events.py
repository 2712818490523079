"""What scanners find, and the protocol that they follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from server.openai.tool_parsers.json_value import WHITE_SPACE

MAX_CALLS = 128
"""Calls in one output; what would be another one is text."""


@dataclass(frozen=True, slots=True)
class Content:
    """Text that belongs to no call."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegin:
    """A call whose name is known."""

    name: str


@dataclass(frozen=True, slots=True)
class Arguments:
    """More of the latest call's arguments: JSON, as far as its brackets and strings go."""

    text: str


@dataclass(frozen=True, slots=True)
class CallEnd:
    """The latest call has all its arguments."""


ToolEvent = Content | CallBegin | Arguments | CallEnd


class ToolParser(Protocol):
    """Scans one output. However the text is cut into pieces, the events add up to the same.

    A call that has begun stays one: where it goes wrong, its arguments end, and the rest is content. Whatever goes
    wrong before that is content from the mark on. Only marks and white space beside calls are left out.
    """

    def push(self, text: str) -> list[ToolEvent]:
        """What the next piece makes certain; the bounded rest waits."""

    def finish(self) -> list[ToolEvent]:
        """What waits, now that nothing comes any more."""


class EventLog:
    """Collects events; white space behind a call is dropped.

    Attributes:
        calls: Begun so far.
    """

    __slots__ = ("_after_call", "_events", "calls")

    def __init__(self) -> None:
        self.calls = 0
        self._after_call = False
        self._events: list[ToolEvent] = []

    def content(self, text: str) -> None:
        """Append text that belongs to no call."""
        if self._after_call:
            text = text.lstrip(WHITE_SPACE)
        if text:
            self._after_call = False
            self._events.append(Content(text))

    def begin(self, name: str) -> None:
        """Append the beginning of a call."""
        self.calls += 1
        self._after_call = False
        self._events.append(CallBegin(name))

    def arguments(self, text: str) -> None:
        """Append to the arguments of the call."""
        if text:
            self._events.append(Arguments(text))

    def end(self) -> None:
        """Append the end of the call."""
        self._after_call = True
        self._events.append(CallEnd())

    def take(self) -> list[ToolEvent]:
        """What was collected since the last time."""
        events, self._events = self._events, []
        return events
