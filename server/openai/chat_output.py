"""One output of a chat: text up to a stop string, calls of tools taken out of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from server.openai.chat_types import AssistantMessage, Delta
from server.openai.stop_text import StopText
from server.openai.tool_formats import ToolUse
from server.openai.tool_parsers.events import Arguments, CallBegin, CallEnd, Content, ToolEvent
from server.openai.tool_types import FunctionCall, FunctionDelta, ToolCall, ToolCallDelta


class ChatOutput:
    """Takes an output's text, piece by piece or whole.

    Args:
        stop_strings: What ends the output.
        tools: What it may call; ``None`` leaves all of it text.
    """

    def __init__(self, stop_strings: Sequence[str], tools: ToolUse | None) -> None:
        self._stop = StopText(stop_strings)
        self._tools = tools
        self._parser = None if tools is None else tools.form.parser(tools.names)
        self._ids: list[str] = []
        self._whole_calls = 0
        self._full = False

    def deltas(self, text: str, last: bool) -> list[Delta]:
        """What is new with a piece; ``last`` says that the output ends with it."""
        return [self._delta(event) for event in self._events(text, last) if not isinstance(event, CallEnd)]

    def message(self, text: str) -> AssistantMessage:
        """What a whole output says."""
        content = ""
        calls: list[ToolCall] = []
        for event in self._events(text, last=True):
            match event:
                case Content(more):
                    content += more
                case CallBegin(name):
                    calls.append(ToolCall(id=self._ids[len(calls)], function=FunctionCall(name=name, arguments="")))
                case Arguments(more):
                    calls[-1].function.arguments += more
        if not calls:
            return AssistantMessage(content=content)
        return AssistantMessage(content=content or None, tool_calls=calls)

    def finish_reason(self, reason: str | None) -> str | None:
        """What the end is called: ``tool_calls`` where the model stops and has calls, all of them whole."""
        calls = len(self._ids)
        return "tool_calls" if reason == "stop" and calls and calls == self._whole_calls else reason

    def _events(self, text: str, last: bool) -> Iterator[ToolEvent]:
        text = self._stop.push(text, last)
        if self._tools is None or self._parser is None:
            if text:
                yield Content(text)
            return
        for event in (*self._parser.push(text), *(self._parser.finish() if last else ())):
            match event:
                case CallBegin():
                    self._full = self._full or (bool(self._ids) and not self._tools.parallel)
                    if not self._full:
                        self._ids.append(self._tools.form.new_id())
                case CallEnd() if not self._full:
                    self._whole_calls += 1
            if not self._full:
                yield event

    def _delta(self, event: Content | CallBegin | Arguments) -> Delta:
        match event:
            case Content(text):
                return Delta(content=text)
            case CallBegin(name):
                call = ToolCallDelta(
                    index=len(self._ids) - 1,
                    id=self._ids[-1],
                    type="function",
                    function=FunctionDelta(name=name, arguments=""),
                )
            case Arguments(text):
                call = ToolCallDelta(index=len(self._ids) - 1, function=FunctionDelta(arguments=text))
        return Delta(tool_calls=[call])
