"""The project's kernels compiled for one GPU: once, then read back from the cache."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from pathlib import Path

from runtime.bundle.cache import cache_root
from runtime.cuda.nvrtc import compile_cubin, compiler_version

KERNELS = Path(__file__).with_name("kernels")
# NOTE: no contraction into fused multiply-adds: the logits that are compared have to be the reference's to the bit.
_OPTIONS = ("--fmad=false",)
_INCLUDE = re.compile(r'^#include "([\w.]+)"$', re.MULTILINE)


def kernel_source(path: Path) -> str:
    """A kernel's source with the headers that it includes from its own folder put in their places, each once."""
    return _expand(path, set())


def sampling_kernels(compute_capability: tuple[int, int]) -> bytes:
    """Machine code of the sampling kernels for a GPU of this compute capability.

    Raises:
        CudaError: NVRTC is not installed or does not know the GPU.
    """
    major, minor = compute_capability
    return cached_cubin(KERNELS / "sampling.cu", f"sm_{major}{minor}")


def cached_cubin(path: Path, arch: str) -> bytes:
    """Machine code of ``path`` for ``arch``, from ``$PEREGRINE_CACHE/kernels`` where that has it.

    A file of the cache is named by everything that it depends on, so that none is ever wrong, only superfluous. A
    cache that cannot be written costs the time to compile (a second) at each start, no more.

    Raises:
        CudaError: As ``compile_cubin``.
    """
    source = kernel_source(path)
    parts = (source, arch, *_OPTIONS, *map(str, compiler_version()))
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    cached = cache_root() / "kernels" / f"{path.stem}-{arch}-{digest}.cubin"
    with contextlib.suppress(OSError):
        return cached.read_bytes()
    compiled = compile_cubin(source, path.name, arch, _OPTIONS)
    with contextlib.suppress(OSError):
        _publish(cached, compiled)
    return compiled


def _publish(path: Path, content: bytes) -> None:
    """Written beside and renamed: another process that starts now reads a whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    staged.write_bytes(content)
    staged.replace(path)


def _expand(path: Path, seen: set[str]) -> str:
    seen.add(path.name)

    def included(match: re.Match[str]) -> str:
        name = match[1]
        return "" if name in seen else _expand(path.with_name(name), seen)

    text = path.read_text(encoding="utf-8").replace("#pragma once\n", "")
    return _INCLUDE.sub(included, text)
