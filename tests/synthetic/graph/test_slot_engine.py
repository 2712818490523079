"""Compiled slot graphs on onnxruntime against the float32 reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from paged import forward, greedy_with_neighbours, reference_step
from slot_engine import SEQUENCE, compile_slots, slot_step
from tiny import VOCAB_SIZE, tiny_checkpoint

from build_engine.verify import verify_bundle
from runtime.bundle.architecture import ScoreHead
from runtime.bundle.manifest import ScoreVerification
from runtime.executors.ort_slots import OrtSlotRunner
from runtime.executors.slots import SlotRun

TOKENS = np.random.RandomState(2).randint(0, VOCAB_SIZE, 40).tolist()


def _kl(reference: np.ndarray, engine: np.ndarray) -> float:
    expected, actual = (logits - np.logaddexp.reduce(logits, axis=1)[:, None] for logits in (reference, engine))
    return float(np.mean(np.sum(np.exp(expected) * (expected - actual), axis=1)))


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gemma2"])
@pytest.mark.parametrize(
    ("encoding", "precision", "bound"),
    [
        ("f32", "fp16", 1e-5),
        ("f32", "bf16", 1e-3),
        ("f32", "int8", 1e-3),
        ("f32", "int4", 0.3),
        ("q8_0", "import", 1e-5),
        ("q4_0", "import", 1e-5),
        ("q4_1", "import", 1e-3),
    ],
)
def test_reduced_weights_stay_close_to_their_checkpoint(
    tmp_path: Path, family: str, encoding: str, precision: str, bound: float
) -> None:
    checkpoint = tiny_checkpoint(family, encoding=encoding)
    compile_slots(checkpoint, tmp_path, precision=precision, element="float16")
    assert _kl(forward(reference_step(checkpoint), TOKENS), forward(slot_step(tmp_path), TOKENS)) < bound


@pytest.mark.parametrize(
    "options",
    [
        {"activation": "gelu_tanh", "rope_dim": 8, "attention_scale": 0.3},
        {"attention_softcap": 2.0, "num_kv_heads": 1, "sliding_windows": (9, 0), "qk_norm": True},
        {"attention_softcap": 2.0, "num_kv_heads": 4, "head_dim": 24, "embedding_scale": 5.0},
        {"logits_softcap": 2.0, "output_norms": True, "num_kv_heads": 4, "sliding_windows": (1, 40)},
    ],
    ids=str,
)
def test_options_combine(tmp_path: Path, options: dict[str, object]) -> None:
    checkpoint = tiny_checkpoint(**options)
    compile_slots(checkpoint, tmp_path)
    expected = forward(reference_step(checkpoint), TOKENS)
    np.testing.assert_allclose(forward(slot_step(tmp_path), TOKENS), expected, atol=1e-4)
    want = greedy_with_neighbours(reference_step(checkpoint), TOKENS[:9], 12)
    assert greedy_with_neighbours(slot_step(tmp_path), TOKENS[:9], 12) == want


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2"])
def test_what_lies_behind_a_slots_end_changes_nothing(tmp_path: Path, family: str) -> None:
    compile_slots(tiny_checkpoint(family), tmp_path)
    answers = []
    for garbage in (0.0, 1e4, -1e4):
        runner = OrtSlotRunner(tmp_path, slots=3, chunk=16, threads=1)
        for pool in runner._pools.values():
            pool[:] = garbage
        for start in (0, 9):
            ids = np.array([TOKENS[start : start + 9]])
            index, rows = np.array([start]), np.arange(9)
            logits = runner.run(SlotRun(1, ids, index, rows, rows, decode=False)).copy()
        answers.append(logits)
    np.testing.assert_array_equal(answers[0], answers[1])
    np.testing.assert_array_equal(answers[0], answers[2])


def test_a_parked_slot_may_be_full(tmp_path: Path) -> None:
    compile_slots(tiny_checkpoint(), tmp_path)
    runner = OrtSlotRunner(tmp_path, slots=2, chunk=16, threads=1)
    index, rows = np.array([SEQUENCE, 0]), np.arange(2)
    assert runner.capacity > SEQUENCE
    logits = runner.run(SlotRun(0, np.array([[0], [7]]), index, rows, rows, decode=True))
    np.testing.assert_allclose(logits[1:], forward(reference_step(tiny_checkpoint()), [7]), atol=1e-4)


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-9), ("int8", 3e-3)])
def test_verification_measures_prefill_and_decode(tmp_path: Path, precision: str, bound: float) -> None:
    checkpoint = tiny_checkpoint(context_length=100)
    kv = compile_slots(checkpoint, tmp_path, precision=precision, sequence=100).kv
    seen: list[tuple[str, int, int]] = []
    result = verify_bundle(tmp_path, checkpoint, kv.block_size, lambda *event: seen.append(event), kind=kv.kind)
    assert result.tokens == 500
    assert 0 <= result.mean_kl < bound
    assert seen[-1] == ("verify", 500, 500)


def test_verification_takes_no_more_of_a_text_than_a_slot_holds(tmp_path: Path) -> None:
    kv = compile_slots(tiny_checkpoint(), tmp_path, sequence=20).kv
    assert verify_bundle(tmp_path, tiny_checkpoint(), kv.block_size, kind="linear").tokens == 5 * (kv.block_size - 1)


def test_verification_tells_the_wrong_engine(tmp_path: Path) -> None:
    kv = compile_slots(tiny_checkpoint(seed=1), tmp_path).kv
    assert verify_bundle(tmp_path, tiny_checkpoint(seed=2), kv.block_size, kind="linear").mean_kl > 0.1


def test_verification_of_a_reward_model_compares_scores(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("qwen2", score_head=ScoreHead(hidden_size=64, bias=True))
    kv = compile_slots(checkpoint, tmp_path, precision="fp16").kv
    result = verify_bundle(tmp_path, checkpoint, kv.block_size, kind="linear")
    assert isinstance(result, ScoreVerification)
    assert result.mean_error < 0.01 * result.reference_deviation
    assert result.correlation > 0.9999
