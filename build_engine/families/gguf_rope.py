"""Rotary settings of GGUF metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from build_engine.errors import CheckpointError
from build_engine.families.fields import Fields
from build_engine.families.rope_factors import llama3_scaling, longrope_attention_factor, longrope_scaling, rotation
from runtime.bundle.architecture import RopeScaling

LLAMA3_FACTORS, SHORT_FACTORS, LONG_FACTORS = (
    "rope_freqs.weight",
    "rope_factors_short.weight",
    "rope_factors_long.weight",
)
FACTOR_TENSORS = (LLAMA3_FACTORS, SHORT_FACTORS, LONG_FACTORS)
"""Tensors that are settings: the reader puts their values into the metadata under the same names."""


def gguf_rope_fields(fields: Fields, metadata: Mapping[str, Any], head_dim: int) -> dict[str, Any]:
    """Keyword arguments of ``Architecture`` for rotation, and ``context_length``, which LongRoPE bounds."""
    rope_dim = fields.dimension("rope.dimension_count", head_dim)
    theta = fields.positive("rope.freq_base", 10000.0)
    context = fields.dimension("context_length")
    scaling = _scaling(fields, metadata, theta, rope_dim)
    return rotation(theta, rope_dim, head_dim, context, scaling)


def _scaling(fields: Fields, metadata: Mapping[str, Any], theta: float, rope_dim: int) -> RopeScaling | None:
    kind = fields.text("rope.scaling.type") or "none"
    # NOTE: LongRoPE goes by its tensors; converters of Phi-3 do not name it.
    short = metadata.get(SHORT_FACTORS)
    if short is not None and kind in ("none", "longrope"):
        return _longrope(fields, short, rope_dim)
    factors = metadata.get(LLAMA3_FACTORS)
    for name, found in ((LLAMA3_FACTORS, factors), (SHORT_FACTORS, short)):
        if found is not None and kind != "none":
            raise CheckpointError(f"rope scaling {kind!r} together with the tensor {name!r} is not supported")
    if factors is not None:
        return llama3_scaling(factors, theta, rope_dim)
    if kind == "linear":
        return RopeScaling(kind="linear", factor=fields.positive("rope.scaling.factor"))
    if kind != "none":
        raise CheckpointError(
            f"rope scaling {kind!r} is not supported; supported are none, linear, Llama 3's ({LLAMA3_FACTORS}) and "
            f"LongRoPE ({SHORT_FACTORS})"
        )
    # NOTE: files older than `rope.scaling.type` have the linear factor under this key.
    old_linear = fields.positive("rope.scale_linear", 1.0)
    return None if old_linear == 1.0 else RopeScaling(kind="linear", factor=old_linear)


def _longrope(fields: Fields, short: list[float], rope_dim: int) -> RopeScaling:
    context = fields.dimension("context_length")
    original = fields.dimension("rope.scaling.original_context_length", context)
    factor = fields.positive("rope.scaling.attn_factor", longrope_attention_factor(context / original, original))
    return longrope_scaling(short, original, factor, rope_dim, f"tensor {SHORT_FACTORS!r}")
