"""Bundles with linear slots, from the command line to what is said of them."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from gguf_files import model_file

from build_engine.cli import main
from runtime.bundle import Bundle, find_bundle, open_bundle
from runtime.bundle.gpu import find_gpu

compiles = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="TensorRT-RTX is not installed")
SMALL = ("--slots", "3", "--max-seq-len", "100", "--chunk", "32")


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEREGRINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()


@pytest.fixture
def gguf(tmp_path: Path) -> str:
    return str(model_file().write(tmp_path / "tiny.gguf"))


def built(capsys: pytest.CaptureFixture[str], *arguments: str) -> Bundle:
    assert main(["build", *arguments, "--print-path", "--quiet"]) == 0
    return open_bundle(capsys.readouterr().out.strip(), verify=True)


def test_a_linear_engine_on_the_cpu_is_the_reference_to_the_last_bits(
    gguf: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = built(capsys, gguf, "--target", "cpu", "--kv", "linear", *SMALL)
    manifest = bundle.manifest
    assert (manifest.target, manifest.precision, manifest.kv.kind, manifest.kv.dtype) == (
        "cpu",
        "fp32",
        "linear",
        "float32",
    )
    assert manifest.limits == {"slots": 3, "max_step_tokens": 32, "context_length": 100}
    assert manifest.verification is not None
    assert abs(manifest.verification.mean_kl) < 1e-9
    assert main(["verify", str(bundle.path)]) == 0
    assert "top-1 agreement 100.0%" in capsys.readouterr().out
    assert find_bundle("tiny", "cpu-linear").resolve() == bundle.path


@pytest.mark.parametrize("linked", [True, False])
def test_paged_and_linear_engines_of_a_model_stand_side_by_side(
    gguf: str, capsys: pytest.CaptureFixture[str], linked: bool
) -> None:
    if not linked:
        Path("models").rmdir()
    paths = [built(capsys, gguf, "--kv", kv, "--target", "cpu").path for kv in ("paged", "linear")]
    assert paths[0] != paths[1]
    assert [find_bundle("tiny", alias).resolve() for alias in ("cpu", "cpu-linear")] == paths


@compiles
def test_a_compiled_bundle_tells_what_was_never_run(gguf: str, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = built(capsys, gguf, "--target", "tensorrt-rtx", *SMALL)
    engine = bundle.manifest.engine
    assert engine is not None
    assert bundle.manifest.verification is None
    assert engine.oracle is not None
    assert 0 <= engine.oracle.mean_kl < 1e-4
    if isinstance(find_gpu(), str):
        assert engine.verified.startswith("not run: ")
    assert main(["inspect", str(bundle.path)]) == 0
    shown = capsys.readouterr().out
    for words in (
        f"by tensorrt-rtx {engine.version} for compute capability ",
        "prefill: 1 slots of 1 to 32 tokens, 1 to 32 rows of results",
        "decode: 1 to 3 slots of 1 tokens, 1 to 3 rows of results",
        "2 ATTENTION,",
        "4 KV_CACHE_UPDATE,",
        "verification   of the plan: not run",
        "oracle         mean KL ",
        "in float32 on the CPU",
    ):
        assert words in shown


@compiles
def test_a_compiled_bundle_is_not_built_twice_nor_verified_here(gguf: str, capsys: pytest.CaptureFixture[str]) -> None:
    unverified = built(capsys, gguf, "--target", "tensorrt-rtx", "--no-verify", *SMALL)
    assert unverified.manifest.engine is not None
    assert unverified.manifest.engine.oracle is None
    first = built(capsys, gguf, "--target", "tensorrt-rtx", *SMALL)
    assert first.manifest.engine is not None
    assert first.manifest.engine.oracle is not None
    again = built(capsys, gguf, "--target", "tensorrt-rtx", *SMALL)
    assert (again.path, again.manifest.created) == (first.path, first.manifest.created)
    assert main(["verify", str(first.path)]) == 2
    assert "is compiled for target tensorrt-rtx, and verification runs on the CPU" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["tensorrt", "tensorrt-rtx"])
def test_a_missing_compiler_is_named_with_its_installation(
    gguf: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.setitem(sys.modules, target.replace("-", "_"), None)
    assert main(["build", gguf, "--target", target, "--quiet"]) == 2
    assert capsys.readouterr().err == (
        f"error: target {target} needs the package {target}; install it with: pip install 'peregrine-llm[{target}]'\n"
    )
    assert not list(Path("models").iterdir())


def test_without_a_wish_the_machine_decides_and_says_why(gguf: str, capsys: pytest.CaptureFixture[str]) -> None:
    reason = find_gpu()
    if not isinstance(reason, str):
        pytest.skip(f"this machine has a GPU: {reason.name}")
    assert main(["build", gguf]) == 0
    shown = capsys.readouterr()
    assert f"target cpu: {reason}" in shown.err
    assert open_bundle(find_bundle("tiny")).manifest.target == "cpu"


def test_the_plan_of_an_engine_is_told_without_its_compiler(gguf: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", gguf, "--target", "tensorrt", "--plan", "--quiet", *SMALL]) == 0
    shown = capsys.readouterr().out
    assert "precision          fp16" in shown
    assert "for 3 slots of 100" in shown
