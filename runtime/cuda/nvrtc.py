"""CUDA C++ compiled by NVRTC, which needs no driver: kernels are compiled on machines without a GPU too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runtime.cuda.errors import CudaError

_MISSING = (
    "needs the packages cuda-bindings and nvidia-cuda-nvrtc, which come with each of the extras cuda, tensorrt and "
    "tensorrt-rtx: pip install 'peregrine-llm[cuda]'"
)
_OPTIONS = ("--std=c++17",)


def compile_cubin(source: str, name: str, arch: str, options: Sequence[str] = ()) -> bytes:
    """Machine code of ``source`` for one GPU.

    Args:
        source: CUDA C++; kernels are ``extern "C"``, because their names are looked up as they are written.
        name: What the compiler's messages call it.
        arch: ``sm_90``.
        options: More options (``-DNAME=1``, ``--fmad=false``).

    Raises:
        CudaError: NVRTC is not installed, does not know ``arch``, or refused the source; the text has its log.
    """
    if not arch.startswith("sm_"):
        raise CudaError(f"compiling {name}", "", f"machine code is for one GPU, such as sm_90, not for {arch!r}")
    return _compile(source, name, arch, options, "CUBIN")


def compile_ptx(source: str, name: str, arch: str, options: Sequence[str] = ()) -> str:
    """Portable assembly of ``source``, which drivers compile for GPUs of ``arch`` and later.

    Args:
        source: CUDA C++, as for ``compile_cubin``.
        name: What the compiler's messages call it.
        arch: ``compute_90``; of ``sm_90`` the same is made.
        options: More options.

    Raises:
        CudaError: As ``compile_cubin``.
    """
    return _compile(source, name, arch.replace("sm_", "compute_"), options, "PTX").rstrip(b"\0").decode()


def compiler_version() -> tuple[int, int]:
    """NVRTC's version, such as (13, 0).

    Raises:
        CudaError: NVRTC is not installed.
    """
    major, minor = _call(_nvrtc("nvrtcVersion"), "nvrtcVersion")
    return int(major), int(minor)


def _compile(source: str, name: str, arch: str, options: Sequence[str], kind: str) -> bytes:
    what = f"compiling {name} for {arch}"
    nvrtc = _nvrtc(what)
    (program,) = _call(nvrtc, "nvrtcCreateProgram", source.encode(), name.encode(), 0, [], [])
    try:
        flags = [option.encode() for option in (f"--gpu-architecture={arch}", *_OPTIONS, *options)]
        code, *_ = nvrtc.nvrtcCompileProgram(program, len(flags), flags)
        if code:
            raise CudaError(what, code.name, _log(nvrtc, program) or "the compiler says no more")
        (size,) = _call(nvrtc, f"nvrtcGet{kind}Size", program)
        compiled = bytearray(size)
        _call(nvrtc, f"nvrtcGet{kind}", program, compiled)
        return bytes(compiled)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _nvrtc(what: str) -> Any:
    """The bindings, which have no types."""
    try:
        from cuda.bindings import nvrtc

        nvrtc.nvrtcVersion()  # NOTE: the library itself is loaded by the first call, and its absence raises there.
    except (ImportError, RuntimeError) as error:
        raise CudaError(what, "", _MISSING) from error
    return nvrtc


def _call(nvrtc: Any, function: str, *arguments: object) -> list[Any]:
    results: list[Any]
    code, *results = getattr(nvrtc, function)(*arguments)
    if code:
        _, text = nvrtc.nvrtcGetErrorString(code)
        raise CudaError(function, code.name, text.decode())
    return results


def _log(nvrtc: Any, program: object) -> str:
    (size,) = _call(nvrtc, "nvrtcGetProgramLogSize", program)
    log = bytearray(size)
    _call(nvrtc, "nvrtcGetProgramLog", program, log)
    return log.rstrip(b"\0").decode(errors="replace").strip()
