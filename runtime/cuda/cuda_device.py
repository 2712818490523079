"""The GPU through the driver API: ``cuda.bindings.driver``, a thin layer whose every result is checked.

Checked against the bindings' signatures and a stand-in for the driver; not yet run on a GPU.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from runtime.cuda.cuda_stream import CudaStream
from runtime.cuda.device import Array
from runtime.cuda.driver import Driver
from runtime.cuda.errors import CudaError


def open_device(ordinal: int = 0) -> CudaDevice:
    """The machine's GPU number ``ordinal``.

    Raises:
        CudaError: There is none, no driver, or the package ``cuda-python`` is not installed.
    """
    return CudaDevice(Driver.load(), ordinal)


class CudaBuffer:
    """A ``DeviceBuffer``."""

    def __init__(self, driver: Driver, nbytes: int) -> None:
        self._driver = driver
        self.nbytes = nbytes
        self.address = int(driver.call("cuMemAlloc", max(1, nbytes)))
        self._open = True

    def close(self) -> None:
        """See ``DeviceBuffer``."""
        if self._open:
            self._open = False
            self._driver.call("cuMemFree", self.address)


class CudaKernel:
    """A ``Kernel``.

    NOTE: a block gets more than 48 KiB of dynamic shared memory only where the kernel has been told before.
    """

    def __init__(self, driver: Driver, name: str, function: Any) -> None:
        self.name = name
        self.function = function
        self._driver = driver
        self._allowed = 48 * 1024

    def allow_shared(self, nbytes: int) -> None:
        """Make sure that a launch may ask for so much dynamic shared memory."""
        if nbytes > self._allowed:
            attribute = self._driver.constant("CUfunction_attribute", "CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES")
            self._driver.call("cuFuncSetAttribute", self.function, attribute, nbytes)
            self._allowed = nbytes


class CudaModule:
    """A ``Module``."""

    def __init__(self, driver: Driver, image: bytes) -> None:
        self._driver = driver
        self._module: Any = driver.call("cuModuleLoadData", image)

    def kernel(self, name: str) -> CudaKernel:
        """See ``Module``."""
        return CudaKernel(self._driver, name, self._driver.call("cuModuleGetFunction", self._module, name.encode()))

    def close(self) -> None:
        """See ``Module``."""
        if self._module is not None:
            module, self._module = self._module, None
            self._driver.call("cuModuleUnload", module)


_Resource = TypeVar("_Resource", CudaBuffer, CudaModule, CudaStream)


class CudaDevice:
    """A ``Device``: one GPU, in its primary context, which TensorRT and ONNX Runtime use too.

    Args:
        driver: The driver.
        ordinal: Number of the GPU.
    """

    def __init__(self, driver: Driver, ordinal: int) -> None:
        self._driver = driver
        count = int(driver.call("cuDeviceGetCount"))
        if ordinal >= count:
            raise CudaError("opening the GPU", "", f"there is no GPU number {ordinal}: this machine has {count}")
        self._device = driver.call("cuDeviceGet", ordinal)
        self.name = driver.call("cuDeviceGetName", 256, self._device).split(b"\0")[0].decode(errors="replace")
        major, minor = (
            int(
                driver.call(
                    "cuDeviceGetAttribute",
                    driver.constant("CUdevice_attribute", f"CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_{part}"),
                    self._device,
                )
            )
            for part in ("MAJOR", "MINOR")
        )
        self.compute_capability = (major, minor)
        self._open: list[CudaBuffer | CudaModule | CudaStream] = []
        self._pinned: list[int] = []
        self._context: Any = driver.call("cuDevicePrimaryCtxRetain", self._device)
        driver.call("cuCtxSetCurrent", self._context)

    def memory(self) -> tuple[int, int]:
        """See ``Device``."""
        free, total = self._driver.call("cuMemGetInfo")
        return int(free), int(total)

    def allocate(self, nbytes: int) -> CudaBuffer:
        """See ``Device``."""
        return self._keep(CudaBuffer(self._driver, nbytes))

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """See ``Device``."""
        nbytes = max(1, int(np.prod(shape)) * np.dtype(dtype).itemsize)
        address = int(self._driver.call("cuMemHostAlloc", nbytes, 0))
        self._pinned.append(address)
        memory: Any = (ctypes.c_uint8 * nbytes).from_address(address)
        count = int(np.prod(shape))
        return np.frombuffer(memory, dtype=dtype, count=count).reshape(shape)

    def stream(self) -> CudaStream:
        """See ``Device``."""
        return self._keep(CudaStream(self._driver))

    def load(self, cubin: bytes) -> CudaModule:
        """See ``Device``."""
        return self._keep(CudaModule(self._driver, cubin))

    def close(self) -> None:
        """See ``Device``; what fails because the device is broken stays open until the process ends."""
        if self._context is None:
            return
        for resource in reversed(self._open):
            with contextlib.suppress(CudaError):
                resource.close()
        for address in self._pinned:
            with contextlib.suppress(CudaError):
                self._driver.call("cuMemFreeHost", address)
        with contextlib.suppress(CudaError):
            self._driver.call("cuDevicePrimaryCtxRelease", self._device)
        self._open, self._pinned, self._context = [], [], None

    def _keep(self, resource: _Resource) -> _Resource:
        self._open.append(resource)
        return resource
