"""Answers in TGI's format, as LightLLM writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from server.errors import InvalidRequestError, QueueFullError, ServerError
from server.generation import Generation, TokenEvent
from server.native_format import encode, failure_event, stream_token, token_details
from server.tgi.parser import parse
from server.tgi.types import BeamSequence, TgiAnswer, TgiDetails, TgiEvent, TgiStreamDetails
from server.validation import RequestParser, ValidRequest


@dataclass(frozen=True, slots=True)
class TgiFormat:
    """See ``server.generate_format.GenerateFormat``.

    Attributes:
        return_list: Whole answers are lists of one object.
    """

    parser: RequestParser
    return_list: bool = False

    async def parse(self, body: bytes, *, streaming: bool | None) -> tuple[ValidRequest, bool]:
        """See ``GenerateFormat``."""
        return await parse(self.parser, body, streaming)

    def answer(self, generation: Generation, events: list[TokenEvent]) -> bytes:
        """See ``GenerateFormat``. Of several outputs, the text is the one's of the highest mean log-probability."""
        request = generation.request
        outputs = [[event for event in events if event.sample == i] for i in range(request.samples)]
        best = max(outputs, key=_mean_logprob)
        answer = TgiAnswer(_text(best))
        if request.return_details:
            answer.details = TgiDetails(
                generated_tokens=best[-1].count,
                finish_reason=best[-1].finish_reason,
                tokens=[token_details(event, request.prompt_tokens) for event in best],
                prompt_tokens=request.prompt_tokens,
                beam_sequences=[_beam(output) for output in outputs],
            )
        return encode([answer] if self.return_list else answer)

    def writer(self, request: ValidRequest) -> TgiEvents:
        """See ``GenerateFormat``."""
        return TgiEvents(request)


@dataclass(slots=True)
class TgiEvents:
    """See ``server.generate_format.EventWriter``; the last event has the whole text."""

    request: ValidRequest
    _texts: list[str] = field(default_factory=list)

    def frame(self, event: TokenEvent) -> bytes:
        """See ``EventWriter``; JSON with spaces, behind a ``data:`` without."""
        self._texts.append(event.text)
        reason, prompt_tokens = event.finish_reason, self.request.prompt_tokens
        content = TgiEvent(stream_token(event, prompt_tokens), None, reason is not None, reason, None)
        if reason is not None:
            content.generated_text = "".join(self._texts)
            if self.request.return_details:
                content.details = TgiStreamDetails(event.count, reason, prompt_tokens)
        if event.error:
            content.error, content.error_type = event.error, "generation"
        return b"data:%b\n\n" % json.dumps(msgspec.to_builtins(content), ensure_ascii=False).encode()

    def failure(self, message: str, count: int) -> bytes:
        """See ``EventWriter``."""
        return self.frame(failure_event(message, count))


def error_fields(error: ServerError) -> dict[str, str]:
    """What TGI's clients read of an error body, beside LightLLM's fields."""
    kinds = {InvalidRequestError: "validation", QueueFullError: "overloaded"}
    kind = next((kinds[base] for base in type(error).__mro__ if base in kinds), "generation")
    return {"error": error.message, "error_type": kind}


def _text(output: Sequence[TokenEvent]) -> str:
    return "".join(event.text for event in output)


def _mean_logprob(output: Sequence[TokenEvent]) -> float:
    return output[-1].sum_logprob / output[-1].count


def _beam(output: Sequence[TokenEvent]) -> BeamSequence:
    return BeamSequence(_text(output), output[-1].finish_reason, output[-1].count, _mean_logprob(output))
