"""Rotary settings of ``config.json``, in the layouts of transformers 4 and 5."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

from build_engine.errors import CheckpointError
from build_engine.families.fields import Fields
from build_engine.families.rope_factors import longrope_attention_factor, longrope_scaling, rotation
from runtime.bundle.architecture import RopeScaling

_SUPPORTED = "default, dynamic, linear, llama3 and longrope"


def rope_fields(
    config: Mapping[str, Any], head_dim: int, *, partial: bool = False, original_context: int = 0
) -> dict[str, Any]:
    """Keyword arguments of ``Architecture`` for rotation, and ``context_length``, which LongRoPE bounds.

    Args:
        config: Parsed ``config.json``; where both layouts are there, that of transformers 4 counts.
        head_dim: Dimensions of a head.
        partial: The family can rotate a part of each head.
        original_context: The class's own default of ``original_max_position_embeddings``; 0 where it has none.
    """
    fields = Fields(config)
    table = fields.table("rope_scaling") or fields.table("rope_parameters")
    rope = Fields(table)
    theta = rope.positive("rope_theta", fields.positive("rope_theta", 10000.0))
    share = rope.positive("partial_rotary_factor", fields.positive("partial_rotary_factor", 1.0))
    # NOTE: transformers takes the factor from any configuration, but most classes rotate whole heads regardless.
    if share > 1.0 or (share != 1.0 and not partial):
        raise CheckpointError(
            f"partial_rotary_factor is {share}; rotation of a part of each head is not supported for this family"
        )
    if any(type(value) is dict for value in table.values()):
        raise CheckpointError("rope_parameters differ from layer to layer, which is not supported")
    rope_dim = int(head_dim * share)
    scaling = _scaling(fields, rope, rope_dim, original_context)
    context = fields.dimension("max_position_embeddings")
    return rotation(theta, rope_dim, head_dim, context, scaling)


def _scaling(fields: Fields, rope: Fields, rope_dim: int, original_context: int) -> RopeScaling | None:
    kind = rope.text("rope_type") or rope.text("type") or "default"
    # NOTE: dynamic scaling changes nothing up to max_position_embeddings, and no longer context is served.
    if kind in ("default", "dynamic"):
        return None
    if kind == "linear":
        return RopeScaling(kind="linear", factor=rope.positive("factor"))
    if kind == "llama3":
        return _llama3(fields, rope)
    if kind in ("longrope", "su"):
        return _longrope(fields, rope, rope_dim, original_context)
    raise CheckpointError(f"rope scaling {reprlib.repr(kind)} is not supported; supported are {_SUPPORTED}")


def _llama3(fields: Fields, rope: Fields) -> RopeScaling:
    low, high = rope.positive("low_freq_factor"), rope.positive("high_freq_factor")
    if low >= high:
        raise CheckpointError(f"low_freq_factor {low} has to be less than high_freq_factor {high}")
    return RopeScaling(
        kind="llama3",
        factor=rope.positive("factor"),
        low_freq_factor=low,
        high_freq_factor=high,
        original_context_length=_original_context(fields, rope, 0),
    )


def _longrope(fields: Fields, rope: Fields, rope_dim: int, default: int) -> RopeScaling:
    original = _original_context(fields, rope, default)
    stretch = rope.positive("factor", fields.dimension("max_position_embeddings") / original)
    factor = rope.positive("attention_factor", longrope_attention_factor(stretch, original))
    return longrope_scaling(rope.numbers("short_factor"), original, factor, rope_dim, "short_factor")


def _original_context(fields: Fields, rope: Fields, default: int) -> int:
    # NOTE: transformers lets the key beside the table, or the class's default for it, override the one in the table.
    if default:
        return fields.dimension("original_max_position_embeddings", default)
    context = rope.dimension("original_max_position_embeddings", fields.dimension("max_position_embeddings"))
    return fields.dimension("original_max_position_embeddings", context)
