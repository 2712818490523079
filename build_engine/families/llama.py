"""Llama 1 to 3, and the models that share its graph under the same name: SmolLM, TinyLlama, Yi, ..."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from build_engine.families.config_json import shared_fields
from build_engine.families.family import Family, TensorShapes
from build_engine.families.fields import Fields
from build_engine.families.gguf_metadata import shared_gguf_fields
from build_engine.families.layout import GGUF
from build_engine.families.score_heads import sequence_classifier
from runtime.bundle.architecture import Architecture


def _from_config(config: Mapping[str, Any]) -> Architecture:
    fields = Fields(config)
    # NOTE: transformers' Llama gives one flag to all four attention projections.
    bias = fields.flag("attention_bias")
    return Architecture(
        family="llama",
        attention_bias=bias,
        output_bias=bias,
        mlp_bias=fields.flag("mlp_bias"),
        **shared_fields(config),
    )


def _from_gguf(metadata: Mapping[str, Any], tensors: TensorShapes) -> Architecture:
    return Architecture(family="llama", **shared_gguf_fields(metadata, tensors))


LLAMA = Family(
    name="llama",
    model_types=("llama",),
    classes=("LlamaForCausalLM",),
    gguf_architectures=("llama",),
    from_config=_from_config,
    from_gguf=_from_gguf,
    reward_classes={"LlamaForSequenceClassification": sequence_classifier},
    gguf=replace(GGUF, interleaved=True),
)
