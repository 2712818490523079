"""What the shared code does with full TensorRT, which cannot run without its GPU: played by a scripted module."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from slot_engine import slot_options

from build_engine.errors import BuildError
from build_engine.targets import tensorrt as target
from build_engine.targets import tensorrt_network as network
from build_engine.targets.tensorrt import TensorRtOptions, check_capabilities, timing_cache_file
from build_engine.targets.tensorrt_progress import PhaseProgress
from runtime.bundle.gpu import Gpu
from runtime.bundle.manifest import ShapeProfile

PROFILES = (ShapeProfile(name="decode", batch=(1, 2, 2), tokens=(1, 1, 1), rows=(1, 2, 2)),)


class _Base:
    class Severity:
        ERROR = 2


class _Config:
    """Remembers what is asked of it, and answers a timing cache that has grown."""

    def __init__(self, plan: bytes | None) -> None:
        self.plan, self.known, self.capabilities = plan, b"", 0
        self.progress_monitor: Any = None

    def add_optimization_profile(self, profile: Any) -> None:
        self.profile = profile

    def create_timing_cache(self, known: bytes) -> bytes:
        self.known = known
        return known

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> None:
        assert not ignore_mismatch

    def get_timing_cache(self) -> Any:
        return SimpleNamespace(serialize=lambda: self.known + b"measured")


def module(plan: bytes | None = b"plan", *, starts: bool = True) -> tuple[Any, _Config]:
    config = _Config(plan)

    class Builder:
        def __init__(self, log: Any) -> None:
            if not starts:
                log.log(1, "CUDA  initialization\nfailure")
                raise TypeError("factory function returned nullptr")
            self.create_builder_config = lambda: config

        def create_network(self, flags: int) -> Any:
            assert flags == 1 << 3
            return SimpleNamespace(num_layers=0, num_inputs=0)

        def create_optimization_profile(self) -> Any:
            return SimpleNamespace(set_shape=lambda *_: None)

        def build_serialized_network(self, _: Any, made: _Config) -> bytes | None:
            monitor = made.progress_monitor
            monitor.phase_start("build", None, 1)
            return made.plan if monitor.step_complete("build", 0) else None

    made = SimpleNamespace(
        __name__="tensorrt",
        __version__="11.4",
        ILogger=_Base,
        IProgressMonitor=type("IProgressMonitor", (), {}),
        Builder=Builder,
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=3),
        OnnxParser=lambda *_: SimpleNamespace(parse_from_file=lambda _: True),
    )
    return made, config


def test_a_builder_that_does_not_start_is_one_message() -> None:
    with pytest.raises(BuildError, match="tensorrt cannot start: CUDA initialization failure"):
        network.parse_network(module(starts=False)[0], Path("model.onnx"))


def test_measured_kernels_are_kept_for_the_next_build(tmp_path: Path) -> None:
    trt, config = module()
    parsed = network.parse_network(trt, Path("model.onnx"))
    file = tmp_path / "timing" / "tensorrt.bin"
    for known in (b"", b"measured"):
        plan = network.compile_plan(trt, parsed, PROFILES, (), file, PhaseProgress(lambda *_: None))
        assert plan == b"plan"
        assert config.known == known
    assert file.read_bytes() == b"measuredmeasured"
    assert [path.name for path in file.parent.iterdir()] == ["tensorrt.bin"]


def test_a_graph_that_does_not_compile_is_one_message() -> None:
    trt, _ = module(plan=None)
    parsed = network.parse_network(trt, Path("model.onnx"))
    parsed.log.log(2, "no kernel")
    parsed.log.log(3, "only a warning")
    with pytest.raises(BuildError, match=r"tensorrt 11\.4 cannot compile the graph: no kernel$"):
        network.compile_plan(trt, parsed, PROFILES, (), None, PhaseProgress(lambda *_: None))


def test_layers_that_are_not_the_graphs_are_refused() -> None:
    from tiny import tiny_architecture

    with pytest.raises(BuildError, match="0 ATTENTION for 2, 3 KV_CACHE_UPDATE for 4"):
        network.check_layers(tiny_architecture(), {"KV_CACHE_UPDATE": 3, "ROTARY_EMBEDDING": 4})


@pytest.mark.parametrize(
    ("gpu", "asked", "message"),
    [
        ("no NVIDIA driver", ("8.6",), "compute-capability 8.6: tensorrt 11.4 compiles for the machine's own GPU"),
        (Gpu("Some GPU", "8.9"), ("8.6",), "compute-capability 8.6: tensorrt 11.4 compiles for 8.9$"),
        (Gpu("Some GPU", "8.9"), ("8.9",), None),
    ],
)
def test_it_compiles_for_the_machines_own_gpu_only(
    monkeypatch: pytest.MonkeyPatch, gpu: Gpu | str, asked: tuple[str, ...], message: str | None
) -> None:
    monkeypatch.setattr(target, "find_gpu", lambda: gpu)
    options = TensorRtOptions(flavour="tensorrt", slots=slot_options(), compute_capabilities=asked)
    if message is None:
        check_capabilities(module()[0], options, "float16")
        return
    with pytest.raises(BuildError, match=message):
        check_capabilities(module()[0], options, "float16")


def test_kernels_are_measured_by_version_and_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PEREGRINE_CACHE", str(tmp_path))
    monkeypatch.setattr(target, "find_gpu", lambda: Gpu("Some GPU", "8.9"))
    assert timing_cache_file("tensorrt", "11.4") == tmp_path / "timing" / "tensorrt-11.4-8.9.bin"
    assert timing_cache_file("tensorrt-rtx", "1.7") is None
    monkeypatch.setattr(target, "find_gpu", lambda: "no NVIDIA driver")
    assert timing_cache_file("tensorrt", "11.4") is None
