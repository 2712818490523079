"""The GPU check's kernel parts, on the stand-in device with the kernels compiled for the CPU."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from cuda_host.host_kernels import HostKernels
from fake_device import FakeDevice, FakeModule

from benchmarks.gpu import attention, ceilings, plugins, sampling
from benchmarks.gpu.attention import CHECKED, check, decode_rate, prefill_rate, spec_of
from benchmarks.gpu.paged import Batch, Load
from build_engine.plugins.launch import attention_launch, kv_write_launch
from build_engine.plugins.onnx_nodes import with_local_functions
from build_engine.plugins.quick import KV_WRITE_INPUTS
from build_engine.plugins.source import attention_source, kv_write_source
from runtime.cuda.kernel_cache import KERNELS, kernel_source


@functools.cache
def compiled(source: str) -> HostKernels:
    return HostKernels(source)


def put(device: FakeDevice, kernels: HostKernels) -> None:
    def body(name: str) -> Any:
        return lambda _, grid, block, shared, args: kernels.launch(name, grid, block, shared, *args)

    device.kernels |= {name: body(name) for name in kernels.names}


def loader(device: FakeDevice) -> Load:
    def load(source: str, name: str) -> FakeModule:
        kernels = compiled(source)
        assert name in kernels.names
        put(device, kernels)
        return device.load(b"")

    return load


def once(stream: Any, enqueue: Any) -> float:
    """In place of ``seconds_each``."""
    enqueue()
    stream.synchronize()
    return 1.0


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice(total=2**28)


@pytest.mark.parametrize("name", ["64, float16", "256, bfloat16, window and softcap"])
def test_attention_is_checked(device: FakeDevice, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(attention, "RAGGED", ((37, 1), (0, 5), (300, 1), (3, 20)))
    assert 0 < check(device, CHECKED[name], loader(device)) < 0.05
    assert device.buffers == []


def test_attention_that_is_wrong_is_found(device: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "RAGGED", ((37, 1), (0, 5)))
    load = loader(device)

    def spoilt(source: str, name: str) -> Any:
        module = load(source, name)
        if name == "paged_attention":
            device.kernels[name] = lambda *_: None
        return module

    with pytest.raises(ArithmeticError, match=r"attention: \d+ of \d+ are wrong, .*; \d+ are no numbers"):
        check(device, CHECKED["64, float16"], spoilt)


def test_rates_are_of_the_right_amount_of_work(device: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "seconds_each", once)
    spec = spec_of("float16", 4, 2, 64)
    assert decode_rate(device, Batch.of(spec, [(99, 1)] * 3), loader(device)) == 3 * 100 * 2 * 2 * 64 * 2
    assert prefill_rate(device, Batch.of(spec, [(0, 30)]), loader(device)) == 4 * (30 * 31 / 2) * 4 * 64


def test_sampling_is_checked_and_timed(device: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "seconds_each", once)
    put(device, compiled(kernel_source(KERNELS / "sampling.cu")))
    exact, draws = sampling.agreement(device, device.load(b""), rows=8, vocabulary=1000)
    assert (exact, draws) == (24, 24)
    assert sampling.step_seconds(device, device.load(b""), 2, 1000, sampling.FILTERED) == 1.0
    assert device.buffers == []


def test_draws_that_are_not_the_references_are_found(device: FakeDevice) -> None:
    kernels = compiled(kernel_source(KERNELS / "sampling.cu"))
    put(device, kernels)
    device.kernels["place_counts"] = lambda *_: None
    sample = device.kernels["sample_rows"]

    def off(device: FakeDevice, grid: Any, block: Any, shared: int, args: Any) -> None:
        sample(device, grid, block, shared, args)
        device.view(int(args[-1]), (grid[0], 2), np.int32)[:, 0] += 1

    device.kernels["sample_rows"] = off
    with pytest.raises(ArithmeticError, match="only 0 of 24 draws"):
        sampling.agreement(device, device.load(b""), rows=8, vocabulary=1000)


def test_ceilings_are_rates_of_what_was_done(device: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "BLOCKS", 2)
    assert ceilings.copy_rate(device, 2**20) > 0

    def multiply(device: FakeDevice, grid: Any, block: Any, shared: int, args: Any) -> None:
        device.view(int(args[0]), (grid[0] * block[0],), np.float32)[:] = 4 * 8 * 16 * int(args[1])

    device.kernels["multiply"] = multiply
    assert ceilings.matrix_rate(device, b"") > 0
    device.kernels["multiply"] = lambda *_: None
    with pytest.raises(ArithmeticError, match="the tensor cores' sum"):
        ceilings.matrix_rate(device, b"")


def test_the_matrix_kernel_compiles() -> None:
    pytest.importorskip("cuda.bindings.nvrtc", reason="kernels NOT compiled for GPUs: cuda-bindings is not installed")
    from runtime.cuda.nvrtc import compile_cubin

    for arch in ("sm_80", "sm_90", "sm_120"):
        assert b"multiply" in compile_cubin(ceilings.MULTIPLY, "multiply.cu", arch)


def test_the_plugins_network_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = Batch.of(plugins.SPEC, [(37, 1), (0, 5), (40, 1), (3, 20)])
    model = with_local_functions(plugins.layer(batch))
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    given = plugins.feeds(batch)
    names = [plugins.QUERIES, plugins.MIXED, *plugins.WRITTEN]
    queries, mixed, *written = session.run(names, given)
    monkeypatch.setitem(attention._EPSILON, "float16", 2.0**-9)  # every operator rounds here, and not only the last
    pools = [given[name] for name in plugins.POOLS]
    assert attention.judge(batch, given["qkv"], pools, queries, mixed, written) < 0.02


def test_the_plugins_engine_is_run_in_place(device: FakeDevice) -> None:
    """Inputs and outputs at the addresses that a context is given; the kernels play the engine."""
    batch = Batch.of(plugins.SPEC, [(37, 1), (0, 5)])
    load = loader(device)
    modules = [
        load(kv_write_source(batch.spec), "paged_kv_write"),
        load(attention_source(batch.spec), "paged_attention"),
    ]
    assert plugins.run(device, _Engine(device, batch, modules), batch) < 0.05


class _Engine:
    """Runs the two kernels as TensorRT calls them: inputs, sizes, outputs."""

    def __init__(self, device: FakeDevice, batch: Batch, modules: list[Any]) -> None:
        self._device, self._batch, self._modules = device, batch, modules
        self._addresses: dict[str, int] = {}

    def create_execution_context(self) -> _Engine:
        return self

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, handle: int) -> bool:
        batch, stream = self._batch, self._device.streams[handle]
        sizes = [np.int32(size) for size in (*batch.block_table.shape, batch.blocks)]
        sequences, tokens = len(batch.past_lens), batch.tokens
        calls = (
            (KV_WRITE_INPUTS, batch.longest, (plugins.QUERIES, *plugins.WRITTEN), kv_write_launch(batch.spec, tokens)),
            (
                (plugins.QUERIES, *plugins.WRITTEN, *plugins.STEP, "scratch"),
                tokens,
                (plugins.MIXED, plugins.SCRATCH),
                attention_launch(batch.spec, tokens, sequences),
            ),
        )
        for module, (inputs, last, outputs, launch) in zip(self._modules, calls, strict=True):
            first, behind = ([np.uint64(self._addresses[name]) for name in names] for names in (inputs, outputs))
            values = [*first, *sizes, np.int32(last), *behind]
            kernel = module.kernel(launch.kernel)
            stream.launch(kernel, launch.grid, (launch.block, 1, 1), launch.shared_bytes, values)
        return True
