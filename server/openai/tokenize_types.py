"""``/tokenize`` and ``/detokenize``, as vLLM has them."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from server.openai.chat_types import ChatMessage
from server.openai.tool_types import Tool
from server.parameters import TokenIds


class TokenizeRequest(msgspec.Struct, kw_only=True):
    """Body of ``/tokenize``: a prompt, or the messages of a chat."""

    model: str | None = None
    prompt: str | None = None
    messages: list[ChatMessage] | None = None
    add_special_tokens: Annotated[bool, Meta(description="True for prompts, false for chats unless given.")] | None = (
        None
    )
    return_token_strs: bool | None = None
    add_generation_prompt: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    tools: list[Tool] | None = None


class TokenizeAnswer(msgspec.Struct, kw_only=True):
    """Answer of ``/tokenize``."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | UnsetType | None = UNSET


class DetokenizeRequest(msgspec.Struct, kw_only=True):
    """Body of ``/detokenize``."""

    tokens: TokenIds
    model: str | None = None


class DetokenizeAnswer(msgspec.Struct, kw_only=True):
    """Answer of ``/detokenize``."""

    prompt: str
