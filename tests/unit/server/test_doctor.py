"""What ``doctor`` says of each target."""

from __future__ import annotations

import pytest

from runtime.bundle.gpu import Gpu
from runtime.bundle.target import Target
from server import doctor

CPU = {"onnxruntime"}
CUDA = {"onnxruntime-gpu", "cuda-bindings", "nvidia-cuda-nvrtc"}
RTX = {"tensorrt-rtx", "cuda-bindings", "nvidia-cuda-nvrtc"}


def targets(monkeypatch: pytest.MonkeyPatch, gpu: Gpu | str, installed: set[str]) -> dict[str, str]:
    monkeypatch.setattr(doctor, "find_gpu", lambda: gpu)
    monkeypatch.setattr(doctor, "_version", lambda name: "1.0" if name in installed else None)
    monkeypatch.setattr(doctor, "choose_target", lambda: Target("cpu", "a reason"))
    return dict(line.split(": ", 1) for line in doctor._targets())


def test_without_a_gpu_only_the_cpu_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    found = targets(monkeypatch, "no NVIDIA driver", CPU | RTX)
    assert found["cpu"] == "runs here"
    assert found["tensorrt-rtx"] == "does not run here: no NVIDIA driver"
    assert found["cuda"] == (
        "does not run here: no NVIDIA driver; onnxruntime-gpu is not installed: pip install 'peregrine-llm[cuda]'"
    )
    assert found["auto is cpu"] == "a reason"


@pytest.mark.parametrize(
    ("capability", "target", "installed", "words"),
    [
        ("8.9", "tensorrt-rtx", RTX, "runs here"),
        ("9.0", "tensorrt-rtx", RTX, "does not run here: Some GPU is of compute capability 9.0, it needs 7.5, 8.0"),
        ("9.0", "cuda", CUDA, "runs here"),
        ("7.5", "cuda", CUDA, "does not run here: Some GPU is of compute capability 7.5, it needs 8.0 or later"),
        ("9.0", "tensorrt", RTX, "does not run here: tensorrt-cu13 is not installed: pip install 'peregrine-llm[tens"),
        ("9.0", "cpu", CUDA, "runs here"),
    ],
)
def test_with_a_gpu_it_and_the_packages_decide(
    monkeypatch: pytest.MonkeyPatch, capability: str, target: str, installed: set[str], words: str
) -> None:
    assert targets(monkeypatch, Gpu("Some GPU", capability), installed)[target].startswith(words)


def test_packages_that_overwrite_each_other_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: "1.0")
    assert any("overwrite each other" in line for line in doctor._packages())
