"""``{"name": ..., "parameters": {...}}``, behind ``<|python_tag|>`` or bare, as Llama 3 writes calls."""

from __future__ import annotations

from collections.abc import Collection

from server.openai.tool_parsers.call_object import CallObject
from server.openai.tool_parsers.json_value import WHITE_SPACE
from server.openai.tool_parsers.mark_scanner import MarkScanner

MARK = "<|python_tag|>"


class Llama3Parser(MarkScanner):
    """Calls behind the mark, or at the very beginning; further ones behind those, with or without ``;`` between.

    Args:
        names: Of the tools: without a mark, an object is a call only if it has one of them.
    """

    def __init__(self, names: Collection[str]) -> None:
        super().__init__(MARK)
        self._names = names
        self._state = self._read_beginning

    def _at_mark(self, mark: str) -> None:
        self._expect_call(mark)

    def _read_beginning(self, text: str, place: int) -> int:
        place = self._skip_blanks(text, place)
        if place == len(text):
            return place
        if text[place] != "{":
            return self._read_content(text, place)
        self._expect_call("", CallObject(self._log, self._names))
        return place

    def _read_after_call(self, text: str, place: int) -> int:
        place = self._skip_blanks(text, place)
        if text[place : place + 1] == ";":
            self._expect_call(";", CallObject(self._log, self._names))
            return place + 1
        return self._read_beginning(text, place)

    def _skip_blanks(self, text: str, place: int) -> int:
        begin = place
        while place < len(text) and text[place] in WHITE_SPACE:
            place += 1
        self._log.content(text[begin:place])
        return place
