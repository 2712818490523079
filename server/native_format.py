"""LightLLM's native answers: the object of ``/generate`` and the events of ``/generate_stream``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET

from server.generation import Generation, TokenEvent
from server.native_types import GenerateAnswer, StreamEvent, StreamToken, TokenDetail
from server.validation import RequestParser, ValidRequest

# NOTE: this encoder writes NaN and infinities as null: an answer is always valid JSON.
_ENCODER = msgspec.json.Encoder()


def encode(answer: Any) -> bytes:
    """Compact UTF-8 JSON."""
    return _ENCODER.encode(answer)


@dataclass(frozen=True, slots=True)
class NativeFormat:
    """See ``server.generate_format.GenerateFormat``."""

    parser: RequestParser

    async def parse(self, body: bytes, *, streaming: bool | None) -> tuple[ValidRequest, bool]:
        """See ``GenerateFormat``."""
        return await self.parser.generate(body, streaming=streaming)

    def answer(self, generation: Generation, events: list[TokenEvent]) -> bytes:
        """See ``GenerateFormat``."""
        return plain_answer(generation, events)

    def writer(self, request: ValidRequest) -> NativeEvents:
        """See ``GenerateFormat``."""
        return NativeEvents(request.prompt_tokens)


@dataclass(frozen=True, slots=True)
class NativeEvents:
    """See ``server.generate_format.EventWriter``."""

    prompt_tokens: int

    def frame(self, event: TokenEvent) -> bytes:
        """See ``EventWriter``: ``data:`` without a space, compact JSON, an empty line."""
        return b"data:%b\n\n" % _ENCODER.encode(_event(event, self.prompt_tokens))

    def failure(self, message: str, count: int) -> bytes:
        """See ``EventWriter``."""
        return self.frame(failure_event(message, count))


def failure_event(message: str, count: int) -> TokenEvent:
    """The last event of a stream that cannot go on."""
    return TokenEvent(0, -1, "", 0.0, False, count, 0.0, "error", message)


def plain_answer(generation: Generation, events: list[TokenEvent]) -> bytes:
    """The answer of ``/generate``: lists of outputs for several samples, flat values for one.

    ``generated_text`` is a list always.

    Args:
        generation: The finished generation.
        events: All of its events.
    """
    request = generation.request
    outputs = [[event for event in events if event.sample == i] for i in range(request.samples)]
    answer = GenerateAnswer(
        generated_text=["".join(event.text for event in output) for output in outputs],
        count_output_tokens=_flat([output[-1].count for output in outputs]),
        finish_reason=_flat([output[-1].finish_reason for output in outputs]),
        prompt_tokens=request.prompt_tokens,
    )
    if request.return_details:
        answer.tokens = _flat([[token_details(e, request.prompt_tokens) for e in output] for output in outputs])
    if request.sampling.prompt_logprobs:
        answer.prompt_token_ids = request.prompt
        answer.prompt_logprobs = _prompt_logprobs(request.prompt, generation.prompt_logprobs or [])
    return _ENCODER.encode(answer)


def _flat(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


def stream_token(event: TokenEvent, prompt_tokens: int) -> StreamToken:
    """What an event says of its token."""
    return StreamToken(event.token_id, event.text, event.logprob, event.special, event.count, prompt_tokens)


def _event(event: TokenEvent, prompt_tokens: int) -> StreamEvent:
    token, reason = stream_token(event, prompt_tokens), event.finish_reason
    return StreamEvent(token, None, reason is not None, reason, None, event.error or UNSET)


def token_details(event: TokenEvent, prompt_tokens: int) -> TokenDetail:
    """One of the objects under ``tokens``."""
    return TokenDetail(
        id=event.token_id,
        logprob=event.logprob,
        # NOTE: a running mean at LightLLM, whatever its name says.
        cumlogprob=event.sum_logprob / event.count,
        sum_logprob=event.sum_logprob,
        special=event.special,
        count_output_tokens=event.count,
        mtp_accepted_token_num=0,
        prompt_tokens=prompt_tokens,
        text=event.text,
    )


def _prompt_logprobs(prompt: list[int], logprobs: list[float]) -> list[list[Any]]:
    following = zip(prompt, prompt[1:], logprobs, strict=False)
    return [[token_id, {str(after): logprob}] for token_id, after, logprob in following]
