"""Architectures in the terms of transformers' configurations."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig

from runtime.bundle.architecture import Architecture, RopeScaling


def transformers_config(architecture: Architecture) -> Any:
    """The configuration of an architecture's family; classifiers get one label."""
    return AutoConfig.for_model(
        architecture.family,
        vocab_size=architecture.vocab_size,
        hidden_size=architecture.hidden_size,
        intermediate_size=architecture.intermediate_size,
        num_hidden_layers=architecture.num_layers,
        num_attention_heads=architecture.num_heads,
        num_key_value_heads=architecture.num_kv_heads,
        head_dim=architecture.head_dim,
        max_position_embeddings=architecture.context_length,
        rms_norm_eps=architecture.norm_eps,
        rope_parameters=_rope_parameters(architecture),
        tie_word_embeddings=architecture.tied_embeddings,
        num_labels=1,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        **_OPTIONS[architecture.family](architecture),
    )


def _rope_parameters(architecture: Architecture) -> dict[str, Any]:
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": architecture.rope_theta}
    scaling = architecture.rope_scaling
    if architecture.rope_dim:
        rope["partial_rotary_factor"] = architecture.rope_dim / architecture.head_dim
    if scaling is None:
        return rope
    rope["rope_type"] = scaling.kind
    if scaling.kind != "linear":
        rope["original_max_position_embeddings"] = scaling.original_context_length
    if scaling.kind == "longrope":
        return rope | _longrope_factors(scaling)
    rope["factor"] = scaling.factor
    if scaling.kind == "llama3":
        rope |= {"low_freq_factor": scaling.low_freq_factor, "high_freq_factor": scaling.high_freq_factor}
    return rope


def _longrope_factors(scaling: RopeScaling) -> dict[str, list[float]]:
    """Right factors for the side of the original context that all lengths in the goldens are on, wrong ones beyond."""
    wrong = [2 * factor for factor in scaling.factors]
    long = scaling.original_context_length < 12
    short_factor, long_factor = (wrong, list(scaling.factors)) if long else (list(scaling.factors), wrong)
    return {"short_factor": short_factor, "long_factor": long_factor}


def _windows(architecture: Architecture) -> dict[str, Any]:
    if not architecture.sliding_windows:
        return {"use_sliding_window": False}
    kinds = ["sliding_attention" if window else "full_attention" for window in architecture.sliding_windows]
    return {"use_sliding_window": True, "sliding_window": max(architecture.sliding_windows), "layer_types": kinds}


_OPTIONS: dict[str, Any] = {
    "llama": lambda a: {"attention_bias": a.attention_bias, "mlp_bias": a.mlp_bias},
    "mistral": lambda a: {"sliding_window": a.sliding_windows[0]},
    "qwen2": _windows,
    "qwen3": lambda a: {**_windows(a), "attention_bias": a.attention_bias},
    "phi3": lambda a: {
        "sliding_window": a.sliding_windows[0] if a.sliding_windows else None,
        "original_max_position_embeddings": a.rope_scaling.original_context_length if a.rope_scaling else 4096,
    },
    "gemma2": lambda a: {
        "sliding_window": max(a.sliding_windows),
        "query_pre_attn_scalar": round(a.attention_scale**-2),
        "attn_logit_softcapping": a.attention_softcap,
        "final_logit_softcapping": a.logits_softcap,
    },
}
