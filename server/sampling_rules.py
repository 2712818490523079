"""From request parameters to ``SamplingParams``: ranges, defaults and LightLLM's greedy rewrite."""

from __future__ import annotations

import secrets
from typing import Any, TypeVar

from msgspec import UnsetType

from runtime.constraints import grammar, json_schema, regex
from runtime.request import Constraint, SamplingParams
from server.environment import RequestRules
from server.errors import InvalidRequestError, field_of
from server.generation_defaults import GenerationDefaults
from server.parameters import Parameters

V = TypeVar("V")

_CONSTRAINTS = {"regular_constraint": regex, "guided_grammar": grammar, "guided_json": json_schema}

MAX_SAMPLES = 8
GREEDY_TEMPERATURE = 1e-5
"""Below this temperature, sampling means taking the most likely token."""


def sampling_params(
    parameters: Parameters,
    defaults: GenerationDefaults,
    rules: RequestRules,
    prompt_logprobs: bool = False,
) -> SamplingParams:
    """Apply defaults, rewrite greedy requests, check what is left and draw a seed where none is given.

    As at LightLLM, values that the greedy rewrite overwrites are not checked.

    Raises:
        InvalidRequestError: A value is out of range; the message names it.
    """
    p = parameters
    temperature, top_p, top_k = _filters(p, defaults)
    presence = given(p.presence_penalty, defaults.presence_penalty)
    frequency = given(p.frequency_penalty, defaults.frequency_penalty)
    repetition = given(p.repetition_penalty, defaults.repetition_penalty)
    decay_start, decay_factor = given(p.exponential_decay_length_penalty, (1, 1.0))
    decay_name = "exponential_decay_length_penalty"
    _check(temperature > 0, "temperature", "must be greater than 0", temperature)
    _check(0 < top_p <= 1, "top_p", "must be in (0, 1]", top_p)
    _check(top_k == -1 or top_k >= 1, "top_k", "must be -1 or at least 1", top_k)
    _check(presence >= 0, "presence_penalty", "must be at least 0", presence)
    _check(frequency >= 0, "frequency_penalty", "must be at least 0", frequency)
    _check(repetition >= 1, "repetition_penalty", "must be at least 1", repetition)
    _check(decay_start >= 0, decay_name, "must start at 0 or later", decay_start)
    _check(decay_factor >= 1, decay_name, "must have a factor of at least 1", decay_factor)
    seed = given(p.seed, None)
    _check(seed is None or seed < 2**64, "seed", "must be below 2**64", "more")
    _check_lengths(p)
    return SamplingParams(
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        presence_penalty=presence,
        frequency_penalty=frequency,
        repetition_penalty=repetition,
        decay_start=decay_start,
        decay_factor=decay_factor,
        input_penalty=bool(given(p.input_penalty, rules.input_penalty)),
        max_new_tokens=p.max_new_tokens,
        min_new_tokens=p.min_new_tokens,
        ignore_eos=bool(p.ignore_eos),
        allowed_token_ids=tuple(p.allowed_token_ids),
        seed=secrets.randbits(64) if seed is None else seed,
        prompt_logprobs=prompt_logprobs,
    )


def sample_count(parameters: Parameters) -> int:
    """Independent outputs that a request wants; a lone ``n`` means ``best_of`` too.

    Raises:
        InvalidRequestError: ``n`` and ``best_of`` differ or are out of range.
    """
    best_of = given(parameters.best_of, given(parameters.n, 1))
    n = given(parameters.n, best_of)
    name = "n" if isinstance(parameters.best_of, UnsetType) else "best_of"
    _check(1 <= best_of <= MAX_SAMPLES, name, f"must be between 1 and {MAX_SAMPLES}", best_of)
    _check(n == best_of, "n", f"must equal best_of, which is {best_of}", n)
    return best_of


def asked_constraint(parameters: Parameters) -> tuple[Constraint, str] | None:
    """What the output has to be, and the name of the field that says so.

    Raises:
        InvalidRequestError: There are two of them.
    """
    asked = [name for name in (*_CONSTRAINTS, "allowed_token_ids") if getattr(parameters, name)]
    if len(asked) > 1:
        raise InvalidRequestError(f"{' and '.join(asked)} exclude each other", param=asked[1])
    if not asked or asked == ["allowed_token_ids"]:
        return None
    (name,) = asked
    return _CONSTRAINTS[name](getattr(parameters, name)), name


def check_allowed_ids(parameters: Parameters, rules: RequestRules, vocab_size: int) -> None:
    """Check ``allowed_token_ids``.

    Raises:
        InvalidRequestError: There are too many, or one is out of vocabulary.
    """
    ids = parameters.allowed_token_ids
    _check(
        len(ids) <= rules.max_allowed_token_ids,
        "allowed_token_ids",
        f"may have at most {rules.max_allowed_token_ids} items",
        len(ids),
    )
    check_token_ids(ids, "allowed_token_ids", vocab_size)


def check_token_ids(ids: list[int], name: str, vocab_size: int) -> None:
    """Refuse ids outside the vocabulary.

    Raises:
        InvalidRequestError: There is one.
    """
    if ids and max(ids) >= vocab_size:
        raise InvalidRequestError(f"{name}: token id {max(ids)} is not below {vocab_size}", param=field_of(name))


def given(value: V | UnsetType, default: V) -> V:
    """``value`` unless the request left it out."""
    return default if isinstance(value, UnsetType) else value


def _filters(p: Parameters, defaults: GenerationDefaults) -> tuple[float, float, int]:
    """Temperature, top_p and top_k after the greedy rewrite."""
    if not given(p.do_sample, defaults.do_sample):
        return 1.0, 1.0, 1
    temperature = given(p.temperature, defaults.temperature)
    top_p = given(p.top_p, defaults.top_p)
    if 0 <= temperature < GREEDY_TEMPERATURE:
        return 1.0, top_p, 1
    return temperature, top_p, given(p.top_k, defaults.top_k)


def _check_lengths(p: Parameters) -> None:
    _check(p.max_new_tokens >= 1, "max_new_tokens", "must be at least 1", p.max_new_tokens)
    _check(p.min_new_tokens >= 1, "min_new_tokens", "must be at least 1", p.min_new_tokens)
    _check(
        p.min_new_tokens <= p.max_new_tokens,
        "min_new_tokens",
        f"must not exceed max_new_tokens, which is {p.max_new_tokens}",
        p.min_new_tokens,
    )


def _check(holds: bool, name: str, rule: str, value: Any) -> None:
    if not holds:
        raise InvalidRequestError(f"{name} {rule}, not {value}", param=name)
