"""``<tool_call>{"name": ..., "arguments": {...}}</tool_call>``, as Hermes, Qwen2.5 and Qwen3 write calls."""

from __future__ import annotations

from server.openai.tool_parsers.mark_scanner import MarkScanner

BEGIN = "<tool_call>"
END = "</tool_call>"


class HermesParser(MarkScanner):
    """Calls between marks. An end mark that belongs to no call is content."""

    def __init__(self) -> None:
        super().__init__(BEGIN, END)
        self._closed = 0

    def _at_mark(self, mark: str) -> None:
        if mark == BEGIN:
            self._expect_call(BEGIN)
        elif self._closed < self._log.calls:
            self._closed = self._log.calls
        else:
            self._log.content(END)
