"""Answers and stream chunks of ``/v1/chat/completions``."""

from __future__ import annotations

import time
from uuid import uuid4

from msgspec import UNSET, UnsetType

from server.generation import Generation, TokenEvent
from server.openai.call import Events, by_prompt_and_sample
from server.openai.chat_output import ChatOutput
from server.openai.chat_parser import ChatCall
from server.openai.chat_types import (
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatLogprobs,
    ChunkChoice,
    Delta,
)
from server.openai.logprobs import chat_logprobs
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
        self._outputs = [ChatOutput(call.request.stop_strings, call.tools) for _ in range(call.request.samples)]

    def beginning(self) -> list[ChatChunk]:
        """Chunks before the first token: who speaks."""
        delta = Delta(role="assistant", content="")
        return [self._chunk(ChunkChoice(index, delta, None, None)) for index in range(len(self._outputs))]

    def chunks(self, _prompt: int, event: TokenEvent) -> list[ChatChunk]:
        """What a stream says of a token; nothing of one that only holds text back."""
        output = self._outputs[event.sample]
        deltas = output.deltas(event.text, last=event.finish_reason is not None)
        logprobs = self._logprobs([event])
        if logprobs is not None and not deltas:
            deltas = [Delta(content="")]
        choices = [ChunkChoice(event.sample, delta, None, None) for delta in deltas]
        if logprobs is not None:
            choices[0].logprobs = logprobs
        if event.finish_reason is not None:
            choices.append(ChunkChoice(event.sample, Delta(), None, output.finish_reason(event.finish_reason)))
        return [self._chunk(choice) for choice in choices]

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
        output = self._outputs[index]
        message = output.message("".join([event.text for event in events]))
        return ChatChoice(index, message, self._logprobs(events), output.finish_reason(events[-1].finish_reason))

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
