"""Limits of an engine with linear KV slots: how many slots fit."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.config import EngineConfig
from runtime.engine.sizing import (
    ASSUMED_AVAILABLE_BYTES,
    ModelSize,
    SizingError,
    chosen_eos,
    megabytes,
    wanted_request_tokens,
)
from runtime.limits import EngineLimits

HOST_SHARE = 0.25
"""Of the available memory of the machine, unless the operator says otherwise."""
DEVICE_SHARE = 0.9
"""Of the memory that a GPU has left beside the engine; the rest is for CUDA graphs and other processes' whims."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotBounds:
    """What was baked into the engine.

    Attributes:
        slots: The largest batch.
        chunk: Tokens that it takes in one run of one slot.
    """

    slots: int
    chunk: int


def choose_slot_limits(
    model: ModelSize,
    bounds: SlotBounds,
    config: EngineConfig,
    available_bytes: int | None,
    default_share: float,
    *,
    row_bytes: int = 0,
) -> EngineLimits:
    """Limits of the engine: as many slots as were built for, wished for, and fit.

    Args:
        model: The model; its block is a slot, longer than its context by one token.
        bounds: What the engine was built for.
        config: The operator's wishes.
        available_bytes: Memory that slots may be allocated in; ``None`` where that is not known.
        default_share: Of that, unless the operator says otherwise.
        row_bytes: What a sequence takes of it beside its slot.

    Raises:
        SizingError: A wish cannot be met, or not one slot fits.
    """
    available = ASSUMED_AVAILABLE_BYTES if available_bytes is None else available_bytes
    request_tokens = wanted_request_tokens(model, config) or model.context_length
    slot_bytes = model.block_size * model.kv_bytes_per_token + row_bytes
    if config.max_total_tokens is not None:
        fits = _named_slots(model, slot_bytes, config.max_total_tokens, available)
    else:
        fits = _fitting_slots(model, slot_bytes, int((config.memory_fraction or default_share) * max(0, available)))
    slots = min(bounds.slots, fits, config.max_running or bounds.slots)
    step_tokens = config.max_step_tokens or max(bounds.chunk, slots)
    slots = min(slots, step_tokens)
    return EngineLimits(
        max_request_tokens=request_tokens,
        max_total_tokens=slots * model.block_size,
        max_running=slots,
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


def _named_slots(model: ModelSize, slot_bytes: int, total: int, available: int) -> int:
    slots = total // model.block_size
    if slots < 1:
        message = (
            f"max_total_token_num {total} is less than one KV slot of this engine, {model.block_size} tokens: "
            f"raise it, or build the engine for shorter requests"
        )
        raise SizingError(message)
    if slots * slot_bytes > available:
        message = (
            f"max_total_token_num {total} needs {megabytes(slots * slot_bytes)} MB of KV slots, "
            f"{megabytes(max(0, available))} MB are available"
        )
        raise SizingError(message)
    return slots


def _fitting_slots(model: ModelSize, slot_bytes: int, usable: int) -> int:
    if usable < slot_bytes:
        message = (
            f"one KV slot of {model.block_size} tokens needs {megabytes(slot_bytes)} MB, {megabytes(usable)} MB may be "
            f"used: raise mem_fraction, or build the engine for shorter requests"
        )
        raise SizingError(message)
    return usable // slot_bytes
