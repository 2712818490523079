"""Loading a plan and setting up its engine: what is refused, in words, and how large batches are."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_device import FakeDevice
from fake_tensorrt import HEAD_DIM, KV_HEADS, LAYERS, PLAN, FakeTensorRt

from runtime.bundle.errors import BundleError
from runtime.bundle.gpu import Gpu
from runtime.bundle.manifest import EngineRecord
from runtime.cuda.errors import CudaError
from runtime.executors.scripted import Script
from runtime.executors.tensorrt import TensorRtRunner, batch_sizes, make_contexts
from runtime.executors.tensorrt_plan import Plan, _make_messages, check_gpu, check_version, import_tensorrt, load_plan

SCRIPT = Script(vocab_size=97, block_size=64)
REBUILD = "python -m build_engine build tiny --force --target tensorrt-rtx"
HOPPER = Gpu("H100", "9.0")


def record(*capabilities: str, version: str = "1.7") -> EngineRecord:
    return EngineRecord(
        flavour="tensorrt-rtx",
        version=version,
        compute_capabilities=capabilities,
        layers={},
        profiles=(),
        plan_bytes=1,
        build_seconds=1.0,
        peak_bytes=1,
        verified="not run",
    )


def plan(tmp_path: Path, device: FakeDevice, script: Script = SCRIPT, data: bytes = PLAN, **options: int) -> Plan:
    path = tmp_path / "engine.plan"
    path.write_bytes(data)
    return load_plan(FakeTensorRt(device, script, **options), path)


def runner(tmp_path: Path, device: FakeDevice, slots: int = 8, **options: Any) -> TensorRtRunner:
    loaded, stream = plan(tmp_path, device, **options), device.stream()
    return TensorRtRunner(loaded, make_contexts(loaded, stream), device, stream, slots=slots, logit_rows=5)


@pytest.mark.parametrize("capabilities", [("9.0",), ("8.0", "9.0"), ()])
def test_a_plan_for_this_machine_passes(capabilities: tuple[str, ...]) -> None:
    check_gpu(record(*capabilities), HOPPER, REBUILD)
    check_version(record(*capabilities), "1.7", REBUILD)


@pytest.mark.parametrize(
    ("capabilities", "gpu", "words"),
    [
        (("8.6", "8.9"), "no NVIDIA driver", "this machine has no NVIDIA driver; need: a GPU of .* 8.6 or 8.9$"),
        ((), "no NVIDIA driver", "this machine has no NVIDIA driver; need: the GPU that the bundle was built on$"),
        (("8.6",), HOPPER, f"H100 is of compute capability 9.0; need: .* 8.6; fix: {REBUILD} .*capability 9.0$"),
    ],
)
def test_a_plan_for_another_gpu_is_refused(capabilities: tuple[str, ...], gpu: Gpu | str, words: str) -> None:
    with pytest.raises(BundleError, match=words):
        check_gpu(record(*capabilities), gpu, REBUILD)


def test_a_plan_of_another_version_is_refused_with_the_command_that_helps() -> None:
    words = f"tensorrt-rtx 1.8 is installed, and the plan is of version 1.7; .*==1.7, or {REBUILD}"
    with pytest.raises(BundleError, match=words):
        check_version(record(), "1.8", REBUILD)


def test_a_package_that_is_not_there_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(
        BundleError, match=r"needs the package tensorrt-rtx.*pip install 'peregrine-llm\[tensorrt-rtx\]'"
    ):
        import_tensorrt("tensorrt-rtx")


def test_what_tensorrt_says_is_in_the_message_and_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(BundleError, match=r"engine.plan: TensorRT 99.1 cannot load the plan: magic tag does not match"):
        plan(tmp_path, FakeDevice(), data=b"no plan")
    assert [r.levelno for r in caplog.records] == [logging.WARNING, logging.ERROR]


def test_the_engine_says_how_much_it_takes(tmp_path: Path) -> None:
    device = FakeDevice()
    made = runner(tmp_path, device, slots=6, chunk=16)
    assert (made.slots, made.capacity, made.chunk, made.logit_rows, made.result_shape) == (6, 64, 16, 5, (97,))
    (pool,) = device.buffers
    assert pool.nbytes == 6 * 2 * LAYERS * KV_HEADS * 64 * HEAD_DIM * 2
    made.close()
    assert device.buffers == []


def test_each_profile_has_a_context_of_its_own(tmp_path: Path) -> None:
    device = FakeDevice()
    loaded = plan(tmp_path, device)
    contexts = make_contexts(loaded, device.stream())
    assert [contexts.prefill.profile, contexts.decode.profile] == [0, 1]


@pytest.mark.parametrize("call", ["create_execution_context", "set_optimization_profile_async"])
def test_a_context_that_cannot_be_made_is_an_error_with_the_calls_name(tmp_path: Path, call: str) -> None:
    device = FakeDevice()
    loaded = plan(tmp_path, device)
    loaded.engine.refuse = call
    with pytest.raises(CudaError, match=f"{call}: it says no more"):
        make_contexts(loaded, device.stream())


def test_another_graphs_plan_is_refused(tmp_path: Path) -> None:
    device = FakeDevice()
    loaded = plan(tmp_path, device)
    del loaded.engine.inputs["write_indices"]
    with pytest.raises(BundleError, match="not that of an engine with linear slots"):
        make_contexts(loaded, device.stream())


def test_more_slots_than_it_was_built_for_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="built for 8 slots, and 9 are asked for"):
        runner(tmp_path, FakeDevice(), slots=9)


def test_slots_that_no_run_could_start_at_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="has 528 bytes in each cache; need: a multiple of 256"):
        runner(tmp_path, FakeDevice(), script=Script(vocab_size=97, block_size=33))


def test_caches_that_differ_are_refused(tmp_path: Path) -> None:
    device = FakeDevice()
    loaded, stream = plan(tmp_path, device), device.stream()
    contexts = make_contexts(loaded, stream)
    loaded.engine.inputs["k_cache_1"] = (-1, 1, 64, HEAD_DIM)
    with pytest.raises(BundleError, match="KV caches of 2 kinds"):
        TensorRtRunner(loaded, contexts, device, stream, slots=4, logit_rows=5)


def test_a_slot_is_cleared_and_copied_over_all_layers_at_once(tmp_path: Path) -> None:
    device = FakeDevice()
    made = runner(tmp_path, device)
    (pool,) = device.buffers
    (stream,) = device.streams.values()
    stream.synchronize()
    values = device.view(pool.address, (2 * LAYERS, 8, KV_HEADS * 64 * HEAD_DIM), "float16")
    assert not values.any()
    values[:] = 1
    values[:, 3] = 2
    made.copy(3, 5)
    made.clear(3)
    stream.synchronize()
    assert (values[:, 5] == 2).all()
    assert not values[:, 3].any()
    assert (values[:, [0, 1, 2, 4, 6, 7]] == 1).all()


@pytest.mark.parametrize(
    ("slots", "sizes"),
    [
        (1, [1]),
        (2, [1, 2]),
        (6, [1, 2, 4, 6]),
        (8, [1, 2, 4, 8]),
        (20, [1, 2, 4, 8, 16, 20]),
        (32, [1, 2, 4, 8, 16, 24, 32]),
    ],
)
def test_batches_have_few_sizes(slots: int, sizes: list[int]) -> None:
    assert list(batch_sizes(slots)) == sizes


@pytest.mark.parametrize("slots", [64, 128, 129, 256, 1000])
def test_many_slots_have_few_sizes_too(slots: int) -> None:
    sizes = batch_sizes(slots)
    assert list(sizes) == sorted(set(sizes))
    assert sizes[-1] == slots
    assert len(sizes) <= 20


def test_the_package_has_everything_that_is_called() -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    called = {
        "Runtime": ("deserialize_cuda_engine",),
        "ICudaEngine": (
            *("create_execution_context", "get_tensor_dtype", "get_tensor_mode", "get_tensor_name"),
            *("get_tensor_profile_shape", "get_tensor_shape", "num_io_tensors", "num_optimization_profiles"),
        ),
        "IExecutionContext": (
            *("execute_async_v3", "is_stream_capturable", "set_input_shape"),
            *("set_optimization_profile_async", "set_tensor_address"),
        ),
    }
    absent = [
        f"{kind}.{name}" for kind, names in called.items() for name in names if not hasattr(getattr(trt, kind), name)
    ]
    assert absent == []
    assert trt.DataType.BF16.itemsize == 2
    assert trt.TensorIOMode.INPUT != trt.TensorIOMode.OUTPUT
    messages = _make_messages(trt)
    messages.log(trt.ILogger.Severity.ERROR, "a\n word")
    assert messages.said() == "a word"
    assert trt.ILogger.Severity.ERROR <= trt.ILogger.Severity.WARNING
