from __future__ import annotations

import pytest
from fake_device import FakeDevice
from fake_onnxruntime import BLOCK, FakeOrt, ScriptedGraph
from toy_manifest import toy_manifest

from runtime.bundle import BundleError
from runtime.bundle.gpu import Gpu
from runtime.executors.cuda_session import check_gpu, check_package, import_onnxruntime, open_session
from runtime.executors.scripted import Script

MANIFEST = toy_manifest(target="cuda", target_versions={"onnxruntime": "1.31.1", "onnx": "1.23.2"})


@pytest.fixture
def ort() -> FakeOrt:
    return FakeOrt(FakeDevice(), ScriptedGraph(Script(vocab_size=97, block_size=BLOCK)))


def test_everything_runs_on_the_given_stream_and_nothing_on_the_cpu(ort: FakeOrt) -> None:
    stream = ort.device.stream()
    session = open_session(ort, "model.onnx", stream)
    assert ort.preloaded
    assert session.provider["user_compute_stream"] == str(stream.handle)
    assert session.provider["enable_skip_layer_norm_strict_mode"] == "1"
    assert session.options.entries == {"session.disable_cpu_ep_fallback": "1"}
    assert session.options.enable_mem_pattern is False


def test_a_model_that_the_package_refuses_is_one_line(ort: FakeOrt) -> None:
    ort.error = RuntimeError("[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED\nand a page more")
    with pytest.raises(BundleError, match=r"^model.onnx: onnxruntime 1.31.7 cannot load .*NOT_IMPLEMENTED; need: .*$"):
        open_session(ort, "model.onnx", ort.device.stream())


def test_a_provider_that_does_not_start_is_noticed(ort: FakeOrt) -> None:
    ort.started = ["CPUExecutionProvider"]
    with pytest.raises(BundleError, match="could not start its CUDA provider; need: its CUDA and cuDNN libraries"):
        open_session(ort, "model.onnx", ort.device.stream())


def test_a_package_without_the_provider_is_refused(ort: FakeOrt) -> None:
    check_package(ort, MANIFEST)
    ort.providers = ["CPUExecutionProvider"]
    with pytest.raises(BundleError, match=r"no CUDA provider; need: .*onnxruntime-gpu; fix: pip uninstall onnxruntime"):
        check_package(ort, MANIFEST)


def test_an_older_package_than_the_builds_is_refused(ort: FakeOrt) -> None:
    newer = toy_manifest(target="cuda", target_versions={"onnxruntime": "1.32.0"})
    with pytest.raises(
        BundleError, match=r"1.31.7 that is installed is older.*fix: pip install 'onnxruntime-gpu>=1.32.0'"
    ):
        check_package(ort, newer)


@pytest.mark.parametrize(
    ("gpu", "have"),
    [
        ("no NVIDIA driver", "this machine has no NVIDIA driver"),
        (Gpu("Old One", "7.5"), "Old One is of compute capability 7.5"),
    ],
)
def test_a_machine_without_the_gpu_is_told_what_it_takes(gpu: Gpu | str, have: str) -> None:
    message = rf"^a bundle for target cuda: {have}; need: a GPU of compute capability 8.0 or later; fix: build it$"
    with pytest.raises(BundleError, match=message):
        check_gpu(gpu, "build it")


@pytest.mark.parametrize("capability", ["8.0", "9.0", "12.1"])
def test_gpus_since_ampere_are_taken(capability: str) -> None:
    check_gpu(Gpu("New One", capability), "")


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert import_onnxruntime().__name__ == "onnxruntime"

    def missing(name: str) -> None:
        raise ImportError(f"no {name}")

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(BundleError, match=r"cannot be imported: no onnxruntime; need: the package onnxruntime-gpu"):
        import_onnxruntime()
