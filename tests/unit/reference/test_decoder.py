"""What the options of an architecture do to the reference decoder, seen at its outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiny import tiny_checkpoint, tiny_weights

from build_engine.checkpoint import Checkpoint
from runtime.bundle.architecture import ScoreHead
from runtime.reference.decoder import ReferenceDecoder

TOKENS = np.array([5, 6, 7, 8, 9])


def _step(checkpoint: Checkpoint, rows: list[int], *, rowwise: bool = False, **weights: Any) -> np.ndarray:
    decoder = ReferenceDecoder(checkpoint.architecture, tiny_weights(checkpoint) | weights, rowwise=rowwise)
    pool = (2, checkpoint.architecture.num_kv_heads, 4, checkpoint.architecture.head_dim)
    keys, values = ([np.zeros(pool, np.float32) for _ in range(2)] for _ in range(2))
    lengths = (np.array([0, 5], np.int32), np.array([0], np.int32), np.array([[0, 1]], np.int32))
    return decoder.step(TOKENS, *lengths, np.array(rows, np.int64), keys, values)


@pytest.mark.parametrize("rowwise", [False, True], ids=["matrices", "rowwise"])
@pytest.mark.parametrize("head", [ScoreHead(), ScoreHead(bias=True), ScoreHead(hidden_size=10, bias=True)], ids=str)
@pytest.mark.parametrize("family", ["llama", "qwen2", "phi3", "gemma2", "internlm2"])
def test_a_reward_model_gives_a_number_for_each_wanted_row(family: str, head: ScoreHead, rowwise: bool) -> None:
    checkpoint = tiny_checkpoint(family, score_head=head)
    whole = _step(checkpoint, [0, 1, 2, 3, 4], rowwise=rowwise)
    assert (whole.shape, whole.dtype) == ((5,), np.float32)
    np.testing.assert_allclose(_step(checkpoint, [4, 1], rowwise=rowwise), whole[[4, 1]], rtol=1e-5)
    assert _step(checkpoint, [], rowwise=rowwise).shape == (0,)


def test_the_hidden_layer_of_a_score_head_has_a_relu() -> None:
    checkpoint = tiny_checkpoint(score_head=ScoreHead(hidden_size=10, bias=True))
    quiet = {"score.0.bias": np.full(10, -1e6, np.float32), "score.2.bias": np.array([3.5], np.float32)}
    np.testing.assert_array_equal(_step(checkpoint, [0, 4], **quiet), np.full(2, 3.5, np.float32))


def test_softcapped_logits_are_the_bent_ones() -> None:
    plain = _step(tiny_checkpoint(), [4])
    capped = _step(tiny_checkpoint(logits_softcap=1.5), [4])
    np.testing.assert_allclose(capped, 1.5 * np.tanh(plain / 1.5), rtol=1e-5)


def test_an_embedding_scale_is_the_same_as_larger_embeddings() -> None:
    checkpoint = tiny_checkpoint()
    name = "model.embed_tokens.weight"
    larger = {name: tiny_weights(checkpoint)[name] * np.float32(4)}
    np.testing.assert_array_equal(_step(tiny_checkpoint(embedding_scale=4.0), [4]), _step(checkpoint, [4], **larger))


def test_an_output_norm_of_zeros_silences_its_branch() -> None:
    checkpoint = tiny_checkpoint(output_norms=True)
    names = [f"model.layers.{layer}.{part}.output_norm.weight" for layer in range(2) for part in ("self_attn", "mlp")]
    silent = _step(checkpoint, [4], **{name: np.zeros(64, np.float32) for name in names})
    weights = tiny_weights(checkpoint)
    embedded = weights["model.embed_tokens.weight"][TOKENS[4]]
    normed = embedded / np.sqrt(np.mean(embedded**2) + 1e-5) * weights["model.norm.weight"]
    np.testing.assert_allclose(silent[0], weights["lm_head.weight"] @ normed, rtol=1e-4, atol=1e-5)
