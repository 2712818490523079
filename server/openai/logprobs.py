"""Log-probabilities as completions and as chats show them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from runtime.request import TopLogprobs
from server.generation import TokenEvent
from server.openai.chat_types import ChatLogprobs, TokenLogprob, TopLogprob
from server.openai.completion_types import CompletionLogprobs
from server.openai.token_texts import TokenTexts


def empty_logprobs() -> CompletionLogprobs:
    """Of no tokens."""
    return CompletionLogprobs([], [], [], [])


def add_prompt(
    logprobs: CompletionLogprobs,
    texts: TokenTexts,
    prompt: Sequence[int],
    values: Sequence[float],
    top: Sequence[TopLogprobs] | None,
) -> None:
    """Append a prompt's tokens: the first is given, the others might have been predicted.

    Args:
        logprobs: What to append to.
        texts: Of the model's tokens.
        prompt: Token ids.
        values: Of tokens 1...
        top: Alternatives in their places.
    """
    characters = 0
    for place, token in enumerate(prompt):
        data = texts.data(token)
        logprobs.tokens.append(texts.text(token))
        logprobs.text_offset.append(characters)
        characters += sum(byte & 0xC0 != 0x80 for byte in data)
        if place == 0:
            logprobs.token_logprobs.append(None)
            logprobs.top_logprobs.append(None)
        else:
            value = values[place - 1]
            logprobs.token_logprobs.append(value)
            logprobs.top_logprobs.append(_by_text(texts, token, value, top[place - 1] if top else []))


def add_token(logprobs: CompletionLogprobs, texts: TokenTexts, event: TokenEvent, offset: int) -> None:
    """Append a generated token, whose text begins at ``offset`` characters."""
    logprobs.tokens.append(texts.text(event.token_id))
    logprobs.text_offset.append(offset)
    logprobs.token_logprobs.append(event.logprob)
    logprobs.top_logprobs.append(_by_text(texts, event.token_id, event.logprob, event.top_logprobs or []))


def chat_logprobs(texts: TokenTexts, events: Iterable[TokenEvent]) -> ChatLogprobs:
    """Of generated tokens."""
    content = []
    for event in events:
        top = [TopLogprob(texts.text(i), value, [*texts.data(i)]) for i, value in event.top_logprobs or []]
        token = event.token_id
        content.append(TokenLogprob(texts.text(token), event.logprob, [*texts.data(token)], top))
    return ChatLogprobs(content)


def _by_text(texts: TokenTexts, token: int, value: float, top: TopLogprobs) -> dict[str, float]:
    """The alternatives and the token itself; of tokens with the same text, the likeliest."""
    found: dict[str, float] = {}
    for one, logprob in top:
        found.setdefault(texts.text(one), logprob)
    found.setdefault(texts.text(token), value)
    return found
