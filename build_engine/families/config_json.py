"""The fields of ``config.json`` that all families share, with transformers' names and defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from build_engine.errors import CheckpointError
from build_engine.families.fields import Fields
from runtime.bundle.architecture import RopeScaling

_ACTIVATIONS: dict[str, Literal["silu", "gelu_tanh"]] = {
    "silu": "silu",
    "swish": "silu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}


def shared_fields(config: Mapping[str, Any], *, head_dim: int = 0, kv_heads: int = 0) -> dict[str, Any]:
    """Keyword arguments of ``Architecture`` that every family reads alike.

    Args:
        config: Parsed ``config.json``.
        head_dim: The family's default where ``head_dim`` is absent; 0 for ``hidden_size / num_attention_heads``.
        kv_heads: The family's default where ``num_key_value_heads`` is absent; 0 for one per head.
    """
    fields = Fields(config)
    hidden, heads = fields.dimension("hidden_size"), fields.dimension("num_attention_heads")
    dim = fields.dimension("head_dim", head_dim or max(hidden // heads, 1))
    theta, rope_dim, scaling = _rope(fields, dim)
    return {
        "vocab_size": fields.dimension("vocab_size"),
        "hidden_size": hidden,
        "intermediate_size": fields.dimension("intermediate_size"),
        "num_layers": fields.dimension("num_hidden_layers"),
        "num_heads": heads,
        "num_kv_heads": fields.dimension("num_key_value_heads", kv_heads or heads),
        "head_dim": dim,
        "context_length": fields.dimension("max_position_embeddings"),
        "norm_eps": fields.positive("rms_norm_eps", 1e-6),
        "rope_theta": theta,
        "rope_dim": rope_dim,
        "rope_scaling": scaling,
        "tied_embeddings": fields.flag("tie_word_embeddings"),
        "activation": _activation(fields),
    }


def windows_by_layer(config: Mapping[str, Any]) -> tuple[int, ...]:
    """Sliding windows of the Qwen families: ``use_sliding_window``, ``max_window_layers`` and ``layer_types``."""
    fields = Fields(config)
    layers = fields.dimension("num_hidden_layers")
    if not fields.flag("use_sliding_window") or config.get("sliding_window", 4096) is None:
        return ()
    window = fields.dimension("sliding_window", 4096)
    kinds = fields.names("layer_types")
    if not kinds:
        first = config.get("max_window_layers", 28)
        if type(first) is not int:
            raise CheckpointError(f"max_window_layers is {first!r}; it has to be an integer")
        return tuple(window if layer >= first else 0 for layer in range(layers))
    known = {"sliding_attention": window, "full_attention": 0}
    if len(kinds) != layers or not set(kinds) <= set(known):
        raise CheckpointError(f"layer_types has to name {layers} layers, each one of {', '.join(known)}")
    return tuple(known[kind] for kind in kinds)


def _rope(fields: Fields, head_dim: int) -> tuple[float, int, RopeScaling | None]:
    """Base frequency, rotating dimensions (0 = all) and scaling, from transformers 4's and 5's layouts."""
    table = fields.table("rope_parameters") or fields.table("rope_scaling")
    rope = Fields(table)
    theta = rope.positive("rope_theta", fields.positive("rope_theta", 10000.0))
    share = rope.positive("partial_rotary_factor", fields.positive("partial_rotary_factor", 1.0))
    rope_dim = int(head_dim * share)
    kind = rope.text("rope_type") or rope.text("type") or "default"
    scaling: RopeScaling | None
    if kind == "default":
        scaling = None
    elif kind == "linear":
        scaling = RopeScaling(kind="linear", factor=rope.positive("factor"))
    elif kind == "llama3":
        context = fields.dimension("max_position_embeddings")
        scaling = RopeScaling(
            kind="llama3",
            factor=rope.positive("factor"),
            low_freq_factor=rope.positive("low_freq_factor"),
            high_freq_factor=rope.positive("high_freq_factor"),
            original_context_length=rope.dimension("original_max_position_embeddings", context),
        )
    else:
        raise CheckpointError(f"rope scaling {kind!r} is not supported; supported are default, linear and llama3")
    return theta, 0 if rope_dim == head_dim else rope_dim, scaling


def _activation(fields: Fields) -> Literal["silu", "gelu_tanh"]:
    name = fields.text("hidden_act", "silu")
    if name not in _ACTIVATIONS:
        raise CheckpointError(f"hidden_act {name!r} is not supported; supported are {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]
