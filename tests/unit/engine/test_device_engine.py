"""The engine of a TensorRT bundle: put together on a fake GPU, and refused where there is none."""

from __future__ import annotations

from pathlib import Path

import fake_sampling
import msgspec
import pytest
from fake_device import FakeDevice
from fake_tensorrt import PLAN, FakeTensorRt
from toy_manifest import toy_manifest

from runtime.bundle import BundleError, KvLayout
from runtime.bundle.architecture import ScoreHead
from runtime.bundle.bundle import file_entry
from runtime.bundle.gpu import Gpu
from runtime.bundle.manifest import EngineRecord
from runtime.bundle.manifest_file import write_manifest
from runtime.config import EngineConfig
from runtime.cuda.errors import CudaError
from runtime.engine import device_engine
from runtime.engine.core import EngineCore
from runtime.engine.factory import build_engine
from runtime.executors.scripted import Script, next_token, score_of
from runtime.messages import AddRequest, TokenOutput
from runtime.request import SamplingParams

MB = 2**20
CAPACITY = 128
RECORD = EngineRecord(
    flavour="tensorrt-rtx",
    version=FakeTensorRt.__version__,
    compute_capabilities=("9.0",),
    layers={},
    profiles=(),
    plan_bytes=len(PLAN),
    build_seconds=1.0,
    peak_bytes=1,
    verified="not run",
)


def bundle(folder: Path, *, score_head: ScoreHead | None = None, record: EngineRecord | None = RECORD) -> Path:
    folder.mkdir()
    (folder / "engine.plan").write_bytes(PLAN)
    (folder / "tokenizer.json").write_bytes(b"{}")
    manifest = toy_manifest(
        score_head,
        vocab_size=97,
        target="tensorrt-rtx",
        target_versions={"tensorrt-rtx": FakeTensorRt.__version__},
        kv=KvLayout(kind="linear", block_size=CAPACITY, dtype="float16", order="slot,kv_head,token,dim"),
        limits={"slots": 8, "max_step_tokens": 16, "context_length": CAPACITY - 1},
        files=tuple(file_entry(path) for path in sorted(folder.iterdir())),
        engine=record,
    )
    write_manifest(folder, manifest)
    return folder


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> FakeDevice:
    """A machine with a GPU that can run the bundle's plan."""
    fake = FakeDevice()
    fake_sampling.install(fake)
    monkeypatch.setattr(device_engine, "find_gpu", lambda: Gpu("Fake GPU", "9.0"))
    monkeypatch.setattr(device_engine, "open_device", lambda: fake)
    monkeypatch.setattr(device_engine, "sampling_kernels", lambda _: b"cubin")
    script = Script(vocab_size=97, block_size=CAPACITY)
    monkeypatch.setattr(device_engine, "import_tensorrt", lambda _: FakeTensorRt(fake, script))
    return fake


def config(path: Path, **wishes: object) -> EngineConfig:
    return EngineConfig(bundle=str(path), socket="s", **wishes)


def answer(core: EngineCore, prompt: list[int]) -> list[TokenOutput]:
    params = SamplingParams(max_new_tokens=4, ignore_eos=True)
    assert core.add(b"", AddRequest(1, prompt, params)) is None
    found = []
    while core.has_work:
        found += core.step().get(b"", [])
    return found


def test_it_takes_as_many_slots_as_it_was_built_for_and_answers(tmp_path: Path, device: FakeDevice) -> None:
    core, lines = build_engine(config(bundle(tmp_path / "b")))
    assert lines[0] == "model kestrel: fp32, tensorrt-rtx 99.1 on Fake GPU (9.0)"
    assert lines[1].startswith("first runs: 4 batch sizes and a prompt in ")
    assert "8 linear slots of 128" in lines[2]
    assert (core.limits.max_running, core.limits.max_request_tokens, core.limits.max_step_tokens) == (8, 127, 16)
    prompt, tokens = [5, 6, 7], []
    for output in answer(core, prompt):
        tokens.append(output.token_id)
        assert tokens[-1] == next_token(Script(vocab_size=97), prompt + tokens[:-1])
    core.executor.close()
    assert device.buffers == []


def test_every_batch_is_captured_before_the_first_request(tmp_path: Path, device: FakeDevice) -> None:
    core, _ = build_engine(config(bundle(tmp_path / "b")))
    shapes = [call[2] for call in device.named("execute")]
    assert shapes == [(1, 16), *(shape for size in (1, 2, 4, 8) for shape in [(size, 1)] * 2)]
    answer(core, [5])
    assert [call[2] for call in device.named("execute")] == shapes, "nothing but graphs was launched since"


def test_steps_smaller_than_the_engines_longest_run_are_kept_to(tmp_path: Path, device: FakeDevice) -> None:
    core, _ = build_engine(config(bundle(tmp_path / "b"), max_step_tokens=3))
    assert len(answer(core, [5] * 9)) == 4
    assert max(tokens for name, _, (_, tokens), _ in device.named("execute")) == 3


def test_a_reward_models_bundle_needs_no_sampling_kernels(
    tmp_path: Path, device: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script(vocab_size=97, block_size=CAPACITY, scores=True)
    monkeypatch.setattr(device_engine, "import_tensorrt", lambda _: FakeTensorRt(device, script))
    core, _ = build_engine(config(bundle(tmp_path / "b", score_head=ScoreHead())))
    assert [output.score for output in answer(core, [5, 6, 7])] == [score_of(script, [5, 6, 7])]
    assert not device.named("load")


def test_slots_are_those_that_fit_what_is_free(tmp_path: Path, device: FakeDevice) -> None:
    core, _ = build_engine(config(bundle(tmp_path / "roomy")))
    taken = sum(buffer.nbytes for buffer in device.buffers)
    core.executor.close()
    device.total = taken
    core, _ = build_engine(config(bundle(tmp_path / "tight")))
    assert 1 <= core.limits.max_running < 8
    assert len(answer(core, [5, 6, 7])) == 4


def test_memory_that_runs_out_in_spite_of_the_arithmetic_is_told(
    tmp_path: Path, device: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "memory", lambda: (64 * MB, 64 * MB))
    device.total = MB // 8
    with pytest.raises(BundleError, match="the GPU cannot take the engine: cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY"):
        build_engine(config(bundle(tmp_path / "b")))


def test_a_machine_without_a_gpu_is_told_before_anything_is_loaded(
    tmp_path: Path, device: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_engine, "find_gpu", lambda: "no NVIDIA driver")
    words = r"this machine has no NVIDIA driver; need: a GPU of .* 9\.0; fix: peregrine serve .* --target cpu$"
    with pytest.raises(BundleError, match=words):
        build_engine(config(bundle(tmp_path / "b")))
    assert device.calls == []


def test_a_gpu_that_does_not_open_is_told(tmp_path: Path, device: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> FakeDevice:
        raise CudaError("cuInit", "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "system has unsupported display driver")

    monkeypatch.setattr(device_engine, "open_device", fail)
    with pytest.raises(BundleError, match=r"the GPU cannot take the engine: cuInit: .* unsupported display driver"):
        build_engine(config(bundle(tmp_path / "b")))


def test_a_plan_of_another_version_is_refused(tmp_path: Path, device: FakeDevice) -> None:
    other = msgspec.structs.replace(RECORD, version="1.0")
    with pytest.raises(
        BundleError, match=r"99.1 is installed, and the plan is of version 1.0; .* --target tensorrt-rtx"
    ):
        build_engine(config(bundle(tmp_path / "b", record=other)))


def test_a_plan_that_is_not_its_manifests_is_refused(
    tmp_path: Path, device: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Script(vocab_size=96, block_size=CAPACITY)
    monkeypatch.setattr(device_engine, "import_tensorrt", lambda _: FakeTensorRt(device, other))
    with pytest.raises(BundleError, match=r"results \(96,\); need: slots of 128 tokens and results \(97,\)"):
        build_engine(config(bundle(tmp_path / "b")))


def test_a_manifest_without_the_plans_record_is_refused(tmp_path: Path, device: FakeDevice) -> None:
    found = bundle(tmp_path / "b", record=None)
    with pytest.raises(BundleError, match="does not say what its plan was built for"):
        build_engine(config(found))
