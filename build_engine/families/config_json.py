"""The fields of ``config.json`` that all families share, with transformers' names and defaults."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any, Literal

from build_engine.errors import CheckpointError
from build_engine.families.fields import MAX_LAYERS, Fields
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
    theta, scaling = _rope(fields)
    return {
        "vocab_size": fields.dimension("vocab_size"),
        "hidden_size": hidden,
        "intermediate_size": fields.dimension("intermediate_size"),
        "num_layers": fields.dimension("num_hidden_layers", most=MAX_LAYERS),
        "num_heads": heads,
        "num_kv_heads": fields.dimension("num_key_value_heads", kv_heads or heads),
        "head_dim": dim,
        "context_length": fields.dimension("max_position_embeddings"),
        "norm_eps": fields.positive("rms_norm_eps", 1e-6),
        "rope_theta": theta,
        "rope_scaling": scaling,
        "tied_embeddings": fields.flag("tie_word_embeddings"),
        "activation": _activation(fields),
    }


def windows_by_layer(config: Mapping[str, Any]) -> tuple[int, ...]:
    """Sliding windows of the Qwen families: ``use_sliding_window``, ``max_window_layers`` and ``layer_types``."""
    fields = Fields(config)
    layers = fields.dimension("num_hidden_layers", most=MAX_LAYERS)
    if not fields.flag("use_sliding_window") or config.get("sliding_window", 4096) is None:
        return ()
    window = fields.dimension("sliding_window", 4096)
    kinds = fields.names("layer_types")
    if not kinds:
        first = config.get("max_window_layers", 28)
        if type(first) is not int:
            raise CheckpointError(f"max_window_layers is {reprlib.repr(first)}; it has to be an integer")
        return tuple(window if layer >= first else 0 for layer in range(layers))
    known = {"sliding_attention": window, "full_attention": 0}
    if len(kinds) != layers or not set(kinds) <= set(known):
        raise CheckpointError(f"layer_types has to name {layers} layers, each one of {', '.join(known)}")
    return tuple(known[kind] for kind in kinds)


def _rope(fields: Fields) -> tuple[float, RopeScaling | None]:
    """Base frequency and scaling, from transformers 4's and 5's layouts; where both are there, 4's counts."""
    table = fields.table("rope_scaling") or fields.table("rope_parameters")
    rope = Fields(table)
    theta = rope.positive("rope_theta", fields.positive("rope_theta", 10000.0))
    # NOTE: transformers takes the factor from any configuration, but the classes read here rotate whole heads.
    if rope.positive("partial_rotary_factor", fields.positive("partial_rotary_factor", 1.0)) != 1.0:
        raise CheckpointError("partial_rotary_factor is not 1; rotation of a part of each head is not supported")
    if any(type(value) is dict for value in table.values()):
        raise CheckpointError("rope_parameters differ from layer to layer, which is not supported")
    kind = rope.text("rope_type") or rope.text("type") or "default"
    scaling: RopeScaling | None
    if kind == "default":
        scaling = None
    elif kind == "linear":
        scaling = RopeScaling(kind="linear", factor=rope.positive("factor"))
    elif kind == "llama3":
        scaling = _llama3(fields, rope)
    else:
        raise CheckpointError(
            f"rope scaling {reprlib.repr(kind)} is not supported; supported are default, linear and llama3"
        )
    return theta, scaling


def _llama3(fields: Fields, rope: Fields) -> RopeScaling:
    low, high = rope.positive("low_freq_factor"), rope.positive("high_freq_factor")
    if low >= high:
        raise CheckpointError(f"low_freq_factor {low} has to be less than high_freq_factor {high}")
    # NOTE: transformers lets a key beside the table override the one in it.
    context = rope.dimension("original_max_position_embeddings", fields.dimension("max_position_embeddings"))
    return RopeScaling(
        kind="llama3",
        factor=rope.positive("factor"),
        low_freq_factor=low,
        high_freq_factor=high,
        original_context_length=fields.dimension("original_max_position_embeddings", context),
    )


def _activation(fields: Fields) -> Literal["silu", "gelu_tanh"]:
    name = fields.text("hidden_act", "silu")
    if name not in _ACTIVATIONS:
        raise CheckpointError(
            f"hidden_act {reprlib.repr(name)} is not supported; supported are {', '.join(_ACTIVATIONS)}"
        )
    return _ACTIVATIONS[name]
