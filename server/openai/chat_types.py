"""``/v1/chat/completions``: the request and its answers."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from server.openai.sampling_fields import NewTokens, SamplingFields
from server.openai.tool_types import Tool, ToolCall, ToolCallDelta, ToolChoice
from server.openai.usage import Usage

TopLogprobCount = Annotated[int, Meta(ge=0, le=20, description="Needs logprobs.")]
NoEffect = Annotated[Any, Meta(description="No effect.")]
NotSupported = Annotated[Any, Meta(description="Not supported.")]


class ContentPart(msgspec.Struct, kw_only=True):
    """A part of a message's content: text, or what an assistant has refused."""

    type: str
    text: str | None = None
    refusal: str | None = None


class ChatMessage(msgspec.Struct, kw_only=True):
    """A turn of a chat. ``developer`` is another name for ``system``; the model's template judges other roles."""

    role: str
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None


class ChatRequest(SamplingFields, kw_only=True):
    """Body of ``/v1/chat/completions``."""

    messages: list[ChatMessage]
    max_completion_tokens: (
        Annotated[NewTokens, Meta(description="As many as fit unless given; max_tokens is its old name.")] | None
    ) = None
    max_tokens: NewTokens | None = None
    logprobs: bool | None = None
    top_logprobs: TopLogprobCount | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: Annotated[dict[str, Any], Meta(description="More names for the template.")] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: NotSupported = None
    functions: NotSupported = None
    function_call: NotSupported = None
    audio: NotSupported = None
    web_search_options: NotSupported = None
    modalities: list[str] | None = None
    metadata: NoEffect = None
    moderation: NoEffect = None
    prediction: NoEffect = None
    prompt_cache_key: NoEffect = None
    prompt_cache_options: NoEffect = None
    prompt_cache_retention: NoEffect = None
    reasoning_effort: NoEffect = None
    safety_identifier: NoEffect = None
    service_tier: NoEffect = None
    store: NoEffect = None
    verbosity: NoEffect = None


class TopLogprob(msgspec.Struct):
    """A token that might have been drawn; ``bytes`` are exact where ``token`` is no whole text."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(msgspec.Struct):
    """A token that was drawn."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChatLogprobs(msgspec.Struct):
    """Token by token."""

    content: list[TokenLogprob]
    refusal: None = None


class AssistantMessage(msgspec.Struct, kw_only=True):
    """What the model has said."""

    role: str = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: list[ToolCall] | UnsetType = UNSET


class ChatChoice(msgspec.Struct):
    """One output."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: str | None


class ChatCompletion(msgspec.Struct, kw_only=True):
    """Answer of ``/v1/chat/completions``."""

    id: str
    object: str = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class Delta(msgspec.Struct, kw_only=True):
    """What is new of a message."""

    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET
    tool_calls: list[ToolCallDelta] | UnsetType = UNSET


class ChunkChoice(msgspec.Struct):
    """What is new of an output."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None
    finish_reason: str | None


class ChatChunk(msgspec.Struct, kw_only=True):
    """One event of a stream."""

    id: str
    object: str = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | UnsetType | None = UNSET
