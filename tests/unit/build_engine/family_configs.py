"""A small ``config.json`` of each family."""

from __future__ import annotations

from typing import Any

import pytest

from build_engine.errors import CheckpointError
from build_engine.families import FAMILIES, architecture_from_config

BASE: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 1000,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
}


def config(model_type: str = "llama", **changes: Any) -> dict[str, Any]:
    return BASE | {"model_type": model_type, "architectures": list(FAMILIES[model_type].classes)} | changes


def refused(values: dict[str, Any]) -> str:
    with pytest.raises(CheckpointError) as caught:
        architecture_from_config(values)
    return str(caught.value)
