"""From a request's fields to ``SamplingParams``: OpenAI's defaults and ranges, whatever the model's own are."""

from __future__ import annotations

import secrets

from runtime.limits import EngineLimits
from runtime.request import Constraint, SamplingParams
from server.errors import InvalidRequestError
from server.openai.sampling_fields import SamplingFields
from server.sampling_rules import GREEDY_TEMPERATURE

_SMALLEST_MASS = 1e-9
"""A mass of 0, which OpenAI's API allows, keeps the likeliest token; the engine's has to be more."""


def sampling_params(
    fields: SamplingFields,
    limits: EngineLimits,
    *,
    max_new_tokens: int,
    stop_ids: tuple[tuple[int, ...], ...] = (),
    constraint: Constraint | None = None,
    prompt_logprobs: bool = False,
    top_logprobs: int = 0,
) -> SamplingParams:
    """Fill in defaults, and draw a seed where none is given.

    Args:
        fields: In range by themselves.
        limits: The engine's.
        max_new_tokens: At least 1.
        stop_ids: Token sequences that end the output.
        constraint: What the output has to be, checked.
        prompt_logprobs: Whether log-probabilities of the prompt are wanted.
        top_logprobs: Alternatives wanted with each log-probability.

    Raises:
        InvalidRequestError: Fields do not go together, or the engine does not do what they want.
    """
    temperature = 1.0 if fields.temperature is None else fields.temperature
    greedy = fields.do_sample is not None and not fields.do_sample
    greedy = greedy or temperature < GREEDY_TEMPERATURE
    min_tokens = fields.min_tokens or 1
    if min_tokens > max_new_tokens:
        raise InvalidRequestError(
            f"min_tokens must not exceed the {max_new_tokens} that may be generated, not {min_tokens}",
            param="min_tokens",
        )
    bias = logit_bias(fields.logit_bias or {}, limits.vocab_size)
    if not limits.host_logits and (bias or top_logprobs):
        name = "logit_bias" if bias else "logprobs"
        raise InvalidRequestError(f"{name} is not supported by engines that draw on their device", "unsupported", name)
    return SamplingParams(
        temperature=1.0 if greedy else temperature,
        top_p=1.0 if greedy or fields.top_p is None else max(fields.top_p, _SMALLEST_MASS),
        top_k=1 if greedy else fields.top_k or -1,
        presence_penalty=fields.presence_penalty or 0.0,
        frequency_penalty=fields.frequency_penalty or 0.0,
        repetition_penalty=fields.repetition_penalty or 1.0,
        max_new_tokens=max_new_tokens,
        min_new_tokens=min_tokens,
        ignore_eos=bool(fields.ignore_eos),
        stop_sequences=stop_ids,
        seed=secrets.randbits(64) if fields.seed is None else fields.seed % 2**64,
        prompt_logprobs=prompt_logprobs,
        top_logprobs=top_logprobs,
        logit_bias=bias,
        constraint=constraint,
    )


def logit_bias(bias: dict[str, float], vocab_size: int) -> tuple[tuple[int, float], ...]:
    """Token ids and what is added to their logits.

    Raises:
        InvalidRequestError: A key is no token id.
    """
    for key in bias:
        if not (key.isascii() and key.isdigit() and len(key) < 10 and int(key) < vocab_size):
            shown = key if len(key) <= 20 else f"{key[:20]}..."
            raise InvalidRequestError(f"logit_bias: {shown!r} is no token id below {vocab_size}", param="logit_bias")
    return tuple({int(key): value for key, value in bias.items()}.items())
