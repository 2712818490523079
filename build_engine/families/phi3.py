"""Phi-3, Phi-3.5 and Phi-4 (mini): Llama with packed projections, LongRoPE and, in places, partial rotation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from build_engine.families.config_json import Defaults, shared_fields
from build_engine.families.family import Family, TensorShapes
from build_engine.families.fields import Fields
from build_engine.families.gguf_metadata import shared_gguf_fields
from build_engine.families.layout import GGUF, Layout, Packed
from build_engine.families.score_heads import sequence_classifier
from runtime.bundle.architecture import Architecture

_DEFAULTS = Defaults(norm_eps=1e-5, partial_rotation=True, original_context=4096)
_DEFAULT_PAD = 32000
_QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_GATE_UP = ("mlp.gate_proj", "mlp.up_proj")


def _from_config(config: Mapping[str, Any]) -> Architecture:
    shared = shared_fields(config, _DEFAULTS)
    window = Fields(config).dimension("sliding_window") if config.get("sliding_window") is not None else 0
    windows = (window,) * shared["num_layers"] if window else ()
    return Architecture(family="phi3", sliding_windows=windows, **shared)


def _from_gguf(metadata: Mapping[str, Any], tensors: TensorShapes) -> Architecture:
    # NOTE: llama.cpp itself runs this family without windows; the file's window is the one transformers applies.
    return Architecture(family="phi3", **shared_gguf_fields(metadata, tensors))


PHI3 = Family(
    name="phi3",
    model_types=("phi3",),
    classes=("Phi3ForCausalLM",),
    gguf_architectures=("phi3",),
    from_config=_from_config,
    from_gguf=_from_gguf,
    reward_classes={"Phi3ForSequenceClassification": partial(sequence_classifier, default_pad=_DEFAULT_PAD)},
    huggingface=Layout(packed=(Packed("self_attn.qkv_proj", _QKV), Packed("mlp.gate_up_proj", _GATE_UP))),
    gguf=replace(GGUF, packed=(Packed("attn_qkv", _QKV), Packed("ffn_up", _GATE_UP))),
)
