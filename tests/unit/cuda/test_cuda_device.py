"""The real device over a stand-in for the driver: which calls it makes, and what becomes of their errors.

Where the bindings are installed, they are asked too whether they take the arguments: without a driver they convert
them all before they find that there is none.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from runtime.cuda.cuda_device import CudaDevice
from runtime.cuda.driver import Driver
from runtime.cuda.errors import CudaError


class Code(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NOT_READY = 600


class FakeDriver:
    """``cuda.bindings.driver`` as far as it is used; every call is noted.

    Attributes:
        failing: Function -> code that it answers with.
    """

    CUevent_flags = SimpleNamespace(CU_EVENT_DISABLE_TIMING=2)
    CUstream_flags = SimpleNamespace(CU_STREAM_NON_BLOCKING=1)
    CUstreamCaptureMode = SimpleNamespace(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL=1)
    CUmemorytype = SimpleNamespace(CU_MEMORYTYPE_DEVICE=2)
    CUfunction_attribute = SimpleNamespace(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES=8)
    CUdevice_attribute = SimpleNamespace(
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR=75, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR=76
    )

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.failing: dict[str, Code] = {}
        self.host: list[Any] = []
        self.launched: list[bytes] = []
        self._results: dict[str, Any] = {
            "cuDeviceGetCount": lambda: 2,
            "cuDeviceGet": lambda ordinal: 100 + ordinal,
            "cuDeviceGetName": lambda *_: b"Some GPU\0\0\0",
            "cuDeviceGetAttribute": lambda attribute, _: {75: 9, 76: 0}[attribute],
            "cuDevicePrimaryCtxRetain": lambda _: "context",
            "cuMemGetInfo": lambda: (70, 80),
            "cuMemAlloc": lambda _: 4096,
            "cuMemHostAlloc": self._host_alloc,
            "cuStreamCreate": lambda _: 11,
            "cuEventCreate": lambda _: "event",
            "cuModuleLoadData": lambda _: "module",
            "cuModuleGetFunction": lambda _, name: f"function {name.decode()}",
            "cuStreamEndCapture": lambda _: "graph",
            "cuGraphInstantiate": lambda *_: "executable",
        }

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cu"):
            raise AttributeError(name)

        def call(*arguments: Any) -> tuple[Any, ...]:
            self.calls.append((name, *arguments))
            if name == "cuLaunchKernel":
                self.launched.append(_first_argument(arguments))
            code = self.failing.get(name, Code.CUDA_SUCCESS)
            result = self._results[name](*arguments) if name in self._results and not code else None
            return (code, *(result if isinstance(result, tuple) else () if result is None else (result,)))

        return call

    def cuGetErrorString(self, code: Code) -> tuple[Code, bytes]:  # noqa: N802 - the driver's name
        return Code.CUDA_SUCCESS, f"what {code.name} means".encode()

    def CUDA_MEMCPY2D(self) -> SimpleNamespace:  # noqa: N802 - the bindings' name
        return SimpleNamespace()

    def _host_alloc(self, nbytes: int, flags: int) -> int:
        self.host.append((ctypes.c_uint8 * nbytes)())
        return ctypes.addressof(self.host[-1])

    def named(self, *names: str) -> list[tuple[Any, ...]]:
        return [call for call in self.calls if call[0] in names]


def _first_argument(arguments: tuple[Any, ...]) -> bytes:
    """The eight bytes that the first of a kernel's parameters points to."""
    pointer = ctypes.c_uint64.from_address(arguments[9]).value
    return ctypes.string_at(pointer, 8)


@pytest.fixture
def driver() -> FakeDriver:
    return FakeDriver()


@pytest.fixture
def device(driver: FakeDriver) -> CudaDevice:
    return CudaDevice(Driver(driver), 0)


def test_it_knows_its_gpu(device: CudaDevice, driver: FakeDriver) -> None:
    assert (device.name, device.compute_capability, device.memory()) == ("Some GPU", (9, 0), (70, 80))
    assert driver.named("cuCtxSetCurrent") == [("cuCtxSetCurrent", "context")]


def test_a_gpu_that_is_not_there_is_told_with_how_many_there_are(driver: FakeDriver) -> None:
    with pytest.raises(CudaError, match="no GPU number 2: this machine has 2"):
        CudaDevice(Driver(driver), 2)


def test_memory_is_freed_once(device: CudaDevice, driver: FakeDriver) -> None:
    buffer = device.allocate(1000)
    assert (buffer.address, buffer.nbytes) == (4096, 1000)
    buffer.close()
    buffer.close()
    assert driver.named("cuMemAlloc", "cuMemFree") == [("cuMemAlloc", 1000), ("cuMemFree", 4096)]


def test_an_error_says_call_code_and_meaning(device: CudaDevice, driver: FakeDriver) -> None:
    driver.failing = {"cuMemAlloc": Code.CUDA_ERROR_OUT_OF_MEMORY}
    words = "cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY: what CUDA_ERROR_OUT_OF_MEMORY means"
    with pytest.raises(CudaError, match=words) as caught:
        device.allocate(10)
    assert caught.value.out_of_memory


def test_page_locked_memory_is_an_array(device: CudaDevice) -> None:
    array = device.pinned((2, 3), np.float32)
    array[:] = 5
    assert (array.shape, array.dtype) == ((2, 3), np.float32)
    assert device.pinned((0,), np.int64).size == 0


def test_copies_have_their_target_first(device: CudaDevice, driver: FakeDriver) -> None:
    stream, array = device.stream(), np.arange(6, dtype=np.int32)
    host = array.ctypes.data
    stream.upload(4096, array)
    stream.download(array, 4096)
    stream.copy(1, 2, 30)
    stream.fill(1, 0xFF, 30)
    stream.fill(1, 0, 30, rows=4, pitch=100)
    assert driver.named("cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync", "cuMemcpyDtoDAsync") == [
        ("cuMemcpyHtoDAsync", 4096, host, 24, 11),
        ("cuMemcpyDtoHAsync", host, 4096, 24, 11),
        ("cuMemcpyDtoDAsync", 1, 2, 30, 11),
    ]
    assert driver.named("cuMemsetD8Async") == [("cuMemsetD8Async", 1, 0xFF, 30, 11)]
    assert driver.named("cuMemsetD2D8Async") == [("cuMemsetD2D8Async", 1, 100, 0, 30, 4, 11)]


def test_a_copy_of_several_pieces_is_one_call(device: CudaDevice, driver: FakeDriver) -> None:
    device.stream().copy(1000, 2000, 30, rows=4, pitch=100)
    ((_, description, stream),) = driver.named("cuMemcpy2DAsync")
    assert stream == 11
    source = {"srcMemoryType": 2, "srcDevice": 2000, "srcPitch": 100}
    target = {"dstMemoryType": 2, "dstDevice": 1000, "dstPitch": 100}
    assert vars(description) == source | target | {"WidthInBytes": 30, "Height": 4}


def test_pieces_too_far_apart_for_one_call_are_several(device: CudaDevice, driver: FakeDriver) -> None:
    far, stream = 2**31, device.stream()
    stream.copy(0, 7, 30, rows=2, pitch=far)
    stream.fill(0, 0, 30, rows=2, pitch=far)
    assert driver.named("cuMemcpyDtoDAsync") == [
        ("cuMemcpyDtoDAsync", 0, 7, 30, 11),
        ("cuMemcpyDtoDAsync", far, far + 7, 30, 11),
    ]
    assert [call[1] for call in driver.named("cuMemsetD8Async")] == [0, far]


def test_arrays_with_gaps_are_refused(device: CudaDevice) -> None:
    stream = device.stream()
    for copy in (lambda array: stream.upload(1, array), lambda array: stream.download(array, 1)):
        with pytest.raises(ValueError, match="C-contiguous"):
            copy(np.zeros((4, 4))[:, 1:])


def test_a_kernel_gets_its_arguments_by_address(device: CudaDevice, driver: FakeDriver) -> None:
    stream, kernel = device.stream(), device.load(b"cubin").kernel("add")
    stream.launch(kernel, (2, 1, 1), (32, 1, 1), 100, [np.uint64(4711), ctypes.c_int(5)])
    ((_, function, *sizes, _, extra),) = driver.named("cuLaunchKernel")
    assert (kernel.name, function, sizes, extra) == ("add", "function add", [2, 1, 1, 32, 1, 1, 100, 11], 0)
    assert driver.launched == [np.uint64(4711).tobytes()]


def test_much_shared_memory_is_asked_for_once(device: CudaDevice, driver: FakeDriver) -> None:
    stream, kernel = device.stream(), device.load(b"cubin").kernel("add")
    for nbytes in (48 * 1024, 60_000, 50_000, 70_000):
        stream.launch(kernel, (1, 1, 1), (32, 1, 1), nbytes, [np.uint64(1)])
    assert [call[3] for call in driver.named("cuFuncSetAttribute")] == [60_000, 70_000]


def test_an_event_knows_whether_it_is_over(device: CudaDevice, driver: FakeDriver) -> None:
    stream = device.stream()
    event = stream.record()
    driver.failing = {"cuEventQuery": Code.CUDA_ERROR_NOT_READY}
    assert not event.done()
    driver.failing = {}
    assert event.done()
    driver.failing = {"cuEventQuery": Code.CUDA_ERROR_OUT_OF_MEMORY}
    with pytest.raises(CudaError, match="cuEventQuery"):
        event.done()
    stream.wait(event)
    event.synchronize()
    assert driver.named("cuEventRecord", "cuStreamWaitEvent", "cuEventSynchronize") == [
        ("cuEventRecord", "event", 11),
        ("cuStreamWaitEvent", 11, "event", 0),
        ("cuEventSynchronize", "event"),
    ]
    del event
    assert driver.named("cuEventDestroy") == [("cuEventDestroy", "event")]


def test_captured_work_is_instantiated_and_launched(device: CudaDevice, driver: FakeDriver) -> None:
    stream = device.stream()
    stream.begin_capture()
    graph = stream.end_capture()
    stream.launch_graph(graph)
    graph.close()
    graph.close()
    assert [call[0] for call in driver.calls if "Graph" in call[0] or "Capture" in call[0]] == [
        "cuStreamBeginCapture",
        "cuStreamEndCapture",
        "cuGraphInstantiate",
        "cuGraphDestroy",
        "cuGraphLaunch",
        "cuGraphExecDestroy",
    ]


def test_closing_it_gives_back_what_is_open_and_goes_on_past_errors(device: CudaDevice, driver: FakeDriver) -> None:
    device.allocate(10)
    device.load(b"cubin")
    device.pinned((3,), np.int8)
    device.stream().synchronize()
    driver.failing = {"cuMemFree": Code.CUDA_ERROR_OUT_OF_MEMORY}
    device.close()
    device.close()
    closing = ("cuStreamDestroy", "cuModuleUnload", "cuMemFree", "cuMemFreeHost", "cuDevicePrimaryCtxRelease")
    assert [call[0] for call in driver.named(*closing)] == list(closing)


def test_a_machine_without_a_driver_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    bindings = pytest.importorskip("cuda.bindings.driver")

    def missing(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(bindings, "cuInit", missing)
    with pytest.raises(CudaError, match="no NVIDIA driver"):
        Driver.load()


def test_a_machine_without_the_bindings_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cuda.bindings", None)
    with pytest.raises(CudaError, match="needs the package cuda-python"):
        Driver.load()


class Signatures(FakeDriver):
    """Hands every call on to the real bindings, and answers as the stand-in does.

    Their functions convert all arguments before they look for the driver: what they cannot take raises here.
    """

    def __init__(self, bindings: Any) -> None:
        super().__init__()
        self._bindings = bindings
        handle = {"cuStreamCreate": "CUstream", "cuEventCreate": "CUevent", "cuModuleLoadData": "CUmodule"}
        handle |= {"cuStreamEndCapture": "CUgraph", "cuGraphInstantiate": "CUgraphExec", "cuDeviceGet": "CUdevice"}
        handle |= {"cuModuleGetFunction": "CUfunction", "cuDevicePrimaryCtxRetain": "CUcontext"}
        self._results |= {name: lambda *_, kind=kind: getattr(bindings, kind)(7) for name, kind in handle.items()}
        self._results["cuDeviceGetAttribute"] = lambda *_: 9
        for name in ("CUevent_flags", "CUstream_flags", "CUstreamCaptureMode", "CUmemorytype", "CUfunction_attribute"):
            setattr(self, name, getattr(bindings, name))
        self.CUdevice_attribute = bindings.CUdevice_attribute

    def CUDA_MEMCPY2D(self) -> Any:  # noqa: N802 - the bindings' name
        return self._bindings.CUDA_MEMCPY2D()

    def __getattr__(self, name: str) -> Any:
        answer = super().__getattr__(name)

        def call(*arguments: Any) -> Any:
            with pytest.raises(RuntimeError, match="driver"):
                getattr(self._bindings, name)(*arguments)
            return answer(*arguments)

        return call


def test_the_bindings_take_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    bindings = pytest.importorskip("cuda.bindings.driver")
    try:
        bindings.cuInit(0)
    except RuntimeError:
        pass
    else:
        pytest.skip("with a driver the calls would be made")
    driver = Signatures(bindings)
    device = CudaDevice(Driver(driver), 0)
    stream, array = device.stream(), device.pinned((4,), np.int64)
    stream.upload(4096, array)
    stream.download(array, 4096)
    for shape in ({}, {"rows": 2, "pitch": 100}):
        stream.copy(4096, 8192, 30, **shape)
        stream.fill(4096, 0, 30, **shape)
    module = device.load(b"cubin")
    stream.launch(module.kernel("add"), (1, 1, 1), (32, 1, 1), 60_000, [np.uint64(1), np.int32(2)])
    event = stream.record()
    event.done()
    event.synchronize()
    stream.wait(event)
    stream.begin_capture()
    graph = stream.end_capture()
    stream.launch_graph(graph)
    stream.synchronize()
    graph.close()
    device.allocate(10).close()
    device.memory()
    device.close()
    del event
    assert len({call[0] for call in driver.calls}) > 30
