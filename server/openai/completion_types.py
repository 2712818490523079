"""``/v1/completions``: the request and its answers."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from server.openai.sampling_fields import NewTokens, Samples, SamplingFields
from server.openai.usage import Usage
from server.parameters import TokenId

Prompt = Annotated[
    str | list[str | TokenId | list[TokenId]],
    Meta(description="A text, token ids, a list of texts or a list of lists of token ids; lists are not mixed."),
]
Alternatives = Annotated[int, Meta(ge=0, le=20, description="Likeliest tokens to report beside each token.")]


class CompletionRequest(SamplingFields, kw_only=True):
    """Body of ``/v1/completions``."""

    prompt: Prompt
    max_tokens: Annotated[NewTokens, Meta(description="16 unless given; 0 with echo generates nothing.")] | None = None
    best_of: Samples | None = None
    echo: bool | None = None
    logprobs: Alternatives | None = None
    suffix: Annotated[str, Meta(description="Not supported.")] | None = None


class CompletionLogprobs(msgspec.Struct):
    """Token by token; the first of an echoed prompt has no log-probability."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(msgspec.Struct):
    """One output, or what is new of it."""

    text: str
    index: int
    logprobs: CompletionLogprobs | None
    finish_reason: str | None


class Completion(msgspec.Struct, kw_only=True):
    """Answer of ``/v1/completions``, and each chunk of its stream."""

    id: str
    object: str = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | UnsetType | None = UNSET
