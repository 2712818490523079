"""Which builds rotate, and that a build checks its rotation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from gguf_files import model_file
from tiny import FloatTensor

from build_engine import passes
from build_engine.build import build_bundle
from build_engine.checkpoint import Checkpoint
from build_engine.cli import main
from build_engine.options import BuildOptions
from build_engine.passes import rotated
from build_engine.report import manifest_lines
from runtime.bundle import Bundle, open_bundle
from runtime.bundle.manifest import Verification


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEREGRINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def floats(tmp_path: Path) -> Path:
    return model_file("qwen2", "f32").write(tmp_path / "floats.gguf")


def built(spec: Path, **options: object) -> Bundle:
    return open_bundle(build_bundle(str(spec), BuildOptions(**options)))  # type: ignore[arg-type]


def norm_gains(bundle: Bundle) -> Mapping[str, np.ndarray]:
    model = onnx.load(bundle.path / "model.onnx", load_external_data=False)
    return {
        initializer.name: onnx.numpy_helper.to_array(initializer)
        for initializer in model.graph.initializer
        if "norm" in initializer.name
    }


@pytest.mark.parametrize("precision", ["int8", "auto"])
def test_int8_is_rotated_and_says_so(floats: Path, precision: str) -> None:
    bundle = built(floats, precision=precision)
    manifest = bundle.manifest
    assert manifest.rotated
    assert manifest.architecture.tied_embeddings
    gains = norm_gains(bundle)
    assert gains
    assert all((gain == 1).all() for gain in gains.values())
    assert any(line.endswith(", rotated residual stream") for line in manifest_lines(bundle))
    assert isinstance(manifest.verification, Verification)
    assert manifest.verification.mean_kl < 0.01


@pytest.mark.parametrize("options", [{"precision": "int8", "rotate": False}, {"precision": "fp32"}])
def test_others_are_not(floats: Path, options: dict[str, object]) -> None:
    bundle = built(floats, verify=False, **options)
    assert not bundle.manifest.rotated
    assert any((gain != 1).any() for gain in norm_gains(bundle).values())


def test_blocks_are_imported_as_they_are_and_rotated_only_for_int8(tmp_path: Path) -> None:
    blocks = model_file(encoding="q8_0").write(tmp_path / "blocks.gguf")
    assert not built(blocks, verify=False).manifest.rotated
    assert built(blocks, verify=False, precision="int8").manifest.rotated


def test_a_family_that_cannot_be_rotated_is_built_without_and_the_build_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = model_file("gemma2", "f32").write(tmp_path / "gemma2.gguf")
    assert main(["build", str(file), "--target", "cpu", "--precision", "int8", "--no-verify"]) == 0
    assert "not rotated: gemma2 multiplies what joins the residual stream" in capsys.readouterr().err
    assert not built(file, verify=False, precision="int8").manifest.rotated


def test_the_command_line_can_refuse_it_and_the_plan_tells(floats: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["build", str(floats), "--target", "cpu", "--precision", "int8", "--plan"]
    assert main(arguments) == 0
    assert "precision          int8, rotated\n" in capsys.readouterr().out
    assert main([*arguments, "--no-rotate"]) == 0
    assert "precision          int8\n" in capsys.readouterr().out


def test_a_rotation_that_changes_the_model_shows_in_the_verification(
    floats: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "model.layers.1.mlp.down_proj.weight"

    def wrong(checkpoint: Checkpoint) -> Checkpoint:
        made = rotated(checkpoint)
        return replace(made, tensors={**made.tensors, name: FloatTensor(name, checkpoint.tensors[name].float32())})

    monkeypatch.setattr(passes, "rotated", wrong)
    verification = built(floats, precision="int8").manifest.verification
    assert isinstance(verification, Verification)
    assert verification.mean_kl > 0.05
