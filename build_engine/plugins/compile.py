"""The plugins' kernels, compiled for GPUs by NVRTC, which needs none."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from build_engine.errors import BuildError
from build_engine.plugins.source import attention_source, kv_write_source
from build_engine.plugins.spec import AttentionSpec
from runtime.cuda.errors import CudaError
from runtime.cuda.nvrtc import compile_cubin, compile_ptx

ARCHITECTURES = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
"""A100; A10 and RTX 30; L4, L40 and RTX 40; H100 and H200; B200; RTX 50."""
_SOURCES = {"paged_kv_write": kv_write_source, "paged_attention": attention_source}


def compile_cubins(spec: AttentionSpec, kernel: str, architectures: Sequence[str] = ARCHITECTURES) -> dict[str, bytes]:
    """Machine code of a kernel for each architecture.

    Args:
        spec: What to compile it for.
        kernel: ``paged_kv_write`` or ``paged_attention``.
        architectures: Such as ``sm_90``.

    Raises:
        BuildError: The compiler is missing or refused; the message has its log.
    """
    source = _SOURCES[kernel](spec)
    try:
        return {arch: compile_cubin(source, f"{kernel}.cu", arch) for arch in architectures}
    except CudaError as error:
        raise BuildError(f"cannot compile {kernel}: {error}") from error


@functools.cache
def plugin_ptx(spec: AttentionSpec, kernel: str, arch: str) -> str:
    """PTX of a kernel, which is what TensorRT takes from a plugin.

    Args:
        spec: What to compile it for.
        kernel: ``paged_kv_write`` or ``paged_attention``.
        arch: The GPU the engine is built for, such as ``sm_90``; later ones run it too.

    Raises:
        BuildError: The compiler is missing or refused; the message has its log.
    """
    try:
        return compile_ptx(_SOURCES[kernel](spec), f"{kernel}.cu", arch)
    except CudaError as error:
        raise BuildError(f"cannot compile {kernel}: {error}") from error
