"""Which target a machine is for, where nobody says."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from runtime.bundle.gpu import Gpu, find_gpu

AUTO = "auto"
TARGETS = ("cpu", "cuda", "tensorrt", "tensorrt-rtx")
"""Targets that this version builds and runs."""
CUDA_CAPABILITY = (8, 0)
"""The least compute capability that target cuda is built for: FlashAttention's."""
RTX_CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
"""Compute capabilities that TensorRT-RTX runs on."""


@dataclass(frozen=True, slots=True)
class Target:
    """A target and why it was taken."""

    name: str
    reason: str


def choose_target(asked: str = AUTO) -> Target:
    """``asked``, or with ``auto`` the fastest that this machine has GPU and packages for."""
    if asked != AUTO:
        return Target(asked, "as asked for")
    gpu = find_gpu()
    if isinstance(gpu, str):
        return Target("cpu", gpu)
    if find_spec("tensorrt") is not None:
        return Target("tensorrt", f"{gpu.name} and the package tensorrt")
    if find_spec("tensorrt_rtx") is not None and gpu.compute_capability in RTX_CAPABILITIES:
        return Target("tensorrt-rtx", f"{gpu.name} and the package tensorrt-rtx")
    if "cuda" in TARGETS and _has_cuda_target(gpu) and _installed("onnxruntime-gpu"):
        return Target("cuda", f"{gpu.name} and the package onnxruntime-gpu")
    return Target("cpu", _missing(gpu))


def _has_cuda_target(gpu: Gpu) -> bool:
    return tuple(map(int, gpu.compute_capability.split("."))) >= CUDA_CAPABILITY


def _missing(gpu: Gpu) -> str:
    if find_spec("tensorrt_rtx") is not None:
        return f"{gpu.name} is of compute capability {gpu.compute_capability}, for which tensorrt-rtx does not compile"
    return f"{gpu.name} is there, but none of the packages tensorrt, tensorrt-rtx and onnxruntime-gpu for it"


def _installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True
