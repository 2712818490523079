"""From tokens and fields to requests that the engine can run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from runtime.limits import EngineLimits
from runtime.request import Constraint
from server.constraints import ConstraintChecker
from server.environment import RequestRules
from server.errors import InvalidRequestError
from server.openai.constraints import asked_constraint
from server.openai.sampling import sampling_params
from server.openai.sampling_fields import SamplingFields
from server.tokenizer import TextCodec
from server.validation import TruncationMode, ValidRequest, check_task, cut_prompt, room


@dataclass(frozen=True, slots=True, kw_only=True)
class Stops:
    """What ends an output besides EOS and its length.

    Attributes:
        strings: Texts.
        ids: The same as tokens.
        constraint: What the output has to be.
    """

    strings: tuple[str, ...] = ()
    ids: tuple[tuple[int, ...], ...] = ()
    constraint: Constraint | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestBuilder:
    """What the parsers of ``/v1`` share.

    Attributes:
        limits: Gives the engine's limits of the moment.
        truncation: What to do with a prompt that is too long; ``None`` refuses it.
        on_request: Called once a prompt is tokenized, before its length is checked.
        checker: Says which constraints can be had.
    """

    codec: TextCodec
    limits: Callable[[], EngineLimits]
    rules: RequestRules = field(default_factory=RequestRules)
    truncation: TruncationMode | None = None
    on_request: Callable[[], None] = lambda: None
    checker: ConstraintChecker = field(default_factory=ConstraintChecker)

    async def stops(self, fields: SamplingFields, forced: tuple[Constraint, str] | None = None) -> Stops:
        """Check the request as far as it does not depend on a prompt; tokenize its stop strings.

        Args:
            fields: The request's.
            forced: A constraint that counts before those of ``fields``, and the name of its field.

        Raises:
            InvalidRequestError: The model does not generate, or the request wants what this server does not do.
        """
        limits = self.limits()
        check_task(limits, scores=False)
        asked = forced or asked_constraint(fields)
        constraint = None if asked is None else await self.checker.check(*asked, limits)
        given = [fields.stop] if isinstance(fields.stop, str) else fields.stop or []
        most, longest = self.rules.max_stop_sequences, self.rules.max_stop_sequence_length
        if len(given) > most:
            raise InvalidRequestError(f"stop may have at most {most} strings, not {len(given)}", param="stop")
        strings = tuple(string for string in given if string)
        ids = [await self.codec.encode(string, add_special_tokens=False) for string in strings]
        if any(len(one) > longest for one in ids):
            raise InvalidRequestError(f"stop: one has more than {longest} tokens", param="stop")
        return Stops(strings=strings, ids=tuple(tuple(one) for one in ids if one), constraint=constraint)

    def build(
        self,
        name: str,
        prompt: list[int],
        fields: SamplingFields,
        stops: Stops,
        *,
        max_new_tokens: int | None,
        samples: int,
        prompt_logprobs: bool = False,
        top_logprobs: int = 0,
    ) -> ValidRequest:
        """One request.

        Args:
            name: Of the prompt, for error messages.
            prompt: Token ids.
            fields: How to go on from it.
            stops: Of ``fields``.
            max_new_tokens: At least 1; ``None`` is as many as there is room for.
            samples: Outputs to generate.
            prompt_logprobs: Whether log-probabilities of the prompt are wanted.
            top_logprobs: Alternatives wanted with each log-probability.

        Raises:
            InvalidRequestError: It is too long, empty, or wants what cannot be had.
        """
        if not prompt:
            raise InvalidRequestError(f"{name}: the prompt has no tokens", "empty_prompt", name)
        self.on_request()
        limits = self.limits()
        if max_new_tokens is None:
            max_new_tokens = max(1, room(limits, samples) - len(prompt))
        sampling = sampling_params(
            fields,
            limits,
            max_new_tokens=max_new_tokens,
            stop_ids=stops.ids,
            constraint=stops.constraint,
            prompt_logprobs=prompt_logprobs,
            top_logprobs=top_logprobs,
        )
        return ValidRequest(
            prompt=self._fit(name, prompt, max_new_tokens, limits.max_request_tokens),
            sampling=sampling,
            samples=samples,
            stop_strings=stops.strings,
            skip_special_tokens=fields.skip_special_tokens is None or bool(fields.skip_special_tokens),
        )

    def _fit(self, name: str, prompt: list[int], max_new_tokens: int, limit: int) -> list[int]:
        keep = limit - max_new_tokens
        if len(prompt) <= keep:
            return prompt
        if self.truncation is None or keep < 1:
            raise InvalidRequestError(
                f"{name} of {len(prompt)} tokens and {max_new_tokens} to generate exceed this server's context of"
                f" {limit} tokens",
                "too_long",
                name if keep >= 1 else "max_tokens",
            )
        return cut_prompt(prompt, keep, self.truncation)
