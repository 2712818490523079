"""The door: from the bytes of a body to a ``ValidRequest``. Nothing behind it sees an unchecked request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import msgspec

from runtime.limits import EngineLimits
from runtime.request import SamplingParams
from server.constraints import ConstraintChecker
from server.environment import RequestRules
from server.errors import InvalidRequestError
from server.generation_defaults import GenerationDefaults
from server.parameters import GenerateBody, MultimodalParams, Parameters, StreamChoice, decode, decode_parameters
from server.sampling_rules import (
    asked_constraint,
    check_allowed_ids,
    check_token_ids,
    given,
    sample_count,
    sampling_params,
)
from server.stop_sequences import NAME as STOP_SEQUENCES
from server.stop_sequences import check_length, parse_stop_sequences
from server.token_healing import EXTRA_TOKENS, TokenHealing
from server.tokenizer import TextCodec

_GENERATE = msgspec.json.Decoder(GenerateBody)
_CHOICE = msgspec.json.Decoder(StreamChoice)

TruncationMode = Literal["head", "center"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidRequest:
    """A request that the engine can run.

    Attributes:
        prompt: Token ids, at least one, all in the vocabulary.
        taken_back: The prompt's last tokens, where ``prompt`` is without them and the output begins by spelling them.
        samples: Independent outputs, 1 to 8.
        stop_strings: Matched on the decoded text, besides the token sequences in ``sampling``.
        shown_special_ids: Special tokens that have text although ``skip_special_tokens``.
        ignored: Names in the request that had no effect.
    """

    prompt: list[int]
    sampling: SamplingParams
    taken_back: Sequence[int] = ()
    samples: int = 1
    stop_strings: tuple[str, ...] = ()
    return_details: bool = False
    skip_special_tokens: bool = True
    print_eos_token: bool = False
    shown_special_ids: frozenset[int] = frozenset()
    ignored: tuple[str, ...] = ()

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt as it was sent."""
        return len(self.prompt) + len(self.taken_back)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestParser:
    """Everything that decides whether a request is acceptable.

    Attributes:
        limits: Gives the engine's limits of the moment.
        strict: Unknown parameters are an error instead of being ignored.
        truncation: What to do with a prompt that is too long; ``None`` refuses it.
        prompt_logprobs: Report the log-probabilities of prompt tokens where the answer has room for them.
        checker: Says which constraints can be had.
        healing: Takes back the last tokens of prompts; ``None`` leaves them.
        on_request: Called once a request's prompt is tokenized, before its length is checked.
    """

    codec: TextCodec
    limits: Callable[[], EngineLimits]
    rules: RequestRules = field(default_factory=RequestRules)
    defaults: GenerationDefaults = field(default_factory=GenerationDefaults)
    strict: bool = False
    truncation: TruncationMode | None = None
    prompt_logprobs: bool = False
    checker: ConstraintChecker = field(default_factory=ConstraintChecker)
    healing: TokenHealing | None = None
    on_request: Callable[[], None] = lambda: None

    async def generate(self, body: bytes, *, streaming: bool | None = None) -> tuple[ValidRequest, bool]:
        """Parse a body of ``/generate``, ``/generate_stream`` or, with ``streaming=None``, of ``/``.

        Returns:
            The request, and whether its answer is a stream.

        Raises:
            InvalidRequestError: Anything is wrong with it; the message names the field.
        """
        parsed = decode(_GENERATE, body)
        stream = bool(decode(_CHOICE, body).stream) if streaming is None else streaming
        parameters, unknown = decode_parameters(parsed.parameters)
        refuse_attachments(parsed.multimodal_params)
        if stream and sample_count(parameters) != 1:
            raise InvalidRequestError("best_of and n must be 1 in a stream", param="best_of")
        request = await self.build(
            parsed.inputs, parameters, ignored=unknown, prompt_logprobs=self.prompt_logprobs and not stream
        )
        return request, stream

    async def build(
        self,
        prompt: str | list[int],
        parameters: Parameters,
        *,
        ignored: tuple[str, ...] = (),
        prompt_logprobs: bool = False,
    ) -> ValidRequest:
        """Check and tokenize a request that any of the protocols has decoded.

        Raises:
            InvalidRequestError: A value is out of range, a token id unknown, the request too long, or the model one
                that does not generate.
            UnavailableError: No engine has been reached yet, so its limits are unknown.
        """
        limits, rules = self.limits(), self.rules
        check_task(limits, scores=False)
        samples = sample_count(parameters)
        check_allowed_ids(parameters, rules, limits.vocab_size)
        asked = asked_constraint(parameters)
        stops = parse_stop_sequences(parameters.stop_sequences, rules, limits.vocab_size)
        if stops.skipped:
            ignored = (*ignored, STOP_SEQUENCES)
        if ignored and self.strict:
            raise InvalidRequestError(
                f"parameters without effect: {', '.join(ignored)}", "unknown_parameter", ignored[0]
            )
        sampling = sampling_params(parameters, self.defaults, rules, prompt_logprobs=prompt_logprobs)
        constraint = None if asked is None else await self.checker.check(*asked, limits)
        stop_ids = [await self._stop_ids(string) for string in stops.strings]
        if self.healing is not None:
            # NOTE: the end of the prompt, drawn anew, must not be taken for a stop string. On the text it is not.
            stop_ids = [ids for ids in stop_ids if self.codec.special_ids.intersection(ids)]
        ids = await self._prompt_ids(prompt, bool(parameters.add_special_tokens), limits.vocab_size)
        self.on_request()
        request = ValidRequest(
            prompt=fit_prompt(ids, sampling.max_new_tokens, limits.max_request_tokens, self.truncation),
            sampling=replace(
                sampling,
                stop_sequences=(*stops.token_lists, *(s for s in stop_ids if s)),
                constraint=constraint,
            ),
            samples=samples,
            stop_strings=stops.strings,
            return_details=bool(parameters.return_details),
            skip_special_tokens=bool(given(parameters.skip_special_tokens, rules.skip_special_tokens)),
            print_eos_token=bool(parameters.print_eos_token),
            ignored=ignored,
        )
        return request if self.healing is None else self._heal(request, self.healing)

    def _heal(self, request: ValidRequest, healing: TokenHealing) -> ValidRequest:
        """Take tokens back, unless the output is limited otherwise, or the whole prompt's tokens are asked about."""
        params = request.sampling
        if params.allowed_token_ids or params.constrained or params.prompt_logprobs:
            return request
        healed = healing.heal(request.prompt)
        if healed is None:
            return request
        taken = len(healed.taken_back)
        most = min(params.max_new_tokens + EXTRA_TOKENS, room(self.limits(), request.samples) - request.prompt_tokens)
        new_tokens = taken + max(most, params.max_new_tokens)
        sampling = replace(params, opening=healed.opening, max_new_tokens=new_tokens)
        return replace(request, prompt=healed.prompt, taken_back=healed.taken_back, sampling=sampling)

    async def _prompt_ids(self, prompt: str | list[int], add_special_tokens: bool, vocab_size: int) -> list[int]:
        if isinstance(prompt, str):
            ids = await self.codec.encode(prompt, add_special_tokens)
        else:
            check_token_ids(prompt, "inputs", vocab_size)
            ids = prompt
        if not ids:
            raise InvalidRequestError("inputs: the prompt has no tokens", "empty_prompt", "inputs")
        return ids

    async def _stop_ids(self, string: str) -> tuple[int, ...]:
        ids = await self.codec.encode(string, add_special_tokens=False)
        check_length(len(ids), self.rules)
        return tuple(ids)


def fit_prompt(ids: list[int], max_new_tokens: int, limit: int, mode: TruncationMode | None) -> list[int]:
    """The prompt as it fits into ``limit`` tokens together with its output.

    Raises:
        InvalidRequestError: It does not fit and ``mode`` does not allow to shorten it.
    """
    keep = limit - max_new_tokens
    if len(ids) <= keep:
        return ids
    if mode is None or keep < 1:
        raise InvalidRequestError(
            f"inputs of {len(ids)} tokens and max_new_tokens of {max_new_tokens} exceed the limit of {limit} tokens"
            " a request",
            "too_long",
            "inputs" if keep >= 1 else "max_new_tokens",
        )
    return cut_prompt(ids, keep, mode)


def cut_prompt(ids: list[int], keep: int, mode: TruncationMode) -> list[int]:
    """The last ``keep`` tokens of ``ids``, or the first and last halves of as many."""
    head = keep // 2 if mode == "center" else 0
    return ids[:head] + ids[len(ids) - (keep - head) :]


def room(limits: EngineLimits, samples: int) -> int:
    """Tokens that each of ``samples`` outputs can have, their prompt included, on an engine without other work."""
    blocks = limits.max_total_tokens // limits.block_size // samples
    return min(limits.max_request_tokens, blocks * limits.block_size)


def check_task(limits: EngineLimits, *, scores: bool) -> None:
    """Refuse what the model is not made for.

    Args:
        limits: The engine's.
        scores: Whether a score is wanted, and not text.

    Raises:
        InvalidRequestError: The model does the other thing.
    """
    if scores and not limits.scores:
        raise InvalidRequestError(
            "this server's model generates text; scores need a reward model", "unsupported", "chat"
        )
    if limits.scores and not scores:
        raise InvalidRequestError(
            "this server's model is a reward model: it gives scores, call /get_score", "unsupported"
        )


def refuse_attachments(params: MultimodalParams) -> None:
    """Refuse images and audio.

    Raises:
        InvalidRequestError: There is some.
    """
    if params.images or params.audios:
        raise InvalidRequestError("multimodal_params: this model takes text only", "unsupported", "multimodal_params")
