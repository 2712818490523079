"""Mistral: Llama without biases and with one sliding window for all layers. GGUF files of it say ``llama``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from build_engine.families.config_json import Defaults, shared_fields
from build_engine.families.family import Family, TensorShapes
from build_engine.families.fields import Fields
from build_engine.families.gguf_metadata import shared_gguf_fields
from build_engine.families.score_heads import sequence_classifier
from runtime.bundle.architecture import Architecture

_DEFAULT_WINDOW = 4096
_DEFAULTS = Defaults(kv_heads=8)


def _from_config(config: Mapping[str, Any]) -> Architecture:
    shared = shared_fields(config, _DEFAULTS)
    # NOTE: an absent window is the class's default, a null one is full attention.
    full = "sliding_window" in config and config["sliding_window"] is None
    window = 0 if full else Fields(config).dimension("sliding_window", _DEFAULT_WINDOW)
    windows = (window,) * shared["num_layers"] if window else ()
    return Architecture(family="mistral", sliding_windows=windows, **shared)


def _from_gguf(metadata: Mapping[str, Any], tensors: TensorShapes) -> Architecture:
    return Architecture(family="mistral", **shared_gguf_fields(metadata, tensors))


MISTRAL = Family(
    name="mistral",
    model_types=("mistral",),
    classes=("MistralForCausalLM",),
    gguf_architectures=(),
    from_config=_from_config,
    from_gguf=_from_gguf,
    reward_classes={"MistralForSequenceClassification": sequence_classifier},
)
