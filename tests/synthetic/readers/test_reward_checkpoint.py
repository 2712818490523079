"""Reward models in Hugging Face directories."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_files import weights, write_directory
from safetensors.numpy import save_file
from tiny import tiny_architecture, tiny_weight

from build_engine.errors import CheckpointError
from build_engine.families import FAMILIES, expected_tensors
from build_engine.sources import open_checkpoint
from runtime.bundle.architecture import ScoreHead

ONE = {"id2label": {"0": "LABEL_0"}}
SINGLE, HIDDEN = ScoreHead(), ScoreHead(hidden_size=64, bias=True)
CASES = [
    *(
        (family, name, SINGLE, ONE)
        for family in FAMILIES
        for name in FAMILIES[family].reward_classes
        if name.endswith("ForSequenceClassification")
    ),
    ("qwen2", "Qwen2ForRewardModel", HIDDEN, {}),
    ("internlm2", "InternLM2ForRewardModel", SINGLE, {"reward_token_id": 3}),
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEREGRINE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tiny-reward"


def write(folder: Path, family: str, name: str, head: ScoreHead, options: dict[str, Any], dtype: str = "f32") -> Path:
    changes = {"architectures": [name], "pad_token_id": 2, **options}
    return write_directory(folder, family, dtype, options={"score_head": head}, **changes)


def refused(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("family", "name", "head", "options"), CASES)
def test_every_reward_class_opens_with_its_head(
    folder: Path, family: str, name: str, head: ScoreHead, options: dict[str, Any]
) -> None:
    checkpoint = open_checkpoint(write(folder, family, name, head, options))
    found = checkpoint.architecture.score_head
    assert found is not None
    assert (found.hidden_size, found.bias) == (head.hidden_size, head.bias)
    assert (found.marker_token_id, found.pad_token_id) == ((3, -1) if family == "internlm2" else (-1, 2))
    expected = expected_tensors(tiny_architecture(family, score_head=head))
    assert set(checkpoint.tensors) == set(expected)
    assert "lm_head.weight" not in expected
    for tensor, shape in expected.items():
        if "score" in tensor:
            np.testing.assert_array_equal(checkpoint.tensors[tensor].float32(), tiny_weight(tensor, shape, 0))


@pytest.mark.parametrize(("family", "name", "head", "options"), CASES)
def test_an_output_head_that_was_left_in_is_ignored(
    folder: Path, family: str, name: str, head: ScoreHead, options: dict[str, Any]
) -> None:
    write(folder, family, name, head, options)
    left = "output.weight" if family == "internlm2" else "lm_head.weight"
    tensors = weights(family, score_head=head) | {left: np.zeros((260, 64), np.float32)}
    save_file(tensors, folder / "model.safetensors")
    assert left not in open_checkpoint(folder).tensors


@pytest.mark.parametrize(("family", "name", "head", "options"), CASES)
def test_a_missing_head_is_named_as_its_class_has_it(
    folder: Path, family: str, name: str, head: ScoreHead, options: dict[str, Any]
) -> None:
    write_directory(folder, family, architectures=[name], **options)
    tensor = "v_head.weight" if family == "internlm2" else "score.0.weight" if head.hidden_size else "score.weight"
    assert f"the score head is missing: there is no tensor '{tensor}'" in refused(folder)


@pytest.mark.parametrize(
    ("family", "name", "head", "tensor", "shape", "said"),
    [
        ("llama", "LlamaForSequenceClassification", SINGLE, "score.weight", (2, 64), "gives 2 scores"),
        ("qwen2", "Qwen2ForRewardModel", HIDDEN, "score.2.weight", (2, 64), "gives 2 scores"),
        ("internlm2", "InternLM2ForRewardModel", SINGLE, "v_head.weight", (3, 64), "gives 3 scores"),
        (
            "llama",
            "LlamaForSequenceClassification",
            SINGLE,
            "score.weight",
            (1, 32),
            "[1, 32]; a model 64 wide has [1, 64]",
        ),
        ("qwen2", "Qwen2ForRewardModel", HIDDEN, "score.0.weight", (32, 64), "[32, 64]; a model 64 wide has [64, 64]"),
        ("qwen2", "Qwen2ForRewardModel", HIDDEN, "score.2.bias", (2,), "[2]; a model 64 wide has [1]"),
    ],
)
def test_heads_of_another_shape_are_refused(
    folder: Path, family: str, name: str, head: ScoreHead, tensor: str, shape: tuple[int, ...], said: str
) -> None:
    write(folder, family, name, head, {"reward_token_id": 3})
    tensors = weights(family, score_head=head)
    save_file(tensors | {tensor: np.zeros(shape, np.float32)}, folder / "model.safetensors")
    message = refused(folder)
    assert f"tensor '{tensor}' has shape" in message
    assert said in message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architectures": ["Qwen2ForProcessRewardModel"]}, "gives a score for each step"),
        ({"architectures": ["Qwen2ForSequenceClassification"], "num_labels": 3}, "the model has 3 labels"),
        (
            {"architectures": ["Qwen2ForTokenClassification"]},
            "Qwen2ForSequenceClassification, Qwen2ForRewardModel to score",
        ),
    ],
)
def test_configurations_of_other_heads_are_refused(folder: Path, changes: dict[str, Any], said: str) -> None:
    message = refused(write_directory(folder, "qwen2", **changes))
    assert f"{folder / 'config.json'}: " in message
    assert said in message
