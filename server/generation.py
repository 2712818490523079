"""One request from the engine's tokens to text, the same for every protocol."""

from __future__ import annotations

import time
from dataclasses import dataclass

from runtime.detokenizer import SampleText
from runtime.messages import TokenOutput
from runtime.request import FinishReason, TopLogprobs
from server.engine_port import EnginePort
from server.environment import RequestRules
from server.errors import ClientGoneError, ServerError, UnavailableError
from server.first_tokens import limit_first_token
from server.observer import Observer
from server.request_stream import RequestStream
from server.tokenizer import TextCodec
from server.validation import ValidRequest

_REASONS = {FinishReason.STOP: "stop", FinishReason.LENGTH: "length"}
_FAILURES = (FinishReason.ERROR, FinishReason.ABORT)


@dataclass(slots=True)
class TokenEvent:
    """One token as clients see it.

    Attributes:
        sample: Index of the output it belongs to.
        token_id: The token, or -1 for an end without one.
        text: Text that became complete with it; may be empty.
        logprob: As the engine reports it.
        special: Whether it is one of the tokenizer's special tokens.
        count: Tokens of this output so far.
        sum_logprob: Of this output so far.
        finish_reason: ``stop``, ``length`` or ``error`` with the last one.
        error: What went wrong, with ``error``.
        top_logprobs: The likeliest tokens in its place, when asked for.
    """

    sample: int
    token_id: int
    text: str
    logprob: float
    special: bool
    count: int
    sum_logprob: float
    finish_reason: str | None = None
    error: str = ""
    top_logprobs: TopLogprobs | None = None


class _Sample:
    __slots__ = ("count", "last_token_at", "reason", "sum_logprob", "text")

    def __init__(self, text: SampleText) -> None:
        self.text = text
        self.count = 0
        self.last_token_at = 0.0
        self.sum_logprob = 0.0
        self.reason: str | None = None


class Generation:
    """A running request. Read it with ``events`` until ``done``; always ``close`` it.

    Attributes:
        request: What runs.
        seconds_before: From the request's arrival to its queuing in the engine.
        started: ``time.perf_counter()`` when it was queued.
        first_token_at: The same for its first token; 0 before.
        cached_tokens: Prompt tokens that came from the prefix cache.
        prompt_logprobs: Of prompt tokens 1.., when asked for.
        prompt_top_logprobs: The likeliest tokens in the place of each of those, when asked for too.
        failure: Why an output ended with an error; ``None`` where none did.
    """

    def __init__(
        self,
        request: ValidRequest,
        stream: RequestStream,
        texts: list[SampleText],
        *,
        special_ids: frozenset[int],
        observer: Observer,
        seconds_before: float = 0.0,
    ) -> None:
        self.request = request
        self.seconds_before = seconds_before
        self.started = time.perf_counter()
        self.first_token_at = 0.0
        self.cached_tokens = 0
        self.prompt_logprobs: list[float] | None = None
        self.prompt_top_logprobs: list[TopLogprobs] | None = None
        self.failure: ServerError | None = None
        self._stream = stream
        self._samples = [_Sample(text) for text in texts]
        self._open = len(texts)
        self._special_ids = special_ids
        self._observer = observer
        self._closed = False

    @property
    def request_id(self) -> int:
        """Unique on this worker."""
        return self._stream.request_id

    @property
    def done(self) -> bool:
        """Whether every output has ended."""
        return not self._open

    @property
    def counts(self) -> list[int]:
        """Tokens of each output so far."""
        return [sample.count for sample in self._samples]

    @property
    def reasons(self) -> list[str]:
        """Why each output ended; ``abort`` where it has not."""
        return [sample.reason or "abort" for sample in self._samples]

    async def events(self) -> list[TokenEvent]:
        """Wait for tokens and return all there are, in order; empty only when ``done``.

        A failure after the first token is an event with ``error`` for each output that has not ended.

        Raises:
            ServerError: The engine refused or lost the request before its first token.
            ClientGoneError: ``cancel`` was called.
        """
        while not self.done:
            try:
                outputs = await self._stream.take()
                if not outputs:
                    raise UnavailableError("the engine ended the request early")
            except ServerError as error:
                events = [self._fail(i, error) for i, sample in enumerate(self._samples) if not sample.reason]
                if not self.first_token_at:
                    raise
                return events
            events = [event for output in outputs if (event := self._event(output)) is not None]
            if events:
                return events
        return []

    def cancel(self) -> None:
        """The client is gone: free the request in the engine and end ``events`` with ``ClientGoneError``."""
        self._stream.cancel(ClientGoneError())

    def close(self) -> None:
        """Free what is still held and report the end."""
        if self._closed:
            return
        self._closed = True
        self.cancel()
        self._observer.finished(self)

    def _event(self, output: TokenOutput) -> TokenEvent | None:
        sample = self._samples[output.sample]
        if sample.reason is not None:
            return None
        if output.token_id < 0 or output.finish in _FAILURES:
            return self._fail(output.sample, UnavailableError(output.error or "the engine ended the request"))
        self._clock(output, sample)
        sample.count += 1
        sample.sum_logprob += output.logprob
        text = sample.text.push(output.token_id, last=output.finish is not FinishReason.NONE)
        if sample.text.stopped:
            sample.reason = "stop"
            self._stream.cancel_sample(output.sample)
        else:
            sample.reason = _REASONS.get(output.finish)
        self._open -= sample.reason is not None
        return TokenEvent(
            output.sample,
            output.token_id,
            text,
            output.logprob,
            output.token_id in self._special_ids,
            sample.count,
            sample.sum_logprob,
            sample.reason,
            top_logprobs=output.top_logprobs,
        )

    def _fail(self, index: int, error: ServerError) -> TokenEvent:
        sample = self._samples[index]
        sample.reason = "error"
        self.failure = error
        self._open -= 1
        return TokenEvent(index, -1, "", 0.0, False, sample.count, sample.sum_logprob, "error", error.message)

    def _clock(self, output: TokenOutput, sample: _Sample) -> None:
        now = time.perf_counter()
        if sample.count:
            self._observer.token(self, now - sample.last_token_at)
        elif not self.first_token_at:
            self.first_token_at = now
            self.cached_tokens = output.cached_tokens
            self._observer.first_token(self, output)
        sample.last_token_at = now
        if output.prompt_logprobs is not None:
            self.prompt_logprobs = output.prompt_logprobs
            self.prompt_top_logprobs = output.prompt_top_logprobs


@dataclass(frozen=True, slots=True)
class Generator:
    """Starts generations.

    Attributes:
        first_tokens: What every output may begin with; empty for anything.
    """

    client: EnginePort
    codec: TextCodec
    rules: RequestRules
    observer: Observer
    first_tokens: tuple[int, ...] = ()

    def start(self, request: ValidRequest, seconds_before: float = 0.0) -> Generation:
        """Queue ``request``, which took ``seconds_before`` to check, in the engine.

        Raises:
            UnavailableError: The engine is not connected.
            InvalidRequestError: None of the tokens that an output may begin with is one that the request allows.
        """
        sampling = limit_first_token(request.sampling, self.first_tokens)
        stream = self.client.submit(request.prompt, sampling, request.samples)
        window = self.rules.decode_prefix_length
        silent, skip = frozenset(self.client.limits.eos_token_ids), request.skip_special_tokens
        if skip and request.shown_special_ids:
            silent, skip = silent | (self.codec.special_ids - request.shown_special_ids), False
        texts = [
            SampleText(
                self.codec.tokenizer,
                request.prompt[-window:] if window else [],
                eos_token_ids=silent,
                stop_strings=request.stop_strings,
                skip_special_tokens=skip,
                print_eos_token=request.print_eos_token,
                taken_back=request.taken_back,
            )
            for _ in range(request.samples)
        ]
        return Generation(
            request,
            stream,
            texts,
            special_ids=self.codec.special_ids,
            observer=self.observer,
            seconds_before=seconds_before,
        )
