"""From a backbone and a head file to a bundle whose scores are the head's, on a tiny model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from huggingface_files import write_directory
from paged import forward, reference_step
from safetensors import safe_open
from tiny import tiny_checkpoint

from build_engine.build import build_bundle
from build_engine.errors import BuildError
from build_engine.options import BuildOptions
from build_engine.progress import Progress
from build_engine.readers.score_head_file import attach_score_head
from build_engine.reward_head.__main__ import main
from build_engine.reward_head.engine_scores import engine_scores
from build_engine.reward_head.features import encode_groups, last_hidden_states
from build_engine.reward_head.head_file import write_head
from build_engine.reward_head.train import TrainedHead

GROUPS = [["one text", "one text that goes on", "one more"], ["another"], ["?", "!"]]
TEXTS = [text for group in GROUPS for text in group]
HEAD = TrainedHead(np.random.default_rng(0).standard_normal(64).astype(np.float32), np.float32(0.25), 0.1)


@pytest.fixture
def head_file(tmp_path: Path) -> Path:
    path = tmp_path / "head.safetensors"
    write_head(path, HEAD, {"b": "2", "a": "1"})
    return path


def test_a_written_head_is_safetensors_and_the_same_every_time(head_file: Path, tmp_path: Path) -> None:
    with safe_open(head_file, framework="numpy") as file:
        assert file.metadata() == {"a": "1", "b": "2"}
        np.testing.assert_array_equal(file.get_tensor("score.weight")[0], HEAD.weight)
        assert file.get_tensor("score.bias").tolist() == [0.25]
    other = tmp_path / "other"
    write_head(other, HEAD, {"a": "1", "b": "2"})
    assert other.read_bytes() == head_file.read_bytes()
    assert head_file.stat().st_size < 4000


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_hidden_states_are_what_the_head_sees(family: str, head_file: Path) -> None:
    backbone = tiny_checkpoint(family)
    scores = HEAD.scores(last_hidden_states(backbone, GROUPS, Progress()))
    step = reference_step(attach_score_head(backbone, head_file))
    [ids] = encode_groups(backbone.tokenizer_json, [TEXTS])
    assert scores == pytest.approx([forward(step, text)[-1] for text in ids], abs=1e-4)


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head_file: Path) -> Path:
    monkeypatch.setenv("PEREGRINE_CACHE", str(tmp_path / "cache"))
    write_directory(tmp_path / "backbone", "llama", "f32")
    path = tmp_path / "tiny-reward.toml"
    path.write_text(
        'description = "x"\nlicence = "y"\n'
        f'[source]\nkind = "path"\npath = "backbone"\n[head]\nfile = "{head_file.name}"\n'
    )
    return path


def test_the_engine_of_a_recipe_with_a_head_gives_its_scores(recipe: Path, head_file: Path) -> None:
    options = BuildOptions(precision="fp32", kv_dtype="float32", block_size=4, verify=False)
    bundle = build_bundle(str(recipe), options)
    without = tiny_checkpoint("llama")
    expected = HEAD.scores(last_hidden_states(without, GROUPS, Progress()))
    assert engine_scores(bundle, GROUPS, Progress()) == pytest.approx(expected, abs=1e-4)
    with pytest.raises(BuildError, match="has a context of 256 tokens; a text has 257"):
        engine_scores(bundle, [["x" * 257]], Progress())


def test_a_generation_bundle_has_no_scores(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = build_bundle(str(recipe.parent / "backbone"), BuildOptions(verify=False))
    with pytest.raises(BuildError, match="only a reward model gives scores"):
        engine_scores(bundle, GROUPS, Progress())
    assert main(["--evaluate", str(bundle), "--quiet"]) == 2
    assert "only a reward model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--evaluate", "no-such-bundle"], "no-such-bundle"),
        (["--questions", "no-such-file", "--output", "x"], "no-such-file: cannot be read"),
        (["--output", "no/such/folder/x.safetensors"], "there is no such folder"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_message(
    flags: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PEREGRINE_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main([*flags, "--quiet"]) == 2
    assert said in capsys.readouterr().err
