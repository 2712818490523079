"""The metadata keys of GGUF files that all families share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from build_engine.errors import CheckpointError
from build_engine.families.family import TensorShapes
from build_engine.families.fields import MAX_LAYERS, Fields
from build_engine.families.gguf_rope import gguf_rope_fields


def gguf_fields(metadata: Mapping[str, Any]) -> Fields:
    """The keys of the file's own architecture, without their prefix."""
    return Fields(metadata, f"{metadata.get('general.architecture')}.")


def shared_gguf_fields(metadata: Mapping[str, Any], tensors: TensorShapes) -> dict[str, Any]:
    """Keyword arguments of ``Architecture`` that every family reads alike.

    Args:
        metadata: Of the file; may hold the values of rotary factor tensors as lists under their names.
        tensors: Shapes by GGUF name; biases and a tied head are read off their presence.
    """
    fields = gguf_fields(metadata)
    hidden, heads = fields.dimension("embedding_length"), fields.dimension("attention.head_count")
    head_dim = fields.dimension("attention.key_length", max(hidden // heads, 1))
    value_dim = fields.dimension("attention.value_length", head_dim)
    if value_dim != head_dim:
        raise CheckpointError(f"value heads of {value_dim} dimensions beside key heads of {head_dim} are not supported")
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
        "norm_eps": fields.positive("attention.layer_norm_rms_epsilon"),
        "tied_embeddings": "output.weight" not in tensors,
        "attention_bias": "blk.0.attn_q.bias" in tensors,
        "output_bias": "blk.0.attn_output.bias" in tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in tensors,
        "sliding_windows": (fields.dimension("attention.sliding_window"),) * layers if window else (),
        **gguf_rope_fields(fields, metadata, head_dim),
    }
