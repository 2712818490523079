"""Whether this machine has an NVIDIA GPU that can be used, asked of the driver alone."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache

_LIBRARIES = ("libcuda.so.1", "libcuda.so")
_MAJOR, _MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of ``cuda.h``."""
_NAME_BYTES = 256


@dataclass(frozen=True, slots=True)
class Gpu:
    """The first GPU: its name, and its compute capability as ``8.6``."""

    name: str
    compute_capability: str


@cache
def find_gpu() -> Gpu | str:
    """The machine's first GPU, or why there is none. No context is made on it."""
    driver = _driver()
    if driver is None:
        return "no NVIDIA driver"
    status = driver.cuInit(0)
    if status:
        return f"the NVIDIA driver does not start (CUDA error {status})"
    count, device = ctypes.c_int(), ctypes.c_int()
    if driver.cuDeviceGetCount(ctypes.byref(count)) or count.value < 1:
        return "no NVIDIA GPU"
    name, major, minor = ctypes.create_string_buffer(_NAME_BYTES), ctypes.c_int(), ctypes.c_int()
    failed = (
        driver.cuDeviceGet(ctypes.byref(device), 0)
        or driver.cuDeviceGetName(name, _NAME_BYTES, device)
        or driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
        or driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    )
    if failed:
        return f"the NVIDIA GPU does not answer (CUDA error {failed})"
    return Gpu(name.value.decode(errors="replace"), f"{major.value}.{minor.value}")


def _driver() -> ctypes.CDLL | None:
    for library in _LIBRARIES:
        try:
            return ctypes.CDLL(library)
        except OSError:
            continue
    return None
