"""Turns an engine's configuration and the machine's memory into limits: plain arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.config import EngineConfig
from runtime.limits import EngineLimits

DEFAULT_REQUEST_TOKENS = 16384
"""LightLLM's default of ``max_req_total_len``; a model with a shorter context lowers it."""
DEFAULT_RUNNING = 128
DEFAULT_STEP_TOKENS = 256
LARGEST_STEP_TOKENS = 1024
"""A step is what a new request, an abort and ``/health`` wait for; larger ones gain nothing on a CPU."""
HEADROOM_TOKENS = 8
"""LightLLM's rule: ``max_total_token_num`` is at least ``max_req_total_len`` plus this."""
USUAL_KV_BYTES = 256 * 2**20
LARGEST_KV_SHARE = 0.25
ASSUMED_AVAILABLE_BYTES = 2**31


class SizingError(Exception):
    """The limits contradict each other or the machine; the message is for the operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """What sizing has to know of a model."""

    context_length: int
    block_size: int
    kv_bytes_per_token: int
    vocab_size: int
    eos_token_ids: tuple[int, ...]
    scores: bool = False


def choose_limits(model: ModelSize, config: EngineConfig, available_bytes: int | None) -> EngineLimits:
    """Limits of the engine.

    Args:
        model: The model.
        config: The operator's wishes.
        available_bytes: Memory that the process may still take; ``None`` where that is not known.

    Raises:
        SizingError: A wish cannot be met.
    """
    if available_bytes is None:
        available_bytes = ASSUMED_AVAILABLE_BYTES
    request_tokens = wanted_request_tokens(model, config) or min(DEFAULT_REQUEST_TOKENS, model.context_length)
    total = config.max_total_tokens
    if total is None:
        request_tokens, total = _automatic_total(model, config, request_tokens, available_bytes)
    if total < request_tokens + HEADROOM_TOKENS:
        message = (
            f"max_total_token_num {total} is too small for max_req_total_len {request_tokens}: "
            f"it must be at least {request_tokens + HEADROOM_TOKENS}"
        )
        raise SizingError(message)
    if total * model.kv_bytes_per_token > available_bytes:
        message = (
            f"max_total_token_num {total} needs {megabytes(total * model.kv_bytes_per_token)} MB of KV cache, "
            f"{megabytes(available_bytes)} MB are available"
        )
        raise SizingError(message)
    step_tokens = min(config.max_step_tokens or DEFAULT_STEP_TOKENS, LARGEST_STEP_TOKENS)
    return EngineLimits(
        max_request_tokens=request_tokens,
        max_total_tokens=-(-total // model.block_size) * model.block_size,
        max_running=min(config.max_running or DEFAULT_RUNNING, step_tokens),
        max_queued=config.max_queued,
        max_queued_tokens=config.queued_tokens,
        max_queue_seconds=config.max_queue_seconds,
        max_step_tokens=step_tokens,
        block_size=model.block_size,
        vocab_size=model.vocab_size,
        eos_token_ids=chosen_eos(model, config),
        kv_bytes_per_token=model.kv_bytes_per_token,
        scores=model.scores,
    )


def wanted_request_tokens(model: ModelSize, config: EngineConfig) -> int | None:
    """The operator's longest request, if one was named.

    Raises:
        SizingError: The model cannot take it.
    """
    wanted = config.max_request_tokens
    if wanted is not None and wanted > model.context_length:
        message = f"max_req_total_len {wanted} is over the model's context of {model.context_length} tokens"
        raise SizingError(message)
    return wanted


def chosen_eos(model: ModelSize, config: EngineConfig) -> tuple[int, ...]:
    """The ids that end a sample: the operator's, or the model's.

    Raises:
        SizingError: One is not in the vocabulary.
    """
    eos = config.eos_token_ids if config.eos_token_ids is not None else model.eos_token_ids
    if any(not 0 <= token < model.vocab_size for token in eos):
        message = f"EOS ids must be in [0, {model.vocab_size}): {list(eos)}"
        raise SizingError(message)
    return eos


def megabytes(size: int) -> int:
    """Bytes as MiB, rounded up."""
    return -(-size // 2**20)


def _automatic_total(
    model: ModelSize, config: EngineConfig, request_tokens: int, available_bytes: int
) -> tuple[int, int]:
    """Longest request and KV capacity in tokens, when the operator did not name the capacity."""
    share = config.memory_fraction
    ceiling = int((LARGEST_KV_SHARE if share is None else share) * available_bytes)
    ceiling = max(ceiling, USUAL_KV_BYTES) // model.kv_bytes_per_token
    needed = request_tokens + HEADROOM_TOKENS
    if needed > ceiling:
        if config.max_request_tokens is not None:
            message = (
                f"max_req_total_len {request_tokens} needs {megabytes(needed * model.kv_bytes_per_token)} MB of KV "
                f"cache, {megabytes(ceiling * model.kv_bytes_per_token)} MB may be used: "
                f"lower it, or set max_total_token_num"
            )
            raise SizingError(message)
        return ceiling - HEADROOM_TOKENS, ceiling
    usual = ceiling if share is not None else USUAL_KV_BYTES // model.kv_bytes_per_token
    return request_tokens, max(needed, min(usual, ceiling))
