"""Writes tiny Hugging Face directories: safetensors, configuration, tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file
from tiny import VOCAB_SIZE, byte_tokenizer_json, tiny_architecture, tiny_weight

from build_engine.families import FAMILIES, expected_tensors
from runtime.bundle.architecture import Architecture

DTYPES = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16}


def weights(family: str = "llama", dtype: str = "f32", **overrides: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Tensors as the family's class saves them."""
    architecture = tiny_architecture(family, **overrides)
    shapes = expected_tensors(architecture)
    tensors = {name: tiny_weight(name, shape, 0).astype(DTYPES[dtype]) for name, shape in shapes.items()}
    if family == "gemma2":
        # Its norms multiply by one more than what is stored.
        tensors = {name: values - 1 if "norm" in name else values for name, values in tensors.items()}
    return _PUBLISHED.get(family, lambda tensors, _: tensors)(tensors, architecture)


def _phi3(tensors: dict[str, Any], architecture: Architecture) -> dict[str, Any]:
    for layer in range(architecture.num_layers):
        for block, packed, parts in (("self_attn", "qkv_proj", "qkv"), ("mlp", "gate_up_proj", ("gate", "up"))):
            prefix = f"model.layers.{layer}.{block}."
            rows = [tensors.pop(f"{prefix}{part}_proj.weight") for part in parts]
            tensors[f"{prefix}{packed}.weight"] = np.concatenate(rows)
    return tensors


def _gemma2(tensors: dict[str, Any], _: Architecture) -> dict[str, Any]:
    names = {
        ".post_attention_layernorm.": ".pre_feedforward_layernorm.",
        ".self_attn.output_norm.": ".post_attention_layernorm.",
        ".mlp.output_norm.": ".post_feedforward_layernorm.",
    }
    return _renamed(tensors, names)


def _internlm2(tensors: dict[str, Any], architecture: Architecture) -> dict[str, Any]:
    groups, dim, hidden = architecture.num_kv_heads, architecture.head_dim, architecture.hidden_size
    for layer in range(architecture.num_layers):
        prefix = f"model.layers.{layer}."
        parts = [tensors.pop(f"{prefix}self_attn.{part}_proj.weight") for part in "qkv"]
        heads = np.concatenate([part.reshape(groups, -1, dim, hidden) for part in parts], axis=1)
        tensors[f"{prefix}attention.wqkv.weight"] = heads.reshape(-1, hidden)
    names = {
        "model.embed_tokens": "model.tok_embeddings",
        "lm_head": "output",
        "score.": "v_head.",
        "input_layernorm": "attention_norm",
        "post_attention_layernorm": "ffn_norm",
        "self_attn.o_proj": "attention.wo",
        "mlp.gate_proj": "feed_forward.w1",
        "mlp.up_proj": "feed_forward.w3",
        "mlp.down_proj": "feed_forward.w2",
    }
    return _renamed(tensors, names)


def _renamed(tensors: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    found = {}
    for name, values in tensors.items():
        old = next((old for old in names if old in name), "")
        found[name.replace(old, names[old]) if old else name] = values
    return found


_PUBLISHED = {"phi3": _phi3, "gemma2": _gemma2, "internlm2": _internlm2}
_OPTIONS: dict[str, dict[str, Any]] = {
    "gemma2": {
        "sliding_window": 5,
        "query_pre_attn_scalar": 40,
        "attn_logit_softcapping": 3.0,
        "final_logit_softcapping": 4.0,
        "hidden_activation": "gelu_pytorch_tanh",
    },
    "internlm2": {"bias": False},
}


def config(family: str = "llama", **changes: Any) -> dict[str, Any]:
    architecture = tiny_architecture(family)
    return {
        "model_type": family,
        "architectures": list(FAMILIES[family].classes),
        "vocab_size": VOCAB_SIZE,
        "hidden_size": architecture.hidden_size,
        "intermediate_size": architecture.intermediate_size,
        "num_hidden_layers": architecture.num_layers,
        "num_attention_heads": architecture.num_heads,
        "num_key_value_heads": architecture.num_kv_heads,
        "head_dim": architecture.head_dim,
        "max_position_embeddings": architecture.context_length,
        "rms_norm_eps": architecture.norm_eps,
        "tie_word_embeddings": architecture.tied_embeddings,
        "sliding_window": architecture.window(0) or None,
        "eos_token_id": 1,
        **_OPTIONS.get(family, {}),
    } | changes


def write_directory(
    folder: Path,
    family: str = "llama",
    dtype: str = "f32",
    *,
    shards: int = 1,
    options: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """A directory as ``save_pretrained`` leaves it.

    ``changes`` go into ``config.json``, ``options`` of the architecture into the weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config(family, **changes))
    tensors = weights(family, dtype, **(options or {}))
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        names = list(tensors)
        parts = {f"model-{index + 1:05}-of-{shards:05}.safetensors": names[index::shards] for index in range(shards)}
        for file, held in parts.items():
            save_file({name: tensors[name] for name in held}, folder / file, metadata={"format": "pt"})
        weight_map = {name: file for file, held in parts.items() for name in held}
        write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})
    (folder / "tokenizer.json").write_bytes(byte_tokenizer_json())
    tokenizer = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    write_json(folder / "tokenizer_config.json", tokenizer)
    return folder


def write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value))
