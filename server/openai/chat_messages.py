"""Messages as OpenAI's clients send them, made plain for chat templates."""

from __future__ import annotations

from typing import Any

import msgspec

from server.chat_template import Message
from server.errors import InvalidRequestError
from server.openai.chat_types import ChatMessage, ContentPart
from server.openai.tool_types import Tool, ToolCall

NAME = "messages"


def template_messages(messages: list[ChatMessage]) -> list[Message]:
    """What the template gets: text parts joined by newlines, calls with their arguments as objects.

    Raises:
        InvalidRequestError: There are none, or one of them is not text.
    """
    if not messages:
        raise InvalidRequestError(f"{NAME}: the chat has no messages", "empty_prompt", NAME)
    return [_message(message, f"{NAME}[{index}]") for index, message in enumerate(messages)]


def template_tools(tools: list[Tool]) -> list[dict[str, Any]]:
    """Tools in the order of keys that models have been trained on."""
    plain: list[dict[str, Any]] = msgspec.to_builtins(tools)
    return plain


def _message(message: ChatMessage, place: str) -> Message:
    role = "system" if message.role == "developer" else message.role
    plain: Message = {"role": role, "content": _text(message, place)}
    for name in ("name", "tool_call_id", "reasoning_content"):
        value = getattr(message, name)
        if value is not None:
            plain[name] = value
    if message.tool_calls:
        plain["tool_calls"] = [_call(call, f"{place}.tool_calls[{i}]") for i, call in enumerate(message.tool_calls)]
    return plain


def _text(message: ChatMessage, place: str) -> str:
    content = message.content
    if isinstance(content, str):
        return content
    if content is None:
        if message.role != "assistant":
            raise _refusal(f"{place}: a message of role {message.role!r} needs content")
        return ""
    return "\n".join(_part(part, f"{place}.content[{index}]") for index, part in enumerate(content))


def _part(part: ContentPart, place: str) -> str:
    text = part.refusal if part.type == "refusal" else part.text
    if part.type not in ("text", "refusal") or text is None:
        raise _refusal(f'{place} must be {{"type": "text", "text": "..."}}: this model takes text only')
    return text


def _call(call: ToolCall, place: str) -> dict[str, Any]:
    try:
        arguments: Any = msgspec.json.decode(call.function.arguments or "{}")
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise _refusal(f"{place}.function.arguments must be a string with a JSON object")
    plain = {"type": call.type, "function": {"name": call.function.name, "arguments": arguments}}
    return plain if call.id is None else {"id": call.id, **plain}


def _refusal(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, param=NAME)
