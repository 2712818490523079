"""Answers and stream chunks of ``/v1/chat/completions``.

A choice's text is its message's content as it is. NOTE: calls of tools that the model writes belong taken out of it
here: in ``_message`` for whole answers, in ``chunks`` for streams.
"""

from __future__ import annotations

import time
from uuid import uuid4

from msgspec import UNSET, UnsetType

from server.generation import Generation, TokenEvent
from server.openai.call import Events, by_prompt_and_sample
from server.openai.chat_parser import ChatCall
from server.openai.chat_types import (
    AssistantMessage,
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatLogprobs,
    ChunkChoice,
    Delta,
)
from server.openai.logprobs import chat_logprobs
from server.openai.stop_text import StopText
from server.openai.token_texts import TokenTexts
from server.openai.usage import Usage, usage_of


class ChatWriter:
    """Turns the tokens of a call into choices.

    Args:
        call: What was asked for.
        generation: What runs for it.
        texts: Of the model's tokens.
    """

    def __init__(self, call: ChatCall, generation: Generation, texts: TokenTexts) -> None:
        self._call, self._generation, self._texts = call, generation, texts
        self._id, self._created = f"chatcmpl-{uuid4().hex}", int(time.time())
        self._stops = [StopText(call.request.stop_strings) for _ in range(call.request.samples)]

    def beginning(self) -> list[ChatChunk]:
        """Chunks before the first token: who speaks."""
        delta = Delta(role="assistant", content="")
        return [self._chunk(ChunkChoice(index, delta, None, None)) for index in range(len(self._stops))]

    def chunks(self, _prompt: int, event: TokenEvent) -> list[ChatChunk]:
        """What a stream says of a token; nothing of one that only holds text back."""
        text = self._stops[event.sample].push(event.text, last=event.finish_reason is not None)
        logprobs = self._logprobs([event])
        chunks = []
        if text or logprobs is not None:
            chunks.append(self._chunk(ChunkChoice(event.sample, Delta(content=text), logprobs, None)))
        if event.finish_reason is not None:
            chunks.append(self._chunk(ChunkChoice(event.sample, Delta(), None, event.finish_reason)))
        return chunks

    def ending(self) -> list[ChatChunk]:
        """Chunks after the last token."""
        return [self._chunk(usage=usage_of([self._generation]))] if self._call.fields.include_usage else []

    def answer(self, events: Events) -> ChatCompletion:
        """The whole answer, from all tokens."""
        return ChatCompletion(
            id=self._id,
            created=self._created,
            model=self._call.fields.model,
            choices=[self._choice(sample, own) for (_, sample), own in sorted(by_prompt_and_sample(events).items())],
            usage=usage_of([self._generation]),
        )

    def _choice(self, index: int, events: list[TokenEvent]) -> ChatChoice:
        text = "".join([self._stops[index].push(e.text, last=e.finish_reason is not None) for e in events])
        return ChatChoice(index, _message(text), self._logprobs(events), events[-1].finish_reason)

    def _logprobs(self, events: list[TokenEvent]) -> ChatLogprobs | None:
        return chat_logprobs(self._texts, events) if self._call.fields.logprobs else None

    def _chunk(self, choice: ChunkChoice | None = None, usage: Usage | UnsetType | None = UNSET) -> ChatChunk:
        if choice is not None and self._call.fields.include_usage:
            usage = None
        return ChatChunk(
            id=self._id,
            created=self._created,
            model=self._call.fields.model,
            choices=[] if choice is None else [choice],
            usage=usage,
        )


def _message(text: str) -> AssistantMessage:
    return AssistantMessage(content=text)
