"""A rotated model computes what it did before, in float."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from paged import forward, reference_step
from tiny import VOCAB_SIZE, tiny_checkpoint

from build_engine.passes import rotated
from runtime.bundle.architecture import ScoreHead

TOKENS = np.random.RandomState(2).randint(0, VOCAB_SIZE, 40).tolist()
BIASES = {"attention_bias": True, "output_bias": True, "mlp_bias": True}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama tied with biases": ("llama", {"tied_embeddings": True, **BIASES}),
    "nine times eight wide": ("llama", {"hidden_size": 72, "head_dim": 12, **BIASES}),
    "a head for each query": ("llama", {"num_kv_heads": 4}),
    "scaled embeddings": ("llama", {"embedding_scale": 8.0, "logits_softcap": 4.0}),
    "mistral": ("mistral", {}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"output_bias": True}),
    "phi3": ("phi3", {"rope_dim": 8}),
    "internlm2": ("internlm2", {}),
    "score": ("internlm2", {"score_head": ScoreHead()}),
    "score of a tied model": ("qwen2", {"score_head": ScoreHead(bias=True)}),
    "score of two layers": ("qwen2", {"score_head": ScoreHead(hidden_size=48, bias=True), "tied_embeddings": False}),
}


@pytest.mark.parametrize(("family", "overrides"), CASES.values(), ids=CASES)
def test_outputs_are_those_of_the_model_before(family: str, overrides: dict[str, Any]) -> None:
    checkpoint = tiny_checkpoint(family, **overrides)
    expected = forward(reference_step(checkpoint), TOKENS)
    actual = forward(reference_step(rotated(checkpoint)), TOKENS)
    np.testing.assert_allclose(actual, expected, atol=3e-6 * np.abs(expected).max())


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_predictions_diverge_by_rounding_alone(family: str) -> None:
    checkpoint = tiny_checkpoint(family)
    expected, actual = (
        logits - np.logaddexp.reduce(logits.astype(np.float64), axis=1)[:, None]
        for logits in (forward(reference_step(model), TOKENS) for model in (checkpoint, rotated(checkpoint)))
    )
    assert np.mean(np.sum(np.exp(expected) * (expected - actual), axis=1)) < 1e-10


@pytest.mark.parametrize(
    "name",
    [
        "model.embed_tokens.weight",
        "lm_head.weight",
        "model.layers.0.input_layernorm.weight",
        "model.layers.1.self_attn.v_proj.weight",
        "model.layers.1.self_attn.o_proj.bias",
        "model.layers.0.mlp.down_proj.weight",
    ],
)
def test_the_comparison_tells_a_tensor_that_was_left_out(name: str) -> None:
    checkpoint = tiny_checkpoint(**BIASES)
    made = rotated(checkpoint)
    expected = forward(reference_step(checkpoint), TOKENS)
    made.tensors[name] = checkpoint.tensors[name]  # type: ignore[index]
    actual = forward(reference_step(made), TOKENS)
    assert np.abs(actual - expected).max() > 0.01 * np.abs(expected).max()
