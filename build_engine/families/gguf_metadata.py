"""The metadata keys of GGUF files that all families share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from build_engine.errors import CheckpointError
from build_engine.families.family import TensorShapes
from build_engine.families.fields import MAX_LAYERS, Fields
from build_engine.families.rope_factors import llama3_scaling
from runtime.bundle.architecture import RopeScaling


def shared_gguf_fields(metadata: Mapping[str, Any], tensors: TensorShapes) -> dict[str, Any]:
    """Keyword arguments of ``Architecture`` that every family reads alike.

    Args:
        metadata: Of the file; may hold the values of ``rope_freqs.weight`` as a list under that name.
        tensors: Shapes by GGUF name; biases and a tied head are read off their presence.
    """
    fields = Fields(metadata, f"{metadata.get('general.architecture')}.")
    hidden, heads = fields.dimension("embedding_length"), fields.dimension("attention.head_count")
    head_dim = fields.dimension("attention.key_length", max(hidden // heads, 1))
    value_dim = fields.dimension("attention.value_length", head_dim)
    if value_dim != head_dim:
        raise CheckpointError(f"value heads of {value_dim} dimensions beside key heads of {head_dim} are not supported")
    rope_dim = fields.dimension("rope.dimension_count", head_dim)
    theta = fields.positive("rope.freq_base", 10000.0)
    embedding = tensors.get("token_embd.weight", (0,))
    layers, window = fields.dimension("block_count", most=MAX_LAYERS), fields.raw("attention.sliding_window") or 0
    return {
        "vocab_size": fields.dimension("vocab_size", embedding[0] or None),
        "hidden_size": hidden,
        "intermediate_size": fields.dimension("feed_forward_length"),
        "num_layers": layers,
        "num_heads": heads,
        "num_kv_heads": fields.dimension("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "context_length": fields.dimension("context_length"),
        "norm_eps": fields.positive("attention.layer_norm_rms_epsilon"),
        "rope_theta": theta,
        "rope_dim": 0 if rope_dim == head_dim else rope_dim,
        "rope_scaling": _scaling(fields, metadata.get("rope_freqs.weight"), theta, rope_dim),
        "tied_embeddings": "output.weight" not in tensors,
        "attention_bias": "blk.0.attn_q.bias" in tensors,
        "output_bias": "blk.0.attn_output.bias" in tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in tensors,
        "sliding_windows": (fields.dimension("attention.sliding_window"),) * layers if window else (),
    }


def _scaling(fields: Fields, factors: list[float] | None, theta: float, rope_dim: int) -> RopeScaling | None:
    kind = fields.text("rope.scaling.type") or "none"
    # NOTE: files older than `rope.scaling.type` have the linear factor under this key.
    old_linear = fields.positive("rope.scale_linear", 1.0)
    if factors is not None:
        if kind != "none":
            raise CheckpointError(f"rope scaling {kind!r} together with a rope_freqs tensor is not supported")
        return llama3_scaling(factors, theta, rope_dim)
    if kind == "linear":
        return RopeScaling(kind="linear", factor=fields.positive("rope.scaling.factor"))
    if kind != "none":
        raise CheckpointError(
            f"rope scaling {kind!r} is not supported; supported are none, linear and Llama 3's (rope_freqs)"
        )
    return None if old_linear == 1.0 else RopeScaling(kind="linear", factor=old_linear)
