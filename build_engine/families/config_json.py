"""The fields of ``config.json`` that all families share, with transformers' names and defaults."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from build_engine.errors import CheckpointError
from build_engine.families.config_rope import rope_fields
from build_engine.families.fields import MAX_LAYERS, Fields

_ACTIVATIONS: dict[str, Literal["silu", "gelu_tanh"]] = {
    "silu": "silu",
    "swish": "silu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a configuration class of transformers has where a key is absent, as far as classes differ.

    Attributes:
        head_dim: 0 for ``hidden_size / num_attention_heads``.
        kv_heads: 0 for one per head.
        norm_eps: Of RMSNorm.
        tied: ``tie_word_embeddings``.
        activation_key: Where the activation's name is.
        activation: Its name.
        partial_rotation: ``partial_rotary_factor`` is honoured.
        original_context: ``original_max_position_embeddings``; 0 where the class has none of its own.
    """

    head_dim: int = 0
    kv_heads: int = 0
    norm_eps: float = 1e-6
    tied: bool = False
    activation_key: str = "hidden_act"
    activation: str = "silu"
    partial_rotation: bool = False
    original_context: int = 0


def shared_fields(config: Mapping[str, Any], defaults: Defaults | None = None) -> dict[str, Any]:
    """Keyword arguments of ``Architecture`` that every family reads alike.

    Args:
        config: Parsed ``config.json``.
        defaults: The family's own.
    """
    fields, absent = Fields(config), defaults or Defaults()
    # NOTE: transformers' masks go by this key in every family.
    if not fields.flag("is_causal", default=True):
        raise CheckpointError("is_causal is false: the model is an encoder")
    hidden, heads = fields.dimension("hidden_size"), fields.dimension("num_attention_heads")
    head_dim = fields.dimension("head_dim", absent.head_dim or max(hidden // heads, 1))
    return {
        "vocab_size": fields.dimension("vocab_size"),
        "hidden_size": hidden,
        "intermediate_size": fields.dimension("intermediate_size"),
        "num_layers": fields.dimension("num_hidden_layers", most=MAX_LAYERS),
        "num_heads": heads,
        "num_kv_heads": fields.dimension("num_key_value_heads", absent.kv_heads or heads),
        "head_dim": head_dim,
        "norm_eps": fields.positive("rms_norm_eps", absent.norm_eps),
        "tied_embeddings": fields.flag("tie_word_embeddings", absent.tied),
        "activation": _activation(fields, absent),
        **rope_fields(config, head_dim, partial=absent.partial_rotation, original_context=absent.original_context),
    }


def windows_by_layer(config: Mapping[str, Any]) -> tuple[int, ...]:
    """Sliding windows of the Qwen families: ``use_sliding_window``, ``max_window_layers`` and ``layer_types``."""
    fields = Fields(config)
    layers = fields.dimension("num_hidden_layers", most=MAX_LAYERS)
    if not fields.flag("use_sliding_window") or config.get("sliding_window", 4096) is None:
        return ()
    window = fields.dimension("sliding_window", 4096)
    typed = windows_of_types(fields, window, layers)
    if typed is not None:
        return typed
    first = config.get("max_window_layers", 28)
    if type(first) is not int:
        raise CheckpointError(f"max_window_layers is {reprlib.repr(first)}; it has to be an integer")
    return tuple(window if layer >= first else 0 for layer in range(layers))


def windows_of_types(fields: Fields, window: int, layers: int) -> tuple[int, ...] | None:
    """The window of each of ``layers`` by ``layer_types``, or ``None`` where that is absent."""
    kinds = fields.names("layer_types")
    if not kinds:
        return None
    known = {"sliding_attention": window, "full_attention": 0}
    if len(kinds) != layers or not set(kinds) <= set(known):
        raise CheckpointError(f"layer_types has to name {layers} layers, each one of {', '.join(known)}")
    return tuple(known[kind] for kind in kinds)


def _activation(fields: Fields, absent: Defaults) -> Literal["silu", "gelu_tanh"]:
    name = fields.text(absent.activation_key, absent.activation)
    if name not in _ACTIVATIONS:
        known = ", ".join(_ACTIVATIONS)
        raise CheckpointError(f"{absent.activation_key} {reprlib.repr(name)} is not supported; supported are {known}")
    return _ACTIVATIONS[name]
