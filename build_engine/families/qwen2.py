"""Qwen 2 and 2.5: Llama with biases on Q, K and V alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from build_engine.families.config_json import shared_fields, windows_by_layer
from build_engine.families.family import Family, TensorShapes
from build_engine.families.gguf_metadata import shared_gguf_fields
from build_engine.families.score_heads import sequence_classifier, two_layers
from runtime.bundle.architecture import Architecture


def _from_config(config: Mapping[str, Any]) -> Architecture:
    return Architecture(
        family="qwen2",
        attention_bias=True,
        sliding_windows=windows_by_layer(config),
        **shared_fields(config),
    )


def _from_gguf(metadata: Mapping[str, Any], tensors: TensorShapes) -> Architecture:
    return Architecture(family="qwen2", **shared_gguf_fields(metadata, tensors))


QWEN2 = Family(
    name="qwen2",
    model_types=("qwen2",),
    classes=("Qwen2ForCausalLM",),
    gguf_architectures=("qwen2",),
    from_config=_from_config,
    from_gguf=_from_gguf,
    reward_classes={"Qwen2ForSequenceClassification": sequence_classifier, "Qwen2ForRewardModel": two_layers},
)
