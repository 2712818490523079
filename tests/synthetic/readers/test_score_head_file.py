"""Score heads in files of their own: what fits a backbone, and one message for what does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tiny import tiny_checkpoint

from build_engine.checkpoint import Checkpoint
from build_engine.errors import CheckpointError
from build_engine.families import expected_tensors
from build_engine.readers.score_head_file import attach_score_head
from runtime.bundle.architecture import ScoreHead

HIDDEN = 64
SINGLE = {"score.weight": (1, HIDDEN)}
DOUBLE = {"score.0.weight": (10, HIDDEN), "score.2.weight": (1, 10)}


@pytest.fixture(params=["llama", "qwen2"], ids=["own head", "tied head"])
def backbone(request: pytest.FixtureRequest) -> Checkpoint:
    return tiny_checkpoint(request.param)


def write(folder: Path, shapes: dict[str, tuple[int, ...]], metadata: dict[str, str] | None = None) -> Path:
    path = folder / "head.safetensors"
    draws = np.random.default_rng(0)
    save_file({name: draws.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}, path, metadata)
    return path


@pytest.mark.parametrize(
    ("shapes", "head"),
    [
        (SINGLE, ScoreHead()),
        (SINGLE | {"score.bias": (1,)}, ScoreHead(bias=True)),
        (DOUBLE, ScoreHead(hidden_size=10)),
        (DOUBLE | {"score.0.bias": (10,), "score.2.bias": (1,)}, ScoreHead(hidden_size=10, bias=True)),
    ],
)
def test_a_head_takes_the_place_of_the_output_head(
    backbone: Checkpoint, tmp_path: Path, shapes: dict[str, tuple[int, ...]], head: ScoreHead
) -> None:
    reward = attach_score_head(backbone, write(tmp_path, shapes), "f" * 64)
    assert reward.architecture.score_head == head
    assert list(reward.tensors) == list(expected_tensors(reward.architecture))
    assert "lm_head.weight" not in reward.tensors
    assert {name: tensor.float32().shape for name, tensor in reward.tensors.items() if "score" in name} == shapes
    shared = [name for name in reward.tensors if name.startswith("model.")]
    assert all(reward.tensors[name] is backbone.tensors[name] for name in shared)
    assert reward.source.digest == "f" * 64
    assert reward.tokenizer_json == backbone.tokenizer_json


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({"score.weight": (1, 32)}, r"'score.weight' has shape \[1, 32\]; the model 'tiny-.*' needs \[1, 64\]"),
        ({"score.weight": (2, HIDDEN)}, r"shape \[2, 64\]"),
        ({"score.weight": (HIDDEN,)}, r"shape \[64\]"),
        (SINGLE | {"score.bias": (2,)}, r"'score.bias' has shape \[2\]"),
        (SINGLE | {"v_head.weight": (1, HIDDEN)}, "'v_head.weight' is unknown"),
        (SINGLE | DOUBLE, "'score.weight' is unknown"),
        (SINGLE | {"lm_head.weight": (260, HIDDEN)}, "'lm_head.weight' is unknown"),
        ({"score.0.weight": (10, HIDDEN)}, "'score.2.weight' is missing"),
        (DOUBLE | {"score.0.bias": (10,)}, "'score.2.bias' is missing"),
        (DOUBLE | {"score.2.bias": (1,)}, "'score.2.bias' is unknown"),
        ({"score.0.weight": (10, HIDDEN), "score.2.weight": (1, 9)}, r"'score.2.weight' has shape \[1, 9\]"),
        ({"score.0.weight": (0, HIDDEN), "score.2.weight": (1, 0)}, "'score.0.weight' is empty"),
        ({"value.weight": (1, HIDDEN)}, "it is no score head"),
        ({}, "it is no score head"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    backbone: Checkpoint, tmp_path: Path, shapes: dict[str, tuple[int, ...]], said: str
) -> None:
    with pytest.raises(CheckpointError, match=rf"head\.safetensors: .*{said}"):
        attach_score_head(backbone, write(tmp_path, shapes))


def test_a_head_is_for_the_backbone_that_it_was_trained_on(backbone: Checkpoint, tmp_path: Path) -> None:
    path = write(tmp_path, SINGLE, {"backbone_sha256": backbone.source.digest})
    assert attach_score_head(backbone, path).architecture.score_head == ScoreHead()
    path = write(tmp_path, SINGLE, {"backbone_sha256": "ab" * 32})
    with pytest.raises(CheckpointError, match=r"trained on a checkpoint of sha256 abababababab\.\.\., but tiny-"):
        attach_score_head(backbone, path)


def test_a_reward_model_takes_no_second_head(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has a score head already"):
        attach_score_head(tiny_checkpoint(score_head=ScoreHead()), write(tmp_path, SINGLE))


def test_a_file_that_is_not_safetensors_is_one_message(backbone: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    path.write_bytes(b"not a head")
    with pytest.raises(CheckpointError, match=r"head\.safetensors: is not a usable safetensors file"):
        attach_score_head(backbone, path)


def test_a_value_that_is_not_finite_is_refused_when_it_is_read(backbone: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    save_file({"score.weight": np.full((1, HIDDEN), np.nan, np.float32)}, path)
    reward = attach_score_head(backbone, path)
    with pytest.raises(CheckpointError, match="not finite"):
        reward.tensors["score.weight"].float32()
