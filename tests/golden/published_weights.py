"""Canonical tensors under the names, packing and conventions in which each family is published."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from tiny import tiny_weights

from build_engine.checkpoint import Checkpoint
from runtime.bundle.architecture import Architecture

Weights = dict[str, npt.NDArray[np.float32]]

_GEMMA2_NORMS = {
    "self_attn.output_norm": "post_attention_layernorm",
    "post_attention_layernorm": "pre_feedforward_layernorm",
    "mlp.output_norm": "post_feedforward_layernorm",
}
_INTERNLM2_NAMES = {
    "model.embed_tokens": "model.tok_embeddings",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.down_proj": "feed_forward.w2",
    "mlp.up_proj": "feed_forward.w3",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
    "lm_head": "output",
    "score": "v_head",
}


def published_weights(checkpoint: Checkpoint) -> Weights:
    """The tensors of a checkpoint as its family's own model code wants them."""
    weights = tiny_weights(checkpoint)
    publish = _FAMILIES.get(checkpoint.architecture.family)
    return weights if publish is None else publish(weights, checkpoint.architecture)


def _phi3(weights: Weights, architecture: Architecture) -> Weights:
    """One matrix for Q, K and V, and one for gate and up."""
    for layer in range(architecture.num_layers):
        prefix = f"model.layers.{layer}"
        attention = [weights.pop(f"{prefix}.self_attn.{part}_proj.weight") for part in "qkv"]
        weights[f"{prefix}.self_attn.qkv_proj.weight"] = np.concatenate(attention)
        mlp = [weights.pop(f"{prefix}.mlp.{part}_proj.weight") for part in ("gate", "up")]
        weights[f"{prefix}.mlp.gate_up_proj.weight"] = np.concatenate(mlp)
    return weights


def _gemma2(weights: Weights, architecture: Architecture) -> Weights:
    """Norm weights are one less than what they multiply by."""
    return {
        _renamed(name, _GEMMA2_NORMS): values - np.float32(1) if "norm" in name else values
        for name, values in weights.items()
    }


def _internlm2(weights: Weights, architecture: Architecture) -> Weights:
    """Q, K and V in one matrix by key-value head: its query heads, its key head, its value head."""
    for layer in range(architecture.num_layers):
        parts = [weights.pop(f"model.layers.{layer}.self_attn.{part}_proj.weight") for part in "qkv"]
        grouped = [part.reshape(architecture.num_kv_heads, -1, architecture.hidden_size) for part in parts]
        packed = np.concatenate(grouped, axis=1).reshape(-1, architecture.hidden_size)
        weights[f"model.layers.{layer}.attention.wqkv.weight"] = packed
    return {_renamed(name, _INTERNLM2_NAMES): values for name, values in weights.items()}


def _renamed(name: str, names: dict[str, str]) -> str:
    for canonical, published in names.items():
        if name.removesuffix(".weight").endswith(canonical):
            return name.replace(canonical, published)
    return name


_FAMILIES: dict[str, Callable[[Weights, Architecture], Weights]] = {
    "phi3": _phi3,
    "gemma2": _gemma2,
    "internlm2": _internlm2,
}
