"""Calls as Mistral's models write them.

``[TOOL_CALLS][{"name": ..., "arguments": {...}}, ...]``, or, in later ones, ``[TOOL_CALLS]name[ARGS]{...}`` for each.
"""

from __future__ import annotations

from server.openai.tool_parsers.call_object import MAX_NAME, CallObject, is_name
from server.openai.tool_parsers.events import EventLog
from server.openai.tool_parsers.json_value import WHITE_SPACE, JsonValue
from server.openai.tool_parsers.mark_scanner import MarkScanner

MARK = "[TOOL_CALLS]"
CALL_ID = "[CALL_ID]"
ARGUMENTS = "[ARGS]"

_MAX_HEAD = 2 * MAX_NAME + len(CALL_ID) + len(ARGUMENTS)


class MistralParser(MarkScanner):
    """Lists of calls, or single ones, behind marks."""

    def __init__(self) -> None:
        super().__init__(MARK)

    def _at_mark(self, mark: str) -> None:
        self._lead = mark
        self._state = self._read_after_mark

    def _read_after_mark(self, text: str, place: int) -> int:
        in_list = text[place] in f"[{WHITE_SPACE}"
        self._expect_call(MARK, CallObject(self._log, first="[") if in_list else _NamedCall(self._log))
        return place

    def _read_after_call(self, text: str, place: int) -> int:
        character = text[place]
        if character == ",":
            self._expect_call(",")
        elif character == "]":
            self._state = self._read_content
        elif character not in WHITE_SPACE:
            return self._read_content(text, place)
        return place + 1


class _NamedCall:
    """``name[ARGS]{...}``, or with an id: ``name[CALL_ID]id[ARGS]{...}``."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._arguments = JsonValue()
        self.held = ""
        self.begun = self.over = False

    def push(self, text: str, start: int) -> int:
        """See the protocol."""
        place = start
        while place < len(text) and not (self.begun or self.over):
            if text[place] == "{":
                self._begin()
            elif len(self.held) == _MAX_HEAD:
                self.over = True
            else:
                self.held += text[place]
                place += 1
        return self._read_arguments(text, place) if self.begun else place

    def _begin(self) -> None:
        """Arguments follow what is held, if that is the head of a call."""
        head, mark, rest = self.held.partition(ARGUMENTS)
        name = head.partition(CALL_ID)[0]
        if not mark or rest or not is_name(name):
            self.over = True
            return
        self.held, self.begun = "", True
        self._log.begin(name)

    def _read_arguments(self, text: str, place: int) -> int:
        end = self._arguments.push(text, place, len(text))
        self._log.arguments(text[place:end])
        self.over = self._arguments.done or self._arguments.failed
        if self._arguments.done:
            self._log.end()
        return end
