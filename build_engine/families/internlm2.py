"""InternLM 2 and 2.5: Llama under other names, with Q, K and V of each key-value head packed together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from build_engine.families.config_json import shared_fields
from build_engine.families.family import Family, TensorShapes
from build_engine.families.fields import Fields
from build_engine.families.gguf_metadata import shared_gguf_fields
from build_engine.families.layout import GGUF, Layout, Packed
from build_engine.families.score_heads import marked
from runtime.bundle.architecture import Architecture

_MODULES = {
    "model.embed_tokens": "model.tok_embeddings",
    "lm_head": "output",
    "score": "v_head",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.up_proj": "feed_forward.w3",
    "mlp.down_proj": "feed_forward.w2",
}
_QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")


def _from_config(config: Mapping[str, Any]) -> Architecture:
    # NOTE: the published configuration class has biases unless told otherwise; all released models say otherwise.
    bias = Fields(config).flag("bias", default=True)
    return Architecture(family="internlm2", attention_bias=bias, output_bias=bias, **shared_fields(config))


def _from_gguf(metadata: Mapping[str, Any], tensors: TensorShapes) -> Architecture:
    return Architecture(family="internlm2", **shared_gguf_fields(metadata, tensors))


INTERNLM2 = Family(
    name="internlm2",
    model_types=("internlm2",),
    classes=("InternLM2ForCausalLM",),
    gguf_architectures=("internlm2",),
    from_config=_from_config,
    from_gguf=_from_gguf,
    reward_classes={"InternLM2ForRewardModel": marked},
    huggingface=Layout(modules=_MODULES, packed=(Packed("attention.wqkv", _QKV, by_kv_head=True),)),
    gguf=replace(GGUF, interleaved=True),
)
