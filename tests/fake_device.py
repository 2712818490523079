"""A GPU made of NumPy arrays: work waits in its stream until somebody waits for it, as on a real one.

An address is the true one of host memory, so that a kernel may be a Python function or the real source compiled for
the CPU. What is enqueued runs when the host waits: a staging buffer that is written again too early, or a result that
is read too early, shows.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.cuda.errors import CudaError

Array = npt.NDArray[Any]
Size = tuple[int, int, int]
Work = Callable[[], None]
KernelBody = Callable[["FakeDevice", Size, Size, int, Sequence[Any]], None]
"""Gets the device, grid, block, dynamic shared bytes and the arguments as they were launched."""

ALIGNMENT = 256
FRESH = 0xFF
"""What memory is full of when it is allocated: as floats, what is no number."""


class FakeBuffer:
    """Device memory."""

    def __init__(self, device: FakeDevice, nbytes: int) -> None:
        self.memory = np.full(nbytes + ALIGNMENT, FRESH, dtype=np.uint8)
        self.address = -(-self.memory.ctypes.data // ALIGNMENT) * ALIGNMENT
        self.nbytes = nbytes
        self.closed = False
        self._device = device

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._device.called("free")
            self._device.buffers.remove(self)


class FakeEvent:
    """A point in a stream's queue."""

    def __init__(self, stream: FakeStream) -> None:
        self.over = False
        self._stream = stream

    def done(self) -> bool:
        return self.over

    def synchronize(self) -> None:
        self._stream.device.called("event.synchronize")
        self._stream.run(until=self)


class FakeGraph:
    """Captured work."""

    def __init__(self, device: FakeDevice, work: list[Work]) -> None:
        self.work = work
        self.closed = False
        self._device = device

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._device.called("graph.close")


class FakeKernel:
    """A kernel by name."""

    def __init__(self, name: str) -> None:
        self.name = name


class FakeModule:
    """Whatever kernels the device has been given."""

    def __init__(self, device: FakeDevice) -> None:
        self.closed = False
        self._device = device

    def kernel(self, name: str) -> FakeKernel:
        self._device.called("kernel", name)
        if name not in self._device.kernels:
            raise CudaError("cuModuleGetFunction", "CUDA_ERROR_NOT_FOUND", f"named symbol not found: {name}")
        return FakeKernel(name)

    def close(self) -> None:
        self.closed = True


class FakeStream:
    """A queue of work."""

    def __init__(self, device: FakeDevice, handle: int) -> None:
        self.device = device
        self.handle = handle
        self.queue: deque[Work | FakeEvent] = deque()
        self.captured: list[Work] | None = None
        self.closed = False

    def enqueue(self, work: Work) -> None:
        """For this module, and for whatever else puts work on a stream by its handle."""
        assert not self.closed, "the stream is closed"
        if self.captured is None:
            self.queue.append(work)
        else:
            self.captured.append(work)

    def upload(self, address: int, array: Array) -> None:
        assert array.flags.c_contiguous
        self.device.called("upload", address, array.nbytes)
        self.device.check(address, array.nbytes)
        source = array if self.device.is_pinned(array) else array.copy()
        self.enqueue(lambda: self._put(address, source))

    def download(self, array: Array, address: int) -> None:
        assert array.flags.c_contiguous
        self.device.called("download", address, array.nbytes)
        self.device.check(address, array.nbytes)

        def work() -> None:
            array.reshape(-1).view(np.uint8)[:] = self.device.view(address, (array.nbytes,), np.uint8)

        self.enqueue(work)
        if not self.device.is_pinned(array):
            self.run()

    def copy(self, target: int, source: int, nbytes: int, *, rows: int = 1, pitch: int = 0) -> None:
        self.device.called("copy", target, source, nbytes, rows, pitch)

        def work() -> None:
            for start in range(0, rows * (pitch or 1), pitch or 1):
                self._put(target + start, self.device.view(source + start, (nbytes,), np.uint8))

        self.enqueue(work)

    def fill(self, address: int, byte: int, nbytes: int, *, rows: int = 1, pitch: int = 0) -> None:
        self.device.called("fill", address, byte, nbytes, rows, pitch)

        def work() -> None:
            for start in range(0, rows * (pitch or 1), pitch or 1):
                self.device.view(address + start, (nbytes,), np.uint8)[:] = byte

        self.enqueue(work)

    def launch(self, kernel: FakeKernel, grid: Size, block: Size, shared_bytes: int, args: Sequence[Any]) -> None:
        self.device.called("launch", kernel.name, grid, block, shared_bytes, tuple(args))
        assert all(isinstance(arg, np.generic) or hasattr(arg, "value") for arg in args), "an argument has no C type"
        assert all(size >= 1 for size in (*grid, *block))
        body, values = self.device.kernels[kernel.name], list(args)
        self.enqueue(lambda: body(self.device, grid, block, shared_bytes, values))

    def record(self) -> FakeEvent:
        self.device.called("record")
        event = FakeEvent(self)
        self.queue.append(event)
        return event

    def wait(self, event: FakeEvent) -> None:
        self.device.called("wait")
        self.enqueue(lambda: event._stream.run(until=event))

    def synchronize(self) -> None:
        self.device.called("synchronize")
        assert self.captured is None, "a stream that is being captured cannot be waited for"
        self.run()

    def begin_capture(self) -> None:
        self.device.called("begin_capture")
        assert self.captured is None
        self.captured = []

    def end_capture(self) -> FakeGraph:
        captured, self.captured = self.captured, None
        assert captured is not None
        self.device.called("end_capture")
        return FakeGraph(self.device, captured)

    def launch_graph(self, graph: FakeGraph) -> None:
        self.device.called("launch_graph", graph)
        assert not graph.closed
        for work in graph.work:
            self.enqueue(work)

    def run(self, until: FakeEvent | None = None) -> None:
        """Do the work that waits, up to an event or all of it."""
        assert until is None or until.over or until in self.queue
        while self.queue and not (until and until.over):
            item = self.queue.popleft()
            if isinstance(item, FakeEvent):
                item.over = True
                continue
            self.device.worked()
            item()

    def close(self) -> None:
        self.closed = True

    def _put(self, address: int, source: Array) -> None:
        self.device.view(address, (source.nbytes,), np.uint8)[:] = source.reshape(-1).view(np.uint8)


class FakeDevice:
    """A ``Device``.

    Attributes:
        kernels: What kernels do, by name.
        calls: Every call with its arguments, in order.
        fail_at: The number of the call, from now on, that fails; 0 for none.
        fail_work_at: The same for work: it fails when its turn comes, and so does everything after it.
    """

    name = "Fake GPU"

    def __init__(self, total: int = 2**26, compute_capability: tuple[int, int] = (9, 0)) -> None:
        self.total = total
        self.compute_capability = compute_capability
        self.kernels: dict[str, KernelBody] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.buffers: list[FakeBuffer] = []
        self.streams: dict[int, FakeStream] = {}
        self.fail_at = 0
        self.fail_work_at = 0
        self.broken = False
        self._failing = ""
        self.closed = False
        self._pinned: list[Array] = []

    def memory(self) -> tuple[int, int]:
        self.called("memory")
        return self.total - sum(buffer.nbytes for buffer in self.buffers), self.total

    def allocate(self, nbytes: int) -> FakeBuffer:
        self.called("allocate", nbytes)
        if nbytes > self.total - sum(buffer.nbytes for buffer in self.buffers):
            raise CudaError("cuMemAlloc", "CUDA_ERROR_OUT_OF_MEMORY", "out of memory")
        buffer = FakeBuffer(self, nbytes)
        insort(self.buffers, buffer, key=lambda other: other.address)
        return buffer

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        self.called("pinned", shape)
        array = np.frombuffer(bytearray([FRESH]) * (int(np.prod(shape)) * np.dtype(dtype).itemsize), dtype)
        self._pinned.append(array)
        return array.reshape(shape)

    def stream(self) -> FakeStream:
        self.called("stream")
        handle = 7000 + len(self.streams)
        self.streams[handle] = FakeStream(self, handle)
        return self.streams[handle]

    def load(self, cubin: bytes) -> FakeModule:
        self.called("load", len(cubin))
        return FakeModule(self)

    def close(self) -> None:
        self.closed = True

    # For tests.

    def view(self, address: int, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """Device memory as an array that can be read and written."""
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        buffer = self.check(address, nbytes)
        start = address - buffer.memory.ctypes.data
        return buffer.memory[start : start + nbytes].view(dtype).reshape(shape)

    def check(self, address: int, nbytes: int) -> FakeBuffer:
        """The buffer that has these bytes; there must be one."""
        place = bisect_right(self.buffers, int(address), key=lambda buffer: buffer.address) - 1
        assert place >= 0, f"{address:#x} is no device memory"
        buffer = self.buffers[place]
        assert address + nbytes <= buffer.address + buffer.nbytes, f"{address:#x} + {nbytes} is beyond its buffer"
        return buffer

    def is_pinned(self, array: Array) -> bool:
        return any(np.may_share_memory(array, pinned) for pinned in self._pinned)

    def called(self, name: str, *arguments: Any) -> None:
        """Note a call; raises if it is to fail, or if work has failed before."""
        self.calls.append((name, *arguments))
        last = self.fail_at == 1
        self.fail_at = max(0, self.fail_at - 1)
        if last or name == self._failing:
            self._failing = ""
            raise CudaError(name, "CUDA_ERROR_UNKNOWN", "the fake fails here")
        if self.broken and name not in ("free", "graph.close"):
            raise CudaError(name, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered")

    def worked(self) -> None:
        """Note that a piece of work's turn has come; raises if it is to fail."""
        if self.fail_work_at:
            self.fail_work_at -= 1
            if not self.fail_work_at:
                self.broken = True
                raise CudaError("cuEventSynchronize", "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access")

    def fail_next(self, name: str) -> None:
        """The next call of this kind fails."""
        self._failing = name

    def named(self, name: str) -> list[tuple[Any, ...]]:
        """The calls of one kind."""
        return [call for call in self.calls if call[0] == name]
