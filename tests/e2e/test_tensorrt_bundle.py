"""The default model compiled by TensorRT-RTX, as far as a machine without a GPU can take it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import MODEL

from runtime.bundle import open_bundle
from runtime.bundle.gpu import find_gpu
from runtime.bundle.manifest import EngineRecord, Manifest

pytest.importorskip(
    "tensorrt_rtx", reason="TensorRT-RTX is not installed: the default model was NOT compiled for GPUs here"
)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def bundle() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "bundle"
        # NOTE: without the oracle, which holds the model twice in float32: tiny models' builds test that it is asked.
        flags = ("--target", "tensorrt-rtx", "--max-seq-len", "512", "--no-verify", "--output", str(path))
        done = run("build_engine", "build", MODEL, *flags)
        assert done.returncode == 0, done.stderr
        yield path


@pytest.fixture(scope="module")
def manifest(bundle: Path) -> Manifest:
    return open_bundle(bundle).manifest


@pytest.fixture(scope="module")
def engine(manifest: Manifest) -> EngineRecord:
    assert manifest.engine is not None
    return manifest.engine


def test_every_layers_attention_is_the_compilers_own(manifest: Manifest, engine: EngineRecord) -> None:
    layers = manifest.architecture.num_layers
    assert layers == 30
    names = ("ATTENTION", "KV_CACHE_UPDATE", "ROTARY_EMBEDDING")
    assert [engine.layers[name] for name in names] == [layers, 2 * layers, 2 * layers]


def test_the_record_has_sizes_times_and_profiles(bundle: Path, manifest: Manifest, engine: EngineRecord) -> None:
    assert (manifest.target, engine.flavour) == ("tensorrt-rtx", "tensorrt-rtx")
    assert engine.plan_bytes == (bundle / "engine.plan").stat().st_size > 2 * 134_000_000
    assert 0 < engine.build_seconds <= manifest.build_seconds
    assert [(profile.name, profile.batch[2], profile.tokens[2]) for profile in engine.profiles] == [
        ("prefill", 1, 256),
        ("decode", 8, 1),
    ]
    assert manifest.limits == {"slots": 8, "max_step_tokens": 256, "context_length": 512}
    assert "8.6" in engine.compute_capabilities
    assert engine.verified.startswith("not run")


def test_inspect_shows_the_layers(bundle: Path, engine: EngineRecord) -> None:
    shown = run("build_engine", "inspect", str(bundle)).stdout
    assert "30 ATTENTION" in shown
    assert "60 KV_CACHE_UPDATE" in shown
    assert "60 ROTARY_EMBEDDING" in shown
    assert f"tensorrt-rtx {engine.version}" in shown
    assert "verification   of the plan: not run" in shown


def test_serving_it_without_a_gpu_says_what_to_do_in_one_line(bundle: Path) -> None:
    gpu = find_gpu()
    if not isinstance(gpu, str):
        pytest.skip(f"this machine has a GPU: {gpu.name}")
    done = run("server", str(bundle), "--port", "0")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"peregrine: error: a bundle for target tensorrt-rtx: this machine has {gpu}; need: a GPU")
    assert line.endswith(f"; fix: peregrine serve {MODEL} --target cpu")
