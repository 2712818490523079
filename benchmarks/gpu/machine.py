"""What the check ran on."""

from __future__ import annotations

import ctypes
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from runtime.bundle.gpu import Gpu, find_gpu

PACKAGES = (
    "tensorrt-rtx",
    "tensorrt",
    "tensorrt-cu13",
    "onnxruntime-gpu",
    "onnxruntime",
    "onnx",
    "cuda-python",
    "cuda-bindings",
    "nvidia-cuda-nvrtc",
    "numpy",
)
_DRIVER = Path("/proc/driver/nvidia/version")


def describe() -> dict[str, Any]:
    """GPU, driver, processor, versions; a package that is not installed is ``null``."""
    gpu = find_gpu()
    return {
        "gpu": gpu if isinstance(gpu, str) else gpu.name,
        "compute_capability": gpu.compute_capability if isinstance(gpu, Gpu) else None,
        "driver": _DRIVER.read_text().splitlines()[0] if _DRIVER.is_file() else None,
        "driver_cuda": _driver_cuda() if isinstance(gpu, Gpu) else None,
        "machine": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _driver_cuda() -> str:
    """The newest CUDA that the driver knows."""
    number = ctypes.c_int()
    ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(number))
    return f"{number.value // 1000}.{number.value % 1000 // 10}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
