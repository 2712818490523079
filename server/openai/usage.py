"""What a call took."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from server.generation import Generation


class PromptDetails(msgspec.Struct):
    """Of the prompt's tokens."""

    cached_tokens: int


class Usage(msgspec.Struct):
    """Tokens of all prompts and all outputs."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


def usage_of(generations: Sequence[Generation], *, silent: bool = False) -> Usage:
    """The usage of a call so far.

    Args:
        generations: One for each prompt.
        silent: What they generate is not handed out.
    """
    prompt = sum(len(generation.request.prompt) for generation in generations)
    generated = 0 if silent else sum(sum(generation.counts) for generation in generations)
    cached = sum(generation.cached_tokens for generation in generations)
    return Usage(prompt, generated, prompt + generated, PromptDetails(cached))
