"""Compiled tiny engines against the float32 reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from paged import BLOCK_SIZE, engine_step, forward, reference_step
from tiny import VOCAB_SIZE, tiny_checkpoint

from build_engine.targets.cpu import CpuOptions, compile_cpu
from build_engine.verify import verify_bundle
from runtime.bundle.architecture import ScoreHead
from runtime.bundle.manifest import ScoreVerification

TOKENS = np.random.RandomState(2).randint(0, VOCAB_SIZE, 40).tolist()


def _kl(reference: np.ndarray, engine: np.ndarray) -> float:
    expected, actual = (logits - np.logaddexp.reduce(logits, axis=1)[:, None] for logits in (reference, engine))
    return float(np.mean(np.sum(np.exp(expected) * (expected - actual), axis=1)))


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "gemma2"])
@pytest.mark.parametrize(
    ("encoding", "precision", "bound"),
    [
        ("q4_1", "import", 0.006),
        ("q4_0", "import", 0.006),
        ("q8_0", "import", 0.006),
        ("f32", "import", 0.006),
        ("f32", "int8", 0.006),
        ("f32", "int4", 0.3),
    ],
)
def test_quantised_engines_stay_close_to_their_checkpoint(
    tmp_path: Path, family: str, encoding: str, precision, bound: float
) -> None:
    checkpoint = tiny_checkpoint(family, encoding=encoding)
    compile_cpu(checkpoint, tmp_path, CpuOptions(precision=precision, block_size=BLOCK_SIZE), lambda *_: None)
    expected = forward(reference_step(checkpoint), TOKENS)
    assert _kl(expected, forward(engine_step(tmp_path), TOKENS)) < bound


def test_gelu_and_partial_rotation_are_options_of_the_same_graph(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(activation="gelu_tanh", rope_dim=8, attention_scale=0.3)
    options = CpuOptions(precision="fp32", kv_dtype="float32", block_size=BLOCK_SIZE)
    compile_cpu(checkpoint, tmp_path, options, lambda *_: None)
    expected = forward(reference_step(checkpoint), TOKENS)
    np.testing.assert_allclose(forward(engine_step(tmp_path), TOKENS), expected, atol=1e-4)


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-6), ("import", 0.006)])
def test_verification_measures_prefill_and_decode(tmp_path: Path, precision, bound: float) -> None:
    checkpoint = tiny_checkpoint(context_length=100)
    compile_cpu(checkpoint, tmp_path, CpuOptions(precision=precision, kv_dtype="float32"), lambda *_: None)
    seen: list[tuple[str, int, int]] = []
    result = verify_bundle(tmp_path, checkpoint, BLOCK_SIZE, lambda *event: seen.append(event))
    assert result.tokens == 500
    assert 0 <= result.mean_kl < bound
    assert result.top1_agreement > 0.88
    assert result.perplexity == pytest.approx(result.reference_perplexity, rel=0.02)
    assert seen[-1] == ("verify", 500, 500)


def test_verification_tells_the_wrong_engine(tmp_path: Path) -> None:
    compile_cpu(tiny_checkpoint(seed=1), tmp_path, CpuOptions(), lambda *_: None)
    result = verify_bundle(tmp_path, tiny_checkpoint(seed=2), BLOCK_SIZE)
    assert result.mean_kl > 0.1
    assert result.top1_agreement < 0.5


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-5), ("int8", 0.06)])
@pytest.mark.parametrize("head", [ScoreHead(), ScoreHead(hidden_size=64, bias=True)], ids=["linear", "layers"])
def test_verification_of_a_reward_model_compares_scores(
    tmp_path: Path, head: ScoreHead, precision, bound: float
) -> None:
    checkpoint = tiny_checkpoint("qwen2", score_head=head, context_length=100)
    compile_cpu(checkpoint, tmp_path, CpuOptions(precision=precision, kv_dtype="float32"), lambda *_: None)
    result = verify_bundle(tmp_path, checkpoint, BLOCK_SIZE)
    assert isinstance(result, ScoreVerification)
    assert result.tokens == 500
    assert result.mean_error < bound * result.reference_deviation
    assert result.mean_error < result.max_error < 10 * bound * result.reference_deviation
    assert result.correlation > 1 - bound**2


def test_verification_tells_the_wrong_reward_engine(tmp_path: Path) -> None:
    compile_cpu(tiny_checkpoint(score_head=ScoreHead(), seed=1), tmp_path, CpuOptions(), lambda *_: None)
    result = verify_bundle(tmp_path, tiny_checkpoint(score_head=ScoreHead(), seed=2), BLOCK_SIZE)
    assert isinstance(result, ScoreVerification)
    assert abs(result.correlation) < 0.5
    assert result.mean_error > 0.5 * result.reference_deviation
