"""What the scanners have in common: content up to a mark, calls behind it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from typing import Protocol

from server.openai.tool_parsers.call_object import CallObject
from server.openai.tool_parsers.events import MAX_CALLS, EventLog, ToolEvent


class Call(Protocol):
    """Reads one call.

    Attributes:
        begun: It is one.
        over: It has ended or gone wrong; where it has not begun, it is none.
    """

    begun: bool
    over: bool

    @property
    def held(self) -> str:
        """What was read and may yet turn out to be no part of a call."""

    def push(self, text: str, start: int) -> int:
        """Read on from ``text[start]``; returns where it is over, or the length of ``text``."""


class MarkScanner(ABC):
    """Alternates between content and calls; subclasses say what marks mean.

    A state is a method that reads on from a place in the text and returns where the next one does.

    Args:
        marks: Texts that are not content. They begin with the same character, which they have nowhere else.
    """

    def __init__(self, *marks: str) -> None:
        self._log = EventLog()
        self._state: Callable[[str, int], int] = self._read_content
        self._marks = marks
        self._tail = ""
        self._lead = ""
        self._call: Call | None = None

    def push(self, text: str) -> list[ToolEvent]:
        """See the protocol."""
        text, self._tail = self._tail + text, ""
        place = 0
        while place < len(text):
            place = self._state(text, place)
        return self._log.take()

    def finish(self) -> list[ToolEvent]:
        """See the protocol."""
        if self._call is not None:
            self._leave(self._call)
        self._log.content(self._lead + self._tail)
        self._lead = self._tail = ""
        return self._log.take()

    @abstractmethod
    def _at_mark(self, mark: str) -> None:
        """A mark was read."""

    def _read_after_call(self, text: str, place: int) -> int:
        """The state behind a call."""
        return self._read_content(text, place)

    def _expect_call(self, lead: str, call: Call | None = None) -> None:
        """A call may begin; ``lead``, which was read before it, is content if none does."""
        if self._log.calls == MAX_CALLS:
            self._log.content(lead)
            self._lead = ""
            self._state = self._read_content
            return
        self._lead = lead
        self._call = call or CallObject(self._log)
        self._state = self._read_call

    def _read_content(self, text: str, place: int) -> int:
        self._state = self._read_content
        at, mark = _find(text, place, self._marks)
        self._log.content(text[place:at])
        if mark is None:
            self._tail = text[at:]
            return len(text)
        self._at_mark(mark)
        return at + len(mark)

    def _read_call(self, text: str, place: int) -> int:
        assert self._call is not None
        place = self._call.push(text, place)
        if self._call.over:
            self._leave(self._call)
        return place

    def _leave(self, call: Call) -> None:
        """No more of the call comes: give back what is no part of it."""
        self._log.content(call.held if call.begun else self._lead + call.held)
        self._state = self._read_after_call if call.begun else self._read_content
        self._lead, self._call = "", None


def _find(text: str, start: int, marks: Collection[str]) -> tuple[int, str | None]:
    """Where the first mark begins; without a mark, where one may begin, or the text's end."""
    (first,) = {mark[0] for mark in marks}
    at = text.find(first, start)
    while at >= 0:
        for mark in marks:
            if text.startswith(mark, at):
                return at, mark
            if len(text) - at < len(mark) and mark.startswith(text[at:]):
                return at, None
        at = text.find(first, at + 1)
    return len(text), None
