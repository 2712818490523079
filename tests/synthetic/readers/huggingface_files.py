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

DTYPES = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16}


def weights(family: str = "llama", dtype: str = "f32") -> dict[str, np.ndarray[Any, Any]]:
    shapes = expected_tensors(tiny_architecture(family))
    return {name: tiny_weight(name, shape, 0).astype(DTYPES[dtype]) for name, shape in shapes.items()}


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
    } | changes


def write_directory(
    folder: Path, family: str = "llama", dtype: str = "f32", *, shards: int = 1, **changes: Any
) -> Path:
    """A directory as ``save_pretrained`` leaves it; ``changes`` go into ``config.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config(family, **changes))
    tensors = weights(family, dtype)
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
