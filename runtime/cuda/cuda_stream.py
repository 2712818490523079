"""A stream of work through the driver API.

Checked against the bindings' signatures and a stand-in for the driver; not yet run on a GPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from runtime.cuda.device import Array, Event, Graph, Kernel, Size
from runtime.cuda.driver import Driver
from runtime.cuda.errors import CudaError

if TYPE_CHECKING:
    from runtime.cuda.cuda_device import CudaKernel


_LARGEST_PITCH = 2**31 - 1
"""CU_DEVICE_ATTRIBUTE_MAX_PITCH of every GPU so far."""


class CudaEvent:
    """An ``Event``, recorded where it is made."""

    def __init__(self, driver: Driver, stream: Any) -> None:
        self._driver = driver
        flags = driver.constant("CUevent_flags", "CU_EVENT_DISABLE_TIMING")
        self.event: Any = driver.call("cuEventCreate", int(flags))
        driver.call("cuEventRecord", self.event, stream)

    def done(self) -> bool:
        """See ``Event``."""
        return self._driver.succeeded("cuEventQuery", "CUDA_ERROR_NOT_READY", self.event)

    def synchronize(self) -> None:
        """See ``Event``."""
        self._driver.call("cuEventSynchronize", self.event)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, CudaError):
            self._driver.call("cuEventDestroy", self.event)


class CudaGraph:
    """A ``Graph``, instantiated."""

    def __init__(self, driver: Driver, graph: Any) -> None:
        self._driver = driver
        try:
            self.executable: Any = driver.call("cuGraphInstantiate", graph, 0)
        finally:
            driver.call("cuGraphDestroy", graph)

    def close(self) -> None:
        """See ``Graph``."""
        if self.executable is not None:
            executable, self.executable = self.executable, None
            self._driver.call("cuGraphExecDestroy", executable)


class CudaStream:
    """A ``Stream``."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        flags = driver.constant("CUstream_flags", "CU_STREAM_NON_BLOCKING")
        self._stream: Any = driver.call("cuStreamCreate", int(flags))
        self.handle = int(self._stream)

    def upload(self, address: int, array: Array) -> None:
        """See ``Stream``."""
        _check_contiguous(array)
        self._driver.call("cuMemcpyHtoDAsync", address, array.ctypes.data, array.nbytes, self._stream)

    def download(self, array: Array, address: int) -> None:
        """See ``Stream``."""
        _check_contiguous(array)
        self._driver.call("cuMemcpyDtoHAsync", array.ctypes.data, address, array.nbytes, self._stream)

    def copy(self, target: int, source: int, nbytes: int, *, rows: int = 1, pitch: int = 0) -> None:
        """See ``Stream``."""
        if rows == 1 or pitch > _LARGEST_PITCH:
            for start in range(0, rows * max(1, pitch), max(1, pitch)):
                self._driver.call("cuMemcpyDtoDAsync", target + start, source + start, nbytes, self._stream)
            return
        description = self._driver.structure("CUDA_MEMCPY2D")
        device = self._driver.constant("CUmemorytype", "CU_MEMORYTYPE_DEVICE")
        description.srcMemoryType, description.dstMemoryType = device, device
        description.srcDevice, description.dstDevice = source, target
        description.srcPitch, description.dstPitch = pitch, pitch
        description.WidthInBytes, description.Height = nbytes, rows
        self._driver.call("cuMemcpy2DAsync", description, self._stream)

    def fill(self, address: int, byte: int, nbytes: int, *, rows: int = 1, pitch: int = 0) -> None:
        """See ``Stream``."""
        if rows == 1 or pitch > _LARGEST_PITCH:
            for start in range(0, rows * max(1, pitch), max(1, pitch)):
                self._driver.call("cuMemsetD8Async", address + start, byte, nbytes, self._stream)
        else:
            self._driver.call("cuMemsetD2D8Async", address, pitch, byte, nbytes, rows, self._stream)

    def launch(self, kernel: Kernel, grid: Size, block: Size, shared_bytes: int, args: Sequence[Any]) -> None:
        """See ``Stream``."""
        mine = cast("CudaKernel", kernel)
        mine.allow_shared(shared_bytes)
        # NOTE: the driver copies the values before the call returns; until then these arrays own them.
        values = [np.array(arg) for arg in args]
        addresses = np.array([value.ctypes.data for value in values], dtype=np.uint64)
        self._driver.call(
            "cuLaunchKernel", mine.function, *grid, *block, shared_bytes, self._stream, addresses.ctypes.data, 0
        )

    def record(self) -> CudaEvent:
        """See ``Stream``."""
        return CudaEvent(self._driver, self._stream)

    def wait(self, event: Event) -> None:
        """See ``Stream``."""
        self._driver.call("cuStreamWaitEvent", self._stream, cast("CudaEvent", event).event, 0)

    def synchronize(self) -> None:
        """See ``Stream``."""
        self._driver.call("cuStreamSynchronize", self._stream)

    def begin_capture(self) -> None:
        """See ``Stream``."""
        # NOTE: only what this thread does is watched: another thread may allocate while we capture.
        mode = self._driver.constant("CUstreamCaptureMode", "CU_STREAM_CAPTURE_MODE_THREAD_LOCAL")
        self._driver.call("cuStreamBeginCapture", self._stream, mode)

    def end_capture(self) -> CudaGraph:
        """See ``Stream``."""
        return CudaGraph(self._driver, self._driver.call("cuStreamEndCapture", self._stream))

    def launch_graph(self, graph: Graph) -> None:
        """See ``Stream``."""
        self._driver.call("cuGraphLaunch", cast("CudaGraph", graph).executable, self._stream)

    def close(self) -> None:
        """See ``Stream``."""
        if self._stream is not None:
            stream, self._stream = self._stream, None
            self._driver.call("cuStreamDestroy", stream)


def _check_contiguous(array: Array) -> None:
    if not array.flags.c_contiguous:
        message = "only C-contiguous arrays can be copied to or from a GPU"
        raise ValueError(message)
