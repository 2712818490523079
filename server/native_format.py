"""LightLLM's native answers: the object of ``/generate`` and the events of ``/generate_stream``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from server.generation import Generation, TokenEvent
from server.validation import RequestParser, ValidRequest


class _Token(msgspec.Struct):
    id: int
    text: str
    logprob: float
    special: bool
    count_output_tokens: int
    prompt_tokens: int


class _Event(msgspec.Struct):
    token: _Token
    generated_text: None
    finished: bool
    finish_reason: str | None
    details: None
    error: str | UnsetType


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


def event_fields(event: TokenEvent, prompt_tokens: int) -> dict[str, Any]:
    """What an event says of a token, as plain data."""
    fields: dict[str, Any] = msgspec.to_builtins(_event(event, prompt_tokens))
    return fields


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
    answer: dict[str, Any] = {
        "generated_text": ["".join(event.text for event in output) for output in outputs],
        "count_output_tokens": _flat([output[-1].count for output in outputs]),
        "finish_reason": _flat([output[-1].finish_reason for output in outputs]),
        "prompt_tokens": request.prompt_tokens,
    }
    if request.return_details:
        answer["tokens"] = _flat([[token_details(e, request.prompt_tokens) for e in o] for o in outputs])
    if request.sampling.prompt_logprobs:
        answer |= _prompt_fields(request, generation.prompt_logprobs or [])
    return _ENCODER.encode(answer)


def _flat(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


def _event(event: TokenEvent, prompt_tokens: int) -> _Event:
    token = _Token(event.token_id, event.text, event.logprob, event.special, event.count, prompt_tokens)
    reason = event.finish_reason
    return _Event(token, None, reason is not None, reason, None, event.error or UNSET)


def token_details(event: TokenEvent, prompt_tokens: int) -> dict[str, Any]:
    """One of the objects under ``tokens``."""
    return {
        "id": event.token_id,
        "logprob": event.logprob,
        # NOTE: a running mean at LightLLM, whatever its name says.
        "cumlogprob": event.sum_logprob / event.count,
        "sum_logprob": event.sum_logprob,
        "special": event.special,
        "count_output_tokens": event.count,
        "mtp_accepted_token_num": 0,
        "prompt_tokens": prompt_tokens,
        "text": event.text,
    }


def _prompt_fields(request: ValidRequest, logprobs: list[float]) -> dict[str, Any]:
    following = zip(request.prompt, request.prompt[1:], logprobs, strict=False)
    return {
        "prompt_token_ids": request.prompt,
        "prompt_logprobs": [[token_id, {str(after): logprob}] for token_id, after, logprob in following],
    }
