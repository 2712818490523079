"""Qwen 3 (dense): Llama with an RMSNorm over each head of Q and K."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from build_engine.families.config_json import Defaults, shared_fields, windows_by_layer
from build_engine.families.family import Family, TensorShapes
from build_engine.families.fields import Fields
from build_engine.families.gguf_metadata import shared_gguf_fields
from build_engine.families.score_heads import sequence_classifier
from runtime.bundle.architecture import Architecture

_DEFAULTS = Defaults(head_dim=128)


def _from_config(config: Mapping[str, Any]) -> Architecture:
    bias = Fields(config).flag("attention_bias")
    return Architecture(
        family="qwen3",
        qk_norm=True,
        attention_bias=bias,
        output_bias=bias,
        sliding_windows=windows_by_layer(config),
        **shared_fields(config, _DEFAULTS),
    )


def _from_gguf(metadata: Mapping[str, Any], tensors: TensorShapes) -> Architecture:
    return Architecture(family="qwen3", qk_norm=True, **shared_gguf_fields(metadata, tensors))


QWEN3 = Family(
    name="qwen3",
    model_types=("qwen3",),
    classes=("Qwen3ForCausalLM",),
    gguf_architectures=("qwen3",),
    from_config=_from_config,
    from_gguf=_from_gguf,
    reward_classes={"Qwen3ForSequenceClassification": sequence_classifier},
)
