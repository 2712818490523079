"""Tools for chat templates that know none: described, called and answered in the messages' own text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from server.chat_template import Message
from server.openai.tool_formats import ToolFormat

_WORDS = """\
# Tools

You may call these functions, whose descriptions are JSON:
{tools}

To call one, write nothing but its name and its arguments, like this:
{example}"""


def without_tools(
    messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None, form: ToolFormat
) -> list[Message]:
    """Messages of roles and texts alone.

    The description goes behind the system's words, or before the user's where there are none; results of tools become
    a turn of the user, several in a row become one.

    Args:
        messages: As templates that know tools take them.
        tools: What may be called.
        form: How calls are written.
    """
    plain: list[Message] = []
    in_results = False
    for message in messages:
        if message["role"] != "tool":
            plain.append(_turn(message, form))
        elif in_results:
            plain[-1]["content"] += f"\n{_result(message)}"
        else:
            plain.append({"role": "user", "content": _result(message)})
        in_results = message["role"] == "tool"
    if tools:
        _describe(plain[0], tools, form)
    return plain


def _turn(message: Message, form: ToolFormat) -> Message:
    functions = [call["function"] for call in message.get("tool_calls", ())]
    calls = [form.write(function["name"], _json(function["arguments"])) for function in functions]
    text = form.separator.join(calls)
    content = "\n".join(part for part in (message["content"], text) if part)
    return {key: value for key, value in message.items() if key != "tool_calls"} | {"content": content}


def _result(message: Message) -> str:
    return f"<tool_response>\n{message['content']}\n</tool_response>"


def _describe(first: Message, tools: Sequence[Mapping[str, Any]], form: ToolFormat) -> None:
    words = _WORDS.format(
        tools="\n".join(_json(tool) for tool in tools),
        example=form.write("function-name", '{"argument-name": "value"}'),
    )
    parts = [first["content"], words] if first["role"] == "system" else [words, first["content"]]
    first["content"] = "\n\n".join(part for part in parts if part)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
