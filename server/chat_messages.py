"""Messages as clients send them, made plain for chat templates."""

from __future__ import annotations

from typing import Any

from server.chat_template import Message
from server.errors import InvalidRequestError, field_of


def plain_messages(messages: list[dict[str, Any]], name: str) -> list[Message]:
    """Check ``messages`` and join the parts of each content to one text, as LightLLM does, by newlines.

    Keys beside ``role`` and ``content`` are kept: templates may know them.

    Args:
        messages: At least one.
        name: Of the request's field, for error messages.

    Raises:
        InvalidRequestError: A message has no role, or its content is not text.
    """
    return [_plain(message, f"{name}[{index}]", name) for index, message in enumerate(messages)]


def _plain(message: dict[str, Any], name: str, field: str) -> Message:
    if not isinstance(message.get("role"), str):
        raise _refusal(f"{name}: a message needs a role, which is a string", field)
    return message | {"content": _text(message.get("content"), f"{name}.content", field)}


def _text(content: Any, name: str, field: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise _refusal(f"{name} must be a string, or a list of text parts", field)
    parts = [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
    texts = [part["text"] for part in parts if isinstance(part.get("text"), str)]
    if len(texts) < len(content):
        raise _refusal(
            f'{name}: every part must be {{"type": "text", "text": "..."}}: this model takes text only', field
        )
    return "\n".join(texts)


def _refusal(text: str, field: str) -> InvalidRequestError:
    return InvalidRequestError(text, "invalid_type", field_of(field))
