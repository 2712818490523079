"""The engine's own look at a request: a worker's mistake must not reach the step."""

from __future__ import annotations

from runtime.constraints.specification import MAX_BYTES
from runtime.limits import EngineLimits
from runtime.messages import AddRequest
from runtime.request import SamplingParams
from runtime.sampling.openings import well_formed

MAX_TOP_LOGPROBS = 20
"""Of the likeliest tokens beside each; as many as OpenAI's API has."""

_LARGEST, _LEAST_TEMPERATURE = 1e30, 1e-30
"""Further out, float32 arithmetic is not finite."""

SCORING = SamplingParams(max_new_tokens=1)
"""Every request's to a reward model: a score takes its prompt, and as in LightLLM room for one token more."""


def effective_params(request: AddRequest, limits: EngineLimits) -> SamplingParams:
    """What the engine goes by; a reward model does not read the request's own."""
    return SCORING if limits.scores else request.sampling


def request_problem(request: AddRequest, limits: EngineLimits) -> str:
    """Why the request cannot run on this engine, or an empty string."""
    params = effective_params(request, limits)
    biased = [token for token, _ in params.logit_bias]
    ids = [part for part in (request.prompt, params.allowed_token_ids, biased, *params.stop_sequences) if part]
    total = len(request.prompt) + params.max_new_tokens
    if not request.prompt:
        return "the prompt has no tokens"
    if total > limits.max_request_tokens:
        new = "one for the score" if limits.scores else f"max_new_tokens {params.max_new_tokens}"
        return (
            f"the prompt's {len(request.prompt)} tokens and {new} are {total} tokens, "
            f"over the limit of {limits.max_request_tokens}"
        )
    if any(min(part) < 0 or max(part) >= limits.vocab_size for part in ids):
        return f"token ids must be in [0, {limits.vocab_size})"
    if request.samples < 1:
        return "a request needs at least one sample"
    if limits.scores and request.samples > 1:
        return "a reward model gives one score, not several samples"
    if not _in_range(params):
        return "a sampling parameter is out of range"
    return _drawing_problem(params, limits)


def _drawing_problem(params: SamplingParams, limits: EngineLimits) -> str:
    """Why tokens cannot be drawn as the request has it, or an empty string."""
    if not limits.host_logits and (params.top_logprobs or params.logit_bias or params.opening):
        return "this engine draws tokens on its device: it has no logit_bias, no top_logprobs and no opening"
    if params.opening and (params.constraint or not well_formed(params.opening, limits.vocab_size)):
        return "the output cannot begin as it should"
    if params.constraint is None:
        return ""
    if not limits.constraints:
        return "this engine cannot constrain its output"
    if params.allowed_token_ids:
        return "allowed_token_ids and another constraint exclude each other"
    if len(params.constraint.text) > MAX_BYTES:
        return f"a constraint may have {MAX_BYTES} bytes"
    return ""


def _in_range(params: SamplingParams) -> bool:
    return (
        _LEAST_TEMPERATURE <= params.temperature <= _LARGEST
        and 0 < params.top_p <= 1
        and (params.top_k == -1 or params.top_k >= 1)
        and abs(params.presence_penalty) <= _LARGEST
        and abs(params.frequency_penalty) <= _LARGEST
        and 1 <= params.repetition_penalty <= _LARGEST
        and 1 <= params.decay_factor <= _LARGEST
        and 1 <= params.min_new_tokens <= params.max_new_tokens
        and 0 <= params.seed < 2**64
        and 0 <= params.top_logprobs <= MAX_TOP_LOGPROBS
        and all(abs(bias) <= _LARGEST for _, bias in params.logit_bias)
        and all(params.stop_sequences)
    )
