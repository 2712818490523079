"""Finds and loads the op library."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path

ABI_VERSION = 3
ISAS = ("avx512bf16", "avx512", "avx2", "portable")

_LIBRARY = Path(__file__).with_name("libperegrine_ops.so")
_ISA_VARIABLE = "PEREGRINE_CPU_ISA"


class NativeLibraryError(Exception):
    """The op library is missing, does not fit this code, or was asked for what the processor lacks."""


def library_path() -> Path:
    """The shared library to register with ``SessionOptions.register_custom_ops_library``.

    Raises:
        NativeLibraryError: It has not been built.
    """
    if not _LIBRARY.is_file():
        raise NativeLibraryError(
            f"{_LIBRARY} is missing: run 'python -m runtime.native.build' or install the package again"
        )
    return _LIBRARY


def active_isa() -> str:
    """The instruction set whose kernels run: ``avx512bf16``, ``avx512``, ``avx2`` or ``portable``.

    Raises:
        NativeLibraryError: ``PEREGRINE_CPU_ISA`` names one that this build or processor does not have, or the
            library is missing.
    """
    name = load_library().peregrine_active_isa()
    if name is None:
        wanted = os.environ.get(_ISA_VARIABLE, "")
        raise NativeLibraryError(
            f"{_ISA_VARIABLE}={wanted} is not possible here: choose from {', '.join(available_isas())}"
        )
    return str(name.decode())


def available_isas() -> tuple[str, ...]:
    """The instruction sets that this build and processor have, widest first."""
    library = load_library()
    return tuple(isa for isa in ISAS if library.peregrine_has_isa(isa.encode()))


@cache
def load_library() -> ctypes.CDLL:
    """The library with the signatures of its C functions set.

    Raises:
        NativeLibraryError: It is missing or was built from other sources.
    """
    path = library_path()
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeLibraryError(f"cannot load {path}: {error}") from error
    library.peregrine_abi_version.restype = ctypes.c_int
    found = library.peregrine_abi_version()
    if found != ABI_VERSION:
        raise NativeLibraryError(
            f"{path} has ABI version {found}, this code needs {ABI_VERSION}: run 'python -m runtime.native.build'"
        )
    library.peregrine_active_isa.restype = ctypes.c_char_p
    library.peregrine_linear_isa.restype = ctypes.c_char_p
    library.peregrine_workspace_allocations.restype = ctypes.c_int64
    for name in ("peregrine_has_isa", "peregrine_force_isa", "peregrine_force_linear_isa"):
        getattr(library, name).argtypes = [ctypes.c_char_p]
    for name in ("peregrine_to_half", "peregrine_to_float"):
        getattr(library, name).argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
        getattr(library, name).restype = None
    return library
