"""Gemma 2: norms after attention and MLP too, softcaps, scaled embeddings, windows on every other layer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from build_engine.errors import CheckpointError
from build_engine.families.config_json import Defaults, shared_fields, windows_of_types
from build_engine.families.family import Family, TensorShapes
from build_engine.families.fields import Fields
from build_engine.families.gguf_metadata import gguf_fields, shared_gguf_fields
from build_engine.families.layout import Layout
from build_engine.families.score_heads import sequence_classifier
from runtime.bundle.architecture import Architecture

_DEFAULTS = Defaults(
    head_dim=256,
    kv_heads=4,
    tied=True,
    activation_key="hidden_activation",
    activation="gelu_pytorch_tanh",
)
_DEFAULT_WINDOW, _DEFAULT_PAD, _DEFAULT_QUERY_SCALAR = 4096, 0, 256.0
_ATTENTION_SOFTCAP, _LOGITS_SOFTCAP = 50.0, 30.0
_LAYERS_27B = 46
_MODULES = {
    "self_attn.output_norm": "post_attention_layernorm",
    "post_attention_layernorm": "pre_feedforward_layernorm",
    "mlp.output_norm": "post_feedforward_layernorm",
}


def _from_config(config: Mapping[str, Any]) -> Architecture:
    fields = Fields(config)
    if fields.flag("use_bidirectional_attention"):
        raise CheckpointError("use_bidirectional_attention is set: the model is an encoder")
    shared, bias = shared_fields(config, _DEFAULTS), fields.flag("attention_bias")
    return Architecture(
        family="gemma2",
        attention_bias=bias,
        output_bias=bias,
        attention_scale=fields.positive("query_pre_attn_scalar", _DEFAULT_QUERY_SCALAR) ** -0.5,
        attention_softcap=_softcap(config, "attn_logit_softcapping", _ATTENTION_SOFTCAP),
        logits_softcap=_softcap(config, "final_logit_softcapping", _LOGITS_SOFTCAP),
        embedding_scale=shared["hidden_size"] ** 0.5,
        output_norms=True,
        sliding_windows=_windows(config, shared["num_layers"]),
        **shared,
    )


def _from_gguf(metadata: Mapping[str, Any], tensors: TensorShapes) -> Architecture:
    fields, shared = gguf_fields(metadata), shared_gguf_fields(metadata, tensors)
    layers, hidden = shared["num_layers"], shared["hidden_size"]
    # NOTE: the file does not have the scale of queries; this is llama.cpp's rule for the three released sizes.
    scalar = hidden / shared["num_heads"] if layers == _LAYERS_27B else shared["head_dim"]
    window = fields.dimension("attention.sliding_window", _DEFAULT_WINDOW)
    period = fields.dimension("attention.sliding_window_pattern", 2)
    return Architecture(
        **shared
        | {
            "family": "gemma2",
            "activation": "gelu_tanh",
            "attention_scale": scalar**-0.5,
            "attention_softcap": fields.positive("attn_logit_softcapping", _ATTENTION_SOFTCAP),
            "logits_softcap": fields.positive("final_logit_softcapping", _LOGITS_SOFTCAP),
            "embedding_scale": hidden**0.5,
            "output_norms": True,
            "sliding_windows": tuple(window if layer % period < period - 1 else 0 for layer in range(layers)),
        }
    )


def _softcap(config: Mapping[str, Any], key: str, default: float) -> float:
    """The cap under ``key``; null turns it off, absence means ``default``."""
    return 0.0 if key in config and config[key] is None else Fields(config).positive(key, default)


def _windows(config: Mapping[str, Any], layers: int) -> tuple[int, ...]:
    if "sliding_window" in config and config["sliding_window"] is None:
        return ()
    window = Fields(config).dimension("sliding_window", _DEFAULT_WINDOW)
    return windows_of_types(Fields(config), window, layers) or tuple(
        0 if layer % 2 else window for layer in range(layers)
    )


GEMMA2 = Family(
    name="gemma2",
    model_types=("gemma2",),
    classes=("Gemma2ForCausalLM",),
    gguf_architectures=("gemma2",),
    from_config=_from_config,
    from_gguf=_from_gguf,
    reward_classes={"Gemma2ForSequenceClassification": partial(sequence_classifier, default_pad=_DEFAULT_PAD)},
    huggingface=Layout(modules=_MODULES, norm_offset=1.0),
)
